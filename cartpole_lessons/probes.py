"""Probes: tiny environments whose answer is known, for any learner. What fails says where to look first.

    from cartpole_lessons.algorithms import dqn
    from cartpole_lessons.probes import probe

    probe(dqn.train)                                                                       # a lesson's
    probe(lambda env_id, seed, max_steps: SB3("MlpPolicy", env_id, seed=seed).learn(max_steps))  # or anybody's

Every probe looks like CartPole from outside (four float32 numbers, two actions, NEXT_STEP autoreset), so that no learner has to be
changed for it, and pays a wrong learner for the wrong action: passing by luck is unlikely.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cartpole_lessons._support.checks import check_choice, shown
from cartpole_lessons._support.notebook import card
from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.lessons import algorithm_of, run_algorithm
from cartpole_lessons.policy import action_function, check_actions
from cartpole_lessons.training import Run

ACTIONS = ("discrete", "continuous")
#: In place of the number of a state: the episode ends here.
END = -1
#: So far may a real-valued action be from the best one, and a value from the true one.
TOLERANCE, VALUE_TOLERANCE = 0.25, 0.5


@dataclass(frozen=True)
class Probe:
    """A small world: what each of its states looks like, what both actions pay there, and where they lead."""

    name: str
    question: str  #: what it asks of a learner
    states: tuple[tuple[float, ...], ...]  #: an observation of four numbers each
    pays: tuple[tuple[float, float], ...]  #: reward of either action in each state
    leads: tuple[tuple[int, int], ...]  #: number of the next state after either action, or END
    right: dict[int, float]  #: the best action in each state in which it matters
    causes: tuple[str, ...]  #: of a failure, the likeliest first
    starts: tuple[float, ...] = (1.0,)  #: how likely an episode starts in each of the first states
    worth: dict[int, float] = field(default_factory=dict)  #: what a state is worth, where the discount has (next to) no say in it
    end: int = 0  #: number of the state that an episode's end looks like
    limit: int = 8  #: time limit of an episode [steps]
    bootstraps: bool = False  #: whether only who asks for the value of a truncated episode's last state can pass
    continuous_only: bool = False  #: whether `right` is a force, and the reward falls with the distance from it

    def env_id(self, actions: str = "discrete") -> str:
        """The name under which the environment is registered."""
        return f"cartpole_lessons/Probe_{self.name}_{actions}-v0"


def _one_hot(*signs: int) -> tuple[tuple[float, ...], ...]:
    """Observations of which one number is 1 or -1: the first of them has its sign in the first place, and so on."""
    return tuple(tuple(float(sign) if place == number % 4 else 0.0 for place in range(4)) for number, sign in enumerate(signs))


#: From the simplest on: who fails one need not look at those below it yet.
PROBES = {
    each.name: each
    for each in (
        Probe(
            "two_actions",
            "One state, one step, and one action pays. Does it take that one?",
            states=_one_hot(1),
            pays=((0, 1),),
            leads=((END, END),),
            right={0: 1},
            worth={0: 1},
            limit=1,
            causes=(
                "nothing is learned from the last step of an episode, and here there is no other",
                "the loss has the wrong sign: it makes what paid unlikelier",
                "advantages are normalised within one episode: where that has one step, the advantage is always 0",
                "the optimizer holds other parameters than those that act",
            ),
        ),
        Probe(
            "observations",
            "Eight states, and another action pays in each. Does it tell them apart?",
            states=_one_hot(1, 1, 1, 1, -1, -1, -1, -1),
            pays=((0, 1), (1, 0), (1, 0), (0, 1), (1, 0), (0, 1), (0, 1), (1, 0)),
            leads=((END, END),) * 8,
            starts=(1 / 8,) * 8,
            right={0: 1, 1: 0, 2: 0, 3: 1, 4: 0, 5: 1, 6: 1, 7: 0},
            worth=dict.fromkeys(range(8), 1),
            limit=1,
            causes=(
                "shapes (n,) and (n, 1) were broadcast: everything is pulled towards the mean of the batch",
                "a sum or mean over the wrong axis: one number for all weights",
                "observations and actions of a batch are not in the same order",
                "all observations are one array, which the environment changes later",
            ),
        ),
        Probe(
            "delayed",
            "A little now, or more one step later. Does it wait?",
            states=_one_hot(1, 1, 1),
            pays=((0.5, 0), (0, 0), (1, 1)),
            leads=((1, 2), (END, END), (END, END)),
            right={0: 1},
            worth={0: 1, 1: 0, 2: 1},
            causes=(
                "returns add up what came before a step, not what came after it",
                "the discount is near 0, or multiplied once too often",
                "the next value belongs to another step",
            ),
        ),
        Probe(
            "falls",
            "A small reward that ends the episode, or a larger one by a longer route. Does it know that nothing follows an end?",
            # The end looks like the beginning: whoever asks for its value is told that all begins again.
            states=_one_hot(1, 1, 1),
            pays=((1, 0), (0, 0), (1.5, 1.5)),
            leads=((END, 1), (2, 2), (END, END)),
            right={0: 1},
            worth={0: 1.5, 1: 1.5, 2: 1.5},
            causes=(
                "the value of a terminated episode's last state is added: multiply it by (1 - terminated)",
                "an episode's end is not noticed, and rewards of the next one are added to its returns",
            ),
        ),
        Probe(
            "time_limit",
            "Three at once, which ends the episode, or one per step in an episode that is cut off after one step. Does it look beyond that?",
            states=_one_hot(1),
            pays=((3, 1),),
            leads=((END, 0),),
            right={0: 1},
            limit=1,
            bootstraps=True,
            causes=(
                "it learns from whole episodes' returns, and is right to take the sum: say whole_episodes=True",
                "truncated is treated like terminated: add the value of the state that a truncated step led to",
                "terminated and truncated are mixed up",
            ),
        ),
        Probe(
            "reset_steps",
            "A reward of 0.8 now, or a step into a state worth 1, at which time runs out. Does it learn from steps that never happened?",
            states=_one_hot(1, 1, 1, 1),
            pays=((0.8, 0), (0, 0), (1, 1), (0, 0)),
            leads=((END, 2), (END, END), (END, END), (END, END)),
            starts=(0.45, 0.45, 0.1),
            right={0: 1},
            worth={0: 1, 1: 0, 2: 1},
            end=3,
            limit=1,
            bootstraps=True,
            causes=(
                "steps that only reset an environment are in the batch: leave out each step after a done",
                "truncated is treated like terminated",
                "values run away from their targets: the target network is the network itself",
            ),
        ),
        Probe(
            "force",
            "One state, and the nearer the action to 0.5 the more it pays. Does it find it?",
            states=_one_hot(1),
            pays=((0, 0),),
            leads=((END, END),),
            right={0: 0.5},
            limit=1,
            continuous_only=True,
            causes=(
                "the log-probability is of the clipped action, not of the one that was drawn",
                "log-probabilities have shape (n, 1) and advantages (n,)",
                "the deviation cannot shrink, or shrinks to nothing at once",
            ),
        ),
    )
}


class _World:
    """What the environment and the vector environment of a probe have in common."""

    def _enter(self, probe: str, actions: str) -> None:
        self.probe, self.actions = PROBES[probe], actions
        self._observations = np.array(self.probe.states, dtype=np.float32)
        self._pays, self._leads = np.array(self.probe.pays, dtype=float), np.array(self.probe.leads)
        self._observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
        self._action_space = gym.spaces.Discrete(2) if actions == "discrete" else gym.spaces.Box(-1, 1, (1,), np.float32)

    def _begin(self, count: int) -> np.ndarray:
        return self.np_random.choice(len(self.probe.starts), size=count, p=self.probe.starts)

    def _move(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States and actions (n,) -> rewards, next states (`end` where the episode ended), terminated."""
        if self.probe.continuous_only:
            rewards = 1 - (np.asarray(actions, dtype=float).clip(-1, 1) - self.probe.right[0]) ** 2
            chosen = np.zeros(len(states), dtype=int)
        else:
            chosen = np.asarray(actions) if self.actions == "discrete" else (np.asarray(actions) > 0).astype(int)
            rewards = self._pays[states, chosen]
        following = self._leads[states, chosen]
        terminated = following == END
        return rewards, np.where(terminated, self.probe.end, following), terminated


class ProbeEnv(_World, gym.Env):
    """One environment of a probe. Its time limit is Gymnasium's wrapper."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own way

    def __init__(self, probe: str, actions: str = "discrete", render_mode: str | None = None) -> None:
        self._enter(probe, actions)
        self.observation_space, self.action_space = self._observation_space, self._action_space
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode: observation float32 (4,) and an empty info."""
        super().reset(seed=seed)
        self._states = self._begin(1)
        return self._observations[self._states[0]].copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Observation float32 (4,), reward, terminated, truncated (always False), and an empty info."""
        rewards, self._states, terminated = self._move(self._states, np.reshape(action, 1))
        return self._observations[self._states[0]].copy(), float(rewards[0]), bool(terminated[0]), False, {}


class ProbeVectorEnv(_World, VectorEnv):
    """`num_envs` environments of a probe that step together, with NEXT_STEP autoreset and a time limit of its own."""

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium's own way

    def __init__(
        self, num_envs: int = 1, max_episode_steps: int = 8, render_mode: str | None = None, *, probe: str, actions: str = "discrete"
    ) -> None:
        self._enter(probe, actions)
        self.num_envs, self.max_episode_steps, self.render_mode = num_envs, max_episode_steps, render_mode
        self.single_observation_space, self.single_action_space = self._observation_space, self._action_space
        self.observation_space, self.action_space = (batch_space(each, num_envs) for each in (self._observation_space, self._action_space))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every environment: observations float32 (num_envs, 4) and an empty info."""
        super().reset(seed=seed)
        self._states, self._steps = self._begin(self.num_envs), np.zeros(self.num_envs, dtype=int)
        self._done = np.zeros(self.num_envs, dtype=bool)
        return self._observations[self._states], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Observations float32 (num_envs, 4), rewards, terminated, truncated (num_envs,), and an empty info."""
        rewards, self._states, terminated = self._move(self._states, np.reshape(actions, self.num_envs))
        self._steps += 1
        truncated = self._steps >= self.max_episode_steps  # also where the episode ends anyway, as with the wrapper of a single one
        resets = self._done
        if resets.any():
            self._states[resets] = self._begin(int(resets.sum()))
            self._steps[resets] = 0
            rewards[resets], terminated[resets], truncated[resets] = 0, False, False
        self._done = terminated | truncated
        return self._observations[self._states], rewards, terminated, truncated, {}


for _probe in PROBES.values():
    for _actions in ACTIONS:
        gym.register(
            _probe.env_id(_actions),
            entry_point="cartpole_lessons.probes:ProbeEnv",
            vector_entry_point="cartpole_lessons.probes:ProbeVectorEnv",
            max_episode_steps=_probe.limit,
            reward_threshold=float(_probe.limit),
            kwargs={"probe": _probe.name, "actions": _actions},
        )


@dataclass(frozen=True)
class Verdict:
    """What a probe says of a learner; shown as a small card in notebooks, as text elsewhere."""

    probe: Probe
    answers: dict[int, float]  #: the greedy action in each state in which it matters
    values: dict[int, float] = field(default_factory=dict)  #: what it thinks that states are worth, where that was asked

    @property
    def wrong(self) -> list[str]:
        """What is not as it should be, in words."""
        right, worth = self.probe.right, self.probe.worth
        # "Not near" instead of "far", so that NaN is wrong, too.
        found = [
            f"in state {state} it does {answer:.2g} instead of {right[state]:.2g}"
            for state, answer in self.answers.items()
            if not abs(answer - right[state]) < TOLERANCE
        ]
        return found + [
            f"it values state {state} at {value:.3g} instead of {worth[state]:.2g}"
            for state, value in self.values.items()
            if not abs(value - worth[state]) < VALUE_TOLERANCE
        ]

    @property
    def passed(self) -> bool:
        """Whether everything that was asked is as it should be."""
        return not self.wrong

    def __str__(self) -> str:
        if self.passed:
            return f"passed  {self.probe.name}. {self.probe.question}"
        said = ", ".join(self.wrong[:3]) + ", ..." * (len(self.wrong) > 3)
        causes = [f"        {number}. {cause}" for number, cause in enumerate(self.probe.causes, 1)]
        return "\n".join(
            [
                f"FAILED  {self.probe.name}. {self.probe.question}",
                f"        {said[0].upper()}{said[1:]}. Look for the likeliest cause first:",
                *causes,
            ]
        )

    def _repr_html_(self) -> str:
        return card("#2a9d4a" if self.passed else "#c8453b", str(self))


def probe(
    learner: Callable,
    *,
    seed: int = 0,
    max_steps: int = 4_000,
    actions: str = "discrete",
    whole_episodes: bool = False,
    values: Callable[[Any, torch.Tensor], Any] | None = None,
    only: Iterable[str] | None = None,
    **settings: Any,
) -> list[Verdict]:
    """Train `learner` in every probe that applies, and print for each whether it passed, or where to look.

    learner: a lesson's `train`, or a function that is called as `learner(env_id=..., seed=..., max_steps=...)` and returns what has
    learned: a function of observations float32 (n, 4), an object with `act` (a Policy), `predict` (Stable-Baselines3) or `policy` (a Result).
    actions: "discrete" or "continuous" (a force above 0 is action 1 then). whole_episodes: True for a learner that adds up rewards to
    an episode's end and asks no critic: what it cannot know is not asked. values: a function of what has learned and observations
    float32 (n, 4) that returns what it thinks they are worth, (n,), to be checked too. only: names of the probes to try. settings: hyperparameters of a lesson's `train`.
    """
    check_choice("actions", actions, ACTIONS)
    unknown = set(only or ()) - set(PROBES)
    if unknown:
        raise InvalidInput(f"There is no probe {shown(min(unknown))}: there are {', '.join(PROBES)}.")
    chosen = [each for each in PROBES.values() if only is None or each.name in only]
    chosen = [each for each in chosen if not (each.continuous_only and actions == "discrete") and not (each.bootstraps and whole_episodes)]
    verdicts = []
    for each in chosen:
        agent = _learned(learner, each.env_id(actions), seed, max_steps, settings)
        verdicts.append(judge(agent, each, actions=actions, values=values))
        print(verdicts[-1], flush=True)
    return verdicts


def judge(agent: Any, probe: Probe, *, actions: str = "discrete", values: Callable[[Any, torch.Tensor], Any] | None = None) -> Verdict:
    """Does `agent`, a policy or what else a learner may return, do what is right in the states of `probe`? Nothing is trained."""
    asked = list(probe.right)
    space = batch_space(env_spec(probe.env_id(actions)).make().action_space, len(asked))
    chosen = check_actions(_action_function(agent)(np.array([probe.states[state] for state in asked], dtype=np.float32)), space)
    chosen = chosen.reshape(len(asked)).astype(float)
    if actions == "continuous" and not probe.continuous_only:
        chosen = (chosen > 0).astype(float)
    valued = list(probe.worth) if values else []
    with torch.no_grad():
        found = values(agent, torch.tensor([probe.states[state] for state in valued])) if valued else []
    return Verdict(probe, dict(zip(asked, chosen.tolist(), strict=True)), dict(zip(valued, map(float, found), strict=True)))


def _learned(learner: Callable, env_id: str, seed: int, max_steps: int, settings: dict[str, Any]) -> Any:
    """What `learner` has become in the environment."""
    algorithm = algorithm_of(learner)
    if algorithm is None:
        return learner(env_id=env_id, seed=seed, max_steps=max_steps, **settings)
    # A lesson's. What it returns is the policy with the best evaluation, and a sum of rewards is not what a probe asks for: judged is
    # the last policy, so there is a single evaluation, at the end.
    result = run_algorithm(algorithm, Run, settings, seed=seed, env_id=env_id, max_steps=max_steps, evaluate_every=max_steps)
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def _action_function(agent: Any) -> Callable[[np.ndarray], Sequence]:
    """From observations float32 (n, 4) to n actions, without exploration."""
    if hasattr(agent, "predict"):  # Stable-Baselines3's models return (actions, state of a recurrent policy)
        return lambda observations: agent.predict(observations, deterministic=True)[0]
    return action_function(agent if hasattr(agent, "act") else getattr(agent, "policy", agent))
