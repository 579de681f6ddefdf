"""The one definition of "solved": what a policy is worth in 100 fresh episodes, played without exploration."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.checks import check_count, check_seed
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.environment import env_spec, make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.policy import Policy, action_function, check_actions

#: More than this is a typing error: they are all played at once, and take memory for as many.
MOST_EPISODES = 100_000
#: Where `evaluate` starts unless told otherwise: far from the seeds that people train with.
HELD_OUT_SEED = 20_260_801


@dataclass(frozen=True)
class Evaluation:
    """Returns of greedily played episodes, and the verdict on them."""

    env_id: str
    seed: int
    returns: np.ndarray  #: float64 (episodes,)
    reward_threshold: float  #: the environment's own `spec.reward_threshold`
    max_episode_steps: int  #: the time limit, which is also the best return
    steps: int = 0  #: environment steps of all these episodes together

    @property
    def mean(self) -> float:
        """Mean return over the episodes."""
        return float(self.returns.mean())

    @property
    def solved(self) -> bool:
        """True when the mean return reaches the environment's reward threshold (475 for v1, 195 for v0)."""
        return self.mean >= self.reward_threshold

    @property
    def perfect(self) -> bool:
        """True when every single episode reaches the time limit."""
        return bool((self.returns >= self.max_episode_steps).all())

    def __str__(self) -> str:
        verdict = "perfect" if self.perfect else "solved" if self.solved else "not solved"
        return f"{verdict}, mean return {self.mean:.1f} in {len(self.returns)} episodes of {self.env_id}"

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(str(self))


def evaluate(policy: Policy | Callable, env_id: str = "CartPole-v1", episodes: int = 100, seed: int = HELD_OUT_SEED) -> Evaluation:
    """Play `episodes` fresh episodes greedily, all in one vector environment. Global random state is left alone.

    policy: has `act(observations)`, or is a function of the observations float32 (n, 4) that returns n actions.
    """
    spec = env_spec(env_id)
    if spec.reward_threshold is None or spec.max_episode_steps is None:
        raise InvalidInput(f"{env_id} has no reward threshold or no time limit, so nothing can be said of it: register both.")
    episodes = check_count("episodes", episodes, MOST_EPISODES)
    envs = make_envs(env_id, episodes, seed=check_seed(seed))
    returns, steps = np.zeros(episodes), 0
    playing = np.ones(episodes, dtype=bool)
    # A policy that draws numbers of its own (a random one, say) draws the same ones at every evaluation.
    with seeded(seed) as interrupts, course_arithmetic():
        act = action_function(policy)
        observations, _ = envs.reset()
        while playing.any():
            interrupts.check()
            actions = check_actions(act(observations), envs.action_space)
            observations, rewards, terminated, truncated, _ = envs.step(actions)
            returns += rewards * playing
            steps += int(playing.sum())
            playing &= ~(terminated | truncated)
    envs.close()
    return Evaluation(env_id, seed, returns, float(spec.reward_threshold), spec.max_episode_steps, steps)
