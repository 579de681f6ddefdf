"""Lesson 06: the replay memory against a deque, transitions and targets by hand, exploration, and that it learns."""

import copy
from collections import deque

import hypothesis.strategies as st
import pytest
import torch
from conftest import one_sentence
from hypothesis import given

from cartpole_lessons.algorithms import dqn
from cartpole_lessons.environment import make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.plots import draw_fields
from cartpole_lessons.rollout import StepCollector, Steps


def numbered(first, count):
    """Transitions whose every field tells the number of the transition it belongs to."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return dqn.Transition(
        observations=numbers[:, None] + torch.tensor([0.0, 0.1, 0.2, 0.3]),
        actions=numbers.long() % 2,
        rewards=numbers + 0.4,
        next_observations=numbers[:, None] + torch.tensor([0.5, 0.6, 0.7, 0.8]),
        discounts=numbers + 0.9,
    )


def constant_network(*values):
    """A Q-network that says these values of every state."""
    network = dqn.QNetwork(hidden=4, start_value=0.0)
    for weights in network.parameters():
        torch.nn.init.zeros_(weights)
    network.layers[-1].bias.data = torch.tensor(values) / 10  # the network's scale
    return network


@given(st.integers(1, 20), st.lists(st.integers(0, 30), max_size=12))
def test_memory_holds_what_a_deque_of_its_capacity_holds(capacity, sizes):
    memory, readable, first = dqn.ReplayMemory(capacity), deque(maxlen=capacity), 0
    for size in sizes:
        memory.push(numbered(first, size))
        readable.extend(range(first, first + size))
        first += size
        assert len(memory) == len(readable)
        assert sorted(memory.fields.observations[: len(memory), 0].tolist()) == [float(number) for number in readable]


@given(st.integers(1, 20), st.integers(1, 60))
def test_samples_come_from_the_memory_and_their_fields_belong_together(capacity, pushed):
    memory = dqn.ReplayMemory(capacity)
    for first in range(0, pushed, 7):
        memory.push(numbered(first, min(7, pushed - first)))
    batch = memory.sample(len(memory))
    numbers = batch.observations[:, 0].round().long()
    assert set(numbers.tolist()) <= set(range(max(0, pushed - capacity), pushed))
    for field, wanted in zip(batch, dqn.Transition(*(part[numbers] for part in numbered(0, pushed))), strict=True):
        torch.testing.assert_close(field, wanted)
        assert field.dtype == wanted.dtype


def test_a_memory_of_one_remembers_the_last():
    memory = dqn.ReplayMemory(1)
    memory.push(numbered(0, 5))
    memory.push(numbered(5, 1))
    assert len(memory) == 1
    assert memory.sample(1).rewards.item() == pytest.approx(5.4)


def test_every_transition_is_drawn_about_equally_often():
    torch.manual_seed(0)
    memory = dqn.ReplayMemory(10)
    memory.push(numbered(0, 25))
    drawn = torch.cat([memory.sample(10).observations[:, 0] for _ in range(1_000)])
    counts = drawn.unique(return_counts=True)[1]
    assert len(counts) == 10
    assert counts.min() > 850  # 1,000 each, standard deviation 30
    assert counts.max() < 1_150


@pytest.mark.parametrize("content", [0, 3])
def test_a_batch_larger_than_the_content_gets_one_sentence(content):
    memory = dqn.ReplayMemory(100)
    memory.push(numbered(0, content))
    with pytest.raises(InvalidInput, match=f"holds {content} transitions, fewer than a batch of 4"):
        memory.sample(4)


def one_environment(rewards, terminated, truncated, mask=None):
    """Steps of one environment whose observations are numbered."""
    length = len(rewards)
    column = lambda values, dtype: torch.tensor(values, dtype=dtype)[:, None]  # noqa: E731
    return Steps(
        observations=torch.arange(length + 1.0)[:, None, None].expand(length + 1, 1, 4),
        actions=torch.arange(length)[:, None] % 2,
        rewards=column(rewards, torch.float32),
        terminated=column(terminated, torch.bool),
        truncated=column(truncated, torch.bool),
        mask=column(mask or [True] * length, torch.bool),
        returns=[],
        ends=[],
    )


def test_terminated_steps_have_no_future_and_truncated_ones_do():
    batch = dqn.transitions(one_environment([1, 1, 1], [0, 1, 0], [0, 0, 1]), discount=0.9)
    torch.testing.assert_close(batch.discounts, torch.tensor([0.9, 0.0, 0.9]))


def test_transitions_lead_to_what_followed_and_leave_out_reset_steps():
    batch = dqn.transitions(one_environment([1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [True, True, False, True]), discount=0.9)
    assert batch.observations[:, 0].tolist() == [0, 1, 3]
    assert batch.next_observations[:, 0].tolist() == [1, 2, 4]
    assert batch.actions.tolist() == [0, 1, 1]


def test_targets_by_hand():
    batch = numbered(0, 3)._replace(rewards=torch.tensor([1.0, 1.0, 0.0]), discounts=torch.tensor([0.5, 0.0, 0.25]))
    torch.testing.assert_close(dqn.td_targets(batch, constant_network(8.0, 20.0)), torch.tensor([11.0, 1.0, 5.0]))


def test_epsilon_at_its_ends():
    assert dqn.epsilon_at(0, start=0.9, end=0.05, decay=1_000) == 0.9
    assert dqn.epsilon_at(10**6, start=0.9, end=0.05, decay=1_000) == pytest.approx(0.05)
    assert dqn.epsilon_at(1_000, start=1.0, end=0.0, decay=1_000) == pytest.approx(0.3679, abs=1e-4)


def test_an_update_moves_the_chosen_values_towards_the_targets_and_leaves_the_target_network_alone():
    torch.manual_seed(0)
    network = dqn.QNetwork(hidden=16, start_value=0.0)
    target = copy.deepcopy(network).requires_grad_(False)
    before = copy.deepcopy(target.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    batch = numbered(0, 8)._replace(rewards=torch.ones(8), discounts=torch.full((8,), 0.5))
    targets = dqn.td_targets(batch, target)
    assert not targets.requires_grad
    losses = [dqn.update(network, optimizer, batch, targets).item() for _ in range(50)]
    assert losses[-1] < losses[0] / 5
    assert all(torch.equal(before[name], weights) for name, weights in target.state_dict().items())
    assert all(weights.grad is None for weights in target.parameters())


def test_only_the_push_that_was_made_is_learned():
    network = constant_network(0.0, 0.0)
    batch = numbered(0, 4)._replace(actions=torch.ones(4, dtype=torch.long))
    dqn.update(network, torch.optim.SGD(network.parameters(), lr=0.1), batch, torch.full((4,), 3.0))
    assert network.layers[-1].bias.grad[0] == 0
    assert network.layers[-1].bias[1] > 0


def test_soft_update_moves_by_its_share():
    target, network = constant_network(0.0, 10.0), constant_network(1.0, 20.0)
    dqn.soft_update(target, network, rate=0.25)
    torch.testing.assert_close(target(torch.zeros(4)), torch.tensor([0.25, 12.5]))
    dqn.soft_update(target, network, rate=1.0)
    assert all(torch.equal(slow, fast) for slow, fast in zip(target.parameters(), network.parameters(), strict=True))


def test_nothing_is_learned_before_learning_starts():
    result = dqn.train(seed=0, max_steps=400, learning_starts=500)
    assert result.history.losses == []


def test_steps_of_a_real_environment_become_as_many_transitions():
    steps = StepCollector(make_envs(num_envs=4, seed=0), 64).collect(dqn.QNetwork())
    assert not steps.mask.all()
    assert {len(field) for field in dqn.transitions(steps, 0.99)} == {steps.env_steps}


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_a_share_of_epsilon_of_the_pushes_is_random(epsilon):
    torch.manual_seed(0)
    network = constant_network(0.0, 1.0)
    pushes = network.act(torch.zeros(20_000, 4), deterministic=False, epsilon=epsilon)
    assert (pushes == 0).float().mean().item() == pytest.approx(epsilon / 2, abs=0.015)  # half of the random ones hit the other push
    assert (network.act(torch.zeros(100, 4), epsilon=epsilon) == 1).all()


@pytest.mark.parametrize("updates_per_step", [0.125, 0.5])
def test_there_are_as_many_updates_as_asked_for(monkeypatch, updates_per_step):
    updates = []
    original = dqn.update
    monkeypatch.setattr(dqn, "update", lambda *arguments: updates.append(1) or original(*arguments))
    result = dqn.train(seed=0, max_steps=900, learning_starts=1, batch_size=8, hidden=8, updates_per_step=updates_per_step)
    assert len(updates) == pytest.approx(updates_per_step * result.env_steps, abs=1)


def test_a_training_whose_batches_are_larger_than_what_there_is_gets_one_sentence():
    with pytest.raises(InvalidInput) as caught:
        dqn.train(learning_starts=500, batch_size=600)
    one_sentence(caught.value, "batch of 600")


def test_a_drawn_batch_shows_every_number_and_the_shape_of_every_field():
    ax = draw_fields({"observations": torch.tensor([[1.5, 2.0], [3.0, 4.0]]), "next": [torch.tensor(5), None]}, framed="rows")
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["1.5", "2", "3", "4", "observations", "(2, 2)", "5", "next", "2 of ()"]
