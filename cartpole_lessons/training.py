"""The run of a lesson: what every `train()` needs around its algorithm, so that the algorithm is all that `train()` shows.

    @training("ppo")
    def train(run: Run, *, clip: Positive = 0.3):  # how far a probability ratio may move away from 1
        ...                                        # make environments (seed=run.seed), policy, optimizer
        while run.goes_on(policy):
            ...                                    # collect, learn
            run.record(steps, loss=loss)

    train(seed=0, clip=0.2)                        # and env_id, max_steps, progress, stop_when_perfect: a Result

A `Run` seeds the random generators and puts them back, counts environment steps, keeps the history, evaluates every so often, keeps
the best policy, shows progress, and turns Ctrl-C into the best policy so far.
"""

import contextlib
import copy
import functools
import glob
import hashlib
import inspect
import json
import math
import operator
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.checks import check_count, check_seed
from cartpole_lessons._support.interrupts import HeldInterrupts
from cartpole_lessons._support.seeding import derive_seed, seeded
from cartpole_lessons.checkpoints import save_checkpoint
from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import CheckpointError, RecordingError
from cartpole_lessons.evaluation import Evaluation, evaluate
from cartpole_lessons.history import History, Result
from cartpole_lessons.hyperparameters import (
    OF_EVERY_TRAINING,
    MaxSteps,
    check_hyperparameters,
    check_value,
    describe_kind,
    explained,
    hyperparameters_of,
    kind_of,
    plain_type,
)
from cartpole_lessons.policy import Policy
from cartpole_lessons.progress import Progress

#: A training that is under way is kept here, and every how many seconds. Most are over before there is anything to keep.
UNFINISHED = Path("unfinished")
SECONDS_BETWEEN_SAVES = 8.0


def training(lesson: str, *, env_id: str = "CartPole-v1", max_steps: int = 200_000, evaluate_every: int = 1_000) -> Callable:
    """Turn an algorithm, `def train(run, *, hyperparameters)`, into `train(seed=0, *, env_id, max_steps, progress, ...) -> Result`.

    The defaults of `env_id` and `max_steps` are those given here. Hyperparameters are checked against their annotations before
    anything runs, and explained in `help(train)` by the comments beside them.
    """

    def decorate(algorithm: Callable) -> Callable:
        @functools.wraps(algorithm)
        def train(
            seed: int = 0,
            *,
            env_id: str = env_id,
            max_steps: int = max_steps,
            progress: bool = False,
            stop_when_perfect: bool = True,
            **hyperparameters: Any,
        ) -> Result:
            settings = check_hyperparameters(algorithm, hyperparameters, lesson)
            run = Run(
                lesson,
                seed=seed,
                env_id=env_id,
                max_steps=max_steps,
                progress=progress,
                stop_when_perfect=stop_when_perfect,
                evaluate_every=evaluate_every,
                hyperparameters=settings,
            )
            with run:
                algorithm(run, **settings)
            return run.result

        # What `help(train)`, Tab and the command line see: all keywords, their plain types, and their comments as part of the text.
        parameters = [each for name, each in inspect.signature(train, follow_wrapped=False).parameters.items() if name != "hyperparameters"]
        parameters += hyperparameters_of(algorithm).values()
        kinds = {each.name: kind_of(algorithm, each.name) for each in parameters}
        parameters = [each.replace(annotation=plain_type(kinds[each.name])) for each in parameters]
        train.__signature__ = inspect.Signature(parameters, return_annotation=Result)
        words = OF_EVERY_TRAINING | {name: f"{text} ({describe_kind(kinds[name])})" for name, text in explained(algorithm).items()}
        train.__doc__ = "\n".join(
            [
                inspect.cleandoc(algorithm.__doc__ or ""),
                "",
                "Trains until an evaluation is perfect and confirmed, or for `max_steps` environment steps.",
                "Returns the best policy seen, also after Ctrl-C.",
                "",
                *(f"{name}: {words[name]}" for name in train.__signature__.parameters if name in words),
            ]
        )
        return train

    return decorate


class Collected(Protocol):
    """What a loop has collected: `rollout.Steps` and `rollout.Episodes` are, and `rollout.Tally` is for a loop that collects by itself."""

    @property
    def env_steps(self) -> int:
        """Environment steps taken."""

    @property
    def returns(self) -> Any:
        """Undiscounted returns of the episodes that ended in these steps."""

    @property
    def ends(self) -> Any:
        """After how many of these steps each of those episodes ended."""


class Run:
    """One training of one lesson: `with Run("ppo", seed=0) as run:`, then `run.result`. Lessons get theirs from `@training`.

    `goes_on` evaluates the policy every `evaluate_every` environment steps on 100 fresh episodes. When all of them reach the time limit,
    and those of a second evaluation on other seeds do too, training is over, unless `stop_when_perfect` is False; so it is after
    `max_steps`. `result` holds the policy with the best evaluation, judged once more on episodes that had no part in choosing it.

    A run that takes longer than `SECONDS_BETWEEN_SAVES` writes its history (.csv) and its best policy (.npz, for `load_policy`) so often
    into the folder `unfinished`, where they stay if the process is killed or the run is stopped; a run that comes to its end removes them.
    """

    def __init__(
        self,
        lesson: str,
        *,
        seed: int = 0,
        env_id: str = "CartPole-v1",
        max_steps: int = 200_000,
        progress: bool = False,
        stop_when_perfect: bool = True,
        evaluate_every: int = 1_000,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.lesson = lesson
        self.seed = check_seed(seed)
        self.spec = env_spec(env_id)
        self.env_id = self.spec.id
        self.max_steps = check_value("max_steps", max_steps, MaxSteps)
        self.stop_when_perfect = check_value("stop_when_perfect", stop_when_perfect, bool)
        self.evaluate_every = check_count("evaluate_every", evaluate_every)
        self.hyperparameters = dict(hyperparameters or {})
        self.history = History()
        self.env_steps = 0
        self.evaluations = 0
        self._evaluation_seconds, self._evaluation_steps = 0.0, 0
        self._next_evaluation = self.evaluate_every
        self._policy: Policy | None = None
        self._best: tuple[float, dict[str, torch.Tensor]] | None = None
        self._result: Result | None = None
        self._progress = None
        self._shows_progress = check_value("progress", progress, bool)
        self._around = contextlib.ExitStack()
        # The settings are part of the name, since two trainings of a seed may run side by side. (Two with the same settings share their
        # files, which does no harm: both go the same way.) Absolute, because a notebook may change its folder meanwhile.
        settings = [self.env_id, self.max_steps, self.evaluate_every, self.stop_when_perfect, self.hyperparameters]
        digest = hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()[:6]
        self._unfinished = UNFINISHED.absolute() / f"{lesson}-seed{self.seed}-{digest}"

    def __enter__(self) -> "Run":
        with HeldInterrupts():
            # The first optimizer of a process imports it, which takes a second, and what is left of an import that was stopped half-way
            # is of no use to any later one.
            import_module("torch._dynamo")
        try:
            # From here on Ctrl-C takes effect in `goes_on` alone: everything is whole there.
            self._interrupts = self._around.enter_context(seeded(derive_seed(self.seed, "training")))
            self._around.enter_context(course_arithmetic())
            self._started, self._cpu_started = time.perf_counter(), time.process_time()
            self._next_save = self._started + SECONDS_BETWEEN_SAVES
            if self._shows_progress:
                self._progress = Progress(f"{self.lesson}, seed {self.seed}", self.max_steps)
            self._interrupts.check()
        except BaseException:
            self._around.close()
            raise
        return self

    def goes_on(self, policy: Policy) -> bool:
        """Evaluate when it is time; False when the policy has passed or the steps are used up."""
        self._policy = policy
        self._interrupts.check()
        on = self._evaluate_when_due()
        if on and time.perf_counter() >= self._next_save:
            self._save()
        self._interrupts.check()
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

    def record(self, collected: Collected, **metrics: Any) -> None:
        """Note the steps or episodes that were collected, and any number of figures by name (numbers, or tensors of one number)."""
        before = self.env_steps
        episodes = [(before + int(end), float(value)) for end, value in zip(collected.ends, collected.returns, strict=True)]
        self.env_steps += operator.index(collected.env_steps)
        for end, value in sorted(episodes, key=operator.itemgetter(0)):
            self.history.episode_ends.append(end)
            self.history.episode_returns.append(value)
        for name, value in metrics.items():
            number = float(value.item() if isinstance(value, torch.Tensor) else value)
            self.history.metrics.setdefault(name, []).append((self.env_steps, number))
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
                    self._result = self._finish()
                except KeyboardInterrupt:
                    # The last evaluation took long, and was stopped: that must not lose the training. Stopped twice is meant.
                    if interrupted:
                        raise
                    interrupted = True
                    self._result = self._finish()
        finally:
            with HeldInterrupts(deliver=False) as held:
                if self._progress:
                    self._progress.close(self.history, solved=self._result is not None and self._result.solved)
                if kind is None and not interrupted:
                    self._remove_saved()
            try:
                self._around.close()
            except KeyboardInterrupt:  # held until now
                if self._result is None:
                    raise
                interrupted = True
        if (interrupted or held.pressed) and self._result is not None:
            self._result = replace(self._result, interrupted=True)
            print(f"Stopped by you. This is the best policy so far: {self._result}")
        return self._result is not None

    def _finish(self) -> Result:
        if self._policy is None:
            raise RuntimeError(f"{self.lesson} ended without training: its loop must ask run.goes_on(policy).")
        policy = self._policy
        self.history.drop_half_an_episode()
        if self._best is not None:
            policy.load_state_dict(self._best[1])
        evaluation = self._evaluate("result")
        return Result(
            lesson=self.lesson,
            env_id=self.env_id,
            seed=self.seed,
            hyperparameters=self.hyperparameters,
            policy=policy.eval(),
            history=self.history,
            env_steps=self.env_steps,
            seconds=time.perf_counter() - self._started,
            evaluation=evaluation,
            cpu_seconds=time.process_time() - self._cpu_started,
            evaluation_seconds=self._evaluation_seconds,
            evaluation_steps=self._evaluation_steps,
        )

    def _save(self) -> None:
        """Keep what there is, in case that the process does not live to see the end. Where that fails, training is more important."""
        best, weights = self._best or (None, self._policy.state_dict())
        try:
            self.history.to_csv(f"{self._unfinished}.csv")
            save_checkpoint(
                f"{self._unfinished}.npz",
                self._policy,
                weights=weights,
                lesson=self.lesson,
                env_id=self.env_id,
                seed=self.seed,
                hyperparameters=self.hyperparameters,
                mean_return=best,
            )
            self._next_save = time.perf_counter() + SECONDS_BETWEEN_SAVES
        except (CheckpointError, RecordingError) as error:
            warnings.warn(f"{error} Training goes on, but is not saved on its way.", stacklevel=3)
            self._next_save = math.inf

    def _remove_saved(self) -> None:
        with contextlib.suppress(OSError):
            for suffix in (".csv", ".npz"):
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
        started = time.perf_counter()
        try:
            evaluation = evaluate(self._policy, self.env_id, seed=derive_seed(self.seed, purpose, self.evaluations))
        finally:
            self._policy.train(was_training)
        self._evaluation_seconds += time.perf_counter() - started
        self._evaluation_steps += evaluation.steps
        return evaluation
