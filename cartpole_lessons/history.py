"""What a training leaves behind: its history, and its result."""

import csv
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole_lessons._support.files import write_file
from cartpole_lessons.checkpoints import save_checkpoint
from cartpole_lessons.display import RESULT_MIME
from cartpole_lessons.errors import MissingDependency
from cartpole_lessons.evaluation import Evaluation
from cartpole_lessons.plots import Curve
from cartpole_lessons.policy import Policy

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class History:
    """What happened in a training, and at which environment step. Holds no clock times: same seed, same history."""

    episode_returns: list[float] = field(default_factory=list)
    episode_ends: list[int] = field(default_factory=list)  #: env step at which each episode ended
    evaluations: list[tuple[int, float]] = field(default_factory=list)  #: (env step, mean return of greedy episodes)
    evaluation_episodes: int = 100  #: how many greedy episodes each of these means is of
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  #: name -> (env step, value), the loss among them

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(env step, loss) of every update."""
        return self.metrics.get("loss", [])

    def drop_half_an_episode(self) -> None:
        """Forget an end that has no return: Ctrl-C may have come between the two lists."""
        del self.episode_ends[len(self.episode_returns) :]

    def rows(self) -> list[tuple[str, int, float]]:
        """All of it as (name, env step, value): first the episodes, then the evaluations, then each metric."""
        rows = [("episode_return", step, value) for step, value in zip(self.episode_ends, self.episode_returns, strict=True)]
        rows += [("evaluation", step, value) for step, value in self.evaluations]
        return rows + [(name, step, value) for name, points in self.metrics.items() for step, value in points]

    def to_csv(self, path: str | os.PathLike | None = None) -> str:
        """The rows as CSV text with a header, also written to `path` where one is given."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["name", "env_step", "value"])
        writer.writerows((name, step, repr(value)) for name, step, value in self.rows())
        if path is not None:
            write_file(path, text.getvalue().encode(), "The history")
        return text.getvalue()

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a pandas DataFrame with columns name, env_step, value."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependency("to_frame() needs pandas, which is not installed: run `pip install pandas`, or use to_csv().") from None
        return pd.DataFrame(self.rows(), columns=["name", "env_step", "value"])


@dataclass(frozen=True)
class Result:
    """What `train()` returns: the best policy it saw, and how it got there."""

    lesson: str
    env_id: str
    seed: int
    hyperparameters: dict[str, Any]
    policy: Policy
    history: History
    env_steps: int  #: training steps taken in environments; evaluations are not training
    seconds: float  #: wall-clock of train(), evaluations included
    evaluation: Evaluation  #: of `policy`, on episodes that no decision of the training has seen
    interrupted: bool = False
    cpu_seconds: float | None = None  #: of this process, evaluations included; None: not recorded, as in the next two
    evaluation_seconds: float | None = None  #: of the wall-clock, what evaluations took
    evaluation_steps: int | None = None  #: environment steps that they played

    @property
    def first_reached(self) -> int | None:
        """The environment step of the first evaluation at or above the reward threshold; None where there was none.

        Training goes on from there until an evaluation is perfect and confirmed, so `env_steps` may be larger.
        """
        return next((step for step, mean in self.history.evaluations if mean >= self.evaluation.reward_threshold), None)

    @property
    def solved(self) -> bool:
        """True when `evaluation` says so."""
        return self.evaluation.solved

    @property
    def curve(self) -> Curve:
        """Its evaluations while it learned, for `plots.plot_learning_curves`."""
        return Curve(self.history.evaluations, self.solved)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the policy and its hyperparameters to one file; `checkpoints.load_policy` reads it back."""
        return save_checkpoint(
            path,
            self.policy,
            lesson=self.lesson,
            env_id=self.env_id,
            seed=self.seed,
            hyperparameters=self.hyperparameters,
            mean_return=self.evaluation.mean,
        )

    def summary(self) -> dict[str, Any]:
        """The figures of this run, ready for JSON."""
        return {
            "lesson": self.lesson,
            "env_id": self.env_id,
            "seed": self.seed,
            "solved": self.solved,
            "perfect": self.evaluation.perfect,
            "mean_return": round(self.evaluation.mean, 2),
            "first_reached": self.first_reached,
            "env_steps": self.env_steps,
            "evaluation_steps": self.evaluation_steps,
        } | {
            name: None if getattr(self, name) is None else round(getattr(self, name), 3)
            for name in ("seconds", "cpu_seconds", "evaluation_seconds")
        }

    def __str__(self) -> str:
        return f"{self.lesson}, seed {self.seed}: {self.evaluation}; {self.env_steps:,} steps, {self.seconds:.1f} s"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        # The second entry is for `make run`, which reads the figures of its table out of the executed lessons.
        return {"text/plain": str(self), RESULT_MIME: self.summary()}
