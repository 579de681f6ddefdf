"""Check what a student passes in: each returns the value, or raises one sentence that says what was got and what to pass."""

import math
import operator
import reprlib
from collections.abc import Collection

from cartpole_lessons.errors import InvalidInput

_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = 60


def shown(value: object) -> str:
    """What a sentence shows of `value`: one line of at most 60 characters, whatever the object says of itself."""
    try:
        text = _short.repr(value)
    except Exception:  # a number of 5,000 digits, for one
        text = f"<{type(value).__name__}>"
    return " ".join(text.split())[:60]


def check_seed(seed: int) -> int:
    """`seed` as an int; `InvalidInput` unless it is a whole number from 0 to 2**32 - 1."""
    value = _whole_number(seed)
    if value is None or not 0 <= value < 2**32:
        raise InvalidInput(f"A seed is a whole number from 0 to 4294967295, but got {shown(seed)}: pass for example seed=0.")
    return value


def check_count(name: str, value: int, most: float = math.inf) -> int:
    """`value` as an int; `InvalidInput` unless it is a whole number from 1 to `most`."""
    count = _whole_number(value)
    if count is None or not 1 <= count <= most:
        limits = "of at least 1" if most == math.inf else f"from 1 to {most:,}"
        raise InvalidInput(f"{name} is a whole number {limits}, but got {shown(value)}.")
    return count


def check_number(name: str, value: float, *, positive: bool = False) -> float:
    """`value` as a float; `InvalidInput` unless it is finite, and above 0 where it has to be."""
    try:
        number = float(value)
    except Exception:  # an object of the caller's own can raise anything
        number = math.nan
    if not math.isfinite(number) or (positive and number <= 0):
        raise InvalidInput(f"{name} is a finite number{' above 0' if positive else ''}, but got {shown(value)}.")
    return number


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """`value` itself; `InvalidInput` unless it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{name} is {' or '.join(map(repr, choices))}, but got {shown(value)}.")
    return value


def _whole_number(value: object) -> int | None:
    """An int for anything that is one (NumPy's included, True and False not), else None."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except Exception:  # an object of the caller's own can raise anything
        return None
