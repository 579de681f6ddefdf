"""States: whatever a training changes is taken as plain data and put back, so that it goes on as if nothing had happened."""

from collections import OrderedDict, deque
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import always_right, one_sentence

from cartpole_lessons.checkpoints import load_state, save_state
from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE
from cartpole_lessons.environment import make_env, make_envs
from cartpole_lessons.errors import CheckpointError
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


@pytest.mark.parametrize("what", [object(), {1, 2}, deque([1]), print, np.array([object()])], ids=lambda what: type(what).__name__)
def test_an_attribute_that_is_not_data_is_named(what):
    with pytest.raises(CheckpointError) as caught:
        state_of(SimpleNamespace(fine=1, odd=[what]))
    one_sentence(caught.value, "SimpleNamespace.odd", "state_dict()")


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
    assert same(state, dict(optimizer.state_dict()))
    assert isinstance(through_a_file(state_of(network)), dict)
    assert same(through_a_file(OrderedDict(a=1)), {"a": 1})


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
}


@pytest.mark.parametrize("env_id", ["CartPole-v0", "CartPole-v1", CONTINUOUS_CARTPOLE])
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("steps", [0, 1, 40, 210])
def test_an_environment_goes_on_from_its_state(through_a_file, env_id, kind, steps):
    first, second = MAKERS[kind](env_id), MAKERS[kind](env_id)
    for envs in (first, second):
        envs.reset(**({"seed": 5} if kind == "sync" else {}))
    play(first, steps, seed=1)
    state = through_a_file(state_of(first))
    expected = play(first, 250, seed=2)
    play(second, 17, seed=9)
    restore(second, state)
    assert play(second, 250, seed=2) == expected


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
    import random

    def draw():
        return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()  # noqa: NPY002

    with seeded(7):
        draw()
        states = through_a_file(random_states())
        expected = draw()
        draw()
        set_random_states(states)
        assert draw() == expected
