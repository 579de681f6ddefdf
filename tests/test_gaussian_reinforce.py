"""Lesson 09's exported algorithm: its quantities against hand-computed values, checked shapes, and the contract of a learner."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from cartpole_lessons.algorithms import gaussian_reinforce
from cartpole_lessons.algorithms.gaussian_reinforce import GaussianPolicy, action_log_probs, policy_loss, rewards_to_go
from cartpole_lessons.algorithms.policy_gradient import discounted_returns
from cartpole_lessons.checkpoints import load_policy
from cartpole_lessons.environment import CONTINUOUS_CARTPOLE
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import evaluate
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


def test_policy_loss_equals_hand_computed_value():
    assert policy_loss(torch.tensor([-1.0, -3.0]), torch.tensor([2.0, -1.0])) == pytest.approx(-(-2 + 3) / 2)


@pytest.mark.parametrize("shape", [(128, 1), (1, 128), (128, 128), (127,), ()])
def test_no_loss_is_computed_from_shapes_that_would_broadcast(shape):
    with pytest.raises(InvalidInput, match="need one shape"):
        policy_loss(torch.zeros(shape), torch.zeros(128))


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


@pytest.mark.parametrize("hidden", [0, 16])
def test_deviation_stays_between_its_bounds_whatever_the_weights(hidden):
    policy = GaussianPolicy(hidden, smallest_deviation=0.3, largest_deviation=0.9)
    for size in (0.0, 1.0, 1e3):
        torch.nn.init.normal_(policy.head.weight, std=size) if size else None
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


@pytest.mark.parametrize("seed", range(4))
def test_solves_the_continuous_cartpole(seed):
    result = gaussian_reinforce.train(seed)
    assert result.solved
    # Judge it again from outside, on episodes that this training has never seen.
    assert evaluate(result.policy, CONTINUOUS_CARTPOLE, seed=12_345 + seed).solved


def test_same_seed_gives_the_same_history_byte_for_byte():
    first, second = (gaussian_reinforce.train(seed=5, max_steps=2_000) for _ in range(2))
    assert first.history.to_csv() == second.history.to_csv()
    assert gaussian_reinforce.train(seed=6, max_steps=2_000).history.to_csv() != first.history.to_csv()


def test_result_keeps_the_contract_of_a_learner():
    result = gaussian_reinforce.train(seed=1, max_steps=1_000)
    assert result.policy.act(np.zeros((7, 4), dtype=np.float32)).shape == (7, 1)
    assert result.policy.act(np.zeros(4, dtype=np.float32)).shape == (1,)
    assert result.env_steps == result.history.episode_ends[-1]
    assert result.hyperparameters["minibatches"] == 4
    assert len(result.history.losses) == len(result.history.episode_returns) / 8
    assert result.seconds > 0
    assert result.solved == result.evaluation.solved


def test_every_epoch_is_followed_by_an_evaluation():
    history = gaussian_reinforce.train(seed=1, max_steps=1_000).history
    assert [step for step, _ in history.evaluations] == [step for step, _ in history.losses]


def test_a_saved_policy_acts_as_before(tmp_path):
    result = gaussian_reinforce.train(seed=2, max_steps=500, hidden=16, angle_scale=3.0, largest_deviation=1.0)
    policy = load_policy(result.save(tmp_path / "policy.npz"), GaussianPolicy)
    observations = torch.randn(50, 4)
    for loaded, trained in zip(policy(observations), result.policy(observations), strict=True):
        assert torch.equal(loaded, trained)


def test_interrupting_the_training_returns_the_best_policy_so_far(monkeypatch, capsys):
    updates = 0

    def loss_then_interrupt(*arguments):
        nonlocal updates
        updates += 1
        if updates == 10:
            raise KeyboardInterrupt
        return policy_loss(*arguments)

    monkeypatch.setattr(gaussian_reinforce, "policy_loss", loss_then_interrupt)
    result = gaussian_reinforce.train(seed=0)
    assert result.interrupted
    assert len(result.history.losses) == 2  # four minibatches each
    assert result.policy.act(np.zeros(4, dtype=np.float32)).shape == (1,)
    assert "best policy so far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"env_id": "CartPole-v1"}, "CartPole-v1"),
        ({"env_id": "CartPole-v7"}, "'CartPole-v7'"),
        ({"seed": -1}, "-1"),
        ({"max_steps": 0}, "0"),
        ({"episodes_per_epoch": 0}, "0"),
        ({"minibatches": 0}, "0"),
        ({"passes": 0}, "0"),
    ],
)
def test_bad_arguments_get_one_sentence(keywords, named):
    with pytest.raises(InvalidInput) as caught:
        gaussian_reinforce.train(**keywords)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
