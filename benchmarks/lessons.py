"""How long every lesson takes together, as a test: nbval, one lesson per worker, two workers.

    python benchmarks/lessons.py

It is what `make test` runs for each commit. Exit status 1 when a lesson fails, or when all take more than four minutes on two cores.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 240


def nbval_command() -> list[str]:
    """The Makefile's own command, so that there is one."""
    (line,) = (line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "--nbval-lax" in line)
    return [sys.executable, *line.split()[1:]]


def main() -> int:
    started = time.perf_counter()
    failed = subprocess.run(nbval_command(), cwd=ROOT).returncode
    seconds = time.perf_counter() - started
    print(f"all lessons: {seconds:.0f} s of {LIMIT_SECONDS} s")
    return 1 if failed or seconds > LIMIT_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
