"""CartPole hanging down, to be swung up: one environment or many, registered as cartpole_lessons/ContinuousCartPoleSwingUp-v0.

The physics and the action are those of the continuous CartPole. What differs is where an episode starts, that no angle ends it, and
what it pays: it asks for a plan, because the way up begins with pushes that pay nothing.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from cartpole_lessons.continuous import ContinuousCartPoleEnv, ContinuousCartPoleVectorEnv

SWING_UP = "cartpole_lessons/ContinuousCartPoleSwingUp-v0"
#: How far from the upright a pole still counts as standing [rad]: as far as CartPole-v1 allows.
STANDING = math.radians(12)


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles [rad] -> the same directions between -pi and pi; 0 is upright."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


class _Hanging:
    """What both versions share: no angle ends an episode, angles are observed between -pi and pi, and a step pays 1 where the pole stands."""

    def _failed(self) -> np.ndarray:
        """Whether the cart is beyond the track's end: bool () or (n,)."""
        return np.abs(self.state[0]) > self.x_threshold

    def _seen(self, observation: np.ndarray) -> np.ndarray:
        observation[..., 2] = wrapped(observation[..., 2])
        return observation

    def _stands(self) -> np.ndarray:
        return np.abs(wrapped(self.state[2])) < STANDING


class SwingUpEnv(_Hanging, ContinuousCartPoleEnv):
    """Swing a hanging pole up, and hold it, by pushing the cart with a real-valued force.

    Action: float (1,) in [-1, 1], in units of 10 N. Observation: float32 (4,) as in the continuous CartPole, with the angle between
    -pi and pi; it starts within 0.05 of hanging at rest in the middle.
    Reward: 1 for a step after which the pole is within 12 degrees of the upright, else 0. Terminates when the cart is more than 2.4 m
    from the centre. The registered environment has a time limit of 500 steps, and is solved where a mean of 300 of them are spent standing.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        # Twice 90 degrees: the bounds of the observed angle.
        super().__init__(angle_limit_degrees=90.0, render_mode=render_mode)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode: observation (4,) and an empty info."""
        super().reset(seed=seed, options=options)
        self.state[2] += math.pi
        return self._seen(self.state.astype(self.dtype)), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Push for 0.02 s: observation (4,), reward, terminated, truncated (always False), and an empty info."""
        observation, _, terminated, truncated, info = super().step(action)
        return self._seen(observation), float(self._stands() and not terminated), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Gymnasium's picture from a little further away, so that the whole of a hanging pole is in it."""
        limit, self.x_threshold = self.x_threshold, 1.35 * self.x_threshold
        try:
            return super().render()
        finally:
            self.x_threshold = limit


class SwingUpVectorEnv(_Hanging, ContinuousCartPoleVectorEnv):
    """`num_envs` of them that step together, with the conventions of `ContinuousCartPoleVectorEnv`."""

    def __init__(self, num_envs: int = 1, max_episode_steps: int = 500, render_mode: str | None = None) -> None:
        super().__init__(num_envs, max_episode_steps, render_mode, angle_limit_degrees=90.0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every environment: observations (num_envs, 4) and an empty info."""
        super().reset(seed=seed, options=options)
        hanging = np.array([0, 0, math.pi, 0])[:, None]
        self.state = self.state + hanging
        self.low, self.high = self.low + hanging, self.high + hanging  # where autoreset draws from
        return self._seen(self.state.T.astype(self.dtype)), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Push every cart for 0.02 s: observations (num_envs, 4), rewards, terminated, truncated (num_envs,), and an empty info."""
        observations, rewards, *ends, info = super().step(actions)  # 0 where an episode failed or began
        return self._seen(observations), rewards * self._stands(), *ends, info


gym.register(
    SWING_UP,
    entry_point="cartpole_lessons.swing_up:SwingUpEnv",
    vector_entry_point="cartpole_lessons.swing_up:SwingUpVectorEnv",
    max_episode_steps=500,
    reward_threshold=300.0,
)
