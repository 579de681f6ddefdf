"""How long every lesson takes together, as a test: what `make test` runs for each commit (`make bench` hands that command over).

    python benchmarks/lessons.py COMMAND ...

Exit status 1 when a lesson fails, or when all take more than four minutes on two cores.
"""

import subprocess
import sys
import time

LIMIT_SECONDS = 240


def main() -> int:
    started = time.perf_counter()
    failed = subprocess.run(sys.argv[1:]).returncode
    seconds = time.perf_counter() - started
    print(f"all lessons: {seconds:.0f} s of {LIMIT_SECONDS} s")
    return 1 if failed or seconds > LIMIT_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
