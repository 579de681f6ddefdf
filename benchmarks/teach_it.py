"""What lesson 15 publishes: how good an imitator is after 1 to 50 demonstrations, and how many answers an agent needs that learns from preferences.

    python benchmarks/teach_it.py              # all of it
    python benchmarks/teach_it.py imitation    # this part alone, beside what is there

Writes cartpole_lessons/results/teach_it.json.
"""

import argparse
import copy
import sys
from collections.abc import Iterator

import torch

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.seeding import derive_seed, seeded
from cartpole_lessons.algorithms import imitation, preferences
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork
from cartpole_lessons.environment import make_env
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons.study import read_figures, write_figures

#: Far from the seeds that the settings were chosen with.
SEEDS = range(1_000, 1_020)
DEMONSTRATIONS = (1, 2, 3, 5, 10, 20, 50)
UPDATES = 50  # after each of them
JUDGES = {
    "none wrong": {},
    "10 % wrong": {"wrong_answers": 0.1},
    "20 % wrong": {"wrong_answers": 0.2},
    "20 % wrong, up to 300 answers": {"wrong_answers": 0.2, "answers": 300},
    "none wrong, random questions": {"tries": 1},
    "20 % wrong, random questions": {"wrong_answers": 0.2, "tries": 1},
}


def held_out_returns(teacher: str, dagger: bool, seed: int) -> Iterator[float]:
    """Mean return of 100 fresh episodes after each of `DEMONSTRATIONS`; the rounds are those of `imitation.train`.

    A pupil that has watched once has also practised once. So that demonstrations alone make the difference, a
    copy of the pupil practises on until it has made as many updates as one that has watched most.
    """
    hands, env = imitation.teacher_hands(teacher, seed=seed), make_env(seed=seed)
    with seeded(derive_seed(seed, "training")), course_arithmetic():
        policy = PolicyNetwork()
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.01, fused=True)
        observations, pushes = [], []
        for episode in range(max(DEMONSTRATIONS)):
            hand = hands[episode % len(hands)]
            seen, said = imitation.demonstrate(env, hand, policy if dagger and episode else None)
            observations.append(seen)
            pushes.append(said)
            examples = torch.cat(observations), torch.cat(pushes)
            imitation.fit(policy, optimizer, *examples, UPDATES)
            if episode + 1 in DEMONSTRATIONS:
                pupil, its_optimizer = copy.deepcopy((policy, optimizer))
                more = UPDATES * (max(DEMONSTRATIONS) - 1 - episode)
                if more:
                    imitation.fit(pupil, its_optimizer, *examples, more)
                yield round(evaluate(pupil, seed=derive_seed(seed, "result")).mean, 2)


def measure_imitation() -> dict:
    """{"demonstrations": counts, "returns": {teacher: {"cloning" or "dagger": [[one per count], one per seed]}}}."""
    returns = {}
    for teacher in imitation.TEACHERS:
        returns[teacher] = {}
        for name, dagger in (("cloning", False), ("dagger", True)):
            rows = [list(held_out_returns(teacher, dagger, seed)) for seed in SEEDS]
            returns[teacher][name] = rows
            print(f"{teacher}, {name}: {[sorted(column)[len(rows) // 2] for column in zip(*rows, strict=True)]}", flush=True)
    return {"seeds": list(SEEDS), "demonstrations": DEMONSTRATIONS, "updates": UPDATES * max(DEMONSTRATIONS), "returns": returns}


def measure_preferences() -> dict:
    """{"seeds", "runs": {judge: [{"answers", "env_steps", "cpu_seconds", "mean_return", "solved"}, one per seed]}}."""
    preferences.train(seed=0, max_steps=800)  # what the first training of a process imports is nobody's
    runs = {}
    for judge, settings in JUDGES.items():
        runs[judge] = []
        for seed in SEEDS:
            result = preferences.train(seed=seed, **settings)
            runs[judge].append(
                {
                    "answers": int(result.history.metrics["answers"][-1][1]),
                    "env_steps": result.env_steps,
                    "cpu_seconds": round(result.cpu_seconds, 2),
                    "mean_return": round(result.evaluation.mean, 2),
                    "solved": result.solved,
                }
            )
        print(f"{judge}: {[(run['answers'], run['cpu_seconds'], run['mean_return']) for run in runs[judge]]}", flush=True)
    return {"seeds": list(SEEDS), "runs": runs}


PARTS = {"imitation": measure_imitation, "preferences": measure_preferences}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure (default: all of it)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for part in arguments.parts or PARTS:
        measured = PARTS[part]()
        write_figures("teach_it", read_figures("teach_it") | {part: measured})
    return 0


if __name__ == "__main__":
    sys.exit(main())
