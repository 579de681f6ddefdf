"""Randomness in one place: derive seeds from one, and leave the global generators as they were found."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import numpy as np
import torch

from cartpole_lessons.checks import check_seed
from cartpole_lessons.interrupts import HeldInterrupts


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose, independent of those for other purposes.

    Two generators that start from the *same* number draw the same numbers: an action space seeded like its environment would
    push in step with the starting states. `SeedSequence` hashes the purpose in, so the streams have nothing in common.
    """
    words = [crc32(word.encode()) if isinstance(word, str) else word for word in purpose]
    return int(np.random.SeedSequence([check_seed(seed), *words]).generate_state(1)[0])


def random_states() -> dict[str, Any]:
    """Where the global generators of Python, NumPy and torch stand; `set_random_states` puts them back there."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        # Asking an uninitialised GPU for its state would start it, which takes seconds: where it is not in use there is nothing to keep.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put the global generators back to where `random_states` found them, all of them or, where Ctrl-C comes before, none."""
    check_position(states["numpy"][2])
    with HeldInterrupts():
        random.setstate(states["python"])
        np.random.set_state(states["numpy"])
        torch.set_rng_state(states["torch"])
        if states["cuda"] is not None:
            torch.cuda.set_rng_state_all(states["cuda"])
        if states["mps"] is not None:
            torch.mps.set_rng_state(states["mps"])


def check_position(position: int) -> None:
    """`ValueError` where a Mersenne Twister would read beyond its 624 words: NumPy does not ask, and a file may say anything."""
    if not 0 <= position <= 624:
        raise ValueError(f"a generator stands at {position} of 624")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block Python, NumPy and torch draw from `seed`; afterwards their global states are as they were before."""
    seed = check_seed(seed)
    before = random_states()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield
    finally:
        set_random_states(before)
