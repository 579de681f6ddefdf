"""From runs to figures: shares and medians with their intervals, one summary per row, and the cells of a table."""

import contextlib
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import InvalidInput

#: How many of a run's last evaluations `worst_of_last` looks at.
LAST = 10
CONFIDENCE = 0.95
RESAMPLES = 10_000
#: What says how long a training took before it stopped.
UNTIL_STOPPED = ("env_steps", "evaluation_steps", "seconds", "cpu_seconds")
FIGURES = ("first_reached", *UNTIL_STOPPED, "evaluation_share")
#: The cells that `readable` makes, and what stands above them in a table.
HEADINGS = {
    "solved": "solved",
    "perfect": "perfect",
    "stable": "stays",
    "first_reached": "steps, first reached",
    "env_steps": "steps, stopped",
    "env_steps_mean": "steps: mean",
    "env_steps_slowest_tenth": "slowest tenth",
    "env_steps_longest": "longest",
    "seconds": "seconds",
    "seconds_mean": "seconds: mean",
    "seconds_slowest_tenth": "slowest tenth",
    "seconds_longest": "longest",
    "cpu_seconds": "CPU seconds",
    "evaluation_steps": "steps of evaluations",
    "evaluation_share": "their share of the seconds",
}

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


def is_ablation(row: Mapping[str, Any]) -> bool:
    """True for a run, or a summary of runs, of a lesson with one thing changed, for a limited number of steps: it is compared, not recommended."""
    return row["row"] != row["lesson"] and "max_steps" in row["hyperparameters"] and not trains_on(row)


def worst_of_last(run: Run) -> float | None:
    """The lowest of the run's last ten evaluations: what it is worth once it has learned. None where there is no evaluation."""
    return min((mean for _, mean in run["evaluations"][-LAST:]), default=None)


def summarise(runs: Iterable[Run]) -> dict[str, dict[str, Any]]:
    """Per row, in the order in which they come: how many runs there are and failed, what they reached, and how long that took.

        {"row", "lesson", "env_id", "hyperparameters", "runs", "failed",
         "solved", "perfect", "stable":  {"count", "of", "share", "low", "high"},     # 95 % Wilson interval of the share
         "first_reached", "env_steps", "evaluation_steps", "seconds", "cpu_seconds", "evaluation_share":
                 {"median", "low", "high", "mean", "slowest_tenth", "longest"},       # 95 % bootstrap interval of the median
         "worst_of_last":                [one per run]}

    `first_reached` counts the steps to the first evaluation at the environment's reward threshold, `env_steps` those until training stopped,
    `evaluation_steps` those that evaluations played; `evaluation_share` is the part of the seconds that they took. A tenth of the runs take
    as long as `slowest_tenth`, or longer. A run that was not solved, or failed, took longer than every one that was: it counts as infinity,
    so a median of infinity says that half of the runs never got there. None stands where nothing was recorded.

    `stable` counts the runs whose last ten evaluations all reach the threshold; it is None where there are no evaluations, or the
    environment is not registered.
    """
    return {row: _summary(group) for row, group in by_row(runs).items()}


def steps_until_solved(runs: Iterable[Run], limit: float = math.inf) -> list[float]:
    """Environment steps until each of these runs was solved; infinite where it was not, or not within `limit`."""
    return [run["env_steps"] if run["solved"] and run["env_steps"] <= limit else math.inf for run in runs]


def wilson_interval(successes: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, from `successes` of `of` runs. Source: Wilson (1927)."""
    z, share = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), successes / of
    middle = share + z**2 / (2 * of)
    reach = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    low, high = ((middle + side * reach) / (1 + z**2 / of) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)  # rounding may lead a little way out


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median of `values` and its 95 % percentile bootstrap interval. Values may be infinite; same values, same interval."""
    values = np.sort(np.asarray(values, dtype=float))
    medians = values[_middles_of_resamples(len(values))].mean(axis=1)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    # No interpolation between two medians: one of them may be infinite.
    low, high = np.quantile(medians, tails, method="inverted_cdf")
    return float(np.median(values)), float(low), float(high)


@functools.lru_cache
def _middles_of_resamples(count: int) -> np.ndarray:
    """Of so many sorted values, drawn again and again with replacement: the places of the two in the middle, int (RESAMPLES, 2)."""
    places = np.sort(np.random.default_rng(0).integers(count, size=(RESAMPLES, count)))
    return places[:, [(count - 1) // 2, count // 2]]


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as "0-99" or "0-4, 7"."""
    numbers = sorted(set(numbers))
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)


def readable(summary: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a table, from one of `summarise`'s entries; `HEADINGS` has a heading for each.

    "-" stands for what was not recorded; where trainings were told not to stop, for how long that took, and elsewhere for what became of it.
    """

    def number(value: float, name: str) -> str:
        if np.isinf(value):
            return "not reached"
        return f"{100 * value:.0f} %" if name == "evaluation_share" else f"{value:,.{2 if 'seconds' in name else 0}f}"

    cells = {}
    for name in ("solved", "perfect", *["stable"] * trains_on(summary)):
        part = summary[name]
        cells[name] = part and f"{part['count']} of {part['of']} ({100 * part['low']:.0f}-{100 * part['high']:.0f} %)"
    for name in FIGURES:
        part = summary[name]
        if part is None or (trains_on(summary) and name in UNTIL_STOPPED):
            continue
        shown = {key: number(value, name) for key, value in part.items()}
        middle, low, high = shown["median"], shown["low"], shown["high"]
        cells[name] = middle if middle == low == high else f"{middle} ({low.removesuffix(' %')}-{high})"
        cells |= {f"{name}_{key}": shown[key] for key in ("mean", "slowest_tenth", "longest")}
    return {name: cells.get(name) or "-" for name in HEADINGS}


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
    return summary | {name: _spread(runs, name) for name in FIGURES}


def _spread(runs: Sequence[Run], name: str) -> dict[str, float] | None:
    """Where the runs' figures of this name lie; None where it was not recorded."""
    if name == "evaluation_share":
        values = [run["evaluation_seconds"] / run["seconds"] for run in runs if run["evaluation_seconds"] is not None and run["seconds"]]
        recorded = bool(values)
    else:
        # What was reached on the way counts, wherever the run ended; how long it took to stop, only of a run that was solved.
        counted = [run[name] if run["solved"] or name not in UNTIL_STOPPED else None for run in runs]
        values = [np.inf if value is None else value for value in counted]
        recorded = any(value is not None for value in counted) or not any(run["solved"] for run in runs)
    if not recorded:
        return None
    slowest_tenth = np.quantile(values, 0.9, method="higher")
    spread = {"mean": np.mean(values), "slowest_tenth": slowest_tenth, "longest": max(values)}
    return dict(zip(("median", "low", "high"), median_interval(values), strict=True)) | {key: float(value) for key, value in spread.items()}
