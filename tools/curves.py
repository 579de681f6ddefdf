"""Draw docs/learning_curves.png from the published results; `make study` does it after it has published new ones.

python tools/curves.py
"""

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from badges import PICTURE, ROOT, lesson_titles

from cartpole_lessons.environment import env_spec
from cartpole_lessons.plots import course_style
from cartpole_lessons.study import RESULTS, read_results


def drawn_rows(folder: Path = RESULTS) -> dict[str, list]:
    """The published rows of which learning curves can be drawn: the lessons' own, where something is learned."""
    return {row: runs for row, runs in read_results(folder).items() if row == runs[0]["lesson"] and any(run["evaluations"] for run in runs)}


def fingerprint(rows: dict[str, list]) -> str:
    """What stands in the picture about the figures that it shows, so that a test can tell an old picture."""
    shown = [[row, [[run["solved"], run["evaluations"]] for run in runs]] for row, runs in rows.items()]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]


def quantiles(runs: list) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps, and the mean return that a tenth, half and nine tenths of the runs are below at each of them.

    It begins where half of the runs have been evaluated once, and ends where 95 % of them have stopped. A run holds its last value after its
    training has stopped: an agent that has learned does not forget because its training is over.
    """
    curves = [np.array(run["evaluations"]).T for run in runs if run["evaluations"]]
    steps = np.linspace(np.median([run[0][0] for run in curves]), np.quantile([run[0][-1] for run in curves], 0.95), 200)
    return steps, np.quantile([np.interp(steps, *curve) for curve in curves], [0.1, 0.5, 0.9], axis=0)


def draw(rows: dict[str, list], path: Path) -> None:
    """One panel per row: mean return of the evaluations against environment steps, median and middle 80 % of the seeds."""
    titles = lesson_titles()
    columns = 4 if len(rows) > 4 else len(rows)
    lines = -(-len(rows) // columns)
    with course_style():
        figure, axes = plt.subplots(lines, columns, figsize=(2.9 * columns, 2.2 * lines), sharey=True, squeeze=False)
        for ax, (row, runs) in zip(axes.flat, sorted(rows.items(), key=lambda item: titles.get(item[0], item[0])), strict=False):
            steps, (low, median, high) = quantiles(runs)
            spec = env_spec(runs[0]["env_id"])
            ax.fill_between(steps / 1000, low, high, color="C0", alpha=0.2, linewidth=0)
            ax.plot(steps / 1000, median, color="C0", linewidth=2)
            ax.axhline(spec.reward_threshold, color="C5", linestyle="--", linewidth=1)
            ax.set(title=titles.get(row, row), xlim=(0, None), ylim=(0, 1.04 * spec.max_episode_steps))
        for ax in axes.flat[len(rows) :]:
            ax.set_visible(False)
        figure.supxlabel("environment steps [thousands]", fontsize="medium")
        figure.supylabel("mean return, greedy", fontsize="medium")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Description": fingerprint(rows)})
        plt.close(figure)


if __name__ == "__main__":
    draw(drawn_rows(), ROOT / PICTURE)
    print(f"wrote {PICTURE}")
