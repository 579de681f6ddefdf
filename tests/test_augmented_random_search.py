"""Lesson 10's exported algorithm: its updates against slow, obvious versions, and the contract of a learner on both environments."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from cartpole_lessons.algorithms import augmented_random_search
from cartpole_lessons.algorithms.augmented_random_search import LinearPolicy, augmented_update, basic_update
from cartpole_lessons.checkpoints import load_policy
from cartpole_lessons.environment import CONTINUOUS_CARTPOLE
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import evaluate

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


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("seed", range(4))
def test_solves_both_environments(env_id, seed):
    result = augmented_random_search.train(seed, env_id=env_id)
    assert result.solved
    # Judge it again from outside, on episodes that this training has never seen.
    assert evaluate(result.policy, env_id, seed=12_345 + seed).solved


@pytest.mark.parametrize("keywords", [{"method": "basic", "step_size": 0.001}, {"normalise_observations": True}], ids=["basic", "V2"])
def test_its_variants_learn(keywords):
    assert augmented_random_search.train(seed=0, **keywords).solved


def test_same_seed_gives_the_same_history_byte_for_byte():
    first, second = (augmented_random_search.train(seed=5, max_steps=2_000) for _ in range(2))
    assert first.history.to_csv() == second.history.to_csv()
    assert augmented_random_search.train(seed=6, max_steps=2_000).history.to_csv() != first.history.to_csv()


@pytest.mark.parametrize(("env_id", "action_shape"), [(CONTINUOUS_CARTPOLE, (1,)), ("CartPole-v1", ())])
def test_result_keeps_the_contract_of_a_learner(env_id, action_shape):
    result = augmented_random_search.train(seed=1, env_id=env_id, max_steps=500)
    assert result.policy.act(np.zeros((7, 4), dtype=np.float32)).shape == (7, *action_shape)
    assert np.shape(result.policy.act(np.zeros(4, dtype=np.float32))) == action_shape
    assert result.hyperparameters["num_directions"] == 3
    assert result.seconds > 0
    assert result.solved == result.evaluation.solved


def test_every_step_of_every_candidate_is_counted():
    result = augmented_random_search.train(seed=1, env_id="CartPole-v1", max_steps=2_000, num_directions=4)
    assert result.env_steps == result.history.episode_ends[-1] == sum(result.history.episode_returns)
    assert len(result.history.episode_returns) % 8 == 0


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_saved_policy_acts_as_before(tmp_path, env_id):
    result = augmented_random_search.train(seed=2, env_id=env_id, max_steps=500, normalise_observations=True)
    policy = load_policy(result.save(tmp_path / "policy.npz"), LinearPolicy)
    observations = torch.randn(50, 4)
    assert torch.equal(policy.act(observations), result.policy.act(observations))


def test_interrupting_the_training_returns_the_best_policy_so_far(monkeypatch, capsys):
    updates = 0

    def update_then_interrupt(*arguments):
        nonlocal updates
        updates += 1
        if updates == 2:
            raise KeyboardInterrupt
        return augmented_update(*arguments)

    monkeypatch.setitem(augmented_random_search.UPDATES, "augmented", update_then_interrupt)
    result = augmented_random_search.train(seed=0, num_directions=4)
    assert result.interrupted
    assert len(result.history.episode_returns) == 8
    assert torch.isfinite(parameters_to_vector(result.policy.parameters())).all()
    assert "best policy so far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"method": "magic"}, "'magic'"),
        ({"env_id": "CartPole-v7"}, "'CartPole-v7'"),
        ({"seed": -1}, "-1"),
        ({"max_steps": 0}, "0"),
        ({"num_directions": 0}, "0"),
        ({"top_directions": 0}, "0"),
    ],
)
def test_bad_arguments_get_one_sentence(keywords, named):
    with pytest.raises(InvalidInput) as caught:
        augmented_random_search.train(**keywords)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
