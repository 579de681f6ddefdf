"""Lesson 02's exported algorithm: its quantities against slow, obvious versions, and the contract of a learner."""

import gymnasium as gym
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from cartpole_lessons.algorithms import policy_gradient
from cartpole_lessons.checkpoints import load_policy
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import evaluate

METHODS = ["score_function", "blended_targets"]
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


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20), st.floats(0.01, 2))
def test_blended_targets_and_score_function_have_one_gradient_up_to_alpha(seed, steps, blend):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(steps, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(2, (steps,), generator=generator)
    advantages = torch.randn(steps, generator=generator, dtype=torch.float64)
    (score,) = torch.autograd.grad(policy_gradient.score_function_loss(logits, actions, advantages), logits)
    (blended,) = torch.autograd.grad(policy_gradient.blended_targets_loss(logits, actions, advantages, blend), logits)
    torch.testing.assert_close(blended, blend * score)


def test_score_function_loss_equals_hand_computed_value():
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3.0)]])  # policies (1/2, 1/2) and (1/4, 3/4)
    loss = policy_gradient.score_function_loss(logits, torch.tensor([0, 1]), torch.tensor([2.0, -1.0]))
    assert loss == pytest.approx(-(2 * np.log(0.5) - np.log(0.75)) / 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_each_method_solves_cartpole(method, seed):
    result = policy_gradient.train(seed, method=method)
    assert result.solved
    # Judge it again from outside, on episodes that this training has never seen.
    assert evaluate(result.policy, seed=12_345 + seed).solved


def test_version_0_is_solved_at_its_own_threshold():
    result = policy_gradient.train(seed=0, env_id="CartPole-v0")
    assert result.solved
    assert result.evaluation.reward_threshold == gym.spec("CartPole-v0").reward_threshold
    assert result.evaluation.returns.max() <= 200


def test_same_seed_gives_the_same_history_byte_for_byte():
    first, second = (policy_gradient.train(seed=5, max_steps=6_000) for _ in range(2))
    assert first.history.to_csv() == second.history.to_csv()
    assert policy_gradient.train(seed=6, max_steps=6_000).history.to_csv() != first.history.to_csv()


def test_result_keeps_the_contract_of_a_learner():
    result = policy_gradient.train(seed=1, max_steps=3_000)
    assert result.policy.act(np.zeros((7, 4), dtype=np.float32)).shape == (7,)
    assert result.policy.act(np.zeros(4, dtype=np.float32)) in (0, 1)
    assert result.env_steps == result.history.episode_ends[-1] == sum(result.history.episode_returns)
    assert result.hyperparameters["method"] == "score_function"
    assert len(result.history.losses) > 0
    assert result.seconds > 0
    assert result.solved == result.evaluation.solved


def test_a_saved_policy_acts_as_before(tmp_path):
    result = policy_gradient.train(seed=2, max_steps=2_000, hidden=16, angle_scale=3.0)
    policy = load_policy(result.save(tmp_path / "policy.npz"), policy_gradient.PolicyNetwork)
    observations = torch.randn(50, 4)
    assert torch.equal(policy(observations), result.policy(observations))


def test_interrupting_the_training_returns_the_best_policy_so_far(monkeypatch, capsys):
    updates = 0

    def loss_then_interrupt(*arguments):
        nonlocal updates
        updates += 1
        if updates == 5:
            raise KeyboardInterrupt
        return policy_gradient.score_function_loss(*arguments)

    monkeypatch.setitem(policy_gradient.LOSSES, "score_function", loss_then_interrupt)
    result = policy_gradient.train(seed=0)
    assert result.interrupted
    assert len(result.history.losses) == 4
    assert result.policy.act(np.zeros(4, dtype=np.float32)) in (0, 1)
    assert "best policy so far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"method": "magic"}, "'magic'"),
        ({"env_id": "CartPole-v7"}, "'CartPole-v7'"),
        ({"env_id": "Pendulum-v1"}, "Pendulum-v1"),
        ({"seed": -1}, "-1"),
        ({"max_steps": 0}, "0"),
        ({"episodes_per_update": 0}, "0"),
    ],
)
def test_bad_arguments_get_one_sentence(keywords, named):
    with pytest.raises(InvalidInput) as caught:
        policy_gradient.train(**keywords)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
