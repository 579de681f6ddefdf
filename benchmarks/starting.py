"""How long a student waits for imports: torch alone, and what the course adds to it.

    python benchmarks/starting.py

Every figure is the median over fresh interpreters, which take turns so that whatever else the machine does slows all of them.
Exit status 1 when the course adds more than 0.3 seconds.
"""

import argparse
import statistics
import subprocess
import sys

LIMIT_SECONDS = 0.3
#: What a lesson imports from the course: everything that it may need before it draws or films for the first time.
LESSON = "cartpole_lessons.algorithms.policy_gradient, cartpole_lessons.evaluation, cartpole_lessons.video, cartpole_lessons.plots"
PROGRAM = """
import time
moments = [time.perf_counter()]
for names in ("torch", "cartpole_lessons", {lesson!r}):
    exec("import " + names)
    moments.append(time.perf_counter())
print(*(after - before for before, after in zip(moments, moments[1:])))
"""


def measure() -> list[float]:
    """Seconds for torch, for `import cartpole_lessons` after it, and for a lesson's imports after that, in a fresh interpreter."""
    program = PROGRAM.format(lesson=LESSON)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return [float(seconds) for seconds in printed.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15, help="fresh interpreters (default: 15)")
    turns = parser.parse_args().turns
    measure()  # the first one reads the files from the disk and compiles them
    torch, package, lesson = (statistics.median(figures) for figures in zip(*(measure() for _ in range(turns)), strict=True))
    print(f"import torch                {torch:7.3f} s")
    print(f"import cartpole_lessons    +{package:7.3f} s")
    print(f"a lesson's imports         +{lesson:7.3f} s")
    return 0 if package + lesson < LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
