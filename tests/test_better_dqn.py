"""Lesson 07: n-step windows against a slow version, double targets by hand, the dueling network, and that it learns."""

import pytest
import torch
from conftest import one_sentence
from hypothesis import given
from hypothesis import strategies as st
from test_dqn import constant_network, numbered, one_environment

from cartpole_lessons.algorithms import better_dqn, dqn
from cartpole_lessons.environment import make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.rollout import StepCollector


def slow_window(steps, start, n, discount):
    """Reward, discount and next observation of the window of one environment that begins at `start`."""
    total = 0.0
    for k in range(n):
        total += discount**k * steps.rewards[start + k].item()
        if steps.terminated[start + k]:
            return total, 0.0, start + k + 1
        if steps.truncated[start + k] or start + k + 1 == len(steps.rewards):
            break
    return total, discount ** (k + 1), start + k + 1


@given(st.lists(st.sampled_from(["goes on", "goes on", "terminated", "truncated"]), min_size=1, max_size=12), st.integers(1, 6))
def test_windows_equal_the_slow_version_and_never_cross_an_episodes_end(ends, n):
    # After an end comes a reset step, which no window may hold.
    kinds = [kind for end in ends for kind in ([end] if end == "goes on" else [end, "reset"])]
    steps = one_environment(
        [0.0 if kind == "reset" else 1.0 + i for i, kind in enumerate(kinds)],
        [kind == "terminated" for kind in kinds],
        [kind == "truncated" for kind in kinds],
        [kind != "reset" for kind in kinds],
    )
    windows = better_dqn.n_step_transitions(steps, n, discount=0.9)
    wanted = [slow_window(steps, start, n, 0.9) for start, kind in enumerate(kinds) if kind != "reset"]
    rewards, discounts, reached = map(list, zip(*wanted, strict=True))
    torch.testing.assert_close(windows.rewards, torch.tensor(rewards))
    torch.testing.assert_close(windows.discounts, torch.tensor(discounts))
    assert windows.next_observations[:, 0].tolist() == reached


def test_windows_of_one_step_are_the_transitions_of_lesson_06():
    steps = StepCollector(make_envs(num_envs=4, seed=0), 64).collect(dqn.QNetwork())
    assert not steps.mask.all()
    for ours, theirs in zip(better_dqn.n_step_transitions(steps, 1, 0.99), dqn.transitions(steps, 0.99), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_environments_do_not_mix():
    together = StepCollector(make_envs(num_envs=3, seed=0), 40).collect(dqn.QNetwork())
    windows = better_dqn.n_step_transitions(together, 5, 0.9)
    tensors = {name: value for name, value in vars(together).items() if isinstance(value, torch.Tensor)}
    for env in range(3):
        alone = type(together)(**{name: value[:, env : env + 1] for name, value in tensors.items()}, returns=[], ends=[])
        mine = torch.arange(3).expand_as(together.mask)[together.mask] == env
        for all_of_them, its_own in zip(windows, better_dqn.n_step_transitions(alone, 5, 0.9), strict=True):
            torch.testing.assert_close(all_of_them[mine], its_own)


def test_double_targets_take_the_choice_from_one_network_and_the_value_from_the_other():
    batch = numbered(0, 2)._replace(rewards=torch.ones(2), discounts=torch.tensor([0.5, 0.0]))
    chooses_the_second, says = constant_network(0.0, 1.0), constant_network(100.0, 8.0)
    assert better_dqn.double_targets(batch, chooses_the_second, says).tolist() == [5.0, 1.0]
    assert dqn.td_targets(batch, says).tolist() == [51.0, 1.0]
    assert not better_dqn.double_targets(batch, better_dqn.QNetwork(), says).requires_grad


@pytest.mark.parametrize("dueling", [True, False])
def test_values_start_where_asked(dueling):
    torch.manual_seed(0)
    values = better_dqn.QNetwork(dueling=dueling, start_value=100.0)(torch.randn(50, 4))
    assert values.shape == (50, 2)
    assert (values - 100).abs().mean() < 10


def test_the_mean_of_dueling_values_is_the_networks_word_for_the_state():
    network = better_dqn.QNetwork(start_value=0.0)
    observations = torch.randn(10, 4)
    outputs = network.layers(observations * network.scale)
    torch.testing.assert_close(network(observations).mean(-1), 10 * outputs[:, 0])
    gap = network(observations)[:, 1] - network(observations)[:, 0]
    torch.testing.assert_close(gap, 10 * (outputs[:, 2] - outputs[:, 1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("env_steps", "returns", "expected"),
    [
        (0, [], 0.1),  # nothing has ended yet
        (0, [0.0, 0.0], 0.1),
        (500, [], 0.05),
        (500, [10.0, 40.0], 0.05 * 0.75),
        (500, [100.0], 0.01),  # nothing left to gain
        (1_000, [10.0], 0.01),
        (5_000, [10.0], 0.01),
        (0, [-200.0], 0.1),  # an environment that punishes: no more than the start
    ],
)
def test_the_learning_rate_falls_with_the_steps_and_with_what_is_left_to_gain(env_steps, returns, expected):
    rate = better_dqn.learning_rate_at(env_steps, returns, start=0.1, end=0.01, steps=1_000, limit=100)
    assert rate == pytest.approx(expected)


def test_the_policy_returned_is_the_average(monkeypatch):
    rates = []
    original = better_dqn.soft_update
    monkeypatch.setattr(better_dqn, "soft_update", lambda slow, fast, rate: rates.append((slow, rate)) or original(slow, fast, rate))
    result = better_dqn.train(seed=0, max_steps=1_000, average_rate=0.2, target_rate=0.7)
    assert {rate for network, rate in rates if network is result.policy} == {0.2}
    assert {rate for network, rate in rates if network is not result.policy} == {0.7}


def test_training_anneals_its_learning_rate(monkeypatch):
    rates = []
    original = better_dqn.update
    monkeypatch.setattr(
        better_dqn, "update", lambda net, optimizer, *rest: rates.append(optimizer.param_groups[0]["lr"]) or original(net, optimizer, *rest)
    )
    settings = {"annealing_steps": 1_000, "learning_rate": 0.1, "final_learning_rate": 0.01}
    better_dqn.train(seed=0, max_steps=1_500, learning_starts=1, batch_size=8, hidden=8, **settings)
    assert (rates[0], rates[-1]) == (0.1, 0.01)
    assert rates[len(rates) // 3] < 0.1


@pytest.mark.parametrize("change", [{"double": False}, {"dueling": False}, {"n_steps": 1}, {"start_value": 0.0}])
def test_every_cure_can_be_taken_out_alone(change):
    whole, without = (better_dqn.train(seed=2, max_steps=700, hidden=16, **keywords) for keywords in ({}, change))
    assert without.history.losses[0] != whole.history.losses[0]


def test_windows_of_no_steps_get_one_sentence():
    with pytest.raises(InvalidInput) as caught:
        better_dqn.n_step_transitions(one_environment([1], [0], [0]), 0, 0.9)
    one_sentence(caught.value, "n_steps=0")
