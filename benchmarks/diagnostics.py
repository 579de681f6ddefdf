"""Within which limits the signs of sound trainings stay, and how often bugs leave them.

    python benchmarks/diagnostics.py

Writes cartpole_lessons/results/diagnostics.json. "ranges": for each lesson, sign and 1,000 environment steps the 5 % and 95 % quantiles of
the readings of twenty seeds, or null where fewer than five of them were still learning. "unhealthy": for each lesson, and each of lesson
12's bugs in one, how many signs were out of their range, on ten other seeds.
"""

import sys
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from cartpole_lessons.bugs import BUGS
from cartpole_lessons.diagnostics import BIN, BINS, SIGNS, diagnose, watched
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.study import write_figures

SEEDS, OTHER_SEEDS = range(1_000, 1_020), range(2_000, 2_010)
LESSONS = ("policy_gradient", "actor_critic", "ppo", "dqn", "better_dqn")


def readings(lesson: str, seed: int) -> dict[str, list[tuple[int, float]]]:
    """What one training shows of each sign."""
    torch.set_num_threads(1)
    metrics = watched(load_lesson(lesson).train, seed=seed).history.metrics
    return {sign: metrics[sign] for sign in SIGNS if sign in metrics}


def ranges(runs: list[dict[str, list[tuple[int, float]]]]) -> dict[str, list[list[float] | None]]:
    """The limits of each sign, for each bin of steps."""
    found = {}
    for sign in (sign for sign in SIGNS if any(sign in run for run in runs)):
        binned = [[[value for step, value in run.get(sign, ()) if step // BIN == number] for run in runs] for number in range(BINS)]
        found[sign] = [
            [float(f"{limit:.3g}") for limit in np.quantile(np.concatenate(each), (0.05, 0.95))] if sum(map(bool, each)) >= 5 else None
            for each in binned
        ]
    return found


def unhealthy(row: str, seed: int) -> int:
    """How many signs of one training, of a lesson or of a bug, are out of their range."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of shapes that are broadcast: the bug itself
    train = BUGS[row].train if row in BUGS else load_lesson(row).train
    return len(diagnose(train, seed=seed).unhealthy)


def main() -> int:
    rows = [*LESSONS, *(name for name, bug in BUGS.items() if bug.lesson in LESSONS)]
    with ProcessPoolExecutor() as processes:
        content = {"ranges": {lesson: ranges(list(processes.map(readings, [lesson] * len(SEEDS), SEEDS))) for lesson in LESSONS}}
        write_figures("diagnostics", content)
        content["unhealthy"] = {row: list(processes.map(unhealthy, [row] * len(OTHER_SEEDS), OTHER_SEEDS)) for row in rows}
        write_figures("diagnostics", content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
