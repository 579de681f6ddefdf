"""Signs of health: what to watch while an agent learns, and within which limits sound trainings stay.

    from cartpole_lessons.diagnostics import diagnose

    diagnosis = diagnose(ppo.train, seed=0)     # trains once, and watches
    print(diagnosis)                            # which signs are out of their range, and for how much of the time
    diagnosis.plot()

A training that is watched takes the very same steps as one that is not. The ranges are those of the lessons' trainings on twenty seeds
(`benchmarks/diagnostics.py`).
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cartpole_lessons.algorithms.actor_critic import Critic, mean_entropy
from cartpole_lessons.algorithms.dqn import QNetwork
from cartpole_lessons.algorithms.ppo import generalised_advantages
from cartpole_lessons.environment import make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.history import Result
from cartpole_lessons.lessons import algorithm_of, run_algorithm
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import Steps
from cartpole_lessons.study import read_figures
from cartpole_lessons.training import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is watched, and what it tells.
SIGNS = {
    "gradient_norm": "length of the last gradient: 0 when nothing is learned; growing without end where gradients add up",
    "entropy": "how undecided the policy is: ln 2 = 0.69 at first, 0 when it never explores any more",
    "approximate_kl": "how far an update moved the policy",
    "greedy_share": "share of the pushes that were the policy's best ones",
    "start_value": "what an episode's first state is thought to be worth",
    "explained_variance": "how much of the returns the values explain: 1 is all, below 0 is worse than a constant",
}
#: Ranges are published for every so many environment steps, and up to a limit.
BIN, BINS = 1_000, 10


class WatchedRun(Run):
    """A run that notes the `SIGNS` of each update among its history's metrics."""

    def __init__(self, lesson: str, **settings: Any) -> None:
        super().__init__(lesson, **settings)
        self._starts = torch.from_numpy(make_envs(self.env_id, 64, seed=self.seed).reset()[0])
        self._critic: Critic | None = None

    def __enter__(self) -> "WatchedRun":
        def notice(module: nn.Module, inputs: tuple, output: Any) -> None:
            if type(module).__name__ == Critic.__name__:  # a mutant's critic is a class of its own
                self._critic = module

        self._around.enter_context(nn.modules.module.register_module_forward_hook(notice))
        return super().__enter__()

    def goes_on(self, policy: Policy) -> bool:
        """As ever; remembers the policy that collects next."""
        self._before = copy.deepcopy(policy)
        return super().goes_on(policy)

    def record(self, collected: Any, **metrics: Any) -> None:
        """As ever, with the signs among the metrics."""
        with torch.no_grad():
            signs = dict(self._signs(collected))
        super().record(collected, **{**metrics, **signs})

    def _signs(self, collected: Any) -> Iterator[tuple[str, Any]]:
        mask = collected.mask
        observations, actions = collected.observations[: len(mask)][mask], collected.actions[mask]
        gradients = [weights.grad.norm() for weights in self._policy.parameters() if weights.grad is not None]
        if gradients:
            yield "gradient_norm", torch.stack(gradients).norm()
        outputs = self._before(observations)
        yield "greedy_share", (actions == outputs.argmax(-1)).float().mean()
        # By its name, as the critic above.
        is_value = any(kind.__name__ == QNetwork.__name__ for kind in type(self._before).__mro__)
        if not is_value:
            log_before, log_after = outputs.log_softmax(-1), self._policy(observations).log_softmax(-1)
            yield "entropy", mean_entropy(outputs)
            yield "approximate_kl", (log_before.exp() * (log_before - log_after)).sum(-1).mean()
        value = (lambda seen: self._before(seen).amax(-1)) if is_value else self._critic
        if value is None:
            return
        yield "start_value", value(self._starts).mean()
        if isinstance(collected, Steps):
            values, discount = value(collected.observations), self.hyperparameters["discount"]
            errors = generalised_advantages(
                collected.rewards, values, collected.terminated, collected.truncated, discount=discount, gae_lambda=1.0
            )[mask]
            spread = (errors + values[:-1][mask]).var()
            if spread > 1e-6:  # returns that are all alike leave nothing to explain
                yield "explained_variance", 1 - errors.var() / spread


@dataclass(frozen=True)
class Diagnosis:
    """A watched training, and what is normal for its lesson."""

    result: Result
    healthy: dict[str, list[list[float] | None]]  #: sign -> for every `BIN` steps, the limits of nine in ten sound readings

    def readings(self, sign: str) -> tuple[np.ndarray, np.ndarray]:
        """Environment steps and readings, (updates,) each, as far as there are ranges."""
        steps, values = np.array(self.result.history.metrics[sign]).T
        there = steps < BIN * BINS
        return steps[there], values[there]

    def outside(self, sign: str) -> tuple[float, float]:
        """Shares of the readings that lie below and above what nine in ten sound ones show."""
        below, above = [], []
        for step, value in zip(*self.readings(sign), strict=True):
            limits = self.healthy[sign][int(step) // BIN]
            if limits:
                below.append(value < limits[0])
                above.append(not value <= limits[1])  # so that NaN is outside
        return float(np.mean(below or [0])), float(np.mean(above or [0]))

    @property
    def signs(self) -> list[str]:
        """The signs that were read and have a range."""
        return [sign for sign in SIGNS if sign in self.healthy and sign in self.result.history.metrics]

    @property
    def unhealthy(self) -> list[str]:
        """The signs most of whose readings are outside of their range."""
        return [sign for sign in self.signs if sum(self.outside(sign)) > 0.5]

    def __str__(self) -> str:
        lines = [f"{self.result.lesson}, seed {self.result.seed}: readings below and above what nine in ten sound ones show"]
        for sign in self.signs:
            below, above = self.outside(sign)
            mark = "  <- look here" if sign in self.unhealthy else ""
            lines.append(f"  {sign:<20}{below:>5.0%} below {above:>5.0%} above   {SIGNS[sign]}{mark}")
        return "\n".join(lines)

    def plot(self) -> "Figure":
        """A panel for each sign: the readings over environment steps, and the range of the sound ones."""
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(-(-len(self.signs) // 3), 3, figsize=(9, 2.2 * -(-len(self.signs) // 3)), squeeze=False)
        for ax, sign in zip(axes.flat, self.signs, strict=False):
            edges = BIN * np.arange(BINS + 1)
            low, high = np.array([limits or (np.nan, np.nan) for limits in self.healthy[sign]]).T
            ax.stairs(high, edges, baseline=low, fill=True, color="C0", alpha=0.25, label="sound")
            steps, values = self.readings(sign)
            ax.plot(steps, values, color="C1", linewidth=1, label="this one")
            ax.set(title=sign.replace("_", " "), xlabel="environment steps")
        for ax in axes.flat[len(self.signs) :]:
            ax.axis("off")
        axes[0, 0].legend()
        return figure


def watched(train: Callable, *, seed: int = 0, max_steps: int = BIN * BINS, **settings: Any) -> Result:
    """Train a lesson's `train`, or a bug's, and note the signs in `result.history.metrics`."""
    algorithm = algorithm_of(train)
    if algorithm is None:
        raise InvalidInput("Only a lesson's `train` can be watched, or one that is written as these are, with @training.")
    return run_algorithm(algorithm, WatchedRun, settings, seed=seed, max_steps=max_steps)


def diagnose(train: Callable, *, seed: int = 0, max_steps: int = BIN * BINS, **settings: Any) -> Diagnosis:
    """Train once, and compare with sound trainings of the lesson. `InvalidInput` for lessons that have no such ranges."""
    ranges = read_figures("diagnostics")["ranges"]
    lesson = inspect.unwrap(train).__module__.rpartition(".")[2].partition("_with_")[0]
    if lesson not in ranges:
        raise InvalidInput(f"There are no ranges for {lesson}: there are some for {', '.join(ranges)}.")
    return Diagnosis(watched(train, seed=seed, max_steps=max_steps, **settings), ranges[lesson])
