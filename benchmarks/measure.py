"""The course's published results: every algorithm on a hundred seeds, one process per core, and the comparison with Stable-Baselines3 (`make study`).

    python benchmarks/measure.py                # all of it
    python benchmarks/measure.py ppo dqn        # these rows alone, published beside those that are there
    python benchmarks/measure.py --verify 3     # the code has changed, its numbers should not have: are they the same on three seeds?

Every training leaves a file in build/study/, so that the same command goes on where it was stopped. When all are there, the figures are
written to cartpole_lessons/results/, the learning curves are drawn, and the README and the lessons take their numbers from both.

A run counts as solved when the policy that it returns passes 100 held-out episodes that no decision of its training has seen. Every seed
is counted; one that was not solved, or failed, counts as longer than all that were.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from cartpole_lessons.errors import CourseError
from cartpole_lessons.study import (
    by_row,
    lesson_code,
    machine,
    nameless,
    ranges,
    read_results,
    run_study,
    write_results,
)
from cartpole_lessons.study.results import FIGURES

ROOT = Path(__file__).resolve().parent.parent
#: Settings, lessons and tests were chosen with these, so published figures come from others.
CHOSEN_WITH = range(100)
SEEDS = range(1_000, 1_100)
#: What depends on the code alone.
COMPARED = ("status", "solved", "perfect", "mean_return", *FIGURES, "evaluations")

#: An angle in turns, as a share of one in radians.
IN_TURNS = 1 / (2 * math.pi)

#: Row of the table -> (exported module, keywords of its `train`). A row that has the name of its module is the lesson's own.
ROWS = {
    "hand_made": ("hand_made", {}),
    "hand_made-continuous": ("hand_made", {"env_id": "cartpole_lessons/ContinuousCartPole-v0"}),
    "policy_gradient": ("policy_gradient", {"method": "score_function"}),
    "reinforce": ("reinforce", {}),
    "actor_critic": ("actor_critic", {}),
    "ppo": ("ppo", {}),
    "dqn": ("dqn", {}),
    "better_dqn": ("better_dqn", {}),
    "gaussian_reinforce": ("gaussian_reinforce", {}),
    "augmented_random_search": ("augmented_random_search", {}),
    "augmented_random_search-CartPole-v1": ("augmented_random_search", {"env_id": "CartPole-v1"}),
    "learned_model": ("learned_model", {}),
    "imitation": ("imitation", {}),
    "preferences": ("preferences", {}),
    # What is each piece of a lesson worth? One thing is different, and the steps are limited.
    "ppo-no_clip": ("ppo", {"clip": 1e6, "max_steps": 30_000}),
    "ppo-lambda_1": ("ppo", {"gae_lambda": 1.0, "max_steps": 30_000}),
    "ppo-not_normalised": ("ppo", {"normalise_advantages": False, "max_steps": 30_000}),
    "ppo-one_pass": ("ppo", {"epochs": 1, "minibatches": 1, "max_steps": 30_000}),
    "dqn-no_target": ("dqn", {"target_rate": 1.0, "max_steps": 30_000}),
    "dqn-slow_target": ("dqn", {"target_rate": 0.01, "max_steps": 30_000}),
    "dqn-start_at_0": ("dqn", {"start_value": 0.0, "max_steps": 30_000}),
    "dqn-small_memory": ("dqn", {"capacity": 500, "max_steps": 30_000}),
    "policy_gradient-one_episode": ("policy_gradient", {"episodes_per_update": 1, "learning_rate": 0.01, "max_steps": 25_000}),
    "policy_gradient-angle_as_it_comes": ("policy_gradient", {"angle_scale": 1.0, "max_steps": 15_000}),
    "gaussian_reinforce-network": ("gaussian_reinforce", {"hidden": 64, "learning_rate": 0.01, "max_steps": 15_000}),
    "gaussian_reinforce-30_epochs": ("gaussian_reinforce", {"epochs": 30, "max_steps": 10_000}),
    **{
        f"augmented_random_search-{method}_{size}": (
            "augmented_random_search",
            {"method": method, "step_size": size, "max_steps": 10_000},
        )
        for method, sizes in (("basic", (0.0001, 0.001, 0.1)), ("augmented", (0.05, 5.0)))
        for size in sizes
    },
    **{
        f"augmented_random_search-turns_{name}": (
            "augmented_random_search",
            {"angle_scale": IN_TURNS, "normalise_observations": name == "V2", "max_steps": 10_000},
        )
        for name in ("V1", "V2")
    },
    # Trained on after they are perfect: does what was learned stay?
    "better_dqn-stability": ("better_dqn", {"max_steps": 100_000, "stop_when_perfect": False}),
    "dqn-stability": ("dqn", {"max_steps": 100_000, "stop_when_perfect": False}),
}


def verify(rows: Collection[str], seeds: int) -> int:
    """Train the published rows of other code again on their first seeds: how many differ. The others are of today's code from now on."""
    published = {row: runs for row, runs in read_results().items() if row in rows and runs[0]["code"] != lesson_code(runs[0]["lesson"])}
    if not published:
        print("All these rows are of today's code.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for row, runs in published.items():
            plan = {row: (runs[0]["lesson"], runs[0]["hyperparameters"])}
            first = [run["seed"] for run in runs][:seeds]
            write_results(run_study(plan, first, folder=folder).runs, f"{folder}/published")  # thinned, as those are
        again = read_results(f"{folder}/published")
    different = 0
    for row, runs in published.items():
        recorded = [name for name in COMPARED if runs[0][name] is not None]  # older results lack some
        before = {run["seed"]: [run[name] for name in recorded] for run in runs}
        differ = [str(run["seed"]) for run in again[row] if [run[name] for name in recorded] != before.get(run["seed"])]
        print(f"{row}: " + (f"other figures on seed {', '.join(differ)}" if differ else f"the same on {seeds} seeds"))
        if not differ:
            today = {"code": again[row][0]["code"], "verified": {"seeds": seeds, "machine": nameless(machine())}}
            write_results([run | today for run in runs])
        different += bool(differ)
    return different


def run_program(path: str) -> None:
    """Another of the repository's programs, whose failure is ours."""
    if subprocess.run([sys.executable, ROOT / path]).returncode:
        sys.exit(f"{path} failed; what was measured stays in its files, so the same command goes on from there.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "study", help="where every training leaves its file")
    parser.add_argument("--no-comparison", action="store_true", help="leave Stable-Baselines3 out")
    parser.add_argument(
        "--verify", type=int, metavar="SEEDS", help="see that published rows of other code come out the same on so many seeds"
    )
    arguments = parser.parse_args()
    compares = not (arguments.no_comparison or arguments.rows or arguments.verify)
    if compares and find_spec("stable_baselines3") is None:
        parser.error("the comparison needs Stable-Baselines3: run `pip install -e '.[compare]'`, or leave it out with --no-comparison")
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"unknown row {', '.join(sorted(unknown))}")
    if arguments.verify is not None and arguments.verify < 1:
        parser.error("--verify is at least 1")

    rows = {row: ROWS[row] for row in arguments.rows or ROWS}
    try:
        if arguments.verify:
            return min(verify(rows, arguments.verify), 1)
        study = run_study(rows, SEEDS, folder=arguments.folder)
    except CourseError as error:
        sys.exit(f"{error}")
    for runs in by_row(study.runs).values():
        write_results([run | {"settings_chosen_with": f"seeds {ranges(CHOSEN_WITH)}"} for run in runs])
    if compares:
        run_program("benchmarks/against_stable_baselines3.py")
    else:
        print("Stable-Baselines3 is left out, as you asked: its published figures stay as they are.")
    run_program("tools/curves.py")
    run_program("tools/badges.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
