"""Randomness in one place: derive seeds from one, and leave the global generators as they were found."""

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import torch

from cartpole_lessons._support.checks import check_seed
from cartpole_lessons._support.interrupts import PATIENCE, HeldInterrupts

#: Of the global generators, and of torch's settings, there is one: of all threads one at a time may change them and compute.
one_at_a_time = threading.RLock()


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose, independent of those for other purposes.

    Two generators that start from the *same* number draw the same numbers: an action space seeded like its environment would
    push in step with the starting states. `SeedSequence` hashes the purpose in, so the streams have nothing in common.
    """
    words = [crc32(word.encode()) if isinstance(word, str) else word for word in [*purpose, *_world()]]
    return int(np.random.SeedSequence([check_seed(seed), *words]).generate_state(1)[0])


def start_of(seed: int) -> int:
    """What a generator that belongs to `seed` itself starts from: the seed."""
    return derive_seed(seed) if _world() else check_seed(seed)


def _world() -> list[int]:
    """Nothing; or which other world this is, in which all seeds mean other numbers (`make test-worlds`)."""
    shift = int(os.environ.get("CARTPOLE_LESSONS_SEED_SHIFT") or 0)
    return [shift] if shift else []


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[HeldInterrupts]:
    """Inside the block Python, NumPy and torch draw from `seed`; afterwards their global states are as they were before.

    Other threads that come to such a block wait until this one is over. Ctrl-C is held until then, so that the states do go back: a block
    that takes long is `with seeded(0) as interrupts:` and calls `interrupts.check()` where it can be left.
    """
    seed = start_of(seed)
    with HeldInterrupts(patience=PATIENCE) as interrupts, one_at_a_time:
        # Asking an uninitialised GPU for its state would start it, which takes seconds: where it is not in use there is nothing to keep.
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield interrupts
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
            if cuda is not None:
                torch.cuda.set_rng_state_all(cuda)
            if mps is not None:
                torch.mps.set_rng_state(mps)
