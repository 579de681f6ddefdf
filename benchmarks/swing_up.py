"""How much experience a learned model needs to swing the pole up, on twenty seeds: lesson 14's loop of attempts.

    python benchmarks/swing_up.py

A seed goes on until an attempt holds: the pole stands through the last two seconds of an episode of full length. Writes cartpole_lessons/results/swing_up.json.
"""

import platform
import sys
import time

import torch

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.algorithms.learned_model import STEP, WorldModel, attempt, fit_world, transitions
from cartpole_lessons.environment import make_env
from cartpole_lessons.study import write_figures
from cartpole_lessons.swing_up import SWING_UP

#: Not those that the lesson was written with.
SEEDS = range(100, 120)
MOST_ATTEMPTS = 12
WHOLE, LAST = 250, round(2 / STEP)  # pushes


def learn(seed: int) -> dict:
    """One seed: whether an attempt held in the end, after how many environment steps and CPU seconds."""
    started = time.process_time()
    with seeded(seed), course_arithmetic():
        env, model = make_env(SWING_UP, seed=seed), WorldModel()
        episodes = [attempt(env, None, pushes=100)]
        held = False
        while not held and len(episodes) < MOST_ATTEMPTS:
            fit_world(model, *transitions(episodes))
            episodes.append(attempt(env, model))
            held = len(episodes[-1].pushes) == WHOLE and all(episodes[-1].standing[-LAST:])
    return {
        "seed": seed,
        "held": held,
        "env_steps": 2 * sum(len(episode.pushes) for episode in episodes),
        "cpu_seconds": round(time.process_time() - started, 2),
    }


def main() -> int:
    runs = []
    for seed in SEEDS:
        runs.append(learn(seed))
        print(runs[-1], flush=True)
    write_figures("swing_up", {"runs": runs, "machine": f"{platform.machine()}, torch {torch.__version__}, one thread"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
