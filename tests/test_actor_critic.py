"""Lesson 04's exported algorithm: n-step returns against a slow, obvious version, and masks."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from cartpole_lessons.algorithms import actor_critic
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork
from cartpole_lessons.environment import make_envs
from cartpole_lessons.rollout import StepCollector

DISCOUNT = 0.9


@st.composite
def rollouts(draw):
    """Rewards, values (one more), terminated, truncated: (T, n), with ends anywhere, both kinds never in one step."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 3)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    how = torch.rand(shape, generator=generator)
    values = 5 * torch.randn(shape[0] + 1, shape[1], generator=generator)
    return torch.randn(shape, generator=generator), values, how < 0.2, how > 0.8


def slow_n_step_return(rewards, next_values, terminated, truncated, discount):
    """Of one environment, step by step, as the lesson's table says it."""
    total, weight = 0.0, 1.0
    for reward, next_value, ended, cut_off in zip(rewards, next_values, terminated, truncated, strict=True):
        total += weight * reward
        weight *= discount
        if ended:
            return total
        with_bootstrap = total + weight * next_value
        if cut_off:
            break
    return with_bootstrap


@given(rollouts())
def test_n_step_returns_equal_the_slow_version(rollout):
    rewards, values, terminated, truncated = rollout
    fast = actor_critic.n_step_returns(rewards, values[1:], terminated, truncated, DISCOUNT)
    for step in range(len(rewards)):
        for env in range(rewards.shape[1]):
            columns = [part[step:, env].tolist() for part in (rewards, values[1:], terminated, truncated)]
            assert fast[step, env].item() == pytest.approx(slow_n_step_return(*columns, DISCOUNT), rel=1e-4, abs=1e-4)


def test_terminated_steps_do_not_bootstrap():
    ones, value = torch.ones(1, 1), torch.full((1, 1), 100.0)
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    assert actor_critic.n_step_returns(ones, value, yes, no, DISCOUNT).item() == 1


def test_truncated_episodes_bootstrap_from_the_last_observation():
    rewards, next_values = torch.ones(3, 1), torch.tensor([[7.0], [100.0], [7.0]])
    cut_off = torch.tensor([[False], [True], [False]])
    returns = actor_critic.n_step_returns(rewards, next_values, torch.zeros_like(cut_off), cut_off, DISCOUNT)
    assert returns[1].item() == pytest.approx(1 + DISCOUNT * 100)
    assert returns[0].item() == pytest.approx(1 + DISCOUNT * returns[1].item())


def test_the_last_step_of_a_batch_bootstraps():
    no = torch.zeros(1, 1, dtype=torch.bool)
    returns = actor_critic.n_step_returns(torch.ones(1, 1), torch.full((1, 1), 100.0), no, no, DISCOUNT)
    assert returns.item() == pytest.approx(1 + DISCOUNT * 100)


def test_reset_steps_have_no_part_in_an_update(monkeypatch):
    torch.manual_seed(0)
    actor, critic = PolicyNetwork(), actor_critic.Critic()
    steps = StepCollector(make_envs(num_envs=4, seed=0), 64).collect(actor)
    assert not steps.mask.all()
    seen = []
    original = actor_critic.policy_loss
    monkeypatch.setattr(actor_critic, "policy_loss", lambda *parts: seen.append(len(parts[0])) or original(*parts))
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.0)
    actor_critic.update(actor, critic, optimizer, steps, discount=DISCOUNT)
    assert seen == [steps.env_steps]


def test_entropy_is_log_2_when_undecided_and_0_when_certain():
    assert actor_critic.mean_entropy(torch.zeros(5, 2)).item() == pytest.approx(torch.log(torch.tensor(2.0)).item())
    assert actor_critic.mean_entropy(torch.tensor([[50.0, -50.0]])).item() == pytest.approx(0, abs=1e-6)


def test_each_network_learns_from_its_own_loss_only(monkeypatch):
    torch.manual_seed(0)
    actor, critic = PolicyNetwork(), actor_critic.Critic()
    steps = StepCollector(make_envs(num_envs=2, seed=0), 32).collect(actor)
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.1)
    before = [weights.clone() for weights in critic.parameters()]
    # Without a loss of its own, the critic gets no gradient from the actor's.
    monkeypatch.setattr(actor_critic, "mse_loss", lambda values, returns: torch.zeros(()))
    actor_critic.update(actor, critic, optimizer, steps, discount=DISCOUNT)
    assert all(torch.equal(old, new) for old, new in zip(before, critic.parameters(), strict=True))
