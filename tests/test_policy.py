"""What every policy does with observations, good and bad, and what an environment accepts of it."""

import numpy as np
import pytest
import torch
from conftest import GOOD_DIRECTION, LinearPolicy, good_controller, linear_policy
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from cartpole_lessons.policy import Policy, action_function, check_actions

PUSHES = batch_space(spaces.Discrete(2), 3)
FORCES = batch_space(spaces.Box(-10, 10, (1,), np.float32), 3)


@pytest.fixture
def policy():
    return linear_policy(GOOD_DIRECTION)


@pytest.fixture
def observations():
    return np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_n_observations_give_n_actions_and_one_gives_a_scalar(policy, observations):
    actions = policy.act(observations)
    assert (actions.shape, actions.dtype) == ((50,), np.int64)
    np.testing.assert_array_equal(actions, good_controller(observations))
    assert policy.act(observations[:0]).shape == (0,)
    assert {0: "left", 1: "right"}[policy.act(observations[0])] == ("left", "right")[actions[0]]


def test_tensors_in_tensors_out(policy, observations):
    actions = policy.act(torch.from_numpy(observations))
    assert isinstance(actions, torch.Tensor)
    np.testing.assert_array_equal(actions.numpy(), policy.act(observations))
    assert policy.act(torch.zeros(4)).shape == ()


def test_acting_is_deterministic_unless_asked_otherwise(observations):
    policy = LinearPolicy()
    assert np.array_equal(policy.act(observations), policy.act(observations))
    drawn = [policy.act(observations, deterministic=False) for _ in range(5)]
    assert not all(np.array_equal(drawn[0], others) for others in drawn)


class Forces(Policy):
    """Forces (n, 1), stronger or weaker."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def actions(self, observations, deterministic, strength=1.0):
        return self.layer(observations) * strength


def test_acting_records_no_gradients_and_passes_on_what_drawing_depends_on(observations):
    assert not Forces().act(torch.from_numpy(observations)).requires_grad
    assert Forces().act(observations).shape == (50, 1)
    assert (Forces().act(observations, deterministic=False, strength=0.0) == 0).all()


def test_an_error_of_the_policy_itself_is_passed_on(observations):
    policy = LinearPolicy()
    policy.layer = torch.nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        policy.act(observations)


def test_a_function_and_an_object_that_acts_are_policies(policy):
    assert action_function(good_controller) is good_controller
    assert action_function(policy) == policy.act


@pytest.mark.parametrize("actions", [np.array([0, 1, 1]), np.array([0, 1, 1], dtype=np.int8), [0, 1, 1], torch.tensor([0, 1, 1])])
def test_whole_numbers_that_the_environment_knows_are_accepted(actions):
    np.testing.assert_array_equal(check_actions(actions, PUSHES), [0, 1, 1])


def test_finite_forces_are_accepted():
    forces = np.array([[0.5], [-1.0], [2.0]], dtype=np.float32)
    np.testing.assert_array_equal(check_actions(forces, FORCES), forces)
