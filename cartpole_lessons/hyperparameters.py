"""What a training can be set to. One declaration, in the signature of a lesson's `train`, serves the check, the help and the command line:

    clip: Positive = 0.3,  # how far a probability ratio may move away from 1

The type says which values there are, the comment says what they mean.
"""

import ast
import difflib
import functools
import inspect
import math
import operator
import re
import types
import typing
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from cartpole_lessons._support.checks import shown
from cartpole_lessons.errors import InvalidInput


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, `low` and `high` themselves among them unless said otherwise."""

    low: float
    high: float
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.without_low else value >= self.low
        return above and (value < self.high if self.without_high else value <= self.high)

    def __str__(self) -> str:
        to = "to below" if self.without_high else "up to" if self.without_low else "to"
        return f"{'above' if self.without_low else 'from'} {self.low:,} {to} {self.high:,}"


class OnDevice:
    """A place where torch can compute on this machine."""


Count = Annotated[int, Between(1, 4_096)]  #: of environments, episodes, passes
StepCount = Annotated[int, Between(1, 10_000_000)]  #: environment steps, or transitions
Units = Annotated[int, Between(1, 2_048)]  #: of a hidden layer
Share = Annotated[float, Between(0, 1)]
ShareBelowOne = Annotated[float, Between(0, 1, without_high=True)]
Positive = Annotated[float, Between(0, 1_000_000, without_low=True)]
NotNegative = Annotated[float, Between(0, 1_000_000)]
Number = Annotated[float, Between(-1_000_000, 1_000_000)]
Device = Annotated[str, OnDevice()]  #: "cpu", "cuda", "mps"
MaxSteps = Annotated[int, Between(1, 1_000_000_000)]


#: What every `train` has beside its hyperparameters: which run it is, and how it is shown.
OF_EVERY_TRAINING = {
    "seed": "same seed, same result, on one kind of CPU",
    "env_id": "the environment, by its name in Gymnasium",
    "max_steps": "environment steps after which training ends in any case",
    "progress": "True shows a bar and a live plot of the episodes",
    "stop_when_perfect": "False trains on to max_steps",
}
_OF_EVERY_TRAINING = {"seed": int, "env_id": str, "max_steps": MaxSteps, "progress": bool, "stop_when_perfect": bool}


def settings_of(train: Callable) -> dict[str, inspect.Parameter]:
    """What a training can be set to: all keywords of `train` by name, but for its seed and how it is shown."""
    return {name: each for name, each in inspect.signature(train).parameters.items() if name not in ("run", "seed", "progress")}


def hyperparameters_of(train: Callable) -> dict[str, inspect.Parameter]:
    """Of these the lesson's own."""
    return {name: each for name, each in settings_of(train).items() if name not in OF_EVERY_TRAINING}


def kind_of(train: Callable, name: str) -> Any:
    """What `check_value` and `parse_value` want to know of a setting: which values it may have."""
    return _OF_EVERY_TRAINING.get(name) or typing.get_type_hints(inspect.unwrap(train), include_extras=True).get(name, Any)


def plain_type(kind: Any) -> Any:
    """Its Python type alone, for signatures that people read: `float` of `Positive`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(plain_type, arguments))
    return tuple if origin is tuple else kind


def check_hyperparameters(train: Callable, given: Mapping[str, Any], lesson: str) -> dict[str, Any]:
    """All hyperparameters of `train`, those `given` among them, as plain Python values. `InvalidInput` on what it does not have or allow."""
    known = hyperparameters_of(train)
    for name in given:
        check_known(name, known, lesson)
    return {name: check_value(name, given.get(name, parameter.default), kind_of(train, name)) for name, parameter in known.items()}


def check_known(name: str, known: Collection[str], lesson: str) -> None:
    """`InvalidInput` where `lesson` has no hyperparameter of this name; it says which one may have been meant."""
    if name not in known:
        close = difflib.get_close_matches(name[:60], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}."
        raise InvalidInput(f"{lesson} has no hyperparameter {shown(name)}: {hint}")


def check_value(name: str, value: Any, kind: Any) -> Any:
    """`value` as a plain Python value of this kind (`Count`, `bool`, `Literal["a", "b"]`, ...); `InvalidInput` where it is none."""
    checked = _converted(value, kind)
    if checked is _UNFIT:
        raise InvalidInput(f"{name} is {describe_kind(kind)}, but got {shown(value)}.")
    return checked


def describe_kind(kind: Any) -> str:
    """In words: which values a hyperparameter of this kind may have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(describe_kind(part) for part in arguments)
    if origin is tuple:
        return f"{len(arguments)} values, each of them {describe_kind(arguments[0])}"
    if origin is Annotated:
        base, limits = arguments
        return (
            'a device that torch can compute on here, for example "cpu"' if isinstance(limits, OnDevice) else f"a {_NAMES[base]} {limits}"
        )
    name = _NAMES.get(kind, getattr(kind, "__name__", str(kind)))
    return f"a {name}" if kind in (int, float) else name


def parse_value(name: str, text: str, kind: Any) -> Any:
    """`text`, as typed on a command line, as a value of this kind: 200_000 and 2e5 are whole numbers, "true" is True, "none" is None."""
    plain = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if isinstance(plain, str):
        try:
            with warnings.catch_warnings(action="ignore"):  # Python's opinion of "1or2"
                plain = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            plain = text
    if isinstance(plain, float) and plain.is_integer() and _converted(plain, kind) is _UNFIT:
        plain = int(plain)
    return check_value(name, plain, kind)


def explained(train: Callable) -> dict[str, str]:
    """The comments beside the hyperparameters of `train`, or above them, by name; empty where its source is not at hand."""
    try:
        source = inspect.getsource(inspect.unwrap(train))
    except (OSError, TypeError):
        return {}
    found = re.findall(r"^    (?:# (.+)\n    )?(\w+): .+?,(?:  # (.+))?$", source, flags=re.MULTILINE)
    return {name: above or beside for above, name, beside in found if above or beside}


_UNFIT = object()
_NAMES = {int: "whole number", float: "number", bool: "True or False", str: "text", type(None): "None"}


def _converted(value: Any, kind: Any) -> Any:
    """`value` as one of this kind, `_UNFIT` where it is none. Numbers of NumPy and torch become Python's, devices their names."""
    try:
        return _convert(value, kind)
    except Exception:  # a number too large, a tensor of several, and what an object of the caller's own may raise when it is asked
        return _UNFIT


def _convert(value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        return str(value) if isinstance(value, str) and value in arguments else _UNFIT
    if origin in (Union, types.UnionType):
        fits = (_converted(value, part) for part in arguments)
        return next((fit for fit in fits if fit is not _UNFIT), _UNFIT)
    if origin is tuple:
        ordered = isinstance(value, Sequence) or hasattr(value, "__array__")
        if not ordered or isinstance(value, str | bytes) or len(value) != len(arguments):
            return _UNFIT
        parts = tuple(_converted(part, kind) for part, kind in zip(value, arguments, strict=True))
        return _UNFIT if _UNFIT in parts else parts
    if origin is Annotated:
        base, limits = arguments
        if isinstance(limits, OnDevice):
            return _device(value)
        number = _converted(value, base)
        return number if number is not _UNFIT and number in limits else _UNFIT
    if kind is type(None):
        return None if value is None else _UNFIT
    if kind is str:
        return str(value) if isinstance(value, str) else _UNFIT
    is_truth_value = isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's is named so too
    if kind is bool:
        return bool(value) if is_truth_value else _UNFIT
    if kind not in (int, float):
        return value
    if is_truth_value or isinstance(value, str | bytes | bytearray):
        return _UNFIT
    number = operator.index(value) if kind is int else float(value)
    return number if math.isfinite(number) else _UNFIT


def _device(value: Any) -> str:
    """Its name. Each kind of device has its own way of not being there; "meta" is there, but computes nothing."""
    import torch  # here, because `cartpole-lessons list` needs none of it

    (torch.zeros(1, device=value) + 1).item()
    return str(torch.device(value))
