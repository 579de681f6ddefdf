"""PPO of the course beside that of other libraries, on one core, with the course's settings and its rule for stopping.

    python benchmarks/peers.py             # about ten minutes, after an installation of a few gigabytes
    python benchmarks/peers.py rejax       # one of them alone; nothing is published

It makes an environment of its own in build/peers/, with Stable-Baselines3, with sbx (the same in JAX) and with rejax (trainings compiled
by JAX). Each has a process, all are kept to one core, and they take turns, seed by seed, so that what else the machine does slows all of
them. CleanRL is not among them: since 0.5 its releases refuse Python 3.11, and older ones need Gym.

Held equal: the settings of lesson 05 as far as a library can be told them, the angle multiplied by 5, about 1,000 steps between
evaluations of 100 greedy episodes, and the rule: a training stops when an evaluation is perfect, all 100 episodes at the time limit, and
so is a second one on fresh episodes (more than being solved, which is a mean of 475); a third judges the result. Not equal:
how weights are drawn; the others normalise advantages in each minibatch; sbx compiles anew for every training, and JAX keeps nothing
that it compiled for the next process; rejax takes the end of a long episode for a fall, clips its critic, and plays its own CartPole,
inside of what is compiled.

CPU seconds are those of the process. Importing is that of the library alone. Compiling is all that comes between that and a training, and
what a first short training takes longer than its repetitions: with torch, what it imports late. Writes cartpole_lessons/results/peers.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "peers"
PINNED = ["stable-baselines3==2.9.2", "sbx-rl==0.28.0", "rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2", "flax==0.12.8", "optax==0.2.8"]
PINNED += ["torch==2.13.0", "gymnasium==1.3.0", "numpy==2.4.6"]
#: What the course itself needs beside them.
NEEDED = ["matplotlib", "scipy", "pillow", "imageio-ffmpeg", "tqdm", "ipython", "anywidget", "joblib"]
#: Settings were chosen with seeds 0 to 99.
SEEDS = range(1_000, 1_010)
TOGETHER = 100
MOST_STEPS, MOST_TOGETHER = 200_000, 30_000
#: Steps of a training that is over after its first evaluation, with which compiling is measured.
A_LITTLE = 1_000

#: (seed, or how many of them; most steps) -> `figures`.
Train = Callable[[int, int], dict]


def figures(stopped: int, env_steps: int, cpu_seconds: float, evaluating: float) -> dict:
    """Of one training, or of several: how many were stopped by the rule, and their CPU seconds, also without evaluations."""
    seconds = {"cpu_seconds": round(cpu_seconds, 3), "training_seconds": round(cpu_seconds - evaluating, 3)}
    return {"stopped": stopped, "env_steps": env_steps} | seconds


def timed(train: Callable[[int, int], list]) -> Train:
    """The same for trainings that return the course's results. One thread computes: a share of seconds is that share of CPU seconds."""

    def measured(seeds: int, most: int) -> dict:
        started, results = time.process_time(), train(seeds, most)
        cpu_seconds = time.process_time() - started
        share = sum(result.evaluation_seconds for result in results) / sum(result.seconds for result in results)
        stopped = sum(result.env_steps < most for result in results)
        return figures(stopped, sum(result.env_steps for result in results), cpu_seconds, share * cpu_seconds)

    return measured


def course() -> tuple[Train, Train]:
    """Trainings of lesson 05: of a seed alone, and of so many side by side."""
    from cartpole_lessons.algorithms import ppo

    def together(seeds: int, most: int) -> list:
        from cartpole_lessons.study.stacked import train_stacked

        return [result for _, result in train_stacked("ppo", range(SEEDS[0], SEEDS[0] + seeds), max_steps=most)]

    return timed(lambda seed, most: [ppo.train(seed=seed, max_steps=most)]), timed(together)


def stable_baselines3() -> tuple[Train, None]:
    """Trainings as in the comparison with Stable-Baselines3, on "the course's settings"."""
    from against_stable_baselines3 import train_theirs

    return timed(lambda seed, most: [train_theirs("ppo", seed, "same", most)]), None


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

    def one(seed: int, most: int) -> list:
        with Run("sbx PPO", seed=seed, max_steps=most) as run:
            envs = make_vec_env("CartPole-v1", n_envs=num_envs, seed=seed, wrapper_class=scaled)
            model = PPO("MlpPolicy", envs, seed=seed, **settings | {"policy_kwargs": networks})
            policy = TheirPolicy(model.policy)
            run.goes_on(policy)
            model.learn(most, callback=StopLikeTheCourse(run, policy))
        return [run.result]

    return timed(one), None


def rejax() -> tuple[Train, Train]:
    """Four updates are one compiled call, an evaluation is another, and `vmap` makes either that of many seeds."""
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
    batch, chunk, env = num_envs * settings["n_steps"], 1_024, Scaled()
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
    ).replace(eval_callback=lambda *_: ())

    def learn(state):
        return algorithm.train(train_state=state)[0]

    def perfect(weights, key, number):
        def greedy(observation, _):
            return jnp.argmax(algorithm.actor.apply(weights, observation[None], method="_action_dist").logits[0])

        return (evaluate(greedy, jax.random.fold_in(key, number), env, algorithm.env_params, 100, 500)[0] == 500).all()

    alone = [jax.jit(each) for each in (algorithm.init_state, learn, perfect)]
    side_by_side = [jax.jit(jax.vmap(*each)) for each in ((algorithm.init_state,), (learn,), (perfect, (0, 0, None)))]

    def trained(compiled: list, keys, evaluation_keys, seeds: int, most: int) -> dict:
        start, go_on, ask = compiled
        started, evaluating, steps, all_steps, left = time.process_time(), 0.0, 0, 0, set(range(seeds))
        state = start(keys)
        while left and steps < most:  # who is done goes on computing: a compiled stack cannot be left
            state, steps, all_steps = jax.block_until_ready(go_on(state)), steps + chunk, all_steps + chunk * len(left)
            asked, weights = time.process_time(), state.actor_ts.params
            verdicts = ask(weights, evaluation_keys, steps).reshape(seeds).tolist()
            for place in [place for place in left if verdicts[place]]:
                key, its = evaluation_keys, weights
                if ask is not alone[2]:
                    key, its = key[place], jax.tree.map(lambda leaf, place=place: leaf[place], weights)
                if alone[2](its, key, steps + 1):
                    alone[2](its, key, steps + 2).block_until_ready()  # as the course judges its result
                    left.remove(place)
            evaluating += time.process_time() - asked
        return figures(seeds - len(left), all_steps, time.process_time() - started, evaluating)

    def one(seed: int, most: int) -> dict:
        return trained(alone, *jax.random.split(jax.random.key(seed)), 1, most)

    def together(seeds: int, most: int) -> dict:
        return trained(side_by_side, *jax.random.split(jax.random.key(SEEDS[0]), (2, seeds)), seeds, most)

    return one, together


STACKED = ("course", "rejax")
#: Trainings with each, its distribution, what a user of it imports, and what this benchmark alone needs beside that: nobody's seconds.
PEERS = {
    "course": (course, "torch", "cartpole_lessons.algorithms.ppo", []),
    "stable_baselines3": (stable_baselines3, "stable-baselines3", "stable_baselines3", ["against_stable_baselines3"]),
    "sbx": (sbx, "sbx-rl", "sbx", ["against_stable_baselines3", "torch._dynamo"]),
    "rejax": (rejax, "rejax", "rejax", ["against_stable_baselines3"]),
}


def answer(name: str) -> None:
    """In a process of its own: say what it takes to begin, then train as each line of standard input asks, [alone, seed or how many, most]."""
    answers, sys.stdout = sys.stdout, sys.stderr
    trainings, distribution, module, aside = PEERS[name]
    import_module(module)
    importing = time.process_time()
    for module in aside:
        import_module(module)
    started = time.process_time()
    one, together = trainings()
    one(SEEDS[0] - 1, A_LITTLE)
    compiling = time.process_time() - started - statistics.median(one(SEEDS[0] - 1, A_LITTLE)["cpu_seconds"] for _ in range(3))
    begun = {"version": metadata.version(distribution), "importing": round(importing, 2), "compiling": round(compiling, 2)}
    print(json.dumps(begun), file=answers, flush=True)
    for line in sys.stdin:
        alone, *asked = json.loads(line)
        print(json.dumps((one if alone else together)(*asked)), file=answers, flush=True)


def python_of_its_own() -> Path:
    """The environment with all of them, made where it is not there."""
    python = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done, wanted = FOLDER / "installed.txt", " ".join(PINNED + NEEDED)
    if not done.exists() or done.read_text() != wanted:
        venv.create(FOLDER, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", *PINNED, *NEEDED], check=True)
        done.write_text(wanted)
    return python


def compare(names: list[str], seeds: int) -> dict:
    """Per library its version, what it takes to begin, its `figures` of each seed, and of `TOGETHER` seeds side by side. They take turns."""
    python, found = python_of_its_own(), {}
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    with ExitStack() as processes:

        def ask(name: str, *question: int) -> dict:
            if question:
                print(json.dumps(question), file=asked[name].stdin, flush=True)
            said = asked[name].stdout.readline() or sys.exit(f"{name} has ended early: what it said last stands above.")
            print(f"{name} {list(question)}: {said.strip()}", flush=True)
            return json.loads(said)

        asked = {}
        for name in names:
            command = [python, __file__, name, "--answer"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings)
            asked[name] = processes.enter_context(process)
            found[name] = ask(name) | {"runs": []}
        for seed in SEEDS[:seeds]:
            for name in names:
                found[name]["runs"].append({"seed": seed} | ask(name, 1, seed, MOST_STEPS))
        for name in names:
            if name in STACKED:
                cold, warm = (ask(name, 0, TOGETHER, 1)["cpu_seconds"] for _ in range(2))  # this size is compiled, too
                found[name]["together"] = ask(name, 0, TOGETHER, MOST_TOGETHER) | {
                    "seeds": TOGETHER,
                    "compiling": max(0, round(cold - warm, 2)),
                }
            asked[name].stdin.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"which of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help=f"how many of seeds {SEEDS[0]} to {SEEDS[-1]}")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if set(arguments.peers) - set(PEERS) or not 1 <= arguments.seeds <= len(SEEDS):
        parser.error(f"peers are {', '.join(PEERS)}, and --seeds is 1 to {len(SEEDS)}")
    if arguments.answer:
        answer(*arguments.peers)
        return 0
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # and of all processes that begin here
    found = compare(arguments.peers or list(PEERS), arguments.seeds)
    if not arguments.peers and arguments.seeds == len(SEEDS):
        from cartpole_lessons.study import write_figures

        here = {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version(), "installed": PINNED}
        write_figures("peers", {"cores": 1, "machine": here, "peers": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
