"""What every policy does with observations, good and bad, and what an environment accepts of it."""

import numpy as np
import pytest
import torch
from conftest import GOOD_DIRECTION, LinearPolicy, good_controller, linear_policy, one_sentence
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from cartpole_lessons.errors import InvalidAction, InvalidInput
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


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2), (1, 2, 4), (), (0,)])
def test_observations_of_a_wrong_shape_are_named(policy, shape):
    for observations in (np.zeros(shape, dtype=np.float32), torch.zeros(shape)):
        with pytest.raises(InvalidInput) as caught:
            policy.act(observations)
        one_sentence(caught.value, str(tuple(shape)), "(4,) or (n, 4)")


@pytest.mark.parametrize(
    ("observations", "kind"),
    [
        (np.zeros(4), "float64"),
        (np.zeros((2, 4), dtype=np.int64), "int64"),
        (torch.zeros(4, dtype=torch.float64), "float64"),
        ([0.0, 0.0, 0.0, 0.0], "list"),
        (None, "NoneType"),
    ],
)
def test_observations_of_a_wrong_dtype_are_named_with_the_conversion(policy, observations, kind):
    with pytest.raises(InvalidInput) as caught:
        policy.act(observations)
    one_sentence(caught.value, kind, "np.asarray(observations, dtype=np.float32)")


@pytest.mark.parametrize("observation", [[0, np.nan, 0, 0], [0, 0, 0, -np.inf], [np.inf, -np.inf, 0, 0]])
def test_nan_and_infinite_observations_are_refused(policy, observation):
    one = np.array(observation, dtype=np.float32)
    for batch in (one, np.stack([np.zeros(4, np.float32), one]), torch.from_numpy(one)):
        with pytest.raises(InvalidInput) as caught:
            policy.act(batch)
        one_sentence(caught.value, "NaN or infinity")


def test_weights_that_became_nan_are_told_with_their_likely_cause(observations):
    policy = LinearPolicy()
    with torch.no_grad():
        policy.layer.weight[0, 0] = np.nan
    for ask in (lambda: policy.act(observations, deterministic=False), lambda: action_function(policy)):
        with pytest.raises(InvalidAction) as caught:
            ask()
        one_sentence(caught.value, "NaN", "learning rate")


def test_an_error_of_the_policy_itself_is_passed_on(observations):
    policy = LinearPolicy()
    policy.layer = torch.nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        policy.act(observations)


def test_a_policy_without_actions_says_what_to_write(observations):
    class Unfinished(Policy):
        pass

    with pytest.raises(NotImplementedError) as caught:
        Unfinished().act(observations)
    one_sentence(caught.value, "Unfinished", "actions(observations, deterministic)")


def test_a_function_and_an_object_that_acts_are_policies_and_nothing_else_is(policy):
    assert action_function(good_controller) is good_controller
    assert action_function(policy) == policy.act
    for thing in (3, None, "policy"):
        with pytest.raises(InvalidInput) as caught:
            action_function(thing)
        one_sentence(caught.value, type(thing).__name__, "act(observations)")


@pytest.mark.parametrize("actions", [np.array([0, 1, 1]), np.array([0, 1, 1], dtype=np.int8), [0, 1, 1], torch.tensor([0, 1, 1])])
def test_whole_numbers_that_the_environment_knows_are_accepted(actions):
    np.testing.assert_array_equal(check_actions(actions, PUSHES), [0, 1, 1])


@pytest.mark.parametrize(
    ("actions", "named"),
    [
        (np.array([0, 1]), ["(2,)", "(3,)"]),
        (np.array([[0], [1], [1]]), ["(3, 1)"]),
        (1, ["()"]),
        (None, ["()"]),
        (torch.randn(3, 2, requires_grad=True), ["(3, 2)"]),  # logits, the argmax forgotten
        ((np.array([0, 1, 1]), None), ["pair", "predict(observations)[0]"]),  # what Stable-Baselines3's predict returns
        ([[0], [1, 2], [1]], ["list", "one action each"]),
        (np.array([0.0, 1.0, 1.0]), ["float64", "argmax"]),
        (np.full(3, np.nan, dtype=np.float32), ["float32", "argmax"]),
        (np.array([True, False, True]), ["bool", "argmax"]),
        (np.array(["left", "left", "right"]), ["<U5"]),
        (np.array([0, 1, -1]), ["-1", "0 to 1"]),
        (np.array([0, 1, 2]), ["2", "0 to 1"]),
    ],
)
def test_actions_that_the_environment_cannot_execute_are_named_with_a_remedy(actions, named):
    with pytest.raises(InvalidAction) as caught:
        check_actions(actions, PUSHES)
    one_sentence(caught.value, *named)


def test_finite_forces_are_accepted_and_others_refused():
    forces = np.array([[0.5], [-1.0], [2.0]], dtype=np.float32)
    np.testing.assert_array_equal(check_actions(forces, FORCES), forces)
    for number in (np.nan, np.inf):
        with pytest.raises(InvalidAction) as caught:
            check_actions(np.array([[0.0], [number], [0.0]]), FORCES)
        one_sentence(caught.value, "NaN or infinite", "learning rate")
