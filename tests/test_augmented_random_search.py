"""Lesson 10's exported algorithm: its updates against slow, obvious versions, and that it learns on both environments."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.nn.utils import vector_to_parameters

from cartpole_lessons.algorithms import augmented_random_search
from cartpole_lessons.algorithms.augmented_random_search import LinearPolicy, augmented_update, basic_update
from cartpole_lessons.environment import CONTINUOUS_CARTPOLE

ENVIRONMENTS = [CONTINUOUS_CARTPOLE, "CartPole-v1"]


def drawn(seed, count, parameters=4):
    """Directions (count, parameters) and two returns for each, (count,) and (count,)."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, parameters, generator=generator)
    plus, minus = torch.randint(1, 501, (2, count), generator=generator).float()
    return directions, plus, minus


def with_weights(weights, **keywords):
    policy = LinearPolicy(**keywords)
    vector_to_parameters(torch.tensor(weights), policy.parameters())
    return policy


@given(st.integers(0, 2**31), st.integers(1, 10))
def test_basic_update_is_the_sum_that_defines_it(seed, count):
    directions, plus, minus = drawn(seed, count)
    slow = sum((plus[k] - minus[k]) * directions[k] for k in range(count)) / count
    torch.testing.assert_close(basic_update(directions, plus, minus, top=count), slow, rtol=1e-4, atol=1e-3)


def test_augmented_update_equals_hand_computed_value():
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    plus, minus = torch.tensor([30.0, 10.0, 9.0]), torch.tensor([10.0, 50.0, 1.0])
    # The third direction's better side is the worst of the three. Deviation of 30, 10, 10, 50: the root of 275.
    expected = torch.tensor([20.0, -40.0]) / 2 / 275**0.5
    torch.testing.assert_close(augmented_update(directions, plus, minus, top=2), expected)


@given(st.integers(0, 2**31), st.integers(2, 10), st.floats(0.1, 100))
def test_augmented_update_does_not_depend_on_the_unit_of_the_reward(seed, count, unit):
    directions, plus, minus = drawn(seed, count)
    torch.testing.assert_close(
        augmented_update(directions, unit * plus, unit * minus, top=count),
        augmented_update(directions, plus, minus, top=count),
        rtol=1e-3,
        atol=1e-4,
    )


def test_each_parameter_has_an_update_of_its_own():
    for update in augmented_random_search.UPDATES.values():
        step = update(*drawn(0, 8, parameters=7), top=3)
        assert step.shape == (7,)
        assert len(step.unique()) == 7


def test_equal_returns_move_nothing():
    directions = torch.randn(4, 4)
    full = torch.full((4,), 500.0)
    assert torch.equal(augmented_update(directions, full, full, top=2), torch.zeros(4))


@pytest.mark.parametrize("continuous", [True, False])
def test_a_row_of_candidates_acts_like_a_policy_with_its_weights(continuous):
    candidates, observations = torch.randn(6, 4), torch.randn(6, 4)
    together = LinearPolicy(continuous).act_as(candidates, observations.numpy())
    alone = [with_weights(row.tolist(), continuous=continuous).act(seen) for row, seen in zip(candidates, observations, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_looking_batch_by_batch_measures_the_same_as_looking_once(seed, lengths):
    observations = torch.randn(sum(lengths), 4, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    policy = LinearPolicy()
    for batch in observations.split(lengths):
        policy.look(batch)
    torch.testing.assert_close(policy.mean, observations.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(policy.deviation, observations.std(0, correction=0).clamp(min=1e-3), rtol=1e-2, atol=1e-3)


def test_every_step_of_every_candidate_is_counted():
    result = augmented_random_search.train(seed=1, env_id="CartPole-v1", max_steps=2_000, num_directions=4)
    assert result.env_steps == result.history.episode_ends[-1] == sum(result.history.episode_returns)
    assert len(result.history.episode_returns) % 8 == 0
