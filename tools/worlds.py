"""Do the lessons' assertions hold elsewhere too? `make test-worlds` executes every lesson in five worlds and says what did not hold.

    python tools/worlds.py                 # all lessons
    python tools/worlds.py 02 05           # these alone

One world is as taught. In one torch computes with the plainest instructions that a CPU can have, so that roundings, and with them whole
trainings, come out otherwise. In three all seeds mean other numbers. Exit status 1 when a cell of a lesson fails in any of them.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: First digits of the lessons. In other languages their code is the same.
ENGLISH = ["0", "1"]
WORLDS = {
    "as taught": {},
    "another CPU's arithmetic": {"ATEN_CPU_CAPABILITY": "default"},
    **{f"seeds shifted, {shift}": {"CARTPOLE_LESSONS_SEED_SHIFT": str(shift)} for shift in (1, 2, 3)},
}


def main(lessons: list[str]) -> int:
    """Run the lessons in every world; 1 where one of them failed in one of them."""
    failed = []
    for name, variables in WORLDS.items():
        print(f"\n{name}", flush=True)
        command = [sys.executable, ROOT / "tools" / "run_lessons.py", *(lessons or ENGLISH)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | variables)
        if done.returncode == 130:  # Ctrl-C
            return 130
        failed += [name] if done.returncode else []
    print(f"\nNot everything held in: {', '.join(failed)}." if failed else f"\nEverything held in all {len(WORLDS)} worlds.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
