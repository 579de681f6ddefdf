"""CartPole with a real-valued push: one environment or many, registered as cartpole_lessons/ContinuousCartPole-v0.

The cart, the pole, the time step, the starting states and the pictures are those of Gymnasium's CartPole; what differs is the action, a
force between -1 and 1 times 10 N, and where an episode fails. `derivative` holds the physics, for both environments.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.error import ResetNeeded
from gymnasium.vector.utils import batch_space

from cartpole_lessons._support.checks import check_choice, check_number
from cartpole_lessons.display import prepare_rendering
from cartpole_lessons.errors import InvalidAction, InvalidInput

CONTINUOUS_CARTPOLE = "cartpole_lessons/ContinuousCartPole-v0"


def derivative(
    state: np.ndarray,
    force: float | np.ndarray,
    *,
    gravity: float = 9.8,
    cart_mass: float = 1.0,
    pole_mass: float = 0.1,
    half_length: float = 0.5,
) -> np.ndarray:
    """How fast the state changes: the equations of motion of a pole on a cart, without friction.

    state: float (4,) or (4, n): cart position [m], cart velocity [m/s], pole angle [rad], pole angular velocity [rad/s].
    force: on the cart, to the right, a number or (n,) [N]. gravity [m/s²]; masses [kg]; half_length: half the pole's length [m].
    Returns the rate of change of each entry of the state, in the shape of the state.
    Source: Barto, Sutton and Anderson (1983), appendix, with zero friction; derived anew in Florian (2007).
    """
    _, velocity, angle, angular_velocity = state
    sine, cosine = np.sin(angle), np.cos(angle)
    total_mass = cart_mass + pole_mass
    moment = pole_mass * half_length
    # What the cart's acceleration would be if the pole did not push back.
    push = (force + moment * angular_velocity**2 * sine) / total_mass
    angular_acceleration = (gravity * sine - cosine * push) / (half_length * (4 / 3 - pole_mass * cosine**2 / total_mass))
    acceleration = push - moment * angular_acceleration * cosine / total_mass
    return np.array((velocity, acceleration, angular_velocity, angular_acceleration))


class _RealValuedPush:
    """What the environment and its vector version share: arguments, spaces, one step of physics, and when an episode fails.

    The constants keep Gymnasium's names (`gravity`, `masscart`, `masspole`, `length`, `force_mag`, `tau`, `x_threshold`,
    `theta_threshold_radians`) and may be changed on a made environment.
    """

    def _configure(self, angle_limit_degrees: float, force_magnitude: float, failure_reward: float, dtype: Any) -> None:
        """Set limits, force, reward and spaces; `InvalidInput` on values that make no environment."""
        self.dtype = _check_dtype(dtype)
        self.theta_threshold_radians = check_number("angle_limit_degrees", angle_limit_degrees, positive=True) * 2 * math.pi / 360
        self.force_mag = check_number("force_magnitude", force_magnitude, positive=True)
        self.failure_reward = check_number("failure_reward", failure_reward)
        # Twice the limits, so that a failing observation is still inside. Velocities have no limit; it is written as the largest
        # number rather than as infinity, which Gymnasium's checker takes for a mistake.
        largest = np.finfo(np.float32).max
        high = np.array([2 * self.x_threshold, largest, 2 * self.theta_threshold_radians, largest], dtype=self.dtype)
        self.single_observation_space = gym.spaces.Box(-high, high, dtype=self.dtype)
        self.single_action_space = gym.spaces.Box(-1, 1, (1,), dtype=self.dtype)

    def _move(self, actions: np.ndarray) -> None:
        """One Euler step of `self.state` under `actions`, which are checked, and clipped to [-1, 1]."""
        if self.state is None:
            raise ResetNeeded("The environment has no state yet: call reset() before the first step().")
        try:
            pushes = np.asarray(actions, dtype=np.float64)
        except (TypeError, ValueError):
            raise InvalidAction(f"An action is an array of numbers of shape {self.action_space.shape}, but got {actions!r}.") from None
        if pushes.shape != self.action_space.shape:
            raise InvalidAction(f"This environment takes actions of shape {self.action_space.shape}, but got shape {pushes.shape}.")
        if not np.isfinite(pushes).all():
            raise InvalidAction("An action is NaN or infinite: look at the policy that made it, or for a learning rate that is too high.")
        rates = derivative(
            self.state,
            self.force_mag * np.clip(pushes[..., 0], -1, 1),
            gravity=self.gravity,
            cart_mass=self.masscart,
            pole_mass=self.masspole,
            half_length=self.length,
        )
        self.state = self.state + self.tau * rates

    def _failed(self) -> np.ndarray:
        """Whether the cart or the pole is beyond its limit: bool () or (n,)."""
        return (np.abs(self.state[0]) > self.x_threshold) | (np.abs(self.state[2]) > self.theta_threshold_radians)


class ContinuousCartPoleEnv(_RealValuedPush, CartPoleEnv):
    """Balance a pole on a cart by pushing the cart with a real-valued force.

    Action: float (1,) in [-1, 1], the force in units of `force_magnitude`, positive to the right. What lies outside is clipped;
    `InvalidAction` on another shape, on NaN and on infinity.
    Observation: (4,) cart position [m], cart velocity [m/s], pole angle [rad], pole angular velocity [rad/s]; each starts uniform in
    +-0.05, or as `reset(options={"low": ..., "high": ...})` says. The state itself is kept in float64.
    Reward: 1 for a step survived, `failure_reward` for the step that fails.
    Terminates when the cart is more than 2.4 m from the centre or the pole leans more than `angle_limit_degrees`. There is no time limit
    in here: `gymnasium.make` wraps the registered environment into a `TimeLimit` of 500 steps.

    force_magnitude [N]. dtype: "float32" or "float64", of observations and of the action space.
    `ContinuousCartPoleEnv(angle_limit_degrees=12, failure_reward=1)` with actions -1 and 1 is Gymnasium's CartPole.
    """

    def __init__(
        self,
        *,
        angle_limit_degrees: float = 20.0,
        force_magnitude: float = 10.0,
        failure_reward: float = 0.0,
        dtype: Any = "float32",
        render_mode: str | None = None,
    ) -> None:
        _check_render_mode(render_mode, self.metadata)
        super().__init__(render_mode=render_mode)
        self._configure(angle_limit_degrees, force_magnitude, failure_reward, dtype)
        self.observation_space, self.action_space = self.single_observation_space, self.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode: observation (4,) and an empty info."""
        super().reset(seed=seed, options=options)
        return self.state.astype(self.dtype), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Push for 0.02 s: observation (4,), reward, terminated, truncated (always False), and an empty info."""
        if self.steps_beyond_terminated is not None:
            raise ResetNeeded("This episode is over: call reset() before the next step().")
        self._move(action)
        terminated = bool(self._failed())
        if terminated:
            self.steps_beyond_terminated = 0
        if self.render_mode == "human":
            self.render()
        return self.state.astype(self.dtype), self.failure_reward if terminated else 1.0, terminated, False, {}


class ContinuousCartPoleVectorEnv(_RealValuedPush, CartPoleVectorEnv):
    """`num_envs` continuous CartPoles that step together, with the conventions of Gymnasium's `CartPoleVectorEnv`.

    Actions: float (num_envs, 1), clipped to [-1, 1]. Observations: (num_envs, 4). Rewards, terminated, truncated: (num_envs,).
    Autoreset mode is NEXT_STEP: the step after an episode's end ignores its action, has reward 0 and returns the first observation of the
    next episode. The time limit is this class's own, because wrappers for single environments do not reach inside.
    The other arguments are those of `ContinuousCartPoleEnv`; `dtype` is also that of the rewards.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int = 500,
        render_mode: str | None = None,
        *,
        angle_limit_degrees: float = 20.0,
        force_magnitude: float = 10.0,
        failure_reward: float = 0.0,
        dtype: Any = "float32",
    ) -> None:
        _check_render_mode(render_mode, self.metadata)
        super().__init__(num_envs=num_envs, max_episode_steps=max_episode_steps, render_mode=render_mode)
        self._configure(angle_limit_degrees, force_magnitude, failure_reward, dtype)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every environment: observations (num_envs, 4) and an empty info."""
        super().reset(seed=seed, options=options)
        return self.state.T.astype(self.dtype), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Push every cart for 0.02 s: observations (num_envs, 4), rewards, terminated, truncated (num_envs,), and an empty info."""
        self._move(actions)
        terminated = self._failed()
        self.steps += 1
        truncated = self.steps >= self.max_episode_steps
        rewards = np.where(terminated, self.failure_reward, 1.0).astype(self.dtype)

        resets = np.flatnonzero(self.prev_done)
        if len(resets):
            self.state[:, resets] = self.np_random.uniform(self.low, self.high, size=(4, len(resets)))
            self.steps[resets] = 0
            rewards[resets] = 0
            terminated[resets] = False
            truncated[resets] = False

        self.prev_done = terminated | truncated
        return self.state.T.astype(self.dtype), rewards, terminated, truncated, {}


def _check_dtype(dtype: Any) -> np.dtype:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if dtype is None or kind not in (np.float32, np.float64):
        raise InvalidInput(f"dtype is 'float32' or 'float64', but got {dtype!r}.")
    return kind


def _check_render_mode(render_mode: str | None, metadata: dict[str, Any]) -> None:
    """`InvalidInput` on a mode that `metadata` does not list, `MissingDependency` without pygame."""
    if render_mode is not None:
        check_choice("render_mode", render_mode, metadata["render_modes"])
        # "rgb_array" also where a window was asked for: whether one can be shown is a question of `make_env`'s, and Gymnasium's
        # checker has to be able to try a window on any machine.
        prepare_rendering("rgb_array")


gym.register(
    CONTINUOUS_CARTPOLE,
    entry_point="cartpole_lessons.continuous:ContinuousCartPoleEnv",
    vector_entry_point="cartpole_lessons.continuous:ContinuousCartPoleVectorEnv",
    max_episode_steps=500,
    reward_threshold=475.0,
)
