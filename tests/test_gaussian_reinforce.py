"""Lesson 09's exported algorithm: its quantities against hand-computed values, checked shapes, and that it learns."""

import math

import hypothesis.strategies as st
import pytest
import torch
from conftest import one_sentence
from hypothesis import given

from cartpole_lessons.algorithms import gaussian_reinforce
from cartpole_lessons.algorithms.gaussian_reinforce import GaussianPolicy, action_log_probs, rewards_to_go
from cartpole_lessons.algorithms.policy_gradient import discounted_returns
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.rollout import Episodes

numbers = st.floats(-5, 5, width=32)


def two_episodes():
    """The first is terminated after 2 steps, the second truncated after 3."""
    mask = torch.tensor([[True, True], [True, True], [False, True]])
    return Episodes(
        observations=torch.zeros(3, 2, 4),
        actions=torch.zeros(3, 2, 1),
        rewards=mask.float(),
        mask=mask,
        terminated=torch.tensor([True, False]),
        truncated=torch.tensor([False, True]),
    )


@given(numbers, st.floats(0.1, 3), numbers)
def test_log_probs_equal_the_formula_of_the_normal_density(mean, deviation, action):
    slow = -((action - mean) ** 2) / (2 * deviation**2) - math.log(deviation) - math.log(2 * math.pi) / 2
    fast = action_log_probs(*(torch.tensor([[number]]) for number in (mean, deviation, action)))
    assert fast.shape == (1,)
    assert fast.item() == pytest.approx(slow, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("shape", [(128,), (1, 128), (128, 2)])
def test_no_log_probability_is_computed_from_shapes_that_would_broadcast(shape):
    with pytest.raises(InvalidInput, match="need one shape"):
        action_log_probs(torch.zeros(128, 1), torch.ones(128, 1), torch.zeros(shape))


def test_a_truncated_episode_goes_on_and_a_terminated_one_does_not():
    episodes = two_episodes()
    returns = rewards_to_go(episodes, discount=0.5)
    # Terminated: 1 + 0.5, then 1. Truncated: a reward of 1 per step for ever is worth 2 from every step on.
    torch.testing.assert_close(returns, torch.tensor([[1.5, 2.0], [1.0, 2.0], [0.0, 2.0]]))
    torch.testing.assert_close(discounted_returns(episodes.rewards, 0.5)[:, 1], torch.tensor([1.75, 1.5, 1.0]))
    assert torch.equal(episodes.rewards, episodes.mask.float())  # left as they were


@pytest.mark.parametrize("hidden", [None, 16])
def test_deviation_stays_between_its_bounds_whatever_the_weights(hidden):
    policy = GaussianPolicy(hidden, smallest_deviation=0.3, largest_deviation=0.9)
    for size in (1e-3, 1.0, 1e3):
        torch.nn.init.normal_(policy.head.weight, std=size)
        mean, deviation = policy(torch.randn(100, 4))
        assert mean.shape == deviation.shape == (100, 1)
        assert deviation.min() >= 0.3 - 1e-6
        assert deviation.max() <= 0.9 + 1e-6


def test_a_new_policy_pushes_neither_way():
    assert not GaussianPolicy(hidden=8).act(torch.randn(10, 4)).any()


def test_drawn_forces_have_the_mean_and_the_deviation_that_the_policy_gives():
    torch.manual_seed(0)
    policy = GaussianPolicy()
    torch.nn.init.normal_(policy.head.weight)
    states = torch.randn(1, 4).expand(20_000, 4)
    mean, deviation = policy(states[:1])
    drawn = policy.act(states, deterministic=False)
    assert drawn.mean() == pytest.approx(mean.item(), abs=0.05)
    assert drawn.std() == pytest.approx(deviation.item(), rel=0.05)
    assert policy.act(states[:1]).item() == mean.item()


def test_every_update_learns_from_as_many_episodes_as_it_says_and_is_followed_by_an_evaluation():
    history = gaussian_reinforce.train(seed=1, max_steps=1_000, episodes_per_update=5).history
    assert len(history.losses) == len(history.episode_returns) / 5
    assert [step for step, _ in history.evaluations] == [step for step, _ in history.losses]


def test_discrete_actions_are_refused():
    with pytest.raises(InvalidInput) as caught:
        gaussian_reinforce.train(env_id="CartPole-v1")
    one_sentence(caught.value, "continuous", "CartPole-v1")
