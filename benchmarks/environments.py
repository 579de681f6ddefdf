"""How fast the course's continuous CartPole steps, beside Gymnasium's own vector CartPole.

    python benchmarks/environments.py

Both play the same episodes, in turns of a short stretch each, so that whatever else the machine does slows both. Printed are the
median steps per second of each (one step of one environment counts as one) and the median over the turns of their ratio: above 1, the
course's is faster. Exit status 1 when it takes more than 1.3 times as long.
"""

import statistics
import sys
import time

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE

SIZES = (16, 64, 1_024)
STEPS, TURNS = 200, 100  # steps of every environment in a turn, and turns
BAR = 1.3  # the continuous one may take so many times as long


def seconds(envs: VectorEnv, actions: np.ndarray) -> float:
    """How long `envs` takes for actions (steps, num_envs, ...), resets included."""
    started = time.perf_counter()
    for action in actions:
        envs.step(action)
    return time.perf_counter() - started


def compare(num_envs: int) -> tuple[float, float, float]:
    """Steps per second of Gymnasium's vector CartPole and of the continuous one, and the ratio: medians over the turns."""
    discrete = gym.make_vec("CartPole-v1", num_envs=num_envs)
    # The discrete limits and the same pushes at full strength: both play the very same episodes, with the same resets.
    continuous = gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=num_envs, angle_limit_degrees=12, failure_reward=1)
    pushes = np.random.default_rng(0).integers(0, 2, (STEPS, num_envs))
    forces = (2 * pushes[..., None] - 1).astype(np.float32)
    discrete.reset(seed=0), continuous.reset(seed=0)
    seconds(discrete, pushes), seconds(continuous, forces)  # a first turn that is not counted: caches fill
    times = [(seconds(discrete, pushes), seconds(continuous, forces)) for _ in range(TURNS)]
    theirs, ours = (STEPS * num_envs / statistics.median(column) for column in zip(*times, strict=True))
    return theirs, ours, statistics.median(their / our for their, our in times)


def main() -> int:
    print(f"{'environments':>12}{'CartPoleVectorEnv':>22}{'continuous':>22}{'ratio':>9}")
    ratios = []
    for num_envs in SIZES:
        theirs, ours, ratio = compare(num_envs)
        ratios.append(ratio)
        print(f"{num_envs:>12,}{theirs:>14,.0f} steps/s{ours:>14,.0f} steps/s{ratio:>8.2f}x", flush=True)
    return int(min(ratios) < 1 / BAR)


if __name__ == "__main__":
    sys.exit(main())
