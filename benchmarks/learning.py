"""Train every algorithm on many seeds and print the course's table: solved, perfect, steps and seconds to solve (`make benchmark`).

A row counts as solved when the returned policy passes 100 held-out episodes that no decision of its training has seen. Every seed is
counted, failed ones too. Runs go one after the other in one process, so that their seconds are not those of a crowded machine.
"""

import argparse
import json
import platform
import statistics
import sys
from importlib import import_module, metadata
from pathlib import Path

from tqdm import tqdm

from cartpole_lessons.files import atomic_write

RESULTS = Path(__file__).resolve().parent.parent / "cartpole_lessons" / "results"

#: Row of the table -> (exported module, keywords of its `train`).
ROWS = {
    "hand_made": ("hand_made", {}),
    "hand_made-continuous": ("hand_made", {"env_id": "cartpole_lessons/ContinuousCartPole-v0"}),
    "policy_gradient": ("policy_gradient", {"method": "score_function"}),
    "policy_gradient-blended_targets": ("policy_gradient", {"method": "blended_targets"}),
    "reinforce": ("reinforce", {}),
    "actor_critic": ("actor_critic", {}),
    "ppo": ("ppo", {}),
    "gaussian_reinforce": ("gaussian_reinforce", {}),
    "augmented_random_search": ("augmented_random_search", {}),
    "augmented_random_search-CartPole-v1": ("augmented_random_search", {"env_id": "CartPole-v1"}),
}


def measure(row: str, seeds: range) -> list[dict]:
    """One summary per seed."""
    module, keywords = ROWS[row]
    train = import_module(f"cartpole_lessons.algorithms.{module}").train
    # The first use of an optimizer imports a second's worth of torch; that is no part of any seed's training.
    train(seed=seeds[0], max_steps=1, **keywords)
    return [train(seed=seed, **keywords).summary() for seed in tqdm(seeds, desc=row)]


def table_line(row: str, runs: list[dict]) -> str:
    """The medians count failed seeds at what they used up, so a failure can only make a row look worse."""
    solved = sum(run["solved"] for run in runs)
    perfect = sum(run["perfect"] for run in runs)
    steps = statistics.median(run["env_steps"] for run in runs)
    seconds = statistics.median(run["seconds"] for run in runs)
    return f"{row:<34} {solved:>4}/{len(runs)} {perfect:>5}/{len(runs)} {steps:>12,.0f} {seconds:>9.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=100, help="train on seeds 0 to SEEDS-1 (default: 100)")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to cartpole_lessons/results/, from where the README takes them"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown or arguments.seeds < 1:
        parser.error(f"unknown row {', '.join(sorted(unknown))}" if unknown else "--seeds is at least 1")

    lines = []
    for row in arguments.rows or ROWS:
        runs = measure(row, range(arguments.seeds))
        lines.append(table_line(row, runs))
        if arguments.save:
            versions = {name: metadata.version(name) for name in ("torch", "gymnasium", "numpy")}
            machine = {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine(), **versions}
            RESULTS.mkdir(exist_ok=True)
            with atomic_write(RESULTS / f"{row}.json") as file:
                file.write(json.dumps({"machine": machine, "runs": runs}, indent=1).encode() + b"\n")
    print(f"\n{'algorithm':<34} {'solved':>8} {'perfect':>9} {'median steps':>12} {'median s':>9}")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
