"""From runs to figures: shares and medians with their intervals, one summary per row, and the cells of a table."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import InvalidInput

#: How many of a run's last evaluations `worst_of_last` looks at.
LAST = 10
CONFIDENCE = 0.95
RESAMPLES = 10_000

Run = Mapping[str, Any]


def by_row(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """{row: its runs}, both in the order in which they come."""
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(run["row"], []).append(run)
    return rows


def trains_on(row: Mapping[str, Any]) -> bool:
    """True for a run, or a summary of runs, that was told not to stop when it is perfect: how long it takes to learn, it does not say."""
    return row["hyperparameters"].get("stop_when_perfect") is False


def worst_of_last(run: Run) -> float | None:
    """The lowest of the run's last ten evaluations: what it is worth once it has learned. None where there is no evaluation."""
    return min((mean for _, mean in run["evaluations"][-LAST:]), default=None)


def summarise(runs: Iterable[Run]) -> dict[str, dict[str, Any]]:
    """Per row, in the order in which they come: how many runs there are and failed, and what they reached.

        {"row", "lesson", "env_id", "hyperparameters", "runs", "failed",
         "solved", "perfect", "stable":  {"count", "of", "share", "low", "high"},     # 95 % Wilson interval of the share
         "env_steps", "seconds":         {"median", "low", "high"},                   # until solved; 95 % bootstrap interval of the median
         "worst_of_last":                [one per run]}

    A run that was not solved, or failed, took longer than every one that was: it counts as infinity in the medians, so a median of
    infinity says that half of the runs never got there. `stable` counts the runs whose last ten evaluations all reach the environment's
    reward threshold; it is None where there are no evaluations, or the environment is not registered.
    """
    return {row: _summary(group) for row, group in by_row(runs).items()}


def wilson_interval(successes: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, from `successes` of `of` runs. Source: Wilson (1927)."""
    from scipy.stats import binomtest  # half a second that no worker needs

    interval = binomtest(successes, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median of `values` and its 95 % percentile bootstrap interval. Values may be infinite; same values, same interval."""
    values = np.sort(np.asarray(values, dtype=float))
    resamples = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    # No interpolation between two medians: one of them may be infinite.
    low, high = np.quantile(np.median(resamples, axis=1), tails, method="inverted_cdf")
    return float(np.median(values)), float(low), float(high)


def readable(summary: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a table, from one of `summarise`'s entries: solved, perfect, stable, env_steps, seconds, each with its interval.

    Steps and seconds are "-" where the trainings went on when they were perfect.
    """

    def share(part: Mapping[str, Any] | None) -> str:
        return "-" if part is None else f"{part['count']} of {part['of']} ({100 * part['low']:.0f}-{100 * part['high']:.0f} %)"

    def middle(part: Mapping[str, float], digits: int) -> str:
        shown = ["not reached" if np.isinf(part[name]) else f"{part[name]:,.{digits}f}" for name in ("median", "low", "high")]
        return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]}-{shown[2]})"

    cells = {name: share(summary[name]) for name in ("solved", "perfect", "stable")}
    if trains_on(summary):
        return cells | {"env_steps": "-", "seconds": "-"}
    return cells | {"env_steps": middle(summary["env_steps"], 0), "seconds": middle(summary["seconds"], 2)}


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    """`summarise` for the runs of one row."""
    first, worst = runs[0], [worst_of_last(run) for run in runs]
    counts = {name: sum(run[name] for run in runs) for name in ("solved", "perfect")} | {"stable": None}
    # An environment of somebody's own is known once its module is imported, which reading results does not do.
    with contextlib.suppress(InvalidInput):
        threshold = env_spec(first["env_id"]).reward_threshold
        if threshold is not None and worst.count(None) < len(runs):
            counts["stable"] = sum(value is not None and value >= threshold for value in worst)
    summary = {name: first[name] for name in ("row", "lesson", "env_id", "hyperparameters")}
    summary |= {"runs": len(runs), "failed": sum(run["status"] == "failed" for run in runs), "worst_of_last": worst}
    for name, count in counts.items():
        summary[name] = None
        if count is not None:
            low, high = wilson_interval(count, len(runs))
            summary[name] = {"count": count, "of": len(runs), "share": count / len(runs), "low": low, "high": high}
    for name in ("env_steps", "seconds"):
        values = [run[name] if run["solved"] else np.inf for run in runs]
        summary[name] = dict(zip(("median", "low", "high"), median_interval(values), strict=True))
    return summary
