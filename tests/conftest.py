"""What the tests share: policies whose worth is known, a tiny learner, and stand-ins for slow, random or broken surroundings."""

import contextlib
import csv
import html
import json
import os
import platform
import random
import re
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import hypothesis
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import nn

from cartpole_lessons import display
from cartpole_lessons import training as training_module
from cartpole_lessons._support.files import atomic_write
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.environment import env_spec, make_envs
from cartpole_lessons.evaluation import Evaluation
from cartpole_lessons.hyperparameters import Count, Positive
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import collect_episodes
from cartpole_lessons.training import Run, training

# How long one example takes says more about who else uses the machine than about the code.
FULL = os.environ.get("FAULTS") == "full"  # `FAULTS=full pytest tests` repeats what `make test` does only now and then
hypothesis.settings.register_profile("course", deadline=None, max_examples=100 if FULL else 25)
hypothesis.settings.load_profile("course")

# As `setup()` does it in a lesson; two threads for each of two workers wait for each other more than they compute.
torch.set_num_threads(1)

# A shell starts what runs in the background with Ctrl-C switched off; the tests that press it need it on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Push to where x + 2 x' + 10 theta + 5 theta' points: by hand, and perfect on CartPole-v1.
GOOD_DIRECTION = (0.1, 0.2, 1.0, 0.5)


class LinearPolicy(Policy):
    """Logits of the two pushes, linear in the observation: small enough to write its weights by hand."""

    def __init__(self, angle_scale: float = 5.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 1.0, angle_scale, 1.0]))
        self.layer = nn.Linear(4, 2)

    def forward(self, observations):
        return self.layer(observations * self.scale)

    def actions(self, observations, deterministic):
        logits = self(observations)
        return logits.argmax(-1) if deterministic else torch.multinomial(logits.softmax(-1), 1).squeeze(-1)


def linear_policy(direction):
    """A `LinearPolicy` that pushes right where the observation points along `direction`, left elsewhere."""
    with torch.no_grad(), seeded(0):
        policy = LinearPolicy(angle_scale=1.0)
        policy.layer.weight[:] = torch.tensor([[0.0] * 4, direction])
        policy.layer.bias.zero_()
    return policy


def good_controller(observations):
    """Actions for observations float32 (n, 4), as a plain function: every episode reaches the time limit."""
    return (observations @ np.array(GOOD_DIRECTION) > 0).astype(np.int64)


def always_right(observations):
    """The pole falls to the left within about ten steps."""
    return np.ones(len(observations), dtype=np.int64)


@training("conftest", max_steps=40_000)
def train(
    run: Run,
    *,
    episodes: Count = 8,  # episodes that each update learns from
    learning_rate: Positive = 0.2,  # step size of Adam
    angle_scale: Positive = 5.0,  # factor on the pole's angle
):
    """A learner as the lessons write them: log-probability times normalised return to go."""
    envs = make_envs(run.env_id, episodes, seed=run.seed)
    policy = LinearPolicy(angle_scale)
    optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    while run.goes_on(policy):
        batch = collect_episodes(envs, policy)
        returns = batch.rewards.flip(0).cumsum(0).flip(0)[batch.mask]
        advantages = (returns - returns.mean()) / (returns.std() + 1e-8)
        log_probs = policy(batch.observations[batch.mask]).log_softmax(-1).gather(-1, batch.actions[batch.mask][:, None])[:, 0]
        loss = -(log_probs * advantages).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.record(batch, loss=loss)


def outdated_frames(notebook):
    """Cells whose saved frame holds another cartpole.js than today's."""
    module = html.escape((Path(display.__file__).parent / "widgets" / "cartpole.js").read_text(encoding="utf-8"))
    frames = [
        (cell.id, shown)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "<iframe srcdoc=" in (shown := output.get("data", {}).get("text/html", ""))
    ]
    return [cell for cell, shown in frames if module not in shown]


@pytest.fixture(scope="session")
def trained():
    """One run of the learner, for the tests that only look at a result."""
    return train(seed=3)


def one_sentence(error, *named):
    """The text of `error`, or of a warning, which is one sentence that names all of `named`."""
    text = str(error)
    assert "\n" not in text
    assert text[-1] in ".?", text
    assert re.search(r"[.!?]\)? [A-Z]", text) is None, f"more than one sentence: {text}"
    for part in named:
        assert part in text
    return text


def same_result(first, second):
    """Whether two trainings went the same way, to the same policy."""
    return (
        first.history.to_csv() == second.history.to_csv()
        and all(map(torch.equal, first.policy.state_dict().values(), second.policy.state_dict().values()))
        and first.evaluation.returns.tolist() == second.evaluation.returns.tolist()
    )


def rows_by_name(text):
    """A history's CSV text as {name: [(env step, value), ...]}."""
    rows = {}
    for row in csv.DictReader(text.splitlines()):
        rows.setdefault(row["name"], []).append((row["env_step"], row["value"]))
    return rows


def is_beginning_of(part, whole):
    """Whether each list of the history `part`, as CSV text, is how that of `whole` begins."""
    whole = rows_by_name(whole)
    return all(rows == whole[name][: len(rows)] for name, rows in rows_by_name(part).items())


def surroundings():
    """What the course must leave as it was: global generators, torch's settings, pyplot, and what Ctrl-C does."""
    return {
        "random": random.getstate(),
        "numpy.random": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "torch's generator": torch.get_rng_state().tolist(),
        "torch's threads": torch.get_num_threads(),
        "torch's dtype": torch.get_default_dtype(),
        "torch's device": torch.get_default_device(),
        "torch's precision": torch.get_float32_matmul_precision(),
        "torch's gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "figures": plt.get_fignums(),
        "style": dict(mpl.rcParams),
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
        "environment variables": dict(os.environ),
    }


@contextlib.contextmanager
def global_state_untouched():
    """Put the global generators and torch's threads in a state of our own, and see that the block leaves all surroundings as they are."""
    threads = torch.get_num_threads()
    import_module("torch._dynamo")  # the first training of a process imports it, and it sets a variable of its own
    random.seed(11), np.random.seed(12), torch.manual_seed(13)  # noqa: NPY002
    torch.set_num_threads(2)
    try:
        before = surroundings()
        yield
        after = surroundings()
        assert [name for name in before if after[name] != before[name]] == [], "changed"
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _same_surroundings():
    """Whatever a test did to the environment variables, to torch's threads and to pyplot is undone."""
    variables, threads = dict(os.environ), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(variables)
    plt.close("all")
    plt.rcdefaults()


class ScriptedEvaluations:
    """Stands in for `evaluate` inside a `Run`: answers with the next mean (or raises it), and remembers what it was asked."""

    def __init__(self, means):
        self.means = list(means)
        self.seeds = []
        self.weights = []
        self.was_training = []

    def __call__(self, policy, env_id="CartPole-v1", *, seed):
        self.seeds.append(seed)
        self.weights.append({name: tensor.clone() for name, tensor in policy.state_dict().items()})
        self.was_training.append(policy.training)
        mean = self.means.pop(0) if len(self.means) > 1 else self.means[0]
        if not isinstance(mean, int | float):
            raise mean
        spec = env_spec(env_id)
        return Evaluation(env_id, seed, np.full(100, float(mean)), spec.reward_threshold, spec.max_episode_steps)


@pytest.fixture
def evaluations(monkeypatch):
    """`evaluations(100, 500, ...)`: what the evaluations of the next `Run` say, the last of them again and again."""

    def script(*means):
        scripted = ScriptedEvaluations(means)
        monkeypatch.setattr(training_module, "evaluate", scripted)
        return scripted

    return script


class ScriptedEnvs(VectorEnv):
    """Vector environments whose episodes have lengths that a test chose, NEXT_STEP like Gymnasium's own.

    lengths[i]: of each episode of environment i, in order (the last one repeats); limit: longer ones are cut off there.
    Every real step is worth 1, every reset step 0; the observation counts the steps since the reset.
    """

    def __init__(self, lengths, limit=20):
        self.num_envs = len(lengths)
        self.lengths, self.limit = lengths, limit
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.spec = SimpleNamespace(max_episode_steps=limit)
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed=None, options=None):
        self.episode, self.step_count = [0] * self.num_envs, [0] * self.num_envs
        self.done = [False] * self.num_envs
        return self._observe(), {}

    def step(self, actions):
        rewards, terminated, truncated = np.zeros((3, self.num_envs))
        for i, was_done in enumerate(self.done):
            if was_done:
                self.episode[i] += 1
                self.step_count[i] = 0
                continue
            self.step_count[i] += 1
            rewards[i] = 1
            terminated[i] = self.step_count[i] == self.lengths[i][min(self.episode[i], len(self.lengths[i]) - 1)]
            truncated[i] = self.step_count[i] == self.limit
        self.done = (terminated + truncated).astype(bool)
        return self._observe(), rewards, terminated.astype(bool), truncated.astype(bool), {}

    def _observe(self):
        return np.repeat(np.array(self.step_count, dtype=np.float32)[:, None], 4, axis=1)


@pytest.fixture
def missing(monkeypatch):
    """`missing("pygame")`: as if that module were not installed; `missing(program="Xvfb")`: as if no program were."""

    def make_missing(*modules, program=None):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        if program is not None:
            monkeypatch.setenv("PATH", "")

    return make_missing


@pytest.fixture
def no_screen(monkeypatch):
    """A machine without a display, as Colab, Binder and CI are."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(display, "has_display", lambda: bool(os.environ.get("DISPLAY")))


@pytest.fixture
def unwritable(tmp_path):
    """A folder that cannot be made nor written, for root neither: its parent is a file."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


@contextlib.contextmanager
def full_disk(free_bytes):
    """No file grows beyond `free_bytes` inside the block, neither ours nor those of programs that we start."""
    resource = pytest.importorskip("resource", reason="a full disk is imitated with POSIX file size limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Kernel:
    """A real Jupyter kernel, in which `run` executes a cell as a front end would."""

    TIMEOUT = 60

    def __init__(self):
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")
        self.run(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})")

    def run(self, code, *, watched=True, interrupt_at=None):
        """The output messages of the cell `code`; `interrupt_at`: press stop when this text has been printed.

        watched: True as JupyterLab does it, False as nbclient, nbconvert and nbval do.
        """
        request = self.client.execute(code, allow_stdin=watched)
        messages = []
        while not messages or messages[-1]["content"].get("execution_state") != "idle":
            message = self.client.get_iopub_msg(timeout=self.TIMEOUT)
            if message["parent_header"].get("msg_id") != request:
                continue
            messages.append(message)
            if interrupt_at is not None and interrupt_at in message["content"].get("text", ""):
                self.manager.interrupt_kernel()
                interrupt_at = None
        return messages

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def printed(messages, name="stdout"):
    """What the messages of a cell print on `name`."""
    return "".join(
        message["content"]["text"] for message in messages if message["msg_type"] == "stream" and message["content"]["name"] == name
    )


@pytest.fixture(scope="session")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.close()


def write_reliability_figures(measured):
    """Put these figures among those that the README's table is made of; others stay."""
    file = Path(__file__).resolve().parent.parent / "cartpole_lessons" / "results" / "reliability.json"
    before = json.loads(file.read_text(encoding="utf-8"))["figures"] if file.exists() else {}
    machine = {"system": platform.system(), "python": platform.python_version()}
    content = {"machine": machine, "figures": dict(sorted((before | measured).items()))}
    with atomic_write(file) as opened:
        opened.write((json.dumps(content, indent=1) + "\n").encode())
