"""Collect experience: whole episodes of many environments at once, as tensors whose shapes are stated where they are made."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from cartpole_lessons.environment import valid_steps
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.policy import Policy, action_function, check_actions
from cartpole_lessons.threads import one_thread


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


@one_thread()
def collect_episodes(envs: VectorEnv, policy: Policy | Callable) -> Episodes:
    """Reset every environment and let `policy` play each of them to its end, drawing its actions as in training.

    policy: has `act(observations, deterministic)`, or is a function of the observations float32 (n, 4) that returns n actions.
    Every environment contributes exactly one episode. Taking the first n episodes that *finish* instead would favour short ones.
    """
    limit = getattr(envs.spec, "max_episode_steps", None)
    if limit is None:
        raise InvalidInput("collect_episodes needs environments with a time limit: make them with make_envs().")
    act = functools.partial(policy.act, deterministic=False) if hasattr(policy, "act") else action_function(policy)
    n = envs.num_envs
    observations = torch.empty(limit, n, *envs.single_observation_space.shape)
    actions = torch.empty(limit, n, *envs.single_action_space.shape, dtype=_action_dtype(envs))
    rewards = torch.empty(limit, n)
    terminated = torch.zeros(limit, n, dtype=torch.bool)
    truncated = torch.zeros(limit, n, dtype=torch.bool)
    over = torch.zeros(n, dtype=torch.bool)

    current, _ = envs.reset()
    steps = 0
    while not over.all():
        observations[steps] = torch.from_numpy(current)
        actions[steps] = torch.from_numpy(check_actions(act(current), envs.action_space))
        current, reward, ended, cut_off, _ = envs.step(actions[steps].numpy())
        rewards[steps] = torch.from_numpy(reward)
        terminated[steps] = torch.from_numpy(ended)
        truncated[steps] = torch.from_numpy(cut_off)
        over |= terminated[steps] | truncated[steps]
        steps += 1

    done = terminated[:steps] | truncated[:steps]
    # The first episode of each environment ends at its first `done`; what autoreset started after it is left out.
    mask = valid_steps(done.cumsum(0).bool())
    last = mask.sum(0) - 1
    each = torch.arange(n)
    return Episodes(
        observations=observations[:steps],
        actions=actions[:steps],
        rewards=rewards[:steps] * mask,
        mask=mask,
        terminated=terminated[last, each],
        truncated=truncated[last, each] & ~terminated[last, each],
    )


def _action_dtype(envs: VectorEnv) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=envs.action_space.dtype)).dtype
