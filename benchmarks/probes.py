"""Which probe finds which bug: every learner of the course and every bug of lesson 12 in all probes that apply, on twenty seeds each.

    python benchmarks/probes.py            # the rows that are not there yet; all of them take most of an hour on one core
    python benchmarks/probes.py dqn ppo    # these anew

Writes cartpole_lessons/results/probes.json: for each row and probe, how many seeds passed. Stopped at any moment, it goes on from the row it was at.
"""

import contextlib
import io
import sys
import warnings
from collections import Counter
from typing import Any

import torch

from cartpole_lessons.bugs import BUGS
from cartpole_lessons.history import Result
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.probes import probe
from cartpole_lessons.study import read_figures, write_figures

SEEDS = range(1000, 1020)
MAX_STEPS = 4_000


def best_value(result: Result, observations: torch.Tensor) -> torch.Tensor:
    """What a DQN thinks that observations float32 (n, 4) are worth, float32 (n,)."""
    return result.policy(observations).amax(-1)


#: What a lesson can be asked. REINFORCE of lesson 03 compares the steps of an episode with each other, and episodes of one or two steps
#: leave it nothing to compare, so none of these worlds says anything about it. The values of better_dqn are not: it acts by
#: an average, which is slow. Both DQNs begin with 100 as every state's value, which is nothing to begin with where states are worth 1.
ASKED: dict[str, dict[str, Any]] = {
    "policy_gradient": {"whole_episodes": True},
    "actor_critic": {},
    "ppo": {},
    "dqn": {"values": best_value, "start_value": 5.0},
    "better_dqn": {"start_value": 5.0, "max_steps": 2 * MAX_STEPS},
    "gaussian_reinforce": {"actions": "continuous"},
    "augmented_random_search": {"whole_episodes": True, "max_steps": 2 * MAX_STEPS},
}


def passed(row: str) -> dict[str, int]:
    """{probe: how many of the seeds passed it} of a lesson, or of one with a bug."""
    lesson = BUGS[row].lesson if row in BUGS else row
    train = BUGS[row].train if row in BUGS else load_lesson(lesson).train
    counts: Counter = Counter()
    for seed in SEEDS:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of shapes that are broadcast: the bug itself
            for verdict in probe(train, seed=seed, **{"max_steps": MAX_STEPS, **ASKED[lesson]}):
                counts[verdict.probe.name] += verdict.passed
    return dict(counts)


def main(chosen: list[str]) -> int:
    torch.set_num_threads(1)
    rows = [*ASKED, *BUGS]
    counts = {row: count for row, count in read_figures("probes").get("passed", {}).items() if row in rows and row not in chosen}
    for row in rows:
        if row not in counts:
            counts[row] = passed(row)
            print(f"{row:<24}", *(f"{name} {count}" for name, count in counts[row].items()), sep="  ", flush=True)
            ordered = {each: counts[each] for each in rows if each in counts}
            write_figures("probes", {"seeds": len(SEEDS), "max_steps": MAX_STEPS, "passed": ordered})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
