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
    observations = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(action_function(policy)(observations), policy.act(observations))


class Network(Policy):
    """Layers of every kind that the lessons use, two heads beside each other, and arithmetic around them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))
        self.body = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 16), torch.nn.Identity()
        )
        self.head = torch.nn.Linear(16, 3)
        self.norm = torch.nn.LayerNorm(16)  # of a kind that only torch computes

    def forward(self, observations):
        mean, spread, shift = self.head(self.norm(self.body(observations * self.scale))).chunk(3, dim=-1)
        return mean * spread.sigmoid() + shift

    def actions(self, observations, deterministic, strength=1.0):
        return self(observations) * (1 if deterministic else strength)


def test_acting_in_a_rollout_is_what_act_says_with_the_weights_of_that_moment(observations):
    policy = Network().eval()
    for _ in range(2):
        np.testing.assert_allclose(policy.acting()(observations), policy.act(observations), rtol=1e-5, atol=1e-6)
        drawn = policy.acting(deterministic=False, strength=0.5)(observations)
        np.testing.assert_allclose(drawn, policy.act(observations, deterministic=False, strength=0.5), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for weights in policy.parameters():
                weights.mul_(1.5)
    policy.train()  # dropout is on again
    act = policy.acting()
    assert not np.array_equal(act(observations), act(observations))


class Doubled(Network):
    def forward(self, observations):
        assert isinstance(self, Doubled)
        return 2 * super().forward(observations)


def test_a_policy_that_builds_on_another_acts_in_a_rollout(observations):
    policy = Doubled().eval()
    np.testing.assert_allclose(policy.acting()(observations), policy.act(observations), rtol=1e-5, atol=1e-6)


def test_a_method_that_was_replaced_in_one_object_is_the_one_that_acts(observations):
    policy = Network().eval()
    policy.actions = lambda observations, deterministic: torch.zeros(len(observations))
    assert not policy.acting()(observations).any()


def test_who_looks_into_a_network_sees_it_act(observations):
    policy, seen = Network().eval(), []
    policy.body[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    policy.acting()(observations)
    assert seen[0].shape == (50, 16)


@pytest.mark.parametrize("actions", [np.array([0, 1, 1]), np.array([0, 1, 1], dtype=np.int8), [0, 1, 1], torch.tensor([0, 1, 1])])
def test_whole_numbers_that_the_environment_knows_are_accepted(actions):
    np.testing.assert_array_equal(check_actions(actions, PUSHES), [0, 1, 1])


def test_finite_forces_are_accepted():
    forces = np.array([[0.5], [-1.0], [2.0]], dtype=np.float32)
    np.testing.assert_array_equal(check_actions(forces, FORCES), forces)
