"""PPO of the course beside that of other libraries, on one core, with the course's settings and its rule for stopping.

    python benchmarks/peers.py             # about ten minutes, after an installation of a few gigabytes
    python benchmarks/peers.py rejax       # one of them alone; nothing is published

It makes an environment of its own in build/peers/, with Stable-Baselines3, with sbx (the same in JAX) and with rejax (whole trainings
compiled by JAX), and each of them trains in a process of its own, kept to one core. Held equal: the settings of lesson 05 as far as a
library can be told them, the angle multiplied by 5, about 1,000 steps between evaluations of 100 greedy episodes, a stop when one of them
is perfect and so is another on fresh episodes. Not equal: rejax takes the end of a long episode for a fall, its two networks learn from
losses of their own, it clips its critic, and it plays its own CartPole inside of the compiled training. CleanRL's releases need an older Python.

CPU seconds are those of the process. What comes before the first training (importing), and what the first takes longer than the others do
(compiling, and what is loaded late), are told apart. Writes cartpole_lessons/results/peers.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "peers"
INSTALLED = ("stable-baselines3==2.9.2", "sbx-rl==0.28.0", "rejax==0.1.3", "gymnax==0.0.9")
#: What the course itself needs beside them.
NEEDED = ("torch==2.13.0", "matplotlib", "scipy", "pillow", "imageio-ffmpeg", "tqdm", "ipython", "anywidget", "joblib")
PACKAGES = {"course": "torch", "stable_baselines3": "stable-baselines3", "sbx": "sbx-rl", "rejax": "rejax"}
#: Settings were chosen with the first hundred.
SEEDS = range(1_000, 1_010)
TOGETHER = 100
MOST_STEPS, MOST_TOGETHER = 200_000, 30_000

#: (seed, or how many of them; most steps) -> `figures`.
Train = Callable[[int, int], dict]


def figures(stopped: int, env_steps: int, started: float) -> dict:
    """Of one training, or of several: how many were stopped by the rule."""
    return {"stopped": int(stopped), "env_steps": env_steps, "cpu_seconds": round(time.process_time() - started, 3)}


def course() -> tuple[Train, Train]:
    """Trainings of lesson 05: of a seed alone, and of so many side by side."""
    from cartpole_lessons.algorithms import ppo
    from cartpole_lessons.study.stacked import train_stacked

    def one(seed: int, most: int) -> dict:
        started = time.process_time()
        result = ppo.train(seed=seed, max_steps=most)
        return figures(result.env_steps < most, result.env_steps, started)

    def together(seeds: int, most: int) -> dict:
        started = time.process_time()
        results = [result for _, result in train_stacked("ppo", range(SEEDS[0], SEEDS[0] + seeds), max_steps=most)]
        return figures(sum(result.env_steps < most for result in results), sum(result.env_steps for result in results), started)

    return one, together


def stable_baselines3() -> tuple[Train, None]:
    """Trainings as in the comparison with Stable-Baselines3, on "the course's settings"."""
    from against_stable_baselines3 import train_theirs

    def one(seed: int, most: int) -> dict:
        started = time.process_time()
        result = train_theirs("ppo", seed, "same")
        return figures(result.env_steps < most, result.env_steps, started)

    return one, None


def sbx() -> tuple[Train, None]:
    """The same with networks and updates in JAX."""
    import flax.linen
    import numpy as np
    import torch
    from against_stable_baselines3 import ANGLE_SCALE, SAME, StopLikeTheCourse, make_vec_env, scaled
    from sbx import PPO

    from cartpole_lessons.policy import Policy
    from cartpole_lessons.training import Run

    class TheirPolicy(Policy):
        def __init__(self, policy):
            super().__init__()
            self.theirs = policy

        def actions(self, observations: torch.Tensor, deterministic: bool) -> torch.Tensor:
            chosen = self.theirs._predict(observations.numpy() * ANGLE_SCALE, deterministic=deterministic)
            return torch.from_numpy(np.array(chosen))

    _, num_envs, settings = SAME["ppo"]
    networks = settings["policy_kwargs"] | {"activation_fn": flax.linen.tanh}

    def one(seed: int, most: int) -> dict:
        started = time.process_time()
        with Run("sbx PPO", seed=seed, max_steps=most) as run:
            envs = make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed, wrapper_class=scaled)
            model = PPO("MlpPolicy", envs, seed=seed, **settings | {"policy_kwargs": networks})
            policy = TheirPolicy(model.policy)
            run.goes_on(policy)
            model.learn(most, callback=StopLikeTheCourse(run, policy))
        return figures(run.result.env_steps < most, run.result.env_steps, started)

    return one, None


def rejax() -> tuple[Train, Train]:
    """Four updates and an evaluation are one compiled call, repeated until both evaluations are perfect."""
    import jax
    from against_stable_baselines3 import ANGLE_SCALE, SAME
    from gymnax.environments.classic_control import CartPole
    from jax import numpy as jnp
    from rejax import PPO
    from rejax.evaluate import evaluate

    class Scaled(CartPole):
        def get_obs(self, state, params=None, key=None):
            return super().get_obs(state) * jnp.array(ANGLE_SCALE)

    _, num_envs, settings = SAME["ppo"]
    batch, chunk = num_envs * settings["n_steps"], 1_024
    env = Scaled()
    algorithm = PPO.create(
        env=env,
        num_envs=num_envs,
        num_steps=settings["n_steps"],
        num_epochs=settings["n_epochs"],
        num_minibatches=batch // settings["batch_size"],
        learning_rate=settings["learning_rate"],
        gamma=settings["gamma"],
        gae_lambda=settings["gae_lambda"],
        clip_eps=settings["clip_range"],
        ent_coef=settings["ent_coef"],
        vf_coef=2 * settings["vf_coef"],  # it halves the loss
        total_timesteps=chunk,
        eval_freq=chunk,
        skip_initial_evaluation=True,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64,)},
    )

    def perfect(algorithm, state, key):
        def greedy(observation, _):
            return jnp.argmax(algorithm.actor.apply(state.actor_ts.params, observation[None], method="_action_dist").logits[0])

        def all_last(key):
            return (evaluate(greedy, key, env, algorithm.env_params, 100, 500)[0] == 500).all()

        # As the course: the second hundred are played only if the first were perfect.
        first, second = jax.random.split(key)
        return jax.lax.cond(all_last(first), all_last, lambda _: jnp.bool_(False), second)

    algorithm = algorithm.replace(eval_callback=perfect)
    start, go_on = jax.jit(algorithm.init_state), jax.jit(lambda state: algorithm.train(train_state=state))
    start_all, all_go_on = jax.jit(jax.vmap(algorithm.init_state)), jax.jit(jax.vmap(lambda state: algorithm.train(train_state=state)))

    def one(seed: int, most: int) -> dict:
        started, state, steps, done = time.process_time(), start(jax.random.key(seed)), 0, False
        while not done and steps < most:
            state, done = go_on(state)
            steps, done = steps + chunk, bool(done.all())
        return figures(done, steps, started)

    def together(seeds: int, most: int) -> dict:
        started, state = time.process_time(), start_all(jax.random.split(jax.random.key(SEEDS[0]), seeds))
        done, steps, all_steps = jnp.zeros(seeds, bool), 0, 0
        while not done.all() and steps < most:  # who is done goes on computing: a compiled stack cannot be left
            all_steps += chunk * int((~done).sum())
            state, these = all_go_on(state)
            steps, done = steps + chunk, done | these.reshape(seeds)
        return figures(int(done.sum()), all_steps, started)

    return one, together


PEERS = {"course": course, "stable_baselines3": stable_baselines3, "sbx": sbx, "rejax": rejax}


def measure(name: str, seeds: int) -> dict:
    """All of one library, in this process."""
    one, together = PEERS[name]()
    importing = time.process_time()
    first = one(SEEDS[0] - 1, MOST_STEPS)
    runs = [{"seed": seed} | one(seed, MOST_STEPS) for seed in SEEDS[:seeds]]
    per_step = statistics.median(run["cpu_seconds"] / run["env_steps"] for run in runs)
    found = {
        "version": metadata.version(PACKAGES[name]),
        "importing": round(importing, 2),
        "compiling": round(max(0, first["cpu_seconds"] - per_step * first["env_steps"]), 2),
        "runs": runs,
    }
    if together:
        cold, warm = (together(TOGETHER, 1)["cpu_seconds"] for _ in range(2))  # this size is compiled, too
        found["together"] = together(TOGETHER, MOST_TOGETHER) | {"seeds": TOGETHER, "compiling": round(max(0, cold - warm), 2)}
    return found


def python_of_its_own() -> Path:
    """The environment with all of them, made where it is not there."""
    python = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = FOLDER / "installed.txt"
    wanted = " ".join((*INSTALLED, *NEEDED))
    if not done.exists() or done.read_text() != wanted:
        venv.create(FOLDER, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", *INSTALLED, *NEEDED], check=True)
        done.write_text(wanted)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"which of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help=f"how many of seeds {SEEDS[0]} to {SEEDS[-1]}")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # measure in this process, and print it
    arguments = parser.parse_args()
    if set(arguments.peers) - set(PEERS) or not 1 <= arguments.seeds <= len(SEEDS):
        parser.error(f"peers are {', '.join(PEERS)}, and --seeds is 1 to {len(SEEDS)}")
    if arguments.here:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(measure(*arguments.peers, arguments.seeds)))
        return 0
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # and of all processes that begin here
    python, found = python_of_its_own(), {}
    for name in arguments.peers or PEERS:
        command = [python, Path(__file__), name, "--here", "--seeds", str(arguments.seeds)]
        surroundings = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=surroundings).stdout
        found[name] = json.loads(said.splitlines()[-1])
        print(f"{name}: {said.splitlines()[-1]}", flush=True)
    if not arguments.peers and arguments.seeds == len(SEEDS):
        from cartpole_lessons.study import write_figures

        write_figures("peers", {"cores": 1, "peers": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
