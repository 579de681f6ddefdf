"""The run of a lesson: what every `train()` needs around its algorithm, so that the algorithm is all that `train()` shows.

A `Run` seeds the random generators and puts them back, counts environment steps, keeps the history, evaluates every so often, keeps
the best policy, shows progress, and turns Ctrl-C into the best policy so far.
"""

import contextlib
import copy
import csv
import glob
import hashlib
import io
import json
import math
import operator
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from cartpole_lessons.checkpoints import load_state, save_checkpoint, save_state
from cartpole_lessons.checks import check_count, check_seed
from cartpole_lessons.display import bars_are_seen
from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import CheckpointError, InvalidInput, MissingDependency, RecordingError, in_short
from cartpole_lessons.evaluation import Evaluation, evaluate
from cartpole_lessons.files import write_file
from cartpole_lessons.interrupts import HeldInterrupts
from cartpole_lessons.plots import LivePlot
from cartpole_lessons.policy import Policy
from cartpole_lessons.seeding import derive_seed, random_states, seeded, set_random_states
from cartpole_lessons.states import check_part, restore, state_of
from cartpole_lessons.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class History:
    """What happened in a training, and at which environment step. Holds no clock times: same seed, same history."""

    episode_returns: list[float] = field(default_factory=list)
    episode_ends: list[int] = field(default_factory=list)  #: env step at which each episode ended
    evaluations: list[tuple[int, float]] = field(default_factory=list)  #: (env step, mean return of 100 greedy episodes)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  #: name -> (env step, value), the loss among them

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(env step, loss) of every update."""
        return self.metrics.get("loss", [])

    def drop_half_an_episode(self) -> None:
        """Forget an end that has no return: Ctrl-C may have come between the two lists."""
        del self.episode_ends[len(self.episode_returns) :]

    def state_dict(self) -> dict[str, Any]:
        """All of it in a few arrays; `load_state_dict` reads it back."""
        points = {"episodes": (self.episode_ends, self.episode_returns), "evaluations": _columns(self.evaluations)}
        points |= {f"metrics/{name}": _columns(rows) for name, rows in self.metrics.items()}
        return {name: (np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)) for name, (steps, values) in points.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the history that `state_dict` was called of."""
        points = {name: (steps.tolist(), values.tolist()) for name, (steps, values) in state.items()}
        self.episode_ends, self.episode_returns = points.pop("episodes")
        self.evaluations = list(zip(*points.pop("evaluations"), strict=True))
        self.metrics = {name.removeprefix("metrics/"): list(zip(*columns, strict=True)) for name, columns in points.items()}

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


def _columns(points: list[tuple[int, float]]) -> tuple[Sequence[int], Sequence[float]]:
    """[(step, value), ...] -> all steps, all values."""
    return tuple(zip(*points, strict=True)) or ((), ())


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

    @property
    def solved(self) -> bool:
        """True when `evaluation` says so."""
        return self.evaluation.solved

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
            "env_steps": self.env_steps,
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        return f"{self.lesson}, seed {self.seed}: {self.evaluation}; {self.env_steps:,} steps, {self.seconds:.1f} s"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        # The second entry is for `make run`, which reads the figures of its table out of the executed lessons.
        return {"text/plain": str(self), RESULT_MIME: self.summary()}


RESULT_MIME = "application/vnd.cartpole-lessons.result+json"

#: Where a training is kept while it is under way, and every how many seconds. Most are over before there is anything to keep.
UNFINISHED = Path("unfinished")
SECONDS_BETWEEN_SAVES = 8.0

#: What a training's numbers depend on beside its code and settings.
VERSIONS = {library.__name__: str(library.__version__) for library in (torch, np, gym)}
ON_THE_COMMAND_LINE = " (on the command line: --resume)"
_OWN_STATE = ("env_steps", "evaluations", "_next_evaluation", "_best")


class Run:
    """One training of one lesson.

        with Run("policy_gradient", seed=seed, env_id=env_id, max_steps=max_steps, progress=progress, **hyperparameters) as run:
            ...                                    # make environments, policy, optimizer
            run.keep(envs, policy, optimizer)      # all that the loop changes
            while run.goes_on(policy):
                ...                                # collect, learn
                run.record(env_steps=..., returns=..., loss=...)
        return run.result

    `goes_on` evaluates the policy every `evaluate_every` environment steps on 100 fresh episodes. When all of them reach the time limit,
    and those of a second evaluation on other seeds do too, training is over, unless `stop_when_perfect` is False; so it is after
    `max_steps`. `result` holds the policy with the best evaluation, judged once more on episodes that had no part in choosing it.

    A run that takes longer than `SECONDS_BETWEEN_SAVES` writes its history (.csv), its best policy (.npz, for `load_policy`) and all that
    `keep` was told of (.state) so often into the folder `unfinished`, where they stay if the process is killed or the run is stopped; a run
    that comes to its end removes them. The same call with `resume=True` goes on from there, to the very result that was missed.
    """

    def __init__(
        self,
        lesson: str,
        *,
        seed: int,
        env_id: str,
        max_steps: int,
        progress: bool,
        evaluate_every: int = 1_000,
        stop_when_perfect: bool = True,
        resume: bool = False,
        **hyperparameters: Any,
    ) -> None:
        self.lesson = lesson
        self.seed = check_seed(seed)
        self.spec = env_spec(env_id)
        self.max_steps = check_count("max_steps", max_steps)
        self.evaluate_every = check_count("evaluate_every", evaluate_every)
        self.stop_when_perfect = stop_when_perfect
        self.resume = resume
        self.hyperparameters = hyperparameters
        self.history = History()
        self.env_steps = 0
        self.evaluations = 0
        self._next_evaluation = self.evaluate_every
        self._policy: Policy | None = None
        self._best: tuple[float, dict[str, torch.Tensor]] | None = None
        self._result: Result | None = None
        self._progress = _Progress(f"{lesson}, seed {seed}", self.max_steps) if progress else None
        self._around = contextlib.ExitStack()
        # The settings are part of the name, since two trainings of a seed may run side by side. (Two with the same settings share their
        # files, which does no harm: both go the same way.)
        settings = [self.spec.id, self.max_steps, self.evaluate_every, stop_when_perfect, hyperparameters]
        digest = hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()[:6]
        self._unfinished = UNFINISHED / f"{lesson}-seed{self.seed}-{digest}"
        self._state_file = Path(f"{self._unfinished}.state")
        self._kept: tuple[Any, ...] = ()
        self._can_resume = False

    def __enter__(self) -> "Run":
        self._started = time.perf_counter()
        self._next_save = self._started + SECONDS_BETWEEN_SAVES
        try:
            with HeldInterrupts():
                self._around.enter_context(one_thread())
                self._around.enter_context(seeded(derive_seed(self.seed, "training")))
        except KeyboardInterrupt:
            self._around.close()
            raise
        return self

    def keep(self, *parts: Any) -> None:
        """Name everything that the loop changes, just before the loop: networks, optimizers, environments or their collector, memories.

        A long run saves the state of all of it (see `states.state_of`), with that of the random generators. With `resume=True` it is put
        back here, as it was when the run was cut off. What the loop changes and is not named here starts anew; so a number that it changes
        has to be a tensor.
        """
        self._kept = tuple(map(check_part, parts))
        if self.resume and self._state_file.exists():
            self._restore()
            self._can_resume = True
            print(f"{self.lesson}, seed {self.seed}, goes on after {self.env_steps:,} steps, where it was cut off.")
        elif self.resume:
            print(
                f"{self.lesson}, seed {self.seed}, begins anew: nothing was left in {self._unfinished.parent} by a training with these settings."
            )
        elif self._state_file.exists():
            print(
                f"{self.lesson}, seed {self.seed}, was cut off here before, or is under way elsewhere. It begins anew; "
                f"with resume=True{ON_THE_COMMAND_LINE} it would have gone on."
            )

    def goes_on(self, policy: Policy) -> bool:
        """Evaluate when it is time; False when the policy has passed or the steps are used up."""
        self._policy = policy
        if self.resume and not self._kept:
            raise InvalidInput(
                f"{self.lesson} cannot resume, because it does not say what it changes: call run.keep(...) before the loop, or leave out resume=True."
            )
        on = self._evaluate_when_due()
        # Here all that a loop changes is between two rounds, so that nothing but what it named in `keep` decides how it goes on.
        if on and time.perf_counter() >= self._next_save:
            self._save()
        return on

    def _evaluate_when_due(self) -> bool:
        """False when the policy has passed or the steps are used up."""
        out_of_steps = self.env_steps >= self.max_steps
        if self.env_steps < self._next_evaluation and not out_of_steps:
            return True
        self._next_evaluation = self.env_steps + self.evaluate_every
        evaluation = self._evaluate("evaluation")
        if self._best is None or evaluation.mean >= self._best[0]:
            self._best = evaluation.mean, copy.deepcopy(self._policy.state_dict())
        self.history.evaluations.append((self.env_steps, evaluation.mean))
        passed = self.stop_when_perfect and evaluation.perfect and self._evaluate("confirmation").perfect
        return not (passed or out_of_steps)

    def record(self, *, env_steps: int, returns: Any = (), ends: Any = None, **metrics: Any) -> None:
        """Note `env_steps` new environment steps, the episodes that ended in them, and any number of figures by name.

        returns: undiscounted return of each of those episodes. ends: after how many of the new steps each ended (None: after the last).
        """
        env_steps, before = operator.index(env_steps), self.env_steps
        ends = [env_steps] * len(returns) if ends is None else ends
        episodes = [(before + int(end), float(value)) for end, value in zip(ends, returns, strict=True)]
        self.env_steps += env_steps
        for end, value in sorted(episodes, key=operator.itemgetter(0)):
            self.history.episode_ends.append(end)
            self.history.episode_returns.append(value)
        for name, value in metrics.items():
            self.history.metrics.setdefault(name, []).append(
                (self.env_steps, float(value.item() if isinstance(value, torch.Tensor) else value))
            )
        if self._progress:
            self._progress.update(self.env_steps, self.history)

    @property
    def result(self) -> Result:
        """What `train()` returns, once the block is left."""
        if self._result is None:
            raise RuntimeError("The run is not over: read run.result after the `with` block.")
        return self._result

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt) and self._policy is not None
        try:
            if kind is None or interrupted:
                try:
                    self._result = self._finish(interrupted)
                except KeyboardInterrupt:
                    # The last evaluation takes a noticeable part of a short run: stopping there must not lose it. Twice is meant.
                    if interrupted:
                        raise
                    interrupted = True
                    self._result = self._finish(interrupted)
        finally:
            # The training is over: Ctrl-C from here on must neither cost its result nor leave things half put back.
            with HeldInterrupts(deliver=False) as held:
                self._around.close()
                if self._progress:
                    self._progress.close(self.history, solved=self._result is not None and self._result.solved)
                if kind is None and not interrupted:
                    self._remove_saved()
        if held.pressed and self._result is not None and not interrupted:
            interrupted = True
            self._result = replace(self._result, interrupted=True)
        if interrupted:
            print(f"Stopped by you. This is the best policy so far: {self._result}")
            if self._can_resume:
                print(f"The same call with resume=True{ON_THE_COMMAND_LINE} goes on.")
        return interrupted

    def _finish(self, interrupted: bool) -> Result:
        if self._policy is None:
            raise RuntimeError(f"{self.lesson} ended without training: its loop must ask run.goes_on(policy).")
        policy = self._policy
        self.history.drop_half_an_episode()
        if self._best is not None:
            policy.load_state_dict(self._best[1])
        evaluation = self._evaluate("result")
        return Result(
            lesson=self.lesson,
            env_id=self.spec.id,
            seed=self.seed,
            hyperparameters=self.hyperparameters,
            policy=policy.eval(),
            history=self.history,
            env_steps=self.env_steps,
            seconds=time.perf_counter() - self._started,
            evaluation=evaluation,
            interrupted=interrupted,
        )

    def _save(self) -> None:
        """Keep what there is, in case that the process does not live to see the end. Where that fails, training is more important."""
        best, weights = self._best or (None, self._policy)
        try:
            self.history.to_csv(f"{self._unfinished}.csv")
            save_checkpoint(
                f"{self._unfinished}.npz",
                weights,
                lesson=self.lesson,
                env_id=self.spec.id,
                seed=self.seed,
                hyperparameters=self.hyperparameters,
                mean_return=best,
            )
        except (CheckpointError, RecordingError) as error:
            warnings.warn(f"{error} Training goes on, but is not saved on its way.", stacklevel=3)
            self._next_save = math.inf
            return
        try:
            if self._kept:
                save_state(self._state_file, self._state())
                self._can_resume = True
        except CheckpointError as error:
            warnings.warn(f"{error} Training goes on, but could not be resumed.", stacklevel=3)
            self._kept, self.resume = (), False
        self._next_save = time.perf_counter() + SECONDS_BETWEEN_SAVES

    def _state(self) -> dict[str, Any]:
        return {
            "versions": VERSIONS,
            "own": {name: getattr(self, name) for name in _OWN_STATE} | {"seconds": time.perf_counter() - self._started},
            "history": state_of(self.history),
            "parts": [state_of(part) for part in self._kept],
            "random": random_states(),
        }

    def _restore(self) -> None:
        path = self._state_file
        state = load_state(path)
        try:
            if state["versions"] != VERSIONS:
                left_by = " and ".join(f"{name} {version}" for name, version in state["versions"].items() if VERSIONS.get(name) != version)
                raise CheckpointError(
                    f"{path} was left by {left_by or 'other libraries'}, and would go on in another way here: train without resume=True{ON_THE_COMMAND_LINE}."
                )
            own = state["own"]
            for name in ("env_steps", "evaluations", "_next_evaluation"):
                check_count(name, own[name] + 1)
            if own["_best"] is not None:
                mean, weights = own["_best"]
                if not (isinstance(mean, float) and all(isinstance(tensor, torch.Tensor) for tensor in weights.values())):
                    raise ValueError("its best policy is none")
            for part, its_state in zip(self._kept, state["parts"], strict=True):
                restore(part, its_state)
            restore(self.history, state["history"])
            for name in _OWN_STATE:
                setattr(self, name, own[name])
            self._started = time.perf_counter() - float(own["seconds"])
            set_random_states(state["random"])
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"{path} does not fit this training ({in_short(error)}): its code, or the machine, was another one then; "
                f"train without resume=True{ON_THE_COMMAND_LINE}."
            ) from None

    def _remove_saved(self) -> None:
        with contextlib.suppress(OSError):
            for suffix in (".csv", ".npz", ".state"):
                file = Path(f"{self._unfinished}{suffix}")
                file.unlink(missing_ok=True)
                for half in file.parent.glob(f".{glob.escape(file.name)}.*"):  # of a process that was killed while it wrote
                    half.unlink()
            self._unfinished.parent.rmdir()  # fails where another run's files are still in it

    def _evaluate(self, purpose: str) -> Evaluation:
        """Evaluate in episodes of their own, and as a student would: dropout and the like switched off."""
        self.evaluations += 1
        was_training = self._policy.training
        self._policy.eval()
        try:
            return evaluate(self._policy, self.spec.id, seed=derive_seed(self.seed, purpose, self.evaluations))
        finally:
            self._policy.train(was_training)


class _Progress:
    """A bar over the environment steps and, in a notebook, the live duration plot below it."""

    def __init__(self, title: str, total: int) -> None:
        self.bar = None
        if bars_are_seen():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, desc=title, unit=" steps", unit_scale=True, leave=True)
        self.plot = LivePlot(title)

    def update(self, env_steps: int, history: History) -> None:
        if self.bar is not None:
            recent = history.episode_returns[-100:]
            mean = sum(recent) / max(len(recent), 1)
            # Short, because the words leave the bar what is left of the line: in JupyterLab, beside its files, that was nothing.
            self.bar.set_postfix_str(f"mean return {mean:.0f}", refresh=False)
            self.bar.update(env_steps - self.bar.n)
        self.plot.update(history)

    def close(self, history: History, *, solved: bool) -> None:
        if self.bar is not None:
            # A run that is solved before its steps are used up is complete, and its bar should look it. Only `reset` tells the widget of
            # a notebook, and it forgets how far the run had come and since when.
            if solved:
                steps, started = self.bar.n, self.bar.start_t
                self.bar.reset(total=steps)
                self.bar.n, self.bar.start_t = steps, started
            self.bar.refresh()
            self.bar.close()
        self.plot.finish(history)
