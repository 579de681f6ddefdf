"""The course's algorithms against Stable-Baselines3's, seed by seed in one process, under the same stopping rule.

    pip install -e '.[compare]'
    python benchmarks/against_stable_baselines3.py --seeds 20

Both sides train inside the same `training.Run`: the same evaluations of 100 episodes every 1,000 steps, the same confirmation, one torch
thread. Stable-Baselines3 runs with the settings that its RL Zoo publishes for CartPole-v1. A ratio is taken per seed, one run
directly after the other, and its median is printed: above 1, the course needs less.
"""

import argparse
import statistics
import sys
from importlib import import_module

import numpy as np
import torch
from tqdm import tqdm

from cartpole_lessons.policy import Policy
from cartpole_lessons.training import Result, Run

try:
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
except ImportError:
    sys.exit("This comparison needs Stable-Baselines3: run `pip install -e '.[compare]'`.")

MAX_STEPS = 200_000

#: Our module -> (their algorithm, number of environments, their settings for CartPole-v1 in RL Zoo 3).
PAIRS = {
    "actor_critic": ("A2C", 8, {"ent_coef": 0.0}),
    "ppo": (
        "PPO",
        8,
        {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": lambda remaining: 0.001 * remaining,
            "clip_range": lambda remaining: 0.2 * remaining,
        },
    ),
}
#: The length of training for which the Zoo's schedules were made.
ZOO_STEPS = {"A2C": 500_000, "PPO": 100_000}


class TheirPolicy(Policy):
    """A Stable-Baselines3 policy in the course's clothes."""

    def __init__(self, policy: torch.nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def actions(self, observations: torch.Tensor, deterministic: bool) -> torch.Tensor:
        return self.policy._predict(observations, deterministic=deterministic)


class StopLikeTheCourse(BaseCallback):
    """Asks the course's `Run` after every step of their vector environment whether training goes on."""

    def __init__(self, run: Run, policy: TheirPolicy) -> None:
        super().__init__()
        self.run, self.policy = run, policy

    def _on_step(self) -> bool:
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.run.record(env_steps=self.training_env.num_envs, returns=ended)
        return self.run.goes_on(self.policy)


def train_theirs(name: str, seed: int) -> Result:
    """Train Stable-Baselines3's algorithm `name` until the course's rule stops it."""
    algorithm, num_envs, settings = PAIRS[name]
    with Run(f"SB3 {algorithm}", seed=seed, env_id="CartPole-v1", max_steps=MAX_STEPS, progress=False) as run:
        envs = make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed)
        model = getattr(stable_baselines3, algorithm)("MlpPolicy", envs, seed=seed, device="cpu", **settings)
        policy = TheirPolicy(model.policy)
        run.goes_on(policy)
        model.learn(ZOO_STEPS[algorithm], callback=StopLikeTheCourse(run, policy))
    return run.result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="*", metavar="ALGORITHM", help=f"which of {', '.join(PAIRS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 to SEEDS-1 (default: 20)")
    arguments = parser.parse_args()
    if set(arguments.algorithms) - set(PAIRS) or arguments.seeds < 1:
        parser.error(f"algorithms are {', '.join(PAIRS)}, and --seeds is at least 1")

    print(f"{'':<26}{'solved':>9}{'perfect':>9}{'median steps':>14}{'median s':>10}")
    for name in arguments.algorithms or PAIRS:
        train_ours = import_module(f"cartpole_lessons.algorithms.{name}").train
        train_ours(seed=0, max_steps=1)  # the first use of an optimizer imports a second's worth of torch
        ours, theirs = [], []
        for seed in tqdm(range(arguments.seeds), desc=name, leave=False):
            ours.append(train_ours(seed=seed, max_steps=MAX_STEPS))
            theirs.append(train_theirs(name, seed))
        for label, results in ((name, ours), (theirs[0].lesson, theirs)):
            solved, perfect = sum(result.solved for result in results), sum(result.evaluation.perfect for result in results)
            steps = statistics.median(result.env_steps for result in results)
            seconds = statistics.median(result.seconds for result in results)
            print(f"{label:<26}{f'{solved}/{len(results)}':>9}{f'{perfect}/{len(results)}':>9}{steps:>14,.0f}{seconds:>10.2f}")
        step_ratio = np.median([their.env_steps / our.env_steps for our, their in zip(ours, theirs, strict=True)])
        time_ratio = np.median([their.seconds / our.seconds for our, their in zip(ours, theirs, strict=True)])
        print(f"{'  theirs / ours':<44}{step_ratio:>13.1f}x{time_ratio:>9.1f}x\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
