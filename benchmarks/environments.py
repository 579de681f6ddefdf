"""How fast the course's continuous CartPole steps, beside Gymnasium's own vector CartPole.

    python benchmarks/environments.py

Both play the same episodes, in turns of a short stretch each, so that whatever else the machine does slows both. Printed are the
median steps per second of each (one step of one environment counts as one) and the median over the turns of their ratio: above 1, the
course's is faster.
"""

import argparse
import statistics
import sys
import time

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE

SIZES = (16, 64, 1_024)
STEPS = 200  # of every environment, in one turn


def seconds(envs: VectorEnv, actions: np.ndarray) -> float:
    """How long `envs` takes for actions (steps, num_envs, ...), resets included."""
    started = time.perf_counter()
    for action in actions:
        envs.step(action)
    return time.perf_counter() - started


def compare(num_envs: int, turns: int) -> tuple[float, float, float]:
    """Steps per second of Gymnasium's vector CartPole and of the continuous one, and the ratio: medians over `turns` turns."""
    discrete = gym.make_vec("CartPole-v1", num_envs=num_envs)
    # The discrete limits and the same pushes at full strength: both play the very same episodes, with the same resets.
    continuous = gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=num_envs, angle_limit_degrees=12, failure_reward=1)
    pushes = np.random.default_rng(0).integers(0, 2, (STEPS, num_envs))
    forces = (2 * pushes[..., None] - 1).astype(np.float32)
    discrete.reset(seed=0), continuous.reset(seed=0)
    seconds(discrete, pushes), seconds(continuous, forces)  # a first turn that is not counted: caches fill
    times = [(seconds(discrete, pushes), seconds(continuous, forces)) for _ in range(turns)]
    theirs, ours = (STEPS * num_envs / statistics.median(column) for column in zip(*times, strict=True))
    return theirs, ours, statistics.median(their / our for their, our in times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=100, help="turns of each environment (default: 100)")
    arguments = parser.parse_args()
    if arguments.turns < 1:
        parser.error("--turns is at least 1")
    print(f"{'environments':>12}{'CartPoleVectorEnv':>22}{'continuous':>22}{'ratio':>9}")
    for num_envs in SIZES:
        theirs, ours, ratio = compare(num_envs, arguments.turns)
        print(f"{num_envs:>12,}{theirs:>14,.0f} steps/s{ours:>14,.0f} steps/s{ratio:>8.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
