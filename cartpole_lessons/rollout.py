"""Play an episode, or collect experience of many environments at once: whole episodes, or a number of steps at a time.

Every tensor's shape is stated where the tensor is made: T steps of n environments, time first.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from cartpole_lessons._support.checks import check_count
from cartpole_lessons.environment import valid_steps
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.policy import Policy, action_function, check_actions


def play_episode(env: gym.Env, policy: Policy | Callable) -> Iterator[np.ndarray]:
    """Reset `env`, one environment, and let `policy` play an episode greedily.

    Yields each observation, float32 (4,), as soon as it is there, so that the caller can look, count, film or stop: the first one
    before any step, and then one after each, which makes T + 1 for an episode of T steps.
    """
    act = action_function(policy)
    batched_space = gym.vector.utils.batch_space(env.action_space, 1)
    observation, _ = env.reset()
    over = False
    while not over:
        yield observation
        action = check_actions(act(observation[None]), batched_space)[0]
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    yield observation


@dataclass(frozen=True)
class Episodes:
    """One episode of each of n environments, side by side. Axis 0 is time: T is the length of the longest episode."""

    observations: torch.Tensor  #: float32 (T, n, 4), what the policy saw
    actions: torch.Tensor  #: (T, n), what it did
    rewards: torch.Tensor  #: float32 (T, n), what it got; 0 once the episode is over
    mask: torch.Tensor  #: bool (T, n), True while the episode lasts: what lies beyond is not experience
    terminated: torch.Tensor  #: bool (n,), True where the pole fell or the cart left the track
    truncated: torch.Tensor  #: bool (n,), True where only the time limit ended the episode

    @property
    def lengths(self) -> torch.Tensor:
        """Steps of each episode, int64 (n,)."""
        return self.mask.sum(0)

    @property
    def returns(self) -> torch.Tensor:
        """Undiscounted return of each episode, float32 (n,)."""
        return self.rewards.sum(0)

    @property
    def ends(self) -> torch.Tensor:
        """How many steps all environments together had taken when each episode ended, int64 (n,)."""
        return torch.minimum(self.lengths[:, None], self.lengths).sum(1)

    @property
    def env_steps(self) -> int:
        """Steps taken in all episodes together."""
        return int(self.mask.sum())

    def to(self, device: torch.device | str) -> "Episodes":
        """The same episodes with their tensors on `device`."""
        return _moved(self, device)


def collect_episodes(envs: VectorEnv, policy: Policy | Callable, **exploration: Any) -> Episodes:
    """Reset every environment and let `policy` play each of them to its end, drawing its actions as in training.

    policy: has `act(observations, deterministic)`, or is a function of the observations float32 (n, 4) that returns n actions.
    exploration: what its drawing depends on (`epsilon=0.1`). Every environment contributes exactly one episode. Taking the first n episodes that *finish* instead would favour short ones.
    """
    limit = getattr(envs.spec, "max_episode_steps", None)
    if limit is None:
        raise InvalidInput("collect_episodes needs environments with a time limit: make them with make_envs().")
    act = action_function(policy, exploration=exploration)
    n = envs.num_envs
    observations, actions, rewards, terminated, truncated = _empty_rows(envs, limit)
    over = np.zeros(n, dtype=bool)

    current, _ = envs.reset()
    steps = 0
    while not over.all():
        if steps == limit:
            raise InvalidInput(
                f"An episode is longer than the {limit} steps that its environment is registered with: register one with this limit."
            )
        observations[steps] = current
        actions[steps] = check_actions(act(current), envs.action_space)
        current, rewards[steps], terminated[steps], truncated[steps], _ = envs.step(actions[steps])
        over |= terminated[steps] | truncated[steps]
        steps += 1

    observations, actions, rewards, terminated, truncated = (
        torch.from_numpy(rows[:steps]) for rows in (observations, actions, rewards, terminated, truncated)
    )
    done = terminated | truncated
    # The first episode of each environment ends at its first `done`; what autoreset started after it is left out.
    mask = valid_steps(done.cumsum(0).bool())
    last = mask.sum(0) - 1
    each = torch.arange(n)
    return Episodes(
        observations=observations,
        actions=actions,
        rewards=rewards * mask,
        mask=mask,
        terminated=terminated[last, each],
        truncated=truncated[last, each] & ~terminated[last, each],
    )


@dataclass(frozen=True)
class Steps:
    """T steps of each of n environments, side by side. Episodes begin and end anywhere in them."""

    observations: torch.Tensor  #: float32 (T + 1, n, 4); [t + 1] is what step t led to, also where it ended an episode
    actions: torch.Tensor  #: (T, n)
    rewards: torch.Tensor  #: float32 (T, n)
    terminated: torch.Tensor  #: bool (T, n), True where the pole fell or the cart left the track: nothing follows
    truncated: torch.Tensor  #: bool (T, n), True where only the time limit ended the episode: it would have gone on
    mask: torch.Tensor  #: bool (T, n), False where autoreset used the step to reset: no batch may contain it
    returns: list[float]  #: undiscounted returns of the episodes that ended in these steps
    ends: list[int]  #: after how many of these steps, counted over all environments, each of those episodes ended

    @property
    def env_steps(self) -> int:
        """Steps that really happened, in all environments together."""
        return int(self.mask.sum())

    def to(self, device: torch.device | str) -> "Steps":
        """The same steps with their tensors on `device`."""
        return _moved(self, device)


class Tally(NamedTuple):
    """How many steps were taken, and which episodes ended in them: what `Run.record` needs of a loop that collects by itself."""

    env_steps: int  #: steps taken
    returns: Sequence[float] = ()  #: undiscounted returns of the episodes that ended in them
    ends: Sequence[int] = ()  #: after how many of these steps each of those episodes ended


class StepCollector:
    """Plays vector environments `steps` at a time, and goes on where it stopped: episodes run on from one batch to the next."""

    def __init__(self, envs: VectorEnv, steps: int) -> None:
        self.envs, self.steps = envs, check_count("steps", steps)
        self._observation, _ = envs.reset()  # (n, 4), what the next action is chosen for
        self._done = torch.zeros(envs.num_envs, dtype=torch.bool)  # (n,), of the step before the next one
        self._return = np.zeros(envs.num_envs)  # (n,), of the episodes that are under way

    def collect(self, policy: Policy | Callable, **exploration: Any) -> Steps:
        """The next `steps` steps of every environment, with actions drawn as in training.

        exploration: what drawing depends on, where a policy has such a thing (`epsilon=0.1`).
        """
        act = action_function(policy, exploration=exploration)
        observations, actions, rewards, terminated, truncated = _empty_rows(self.envs, self.steps)
        observations[0] = self._observation
        for step in range(self.steps):
            actions[step] = check_actions(act(self._observation), self.envs.action_space)
            self._observation, rewards[step], terminated[step], truncated[step], _ = self.envs.step(actions[step])
            observations[step + 1] = self._observation

        truncated &= ~terminated
        observations, actions, rewards, terminated, truncated = map(
            torch.from_numpy, (observations, actions, rewards, terminated, truncated)
        )
        done = terminated | truncated
        mask = valid_steps(done, self._done)
        self._done = done[-1]
        returns, ends = self._ended_episodes(rewards.numpy(), done.numpy(), mask.numpy())
        return Steps(observations, actions, rewards, terminated, truncated, mask, returns, ends)

    def _ended_episodes(self, rewards: np.ndarray, done: np.ndarray, mask: np.ndarray) -> tuple[list[float], list[int]]:
        """Returns of the episodes that ended, and after how many real steps each did; keeps count of those under way."""
        returns, ends = [], []
        taken = mask.sum(1).cumsum()
        for step in range(self.steps):
            self._return += rewards[step]  # a reset step's reward is 0
            if done[step].any():
                returns += self._return[done[step]].tolist()
                ends += [int(taken[step])] * int(done[step].sum())
                self._return[done[step]] = 0
        return returns, ends


def _moved(collected: Any, device: torch.device | str) -> Any:
    """A copy of the dataclass `collected` whose tensors are on `device`."""
    moved = {name: value.to(device) for name, value in vars(collected).items() if isinstance(value, torch.Tensor)}
    return dataclasses.replace(collected, **moved)


def _empty_rows(envs: VectorEnv, steps: int) -> tuple[np.ndarray, ...]:
    """Room for so many steps of all environments: observations, with one row more, actions, rewards, terminated, truncated.

    NumPy while it is filled, one row at a time: there a torch tensor costs several times as much.
    """
    n = envs.num_envs
    return (
        np.empty((steps + 1, n, *envs.single_observation_space.shape), dtype=np.float32),
        np.empty((steps, n, *envs.single_action_space.shape), dtype=envs.action_space.dtype),
        np.empty((steps, n), dtype=np.float32),
        np.empty((steps, n), dtype=bool),
        np.empty((steps, n), dtype=bool),
    )
