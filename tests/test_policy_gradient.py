"""Lesson 02's exported algorithm: its quantities against slow, obvious versions, and what its two methods promise."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import one_sentence
from hypothesis import given, settings

from cartpole_lessons.algorithms import policy_gradient
from cartpole_lessons.errors import InvalidInput

rewards_and_discounts = st.tuples(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30), st.floats(0, 1))


@given(rewards_and_discounts)
def test_discounted_returns_equal_the_sum_that_defines_them(case):
    rewards, discount = case
    column = torch.tensor(rewards)[:, None]
    slow = [sum(discount**k * reward for k, reward in enumerate(rewards[step:])) for step in range(len(rewards))]
    np.testing.assert_allclose(policy_gradient.discounted_returns(column, discount)[:, 0], slow, rtol=1e-4, atol=1e-4)


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
def test_normalised_returns_have_mean_0_and_deviation_1_or_are_all_equal(returns):
    advantages = policy_gradient.normalise(torch.tensor(returns))
    assert torch.isfinite(advantages).all()
    assert abs(advantages.mean()) < 1e-2
    if np.std(returns) > 1e-2:
        assert advantages.std(correction=0) == pytest.approx(1, abs=1e-2)


def test_the_loss_equals_a_value_computed_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3.0)]])  # policies (1/2, 1/2) and (1/4, 3/4)
    log_probs = policy_gradient.log_probs_of(logits, torch.tensor([0, 1]))
    np.testing.assert_allclose(log_probs, np.log([0.5, 0.75]), rtol=1e-6)
    loss = policy_gradient.policy_loss(log_probs, torch.tensor([2.0, -1.0]))
    assert loss == pytest.approx(-(2 * np.log(0.5) - np.log(0.75)) / 2)


def test_a_loss_of_unequal_shapes_is_refused_and_not_broadcast():
    with pytest.raises(InvalidInput) as caught:
        policy_gradient.policy_loss(torch.zeros(5), torch.zeros(5, 1))
    one_sentence(caught.value, "(5,)", "(5, 1)")


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 20), st.floats(0.01, 2))
def test_blended_targets_and_score_function_have_one_gradient_up_to_alpha(seed, steps, blend):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(steps, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(2, (steps,), generator=generator)
    advantages = torch.randn(steps, generator=generator, dtype=torch.float64)
    loss = policy_gradient.policy_loss(policy_gradient.log_probs_of(logits, actions), advantages)
    (score,) = torch.autograd.grad(loss, logits)
    (blended,) = torch.autograd.grad(policy_gradient.blended_targets_loss(logits, actions, advantages, blend), logits)
    torch.testing.assert_close(blended, blend * score)
