"""The course's algorithms against Stable-Baselines3's, seed by seed, both in the same process, under the same stopping rule.

    pip install -e '.[compare]'
    python benchmarks/against_stable_baselines3.py      # the figures into cartpole_lessons/results/; `make study` runs this too

All train inside the same `training.Run`: the same evaluations of 100 episodes every 1,000 steps, the same confirmation, one torch
thread. Stable-Baselines3 runs twice: with the settings that its RL Zoo publishes for CartPole-v1 ("theirs"), and with the course's own as
far as it can be told them ("same"). The first difference is what a student gets, the second what is left of it without the tuning. A ratio
is taken per seed, one run directly after the other: above 1, the course needs less. Seconds are CPU seconds of the whole training, and of
its training alone, without evaluations.
"""

import json
import math
import sys
from importlib import metadata
from pathlib import Path

import gymnasium
import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from cartpole_lessons._support.files import write_file
from cartpole_lessons.history import Result
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import Tally
from cartpole_lessons.study import RESULTS, lesson_code, machine, nameless
from cartpole_lessons.training import Run

try:
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
except ImportError:
    sys.exit("This comparison needs Stable-Baselines3: run `pip install -e '.[compare]'`.")

MAX_STEPS = 200_000
#: No setting was chosen with these.
SEEDS = range(1_000, 1_020)
FOLDER = Path(__file__).resolve().parent.parent / "build" / "study" / "against_stable_baselines3"

#: Our module -> (their algorithm, number of environments, their settings for CartPole-v1 in RL Zoo 3).
ZOO = {
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
    "dqn": (
        "DQN",
        1,
        {
            "learning_rate": 0.0023,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
}
#: The length of training for which the Zoo's schedules were made.
ZOO_STEPS = {"A2C": 500_000, "PPO": 100_000, "DQN": 50_000}
TWO_NETWORKS = {"net_arch": {"pi": [64], "vf": [64]}, "activation_fn": torch.nn.Tanh}
#: The same with the lessons' settings. Theirs has one learning rate for both networks of A2C, where the course's critic learns five times as
#: fast; their PPO normalises advantages per minibatch; their DQN lowers epsilon in a straight line. The angle is multiplied by 5 on both sides, and both DQN's values start at 100.
SAME = {
    "actor_critic": (
        "A2C",
        4,
        {
            "n_steps": 64,
            "learning_rate": 0.01,
            "gamma": 0.98,
            "ent_coef": 0.01,
            "vf_coef": 1.0,
            "max_grad_norm": math.inf,
            "use_rms_prop": False,
            "normalize_advantage": True,
            "policy_kwargs": TWO_NETWORKS,
        },
    ),
    "ppo": (
        "PPO",
        8,
        {
            "n_steps": 32,
            "batch_size": 64,
            "n_epochs": 8,
            "learning_rate": 0.007,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "clip_range": 0.3,
            "ent_coef": 0.0,
            "vf_coef": 1.0,
            "max_grad_norm": math.inf,
            "policy_kwargs": TWO_NETWORKS,
        },
    ),
    "dqn": (
        "DQN",
        8,
        {
            "learning_rate": 0.003,
            "batch_size": 128,
            "buffer_size": 10_000,
            "learning_starts": 500,
            "gamma": 0.99,
            "tau": 0.2,
            "target_update_interval": 1,
            "train_freq": 4,
            "gradient_steps": 4,
            "exploration_initial_eps": 0.9,
            "exploration_final_eps": 0.05,
            "exploration_fraction": 3_000 / MAX_STEPS,
            "policy_kwargs": {"net_arch": [64, 64], "optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"amsgrad": True}},
        },
    ),
}
ANGLE_SCALE = np.array([1, 1, 5, 1], dtype=np.float32)
#: Of a run, the figures that are kept; `training_seconds` are its CPU seconds without those of the evaluations.
KEPT = ("solved", "perfect", "env_steps", "seconds", "cpu_seconds", "training_seconds")
#: Who is compared with the course: theirs with the Zoo's settings, and with the course's.
RIVALS = ("theirs", "same")


class TheirPolicy(Policy):
    """A Stable-Baselines3 policy in the course's clothes."""

    def __init__(self, policy: torch.nn.Module, scale: np.ndarray) -> None:
        super().__init__()
        self.policy = policy
        self.register_buffer("scale", torch.from_numpy(scale))

    def actions(self, observations: torch.Tensor, deterministic: bool) -> torch.Tensor:
        return self.policy._predict(observations * self.scale, deterministic=deterministic)


class FromTheTop(torch.nn.Module):
    """The last layer of lesson 06's network: values start at 100, and move by tens."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs of any shape -> values of the same."""
        return 100 + 10 * outputs


class StopLikeTheCourse(BaseCallback):
    """Asks the course's `Run` after every step of their vector environment whether training goes on."""

    def __init__(self, run: Run, policy: TheirPolicy) -> None:
        super().__init__()
        self.run, self.policy = run, policy

    def _on_step(self) -> bool:
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        steps = self.training_env.num_envs
        self.run.record(Tally(steps, returns=ended, ends=[steps] * len(ended)))
        return self.run.goes_on(self.policy)


def scaled(env: gymnasium.Env) -> gymnasium.Env:
    """The environment with its angles multiplied as the course's networks do it."""
    return gymnasium.wrappers.TransformObservation(env, lambda observation: observation * ANGLE_SCALE, env.observation_space)


def train_theirs(name: str, seed: int, side: str, max_steps: int = MAX_STEPS) -> Result:
    """Train Stable-Baselines3's algorithm until the course's rule stops it: with the Zoo's settings ("theirs"), or the course's ("same")."""
    algorithm, num_envs, settings = (ZOO if side == "theirs" else SAME)[name]
    with Run(f"SB3 {algorithm}", seed=seed, max_steps=max_steps) as run:
        envs = make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed, wrapper_class=scaled if side == "same" else None)
        model = getattr(stable_baselines3, algorithm)("MlpPolicy", envs, seed=seed, device="cpu", **settings)
        if (algorithm, side) == ("DQN", "same"):
            for network in (model.q_net, model.q_net_target):
                network.q_net.append(FromTheTop())
        policy = TheirPolicy(model.policy, ANGLE_SCALE if side == "same" else np.ones(4, dtype=np.float32))
        run.goes_on(policy)
        model.learn(ZOO_STEPS[algorithm] if side == "theirs" else max_steps, callback=StopLikeTheCourse(run, policy))
    return run.result


def figures(result: Result) -> dict:
    """What is kept of a run. One thread computes, so a share of the seconds is the same share of the CPU seconds."""
    training = result.cpu_seconds * (1 - result.evaluation_seconds / result.seconds)
    found = result.summary() | {"training_seconds": round(training, 3)}
    return {name: found[name] for name in KEPT}


def compare_seed(made_by: dict, seed: int) -> dict:
    """{"seed", "ours", "theirs", "same"} of one seed, from its file where it was run by the same versions."""
    path = FOLDER / f"{made_by['lesson']}-seed{seed}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if {key: kept.get(key) for key in made_by} != made_by:
        ours = figures(load_lesson(made_by["lesson"]).train(seed=seed, max_steps=MAX_STEPS))
        others = {side: figures(train_theirs(made_by["lesson"], seed, side)) for side in RIVALS}
        kept = made_by | {"run": {"seed": seed, "ours": ours} | others}
        write_file(path, json.dumps(kept).encode(), "The comparison")
    return kept["run"]


def compare() -> list[dict]:
    """Per algorithm {"lesson", "theirs", "code", "version", "runs": [{"seed", "ours", "theirs", "same"}]}.

    One process per core, each with all sides of a seed, one after the other, so that what else the machine does slows both. Each seed leaves
    a file, and is not run again while lesson and Stable-Baselines3 are the same.
    """
    pairs = []
    with Parallel(n_jobs=-1, return_as="generator") as parallel:
        for name in ZOO:
            made_by = {
                "lesson": name,
                "theirs": f"SB3 {ZOO[name][0]}",
                "code": lesson_code(name),
                "version": stable_baselines3.__version__,
            }
            runs = parallel(delayed(compare_seed)(made_by, seed) for seed in SEEDS)
            pairs.append(made_by | {"runs": list(tqdm(runs, desc=f"{name} and {made_by['theirs']}", total=len(SEEDS)))})
    return pairs


def main() -> None:
    pairs = compare()
    here = nameless(machine()) | {"stable_baselines3": metadata.version("stable_baselines3")}
    text = json.dumps({"machine": here, "pairs": pairs}).replace('{"seed"', '\n{"seed"') + "\n"
    write_file(RESULTS / "against_stable_baselines3.json", text.encode(), "The comparison")


if __name__ == "__main__":
    main()
