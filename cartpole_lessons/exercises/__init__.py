"""Exercises that answer: `check(answer)` says right, wrong and why, or not attempted; `hint()` and `solution()` help; `progress()` counts.

    from cartpole_lessons.exercises import lesson_06 as exercise

    def td_targets(rewards, terminated, next_values, discount):
        ...

    exercise.td_targets.check(td_targets)

A check compares the student's function with the solution on a few inputs. Where it differs, it looks for the typical mistake that gives the
very same answers, and names that. It judges what a function returns, in any style: lists, arrays or tensors, loops or none.
"""

import contextlib
import copy
import ctypes
import inspect
import io
import itertools
import json
import linecache
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np
import torch

from cartpole_lessons._support.files import write_file
from cartpole_lessons._support.notebook import card
from cartpole_lessons.errors import RecordingError

#: Which exercises have been answered: {"06.td_targets": "right"}.
PROGRESS = Path(os.path.expanduser("~/.cartpole-lessons/progress.json"))
#: A check is over after so long [s].
TIME_LIMIT = 1.0
HOW = "Replace the dots and run the cell again. Call hint() instead of check(...) for a hint, or solution(sure=True) for the whole answer."
COLOURS = {"right": "#2a9d4a", "wrong": "#c8453b", "not attempted": "#888888"} | dict.fromkeys(("hint", "solution", "progress"), "#3a7ca5")


@dataclass(frozen=True)
class Card:
    """What an exercise answers: a state and a few sentences. Shown as a small card in notebooks, as text elsewhere."""

    state: str  #: "right", "wrong", "not attempted", "hint", "solution", "progress"
    text: str
    code: str = ""

    def __repr__(self) -> str:
        return "\n".join(filter(None, [f"{self.state.capitalize()}. {self.text}", self.code]))

    def _repr_html_(self) -> str:
        return card(COLOURS[self.state], self.text, heading=f"{self.state.capitalize()}.", code=self.code)


class _Help:
    """What exercises and predictions have in common: a name, hints one after the other, and a record of what was answered."""

    def __init__(self, name: str, hints: Sequence[str]) -> None:
        self.name, self._hints, self._next_hint = name, hints, 0

    def hint(self) -> Card:
        """The next hint; after the last one it begins again."""
        text = self._hints[self._next_hint % len(self._hints)]
        self._next_hint += 1
        return Card("hint", text)

    def _answered(self, state: str, text: str) -> Card:
        if state != "not attempted":
            _note(self.name, state)
        return Card(state, text)


class Exercise(_Help):
    """A function to write. `name`: "06.td_targets". `inputs`: what it is called with, a tuple each. `mistakes`: {what is said of it: a wrong function}."""

    def __init__(
        self,
        name: str,
        solution: Callable,
        *,
        inputs: Sequence[tuple],
        mistakes: dict[str, Callable],
        hints: Sequence[str],
        shows: str,
    ) -> None:
        super().__init__(name, hints)
        self._solution, self.inputs, self.mistakes, self._shows = solution, inputs, mistakes, shows
        self.arguments = list(inspect.signature(solution).parameters)

    def check(self, answer: Any) -> Card:
        """Compare a function with the solution, on a few inputs."""
        if answer is None or answer is ...:
            return self._answered("not attempted", f"There is no function yet. {HOW}")
        if not callable(answer):
            return self._answered("wrong", f"This is {_shown(answer)}, not a function: pass the function itself, without calling it.")
        said = []
        for given in self.inputs:
            mine = copy.deepcopy(given)
            try:
                value = _within_limits(answer, mine)
            except _TooLong:
                return self._answered("wrong", f"It is not done after {TIME_LIMIT:.0f} s. Does a loop end?")
            except BaseException as error:
                return self._answered("wrong", _where(error, answer))
            if value is None or value is ...:
                if not said:
                    return self._answered(
                        "not attempted", f"The function returns nothing yet. If you have written it, is its return missing? {HOW}"
                    )
                return self._answered("wrong", f"For {self._call(given)} it returns nothing.")
            changed = [name for name, before, after in zip(self.arguments, given, mine, strict=True) if not _same(before, after)]
            if changed:
                return self._answered("wrong", f"It changes its input {changed[0]}. Make a copy first: the caller still needs it.")
            said.append(value)
        expected = [self._solution(*copy.deepcopy(given)) for given in self.inputs]
        off = [number for number, pair in enumerate(zip(said, expected, strict=True)) if not _same(*pair)]
        if not off:
            return self._answered("right", self._shows)
        first = off[0]
        text = f"For {self._call(self.inputs[first])} it returns {_shown(said[first])}, but {_shown(expected[first])} is right."
        return self._answered("wrong", "\n".join(filter(None, [text, self._why(said) or _difference(said[first], expected[first])])))

    def solution(self, sure: bool = False) -> Card:
        """One way to write it, for those who are sure that they want to see it."""
        if not sure:
            call = f"exercise.{self.name.partition('.')[2]}"
            return Card("hint", f"{call}.hint() tells less. To see all of it: {call}.solution(sure=True).")
        return Card("solution", "One way to write it:", inspect.getsource(self._solution))

    def _call(self, given: tuple) -> str:
        return ", ".join(f"{name} = {_shown(value)}" for name, value in zip(self.arguments, given, strict=True))

    def _why(self, said: list) -> str:
        for why, mistake in self.mistakes.items():
            if all(_same(value, mistake(*copy.deepcopy(given))) for value, given in zip(said, self.inputs, strict=True)):
                return why
        return ""


class Prediction(_Help):
    """A question to answer before the cell that shows it. `answer`: a number, or one of the words of `choices`, {word: what is said of it}."""

    def __init__(
        self,
        name: str,
        answer: float | str,
        *,
        choices: dict[str, str] | None = None,
        within: float = 0.0,
        hints: Sequence[str],
        shows: str,
    ) -> None:
        super().__init__(name, hints)
        self._answer, self._choices, self._within, self._shows = answer, choices or {}, within, shows

    def check(self, answer: Any) -> Card:
        """Is that what will happen?"""
        if answer is None or answer is ...:
            return self._answered("not attempted", HOW)
        if isinstance(self._answer, str):
            word = str(answer).strip().lower()
            if word == self._answer:
                return self._answered("right", self._shows)
            if word not in self._choices:
                return self._answered("wrong", f"Answer one of these: {', '.join(sorted([self._answer, *self._choices]))}.")
            return self._answered("wrong", self._choices[word])
        try:
            off = abs(float(answer) - self._answer)
        except (TypeError, ValueError, RuntimeError):
            return self._answered("wrong", f"The answer is a number, but this is {_shown(answer)}.")
        if off <= self._within * abs(self._answer) + 1e-9:
            return self._answered("right", self._shows)
        return self._answered(
            "wrong", f"{answer} is not right: the answer is {'less' if float(answer) > self._answer else 'more'}. {self._hints[0]}"
        )

    def solution(self, sure: bool = False) -> Card:
        """The answer, for those who are sure that they want to see it."""
        if not sure:
            return Card("hint", f"To see it: exercise.{self.name.partition('.')[2]}.solution(sure=True).")
        return Card("solution", f"{self._answer}. {self._shows}")


def progress() -> Card:
    """How far you are: the exercises that you have tried, by lesson."""
    noted = _noted()
    lessons = itertools.groupby(sorted(noted), key=lambda name: name.partition(".")[0])
    rows = [f"Lesson {lesson}: " + ", ".join(f"{name.partition('.')[2]} {noted[name]}" for name in names) for lesson, names in lessons]
    right = sum(state == "right" for state in noted.values())
    return Card("progress", "\n".join([f"{right} exercise{'s' * (right != 1)} solved so far.", *rows]))


def _noted() -> dict[str, str]:
    try:
        noted = json.loads(PROGRESS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(state) for name, state in noted.items()} if isinstance(noted, dict) else {}


def _note(name: str, state: str) -> None:
    noted = _noted()
    if noted.get(name) not in (state, "right"):
        # Where it cannot be kept, the answer is more important.
        with contextlib.suppress(RecordingError):
            write_file(PROGRESS, json.dumps(noted | {name: state}, indent=1).encode(), "Your progress")


class _TooLong(BaseException):
    """Not an `Exception`, so that a student's `except Exception` does not stop it."""


def _within_limits(answer: Callable, given: tuple) -> Any:
    """What `answer` returns; what it prints is dropped, and it is stopped when it takes too long."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            value = answer(*given)
            if isinstance(value, GeneratorType):
                value = list(itertools.islice(value, 10_000))
            outcome["value"] = value
        except BaseException as error:
            outcome["error"] = error

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(TIME_LIMIT)
        for _ in range(20):
            if not thread.is_alive():
                break
            # Raised in the thread before its next line; a loop that catches it gets it again.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_TooLong))
            thread.join(0.02)
    if "value" in outcome:
        return outcome["value"]
    raise outcome.get("error", _TooLong())


def _where(error: BaseException, answer: Callable) -> str:
    """The student's own exception in one sentence, with its line."""
    kind, text = type(error).__name__, str(error).strip().split("\n")[0][:200]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    code = getattr(answer, "__code__", None)
    mine = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    if not mine:
        return f"It cannot be called like this: {text or kind}."
    line = linecache.getline(mine[-1].filename, mine[-1].lineno).strip()
    return f"{kind}: {text}" + (f"\nin the line: {line}" if line else "")


def _array(value: Any) -> np.ndarray | None:
    """As numbers, None where it is none."""
    try:
        if isinstance(value, (list, tuple)):
            parts = [_array(part) for part in itertools.islice(value, 10_000)]
            return None if any(part is None for part in parts) else np.array(parts, dtype=float)
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError, RuntimeError, RecursionError):
        return None


def _same(one: Any, other: Any) -> bool:
    one, other = _array(one), _array(other)
    return (
        one is not None and other is not None and one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    )


def _difference(said: Any, expected: Any) -> str:
    """What is visible from outside."""
    one, other = _array(said), _array(expected)
    if one is None:
        return "It should return numbers."
    if one.shape != other.shape:
        return f"Its shape is {one.shape}, and it should be {other.shape}."
    if np.isnan(one).any():
        return "There is a NaN in it: look for 0 divided by 0, or the logarithm of a negative number."
    return ""


def _shown(value: Any) -> str:
    array = _array(value)
    if array is None:
        text = repr(value)
        return text if len(text) < 60 else text[:57] + "..."
    if array.size > 12:
        return f"numbers of shape {array.shape}"
    is_bool = isinstance(value, bool) or getattr(value, "dtype", None) in (torch.bool, np.dtype(bool))
    return np.array2string(array.astype(bool) if is_bool else np.round(array, 3), separator=", ", threshold=20).replace("\n", "")
