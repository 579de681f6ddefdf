"""Check what a student passes in: each returns the value, or raises one sentence that says what was got and what to pass."""

import math
import operator
from collections.abc import Collection

from cartpole_lessons.errors import InvalidInput


def check_seed(seed: int) -> int:
    """`seed` as an int; `InvalidInput` unless it is a whole number from 0 to 2**32 - 1."""
    value = _whole_number(seed)
    if value is None or not 0 <= value < 2**32:
        raise InvalidInput(f"A seed is a whole number from 0 to 4294967295, but got {seed!r}: pass for example seed=0.")
    return value


def check_count(name: str, value: int) -> int:
    """`value` as an int; `InvalidInput` unless it is a whole number of at least 1."""
    count = _whole_number(value)
    if count is None or count < 1:
        raise InvalidInput(f"{name} is a whole number of at least 1, but got {value!r}.")
    return count


def check_number(name: str, value: float, *, positive: bool = False) -> float:
    """`value` as a float; `InvalidInput` unless it is finite, and above 0 where it has to be."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (positive and number <= 0):
        raise InvalidInput(f"{name} is a finite number{' above 0' if positive else ''}, but got {value!r}.")
    return number


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """`value` itself; `InvalidInput` unless it is one of `choices`."""
    if value not in choices:
        raise InvalidInput(f"{name} is {' or '.join(map(repr, choices))}, but got {value!r}.")
    return value


def _whole_number(value: object) -> int | None:
    """An int for anything that is one (NumPy's included, True and False not), else None."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
