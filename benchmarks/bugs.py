"""What each bug of lesson 12 costs: it is trained on the first twenty published seeds, beside which the sound lesson's results stand.

    python benchmarks/bugs.py              # those that are not there yet; all of them take minutes
    python benchmarks/bugs.py zero_grad    # this one anew

Writes cartpole_lessons/results/bugs.json.
"""

import sys
import warnings
from concurrent.futures import ProcessPoolExecutor

from cartpole_lessons.bugs import BUGS
from cartpole_lessons.study import read_figures, write_figures

SEEDS = range(1000, 1020)
MAX_STEPS = 20_000


def cost(name: str, seed: int) -> dict:
    """One training with the bug: whether it was solved within the steps, and its evaluations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that are broadcast: the bug itself
        result = BUGS[name].train(seed=seed, max_steps=MAX_STEPS)
    evaluations = without_flat_stretches([[step, round(mean)] for step, mean in result.history.evaluations])
    return {"seed": seed, "solved": result.solved, "env_steps": result.env_steps, "evaluations": evaluations}


def without_flat_stretches(points: list[list[int]]) -> list[list[int]]:
    """The same curve with fewer points: those go that are as high as both neighbours."""
    flat = [before[1] == here[1] == after[1] for before, here, after in zip(points, points[1:], points[2:], strict=False)]
    return [point for point, is_flat in zip(points, [False, *flat, False], strict=False) if not is_flat]


def main(chosen: list[str]) -> int:
    runs = {name: runs for name, runs in read_figures("bugs").get("runs", {}).items() if name in BUGS and name not in chosen}
    with ProcessPoolExecutor() as processes:
        for name in BUGS:
            if name not in runs:
                runs[name] = list(processes.map(cost, [name] * len(SEEDS), SEEDS))
                print(f"{name:<20} solved {sum(run['solved'] for run in runs[name]):>2} of {len(SEEDS)}", flush=True)
            ordered = {each: runs[each] for each in BUGS if each in runs}
            write_figures("bugs", {"max_steps": MAX_STEPS, "runs": ordered})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
