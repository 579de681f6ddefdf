"""Lesson 16 on twenty seeds: until a hundred episodes played from pictures are perfect; and ten of them with one picture only, for as many steps at most.

    python benchmarks/pixels.py

Writes cartpole_lessons/results/pixels.json.
"""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.files import write_file
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.algorithms.pixels import PictureLearner, play_pictures
from cartpole_lessons.study import RESULTS

SEEDS = range(100, 120)  # not those that the settings were chosen with
MOST_STEPS = 120_000
EVERY = 4_000


def learn(seed: int, pictures: int = 2, most: int = MOST_STEPS) -> dict:
    """One seed: what the best of its networks is worth, on a hundred episodes that had no part in choosing it."""
    started = time.process_time()
    with seeded(seed), course_arithmetic():
        learner = PictureLearner(seed, pictures=pictures)
        best, weights = -1.0, None
        while learner.env_steps < most and best < 500:
            learner.practise(EVERY)
            durations = play_pictures(learner.network, 30, seed=learner.env_steps)
            if durations.min() >= 500:
                durations = play_pictures(learner.network, 100, seed=learner.env_steps + 1)
            if durations.mean() > best:
                best = durations.mean()
                weights = {name: value.clone() for name, value in learner.network.state_dict().items()}
        spent = time.process_time() - started
        learner.network.load_state_dict(weights)
        durations = play_pictures(learner.network, 100)
    return {
        "seed": seed, "env_steps": learner.env_steps, "mean": round(durations.mean(), 1), "solved": bool(durations.mean() >= 475),
        "perfect": bool(durations.min() >= 500), "cpu_seconds": round(spent, 1),
    }  # fmt: skip


def main() -> int:
    with ProcessPoolExecutor() as processes:
        two = list(processes.map(learn, SEEDS))
        print(*two, sep="\n", flush=True)
        most = max(run["env_steps"] for run in two)
        one = list(processes.map(learn, SEEDS[:10], [1] * 10, [most] * 10))
        print(*one, sep="\n", flush=True)
    published = {"runs": {"two pictures": two, "one picture": one}}
    write_file(RESULTS / "pixels.json", (json.dumps(published, separators=(",", ":")) + "\n").encode(), "The result")
    return 0


if __name__ == "__main__":
    sys.exit(main())
