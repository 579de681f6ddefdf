"""States: whatever a training changes is taken as plain data and put back, so that it goes on as if nothing had happened."""

import copy
import os
import random
import threading
from collections import defaultdict, deque, namedtuple
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import always_right, one_sentence

from cartpole_lessons import checkpoints
from cartpole_lessons.checkpoints import load_state, save_state
from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE
from cartpole_lessons.environment import make_env, make_envs
from cartpole_lessons.errors import CheckpointError, InvalidInput
from cartpole_lessons.rollout import StepCollector
from cartpole_lessons.seeding import random_states, seeded, set_random_states
from cartpole_lessons.states import restore, state_of


@pytest.fixture
def through_a_file(tmp_path):
    """`through_a_file(state)`: what comes back of it."""
    return lambda state: load_state(save_state(tmp_path / "it.state", state))


def same(first, second):
    """Whether both are made of the same types, with the same bits."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(map(same, first.values(), second.values()))
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor | np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and bool((first == second).all())
    return first == second


@pytest.mark.parametrize(
    "state",
    [
        None, True, 3, 2**127 + 1, 0.1, float("inf"), "text", "", [], (), {}, [1, (2, [3.5, None])], {"a": {1: (2,)}, 2: []},
        {"dict": 1, "tensor": "array0"}, torch.arange(6.0).view(2, 3), torch.tensor(5), torch.tensor([True]), torch.zeros(0, 3),
        torch.arange(12).view(3, 4).T, np.arange(5, dtype=np.uint32), np.zeros((2, 0)), np.array(2.5), np.float64(0.1), np.float32(0.1),
        np.int64(7), np.bool_(True), np.array(["a", "bc"]),
    ],
    ids=repr,
)  # fmt: skip
def test_data_comes_back_with_its_types_and_bits(through_a_file, state):
    assert same(through_a_file(state), state)


def test_nan_comes_back_too(through_a_file):
    assert np.isnan(through_a_file(float("nan")))


Step = namedtuple("Step", "reward done")
CYCLE = SimpleNamespace()
CYCLE.own = CYCLE


@pytest.mark.parametrize(
    "what",
    [object(), {1, 2}, [print, 1], np.array([object()]), defaultdict(int), Step(1, True), threading.Lock(), open(os.devnull), iter([1])],  # noqa: SIM115
    ids=lambda what: type(what).__name__,
)
def test_an_attribute_that_is_not_data_is_named(what):
    with pytest.raises(CheckpointError) as caught:
        state_of(SimpleNamespace(fine=1, odd=[what]))
    one_sentence(caught.value, "SimpleNamespace.odd", "state_dict()")


def test_an_object_that_holds_itself_is_refused():
    with pytest.raises(CheckpointError) as caught:
        state_of(CYCLE)
    one_sentence(caught.value, "SimpleNamespace")


@pytest.mark.parametrize("what", [1, 1.5, True, None, "text", (1, 2), object(), print, torch.nn.Linear])
def test_what_cannot_change_in_place_is_refused_at_once(what):
    with pytest.raises(InvalidInput) as caught:
        state_of(what)
    one_sentence(caught.value, type(what).__name__, "torch.tensor(0.0)")


def test_a_value_that_no_file_can_hold_is_refused_when_it_is_written(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        save_state(tmp_path / "it.state", {"weights": torch.zeros(2, dtype=torch.bfloat16)})
    one_sentence(caught.value, "state of a training")
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_would_be_too_large_to_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "LARGEST_STATE", 10_000)
    save_state(tmp_path / "it.state", torch.zeros(1_000))
    with pytest.raises(CheckpointError) as caught:
        save_state(tmp_path / "more.state", torch.zeros(3_000))
    one_sentence(caught.value, "keep less")
    assert [path.name for path in tmp_path.iterdir()] == ["it.state"]


class Learner:
    """What a student may write: things in containers, one tensor that two hold, things that only begin to exist later."""

    def __init__(self):
        self.networks = {"actor": torch.nn.Linear(2, 1), "critics": [torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)]}
        self.weights = torch.zeros(2, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.weights], lr=0.1, momentum=0.9)
        self.returns, self.table, self.shape = deque(maxlen=3), {(0, 1): 0.5}, (2, 3)
        self.python, self.torch = random.Random(1), torch.Generator().manual_seed(1)
        self.schedule, self.kind = (lambda step: 1 / step), Learner
        self.rest = SimpleNamespace(count=0, settings={"choose": max, "n": 3})

    def step(self):
        """Some numbers that depend on all of it."""
        self.optimizer.zero_grad()
        (self.weights * torch.rand(2, generator=self.torch)).sum().backward()
        self.optimizer.step()
        with torch.no_grad():
            for network in (self.networks["actor"], *self.networks["critics"]):
                network.weight += self.python.random()
        self.returns.append(self.weights[0].item())
        self.table[len(self.returns), self.rest.count] = self.python.random()
        self.rest.count += self.rest.settings["choose"](1, self.rest.settings["n"])
        return [
            *self.weights.tolist(),
            *self.returns,
            *self.table.items(),
            self.rest.count,
            self.networks["critics"][1].weight.sum().item(),
        ]


@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_learner_of_ones_own_goes_on_from_its_state(through_a_file, before):
    with seeded(0):
        first = Learner()
    second = Learner()
    for _ in range(before):
        first.step()
    state = through_a_file(state_of(first))
    expected = [first.step() for _ in range(3)]
    second.step()
    restore(second, state)
    assert second.optimizer.param_groups[0]["params"][0] is second.weights
    assert second.returns.maxlen == 3
    assert second.schedule(4) == 0.25
    assert [second.step() for _ in range(3)] == expected


def test_a_list_a_dict_and_an_array_are_put_back_in_place(through_a_file):
    for old, new in (([1, (2, 3)], [7]), ({"a": [1]}, {"a": [2], "b": 3}), (np.arange(3.0), np.zeros(3)), (deque([1, 2]), deque())):
        restore(new, through_a_file(state_of(old)))
        assert same(new, old)


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        (lambda: torch.nn.Linear(2, 1), lambda state: state.update(part="Conv2d"), "Conv2d"),
        (lambda: SimpleNamespace(one=np.random.default_rng(0)), lambda state: state["state"].update(one=3), None),
        (lambda: make_envs(num_envs=2, seed=0), lambda state: state["state"].update(step=5), "step"),
        (lambda: make_envs(num_envs=2, seed=0), lambda state: state["state"].update(np_random=5), "np_random"),
        (lambda: np.random.Generator(np.random.MT19937(1)), lambda state: state["state"]["state"].update(pos=2**30), "stands at"),
    ],
)
def test_a_state_that_somebody_has_changed_is_refused(part, change, named):
    state = copy.deepcopy(state_of(part()))
    change(state)
    if named is None:
        return restore(part(), state)  # an attribute may have become a number
    with pytest.raises(ValueError, match=named):
        restore(part(), state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"][0].update(exp_avg=torch.zeros(1)),
        lambda state: state["param_groups"][0].update(lr="fast"),
    ],
)
def test_the_state_of_a_fused_optimizer_that_somebody_has_changed_is_refused(change):
    def learn():
        network = torch.nn.Linear(4, 2)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
        network(torch.ones(4)).sum().backward()
        optimizer.step()
        return optimizer

    state = copy.deepcopy(state_of(learn()))
    restore(learn(), state)
    change(state["state"])
    with pytest.raises(ValueError, match="optimizer"):
        restore(learn(), state)


def test_global_generators_beyond_their_end_are_refused():
    states = random_states()
    name, key, _, *rest = states["numpy"]
    with pytest.raises(ValueError, match="stands at"):
        set_random_states(states | {"numpy": (name, key, 2**30, *rest)})


def test_an_object_is_its_attributes_and_keeps_the_identity_of_its_parts(through_a_file):
    class Memory:
        def __init__(self):
            self.rows, self.pushed, self.generator = torch.zeros(3, 2), 0, np.random.default_rng(1)
            self.network = torch.nn.Linear(2, 1)

    old, new = Memory(), Memory()
    old.rows[1], old.pushed = 7, 5
    old.generator.random(10)
    network, generator = new.network, new.generator
    restore(new, through_a_file(state_of(old)))
    assert torch.equal(new.rows, old.rows)
    assert new.pushed == 5
    assert new.generator is generator
    assert new.generator.random() == old.generator.random()
    assert new.network is network
    assert torch.equal(new.network.weight, old.network.weight)


def test_a_tensor_takes_its_value_in_place():
    due = torch.tensor(0.0)
    restore(due, torch.tensor(2.5))
    assert due.item() == 2.5
    with pytest.raises(ValueError, match="shape"):
        restore(due, torch.zeros(3))


def test_state_dicts_are_asked_for(through_a_file):
    network = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    network(torch.ones(4)).sum().backward()
    optimizer.step()
    state = through_a_file(state_of(optimizer))
    assert same(state, {"part": "Adam", "state": optimizer.state_dict()})
    assert same(through_a_file(state_of(network)), {"part": "Linear", "state": dict(network.state_dict())})


def play(envs, steps, seed):
    """What environments say to `steps` random actions."""
    generator, seen = np.random.default_rng(seed), []
    vector = isinstance(envs, gym.vector.VectorEnv)
    for _ in range(steps):
        box = isinstance(envs.action_space, gym.spaces.Box)
        action = (
            generator.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
            if box
            else generator.integers(0, 2, envs.action_space.shape)
        )
        if not vector and not box:
            action = int(action)
        observation, reward, terminated, truncated, _ = envs.step(action)
        seen.append([np.array(part).tolist() for part in (observation, reward, terminated, truncated)])
        if not vector and (terminated or truncated):
            seen.append(envs.reset()[0].tolist())
    return [*seen, np.array(envs.action_space.sample()).tolist()]


MAKERS = {
    "one": lambda env_id: make_env(env_id, seed=3),
    "vector": lambda env_id: make_envs(env_id, 3, seed=3),
    "sync": lambda env_id: gym.make_vec(env_id, num_envs=2, vectorization_mode="sync"),
    "normalised": lambda env_id: gym.wrappers.NormalizeObservation(make_env(env_id, seed=3)),
    "stacked": lambda env_id: gym.wrappers.FrameStackObservation(make_env(env_id, seed=3), 3),
    "normalised vector": lambda env_id: gym.wrappers.vector.NormalizeObservation(make_envs(env_id, 2, seed=3)),
}


@pytest.mark.parametrize("env_id", ["CartPole-v0", "CartPole-v1", CONTINUOUS_CARTPOLE])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(("steps", "used"), [(0, True), (1, False), (40, True), (210, False)])
def test_an_environment_goes_on_from_its_state(through_a_file, env_id, kind, steps, used):
    first, second = MAKERS[kind](env_id), MAKERS[kind](env_id)
    first.reset(**({"seed": 5} if kind == "sync" else {}))
    play(first, steps, seed=1)
    state = through_a_file(state_of(first))
    expected = play(first, 250, seed=2)
    if used or "sync" in kind:  # Gymnasium's own makes its environments' generators with the first reset
        second.reset()
        play(second, 17, seed=9)
    restore(second, state)
    assert play(second, 250, seed=2) == expected


def test_an_environment_that_was_seeded_only_by_its_reset_goes_on_too(through_a_file):
    for make in (lambda: make_env(), lambda: make_envs(num_envs=2)):
        first, second = make(), make()
        first.reset(seed=1)
        state = through_a_file(state_of(first))
        restore(second, state)
        assert play(second, 100, seed=2) == play(first, 100, seed=2)


def test_environments_in_other_processes_cannot_be_kept():
    envs = gym.make_vec("CartPole-v1", num_envs=1, vectorization_mode="async")
    try:
        with pytest.raises(CheckpointError) as caught:
            state_of(envs)
        one_sentence(caught.value, "AsyncVectorEnv")
    finally:
        envs.close()


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_collector_goes_on_from_its_state(through_a_file, rounds):
    first, second = (StepCollector(make_envs(num_envs=3, seed=4), 7) for _ in range(2))
    for _ in range(rounds):
        first.collect(always_right)
    state = through_a_file(state_of(first))
    expected = [first.collect(always_right) for _ in range(4)]
    restore(second, state)
    for steps in expected:
        same_steps = second.collect(always_right)
        assert same_steps.returns == steps.returns
        assert same_steps.ends == steps.ends
        assert all(
            torch.equal(getattr(same_steps, name), getattr(steps, name)) for name in ("observations", "rewards", "mask", "terminated")
        )


def test_the_global_generators_go_on_too(through_a_file):
    def draw():
        return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()  # noqa: NPY002

    with seeded(7):
        draw()
        states = through_a_file(random_states())
        expected = draw()
        draw()
        set_random_states(states)
        assert draw() == expected
