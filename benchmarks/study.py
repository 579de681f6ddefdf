"""The course's published results: every algorithm on seeds 0-99, one process per core, and the comparison with Stable-Baselines3 (`make study`).

Every training leaves a file in build/study/, so that the same command goes on where it was stopped. When all are there, the figures are
written to cartpole_lessons/results/, the learning curves are drawn, and the README and the lessons take their numbers from both.

A run counts as solved when the policy that it returns passes 100 held-out episodes that no decision of its training has seen. Every seed
is counted; one that was not solved, or failed, counts as longer than all that were.
"""

import argparse
import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import CourseError
from cartpole_lessons.plots import course_style
from cartpole_lessons.study import RESULTS, Study, by_row, read_results, readable, run_study, write_results

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "learning_curves.png"
SEEDS = 100
COMPARED_SEEDS = 20

#: Row of the table -> (exported module, keywords of its `train`). A row that has the name of its module is the lesson's own.
ROWS = {
    "hand_made": ("hand_made", {}),
    "hand_made-continuous": ("hand_made", {"env_id": "cartpole_lessons/ContinuousCartPole-v0"}),
    "policy_gradient": ("policy_gradient", {"method": "score_function"}),
    "policy_gradient-blended_targets": ("policy_gradient", {"method": "blended_targets"}),
    "reinforce": ("reinforce", {}),
    "actor_critic": ("actor_critic", {}),
    "ppo": ("ppo", {}),
    "dqn": ("dqn", {}),
    "better_dqn": ("better_dqn", {}),
    "gaussian_reinforce": ("gaussian_reinforce", {}),
    "augmented_random_search": ("augmented_random_search", {}),
    "augmented_random_search-CartPole-v1": ("augmented_random_search", {"env_id": "CartPole-v1"}),
    # Trained on after they are perfect: does what was learned stay?
    "better_dqn-stability": ("better_dqn", {"max_steps": 100_000, "stop_when_perfect": False}),
    "dqn-stability": ("dqn", {"max_steps": 100_000, "stop_when_perfect": False}),
}


def table(study: Study) -> str:
    """One line per row: what it reached, with its intervals."""
    columns = ("solved", "perfect", "stable", "env_steps", "seconds")
    lines = [("row", "failed", *columns)]
    for row, summary in study.summary().items():
        cells = readable(summary)
        lines.append((row, str(summary["failed"]), *(cells[column] for column in columns)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def publish(study: Study) -> None:
    """Write each row's figures to cartpole_lessons/results/."""
    for runs in by_row(study.runs).values():
        write_results(runs, RESULTS)


def drawn_rows() -> dict[str, list]:
    """The published rows of which learning curves can be drawn: the lessons' own, where something is learned."""
    return {
        row: runs for row, runs in read_results(RESULTS).items() if row == runs[0]["lesson"] and any(run["evaluations"] for run in runs)
    }


def fingerprint(rows: dict[str, list]) -> str:
    """What stands in the picture about the figures that it shows, so that a test can tell an old picture."""
    shown = [[row, [[run["solved"], run["evaluations"]] for run in runs]] for row, runs in rows.items()]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]


def draw(rows: dict[str, list], titles: dict[str, str], path: Path) -> None:
    """One panel per row: mean return of the evaluations against environment steps, median and middle 80 % of the seeds.

    A panel begins where half of the runs have been evaluated once, and ends where 95 % of them have stopped. A run holds its last value after its
    training has stopped: an agent that has learned does not forget because its training is over.
    """
    columns = 4 if len(rows) > 4 else len(rows)
    lines = -(-len(rows) // columns)
    with course_style():
        figure, axes = plt.subplots(lines, columns, figsize=(2.9 * columns, 2.2 * lines), sharey=True, squeeze=False)
        for ax, (row, runs) in zip(axes.flat, sorted(rows.items(), key=lambda item: titles.get(item[0], item[0])), strict=False):
            curves = [np.array(run["evaluations"]).T for run in runs if run["evaluations"]]
            steps = np.linspace(np.median([run[0][0] for run in curves]), np.quantile([run[0][-1] for run in curves], 0.95), 200)
            low, median, high = np.quantile([np.interp(steps, *curve) for curve in curves], [0.1, 0.5, 0.9], axis=0)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds 0 to SEEDS-1; only {SEEDS} are published (default: {SEEDS})")
    parser.add_argument("--workers", type=int, help="how many processes (default: one per core)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "study", help="where every training leaves its file")
    parser.add_argument("--no-comparison", action="store_true", help="leave Stable-Baselines3 out")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    compares = not arguments.no_comparison and not arguments.rows and arguments.seeds == SEEDS
    if compares and find_spec("stable_baselines3") is None:
        parser.error("the comparison needs Stable-Baselines3: run `pip install -e '.[compare]'`, or leave it out with --no-comparison")
    if unknown or arguments.seeds < 1:
        parser.error(f"unknown row {', '.join(sorted(unknown))}" if unknown else "--seeds is at least 1")

    rows = {row: ROWS[row] for row in arguments.rows or ROWS}
    try:
        study = run_study(rows, range(arguments.seeds), folder=arguments.folder, workers=arguments.workers)
    except CourseError as error:
        sys.exit(f"{error}")
    print(f"\n{table(study)}\n")
    if arguments.seeds != SEEDS:
        print(f"Nothing is published from {arguments.seeds} seeds: the course's figures are those of {SEEDS}.")
        return 0
    publish(study)

    if compares:
        import against_stable_baselines3

        pairs = against_stable_baselines3.compare(COMPARED_SEEDS, against_stable_baselines3.FOLDER)
        print(against_stable_baselines3.table(pairs))
        against_stable_baselines3.publish(pairs, RESULTS)
    else:
        print("Stable-Baselines3 is left out, as you asked: its published figures stay as they are.")

    sys.path.insert(0, str(ROOT / "tools"))
    import badges

    shown = drawn_rows()
    if shown:
        draw(shown, badges.lesson_titles(), PICTURE)
    for path in badges.write():
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
