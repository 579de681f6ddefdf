"""Lesson 05's exported algorithm: GAE and the clipped objective against slow, obvious versions."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from test_actor_critic import rollouts

from cartpole_lessons.algorithms import actor_critic, ppo
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork, log_probs_of, normalise, policy_loss
from cartpole_lessons.environment import make_envs
from cartpole_lessons.rollout import StepCollector

DISCOUNT = 0.9


def slow_gae(rewards, values, terminated, truncated, discount, gae_lambda):
    """Of one environment and its first step: the sum of the definition, which stops where the episode ends."""
    total = 0.0
    for step, reward in enumerate(rewards):
        bootstrap = 0.0 if terminated[step] else discount * values[step + 1]
        total += (discount * gae_lambda) ** step * (reward + bootstrap - values[step])
        if terminated[step] or truncated[step]:
            break
    return total


@given(rollouts(), st.floats(0, 1))
def test_generalised_advantages_equal_the_slow_version(rollout, gae_lambda):
    rewards, values, terminated, truncated = rollout
    fast = ppo.generalised_advantages(rewards, values, terminated, truncated, DISCOUNT, gae_lambda)
    for step in range(len(rewards)):
        for env in range(rewards.shape[1]):
            columns = [part[step:, env].tolist() for part in (rewards, values, terminated, truncated)]
            assert fast[step, env].item() == pytest.approx(slow_gae(*columns, DISCOUNT, gae_lambda), rel=1e-4, abs=1e-4)


@given(rollouts())
def test_lambda_1_is_the_n_step_return_of_lesson_04_minus_the_value(rollout):
    rewards, values, *ends = rollout
    n_step = actor_critic.n_step_returns(rewards, values[1:], *ends, DISCOUNT)
    advantages = ppo.generalised_advantages(rewards, values, *ends, DISCOUNT, 1.0)
    torch.testing.assert_close(advantages, n_step - values[:-1], rtol=1e-4, atol=1e-4)


def test_terminated_steps_do_not_bootstrap_and_truncated_ones_do():
    reward, values = torch.ones(1, 1), torch.tensor([[2.0], [100.0]])
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    assert ppo.generalised_advantages(reward, values, yes, no, DISCOUNT, 0.5).item() == pytest.approx(1 - 2)
    assert ppo.generalised_advantages(reward, values, no, yes, DISCOUNT, 0.5).item() == pytest.approx(1 + DISCOUNT * 100 - 2)


def test_nothing_flows_back_across_the_end_of_an_episode():
    rewards, values = torch.zeros(3, 1), torch.zeros(4, 1)
    rewards[2] = 1_000
    for kind in range(2):
        ends = torch.zeros(2, 3, 1, dtype=torch.bool)
        ends[kind, 1] = True
        assert ppo.generalised_advantages(rewards, values, *ends, DISCOUNT, 0.9)[:2].abs().max() == 0


@given(st.floats(0.01, 3), st.floats(-5, 5), st.floats(0.05, 0.5))
def test_clipped_objective_is_the_pessimistic_one(ratio, advantage, clip):
    limited = min(max(ratio, 1 - clip), 1 + clip)
    value = ppo.clipped_objective(torch.tensor([ratio]), torch.tensor([advantage]), clip)
    assert value.item() == pytest.approx(min(ratio * advantage, limited * advantage), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("ratio", "advantage", "flat"), [(1.5, 1.0, True), (0.5, 1.0, False), (0.5, -1.0, True), (1.5, -1.0, False)])
def test_the_gradient_vanishes_only_where_going_further_would_gain(ratio, advantage, flat):
    ratios = torch.tensor([ratio], requires_grad=True)
    ppo.clipped_objective(ratios, torch.tensor([advantage]), clip=0.2).sum().backward()
    assert (ratios.grad.item() == 0) == flat


def test_every_real_step_is_used_once_per_epoch_and_no_reset_step_is(monkeypatch):
    torch.manual_seed(0)
    actor, critic = PolicyNetwork(), actor_critic.Critic()
    steps = StepCollector(make_envs(num_envs=4, seed=0), 64).collect(actor)
    assert not steps.mask.all()
    sizes = []
    original = ppo.clipped_objective
    monkeypatch.setattr(ppo, "clipped_objective", lambda ratios, *rest: sizes.append(len(ratios)) or original(ratios, *rest))
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.0)
    ppo.update(actor, critic, optimizer, steps, discount=0.9, gae_lambda=0.9, clip=0.2, epochs=3, minibatches=4)
    assert sum(sizes) == 3 * steps.env_steps
    assert len(sizes) == 12


def test_the_first_pass_has_the_gradient_of_lesson_02():
    torch.manual_seed(0)
    actor, critic = PolicyNetwork(), actor_critic.Critic()
    steps = StepCollector(make_envs(num_envs=2, seed=0), 16).collect(actor)
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.0)
    ppo.update(actor, critic, optimizer, steps, discount=0.9, gae_lambda=0.9, clip=0.2, epochs=1, minibatches=1)
    gradients = [weights.grad.clone() for weights in actor.parameters()]

    with torch.no_grad():
        ends = steps.terminated, steps.truncated
        advantages = normalise(ppo.generalised_advantages(steps.rewards, critic(steps.observations), *ends, 0.9, 0.9)[steps.mask])
    log_probs = log_probs_of(actor(steps.observations[:-1][steps.mask]), steps.actions[steps.mask])
    expected = torch.autograd.grad(policy_loss(log_probs, advantages), list(actor.parameters()))
    assert max(gradient.abs().max() for gradient in gradients) > 0
    torch.testing.assert_close(gradients, list(expected))
