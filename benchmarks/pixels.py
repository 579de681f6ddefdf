"""Lesson 16 on many seeds: what learns from pictures, and what a memory is worth where velocities are hidden.

    python benchmarks/pixels.py              # all of it: an hour on two cores
    python benchmarks/pixels.py "a memory"   # these alone, beside what is there
    python benchmarks/pixels.py "two pictures" --processes 1   # nothing beside it on the machine: a CPU second counts more then

Writes cartpole_lessons/results/pixels.json.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.algorithms.pixels import Learner, PictureDQN, PictureLearner
from cartpole_lessons.algorithms.recurrent import MemoryLearner
from cartpole_lessons.study import read_figures, write_figures


@dataclass(frozen=True)
class Setting:
    """What is trained, for how long at most, and when it is good enough to stop."""

    learner: Callable[[int], Learner]
    seeds: range
    most_steps: int
    every: int  #: steps between two looks at it
    enough: float = 500.0  #: mean duration of the episodes that confirm it
    looks_from: float = 0.0  #: mean duration of the latest training episodes; while they are shorter, nobody needs to look


#: Seeds from 100, 1,000 and 2,000 on: not those that the settings were chosen with.
SETTINGS = {
    "two pictures": Setting(PictureLearner, range(100, 120), 120_000, 4_000, looks_from=100.0),
    "a memory": Setting(MemoryLearner, range(2_000, 2_100), 100_000, 2_000, enough=485.0),
    "one picture": Setting(lambda seed: PictureLearner(seed, pictures=1), range(100, 110), 75_000, 4_000),
    "no memory": Setting(lambda seed: MemoryLearner(seed, remembers=False), range(1_000, 1_020), 30_000, 5_000),
    "DQN": Setting(PictureDQN, range(100, 103), 24_000, 3_000),
}


def learn(name: str, seed: int) -> dict:
    """One seed: what the best of its networks is worth, on a hundred episodes that had no part in choosing it."""
    setting, started = SETTINGS[name], time.process_time()
    torch.set_num_threads(1)
    with seeded(seed), course_arithmetic():
        learner = setting.learner(seed)
        best, weights = -1.0, None
        while learner.env_steps < setting.most_steps and best < setting.enough:
            learner.practise(setting.every)
            over = learner.env_steps >= setting.most_steps
            if not over and np.mean(learner.durations[-30:]) < setting.looks_from:
                continue
            looks = learner.play(30, seed=learner.env_steps).mean()
            if looks >= setting.enough:  # one look may be luck: what stops the training are 200 fresh episodes
                looks = learner.play(200, seed=learner.env_steps + 1).mean()
            if looks > best:
                best, weights = looks, {key: value.clone() for key, value in learner.network.state_dict().items()}
        spent = time.process_time() - started
        learner.network.load_state_dict(weights)
        durations = learner.play()
    return {
        "seed": seed, "env_steps": learner.env_steps, "mean": round(durations.mean(), 1), "solved": bool(durations.mean() >= 475),
        "perfect": bool(durations.min() >= 500), "cpu_seconds": round(spent, 1),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(SETTINGS)} (default: all)")
    parser.add_argument("--processes", type=int, help="how many at a time (default: one per core)")
    arguments = parser.parse_args()
    names = arguments.names or list(SETTINGS)
    published = read_figures("pixels").get("runs", {})
    with ProcessPoolExecutor(arguments.processes) as processes:
        for name in names:
            seeds = SETTINGS[name].seeds
            published[name] = list(processes.map(learn, [name] * len(seeds), seeds))
            print(name, *published[name], sep="\n", flush=True)
            write_figures("pixels", {"runs": {each: published[each] for each in SETTINGS if each in published}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
