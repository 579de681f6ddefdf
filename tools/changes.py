"""Print what each lesson's `train` changed against the lesson that it follows: `.venv/bin/python tools/changes.py [--lines]`."""

import sys
from importlib import import_module

from cartpole_lessons.lessons import ALGORITHMS, what_changed

#: Each lesson after the one whose idea it takes further.
FOLLOWS = {
    "reinforce": "policy_gradient",
    "actor_critic": "policy_gradient",
    "ppo": "actor_critic",
    "better_dqn": "dqn",
    "gaussian_reinforce": "policy_gradient",
    "augmented_random_search": "gaussian_reinforce",
}


def main() -> None:
    for after, before in FOLLOWS.items():
        changes = what_changed(*(import_module(f"{ALGORITHMS}.{name}").train for name in (before, after)))
        print(f"{before} -> {after}: {changes.count} lines")
        if "--lines" in sys.argv:
            print(changes, end="\n\n")


if __name__ == "__main__":
    main()
