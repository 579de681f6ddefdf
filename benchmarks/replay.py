"""How fast lesson 06's replay memory takes and gives, and that it takes no more room than its capacity.

    python benchmarks/replay.py

Printed are medians over repeated stretches: transitions pushed per second in batches, microseconds per sample, and the bytes of the
memory before and after ten times its capacity has gone through it.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons.algorithms.dqn import ReplayMemory, Transition

CAPACITY = 100_000
REPEATS, CALLS = 15, 1_000
LEAST_PUSHED, MOST_MICROSECONDS = 1_000_000, 30  # per second in batches of 32; per sample of 256


def seconds_per_call(call: Callable) -> float:
    """Median over the stretches."""
    stretches = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        stretches.append((time.perf_counter() - started) / CALLS)
    return statistics.median(stretches)


def transitions(count: int) -> Transition:
    """Random ones, of the shapes and types that a training pushes."""
    return Transition(torch.randn(count, 4), torch.randint(2, (count,)), torch.ones(count), torch.randn(count, 4), torch.ones(count))


def room(memory: ReplayMemory) -> int:
    """Bytes of all its fields."""
    return sum(field.nbytes for field in memory.fields)


@course_arithmetic()
def main() -> int:
    memory = ReplayMemory(CAPACITY)
    before = room(memory)
    pushed, sampled = {}, {}
    for size in (8, 32, 128):
        batch = transitions(size)
        pushed[size] = size / seconds_per_call(lambda batch=batch: memory.push(batch))
        print(f"push in batches of {size:3}: {pushed[size]:12,.0f} transitions/s")
    while memory.pushed < 10 * CAPACITY:
        memory.push(transitions(1_000))
    for size in (128, 256):
        sampled[size] = seconds_per_call(lambda size=size: memory.sample(size)) * 1e6
        print(f"sample {size}: {sampled[size]:.1f} microseconds")
    after = room(memory)
    print(f"{before:,} bytes before, {after:,} after {memory.pushed:,} transitions; {len(memory):,} remembered")
    good = pushed[32] >= LEAST_PUSHED and sampled[256] <= MOST_MICROSECONDS and after == before
    print("as quick and as small as promised" if good else "NOT as quick or as small as promised")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
