"""Make one CartPole or many, seeded and ready to render, and tell which steps of a vector environment are real."""

import difflib
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from cartpole_lessons._support.checks import check_choice, check_count, shown
from cartpole_lessons._support.seeding import derive_seed, start_of
from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE
from cartpole_lessons.display import prepare_rendering
from cartpole_lessons.errors import InvalidInput, in_short

#: The environments that the lessons use.
ENV_IDS = ("CartPole-v0", "CartPole-v1", CONTINUOUS_CARTPOLE)


def env_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Gymnasium's entry for `env_id` (time limit, reward threshold); `InvalidInput` where there is none."""
    if not isinstance(env_id, str) or env_id not in gym.registry:
        close = difflib.get_close_matches(env_id[:60], ENV_IDS, n=1, cutoff=0.5) if isinstance(env_id, str) else []
        hint = f"did you mean {close[0]!r}?" if close else f"this course uses {' and '.join(ENV_IDS)}."
        raise InvalidInput(f"There is no environment {shown(env_id)}: {hint}")
    return gym.registry[env_id]


def make_env(env_id: str = "CartPole-v1", *, seed: int | None = None, render: str | None = None, actions: str | None = None) -> gym.Env:
    """One environment. Its first `reset()` needs no seed: it starts as `reset(seed=seed)` would.

    render: None, "rgb_array" (frames as uint8 (400, 600, 3), no screen needed) or "human" (a window).
    actions: "discrete", "continuous" or "either": what the caller, who learns from the four observations of CartPole, can use; another
    environment is then refused.
    """
    env_spec(env_id)
    if render not in (None, "rgb_array", "human"):
        raise InvalidInput(f"render is None, 'rgb_array' or 'human', but got {render!r}.")
    if render is not None:
        prepare_rendering(render)
    env = _make(gym.make, env_id, render_mode=render)
    _check_spaces(env_id, env.observation_space, env.action_space, actions)
    if seed is not None:
        env.unwrapped.np_random = gym.utils.seeding.np_random(start_of(seed))[0]
        env.action_space.seed(derive_seed(seed, "action space"))
    return env


def make_envs(env_id: str = "CartPole-v1", num_envs: int = 16, *, seed: int | None = None, actions: str | None = None) -> VectorEnv:
    """`num_envs` environments that step together, through Gymnasium's own vector entry point where the environment has one.

    observations: float32 (num_envs, 4); actions: (num_envs,), or (num_envs, 1) where they are continuous; rewards, terminated,
    truncated: (num_envs,). Autoreset mode is NEXT_STEP: the observation at the end of an episode is its true last one, and the step
    after it only resets (see `valid_steps`).
    actions: "discrete", "continuous" or "either": what the caller, who learns from the four observations of CartPole, can use; another
    environment is then refused.
    """
    spec = env_spec(env_id)
    num_envs = check_count("num_envs", num_envs)
    envs = _make(gym.make_vec, env_id, num_envs=num_envs)
    if envs.metadata.get("autoreset_mode") != AutoresetMode.NEXT_STEP:
        raise InvalidInput(
            f"{env_id} resets its episodes in another way than NEXT_STEP, which the course's rollouts rely on: use {' or '.join(ENV_IDS)}."
        )
    _check_spaces(env_id, envs.single_observation_space, envs.single_action_space, actions)
    if seed is not None:
        if spec.vector_entry_point:
            envs.np_random = gym.utils.seeding.np_random(start_of(seed))[0]
        else:
            envs.reset(seed=start_of(seed))
        envs.action_space.seed(derive_seed(seed, "action space"))
    return envs


def _make(make: Callable, env_id: str, **keywords: Any) -> Any:
    """What `gym.make` or `gym.make_vec` returns; `InvalidInput` where `env_id` needs what is not installed."""
    try:
        with warnings.catch_warnings():
            # v0 is taught on purpose, beside v1; the reminder that v1 exists would greet every student.
            warnings.filterwarnings("ignore", message=".*out of date.*")
            return make(env_id, **keywords)
    except (ImportError, gym.error.Error) as error:
        raise InvalidInput(f"{env_id} cannot be made here ({in_short(error)}): this course uses {' and '.join(ENV_IDS)}.") from None


def _check_spaces(env_id: str, observation_space: gym.Space, action_space: gym.Space, wanted: str | None) -> None:
    """`InvalidInput` where a learner (`wanted` is not None) could not learn: from other observations, or with the other kind of actions."""
    if wanted is None:
        return
    kind = "discrete" if isinstance(action_space, gym.spaces.Discrete) else "continuous"
    if check_choice("actions", wanted, ("discrete", "continuous", "either")) not in (kind, "either"):
        raise InvalidInput(f"This learner needs {wanted} actions, but those of {env_id} are {kind}: {action_space}.")
    if observation_space.shape != (4,) or observation_space.dtype != np.float32:
        raise InvalidInput(f"This learner needs observations of 4 float32 numbers, but {env_id} has {shown(observation_space)}.")


def valid_steps(done: torch.Tensor, done_before: torch.Tensor | None = None) -> torch.Tensor:
    """Which steps of a vector rollout really happened: bool (T, n), False where NEXT_STEP autoreset used the step to reset.

    done: bool (T, n), terminated | truncated at each step. done_before: bool (n,), `done` of the step before the first one (None: no
    episode had just ended). A reset step ignores its action, has reward 0 and joins two episodes: no batch may contain it.
    """
    if done_before is None:
        done_before = torch.zeros_like(done[0])
    return ~torch.cat([done_before[None], done[:-1]])
