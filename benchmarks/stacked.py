"""What it costs to train many seeds side by side, against one after the other: CPU seconds, measured in one run.

    python benchmarks/stacked.py
    python benchmarks/stacked.py ppo dqn --seeds 20 --alone 5

For each lesson and each size of the stack: CPU seconds per seed and per 1,000 training steps, those of the lesson's own `train`, and how
many seeds were solved, after how many steps. It says where the stack does not pay.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from cartpole_lessons.history import Result
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.study.stacked import STACKED, train_stacked

#: Far from the seeds that the settings were chosen with.
FIRST_SEED = 200


def timed(call: Callable[[], list[Result]]) -> tuple[float, list[Result]]:
    """CPU seconds of the call, and what it returns."""
    started = time.process_time()
    results = call()
    return time.process_time() - started, results


def per_thousand_steps(seconds: float, results: Sequence[Result]) -> float:
    """CPU seconds per 1,000 training steps: seeds that need longer than others weigh in both ways of training."""
    return 1_000 * seconds / sum(result.env_steps for result in results)


def line(name: str, seconds: float, results: Sequence[Result]) -> str:
    solved = sum(result.solved for result in results)
    steps = statistics.median(result.env_steps for result in results)
    return (
        f"{name:>30}: {seconds:7.2f} s, {seconds / len(results):6.3f} s a seed, {per_thousand_steps(seconds, results):6.4f} s per 1,000 steps; "
        f"solved {solved} of {len(results)}, median {steps:,.0f} steps"
    )


def compare(lesson: str, sizes: Sequence[int], alone: int) -> None:
    """Print a line for each size of the stack, and for seeds one after the other."""
    train = load_lesson(lesson).train
    train(seed=0, max_steps=1_000)  # what the first training of a process imports is nobody's
    seconds, results = timed(lambda: [train(seed=seed) for seed in range(FIRST_SEED, FIRST_SEED + alone)])
    sequential = per_thousand_steps(seconds, results)
    print(line(f"{lesson}, one after the other", seconds, results), flush=True)
    for size in sizes:
        stack = range(FIRST_SEED, FIRST_SEED + size)
        seconds, results = timed(lambda stack=stack: [result for _, result in train_stacked(lesson, stack)])
        times = sequential / per_thousand_steps(seconds, results)
        print(line(f"{size} side by side", seconds, results) + (f"; {times:.1f} x" if times > 1 else "; does not pay"), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help=f"which of {', '.join(STACKED)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 10, 100], help="sizes of the stack (default: 1 10 100)")
    parser.add_argument("--alone", type=int, default=10, help="how many seeds to train one after the other (default: 10)")
    arguments = parser.parse_args()
    if set(arguments.lessons) - set(STACKED) or min(arguments.alone, *arguments.seeds) < 1:
        parser.error(f"the lessons are {', '.join(STACKED)}, and there is at least one seed")
    for lesson in arguments.lessons or STACKED:
        compare(lesson, arguments.seeds, arguments.alone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
