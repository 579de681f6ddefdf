"""The one definition of "solved", and that reaching a verdict disturbs nothing."""

import json

import gymnasium as gym
import numpy as np
import pytest
from conftest import GOOD_DIRECTION, LinearPolicy, always_right, global_state_untouched, good_controller, linear_policy
from IPython.lib.pretty import pretty

from cartpole_lessons.environment import make_env
from cartpole_lessons.errors import InvalidAction
from cartpole_lessons.evaluation import HELD_OUT_SEED, Evaluation, evaluate


def verdict(returns, env_id="CartPole-v1"):
    spec = gym.spec(env_id)
    return Evaluation(env_id, 0, np.array(returns, dtype=float), spec.reward_threshold, spec.max_episode_steps)


def random_policy(observations):
    return np.random.randint(0, 2, len(observations))  # noqa: NPY002  (the global generator is the point)


@pytest.mark.parametrize(
    ("env_id", "returns", "solved", "perfect"),
    [
        ("CartPole-v1", [500] * 100, True, True),
        ("CartPole-v1", [500] * 99 + [499], True, False),
        ("CartPole-v1", [475] * 100, True, False),
        ("CartPole-v1", [475] * 99 + [474], False, False),
        ("CartPole-v0", [200] * 100, True, True),
        ("CartPole-v0", [195] * 100, True, False),
        ("CartPole-v0", [195] * 99 + [194], False, False),
    ],
)
def test_solved_is_the_environments_own_threshold_and_perfect_its_time_limit(env_id, returns, solved, perfect):
    assert (verdict(returns, env_id).solved, verdict(returns, env_id).perfect) == (solved, perfect)


@pytest.mark.parametrize(("env_id", "threshold", "limit"), [("CartPole-v0", 195, 200), ("CartPole-v1", 475, 500)])
def test_a_good_controller_is_perfect_and_a_bad_one_not_solved(env_id, threshold, limit):
    good, bad = evaluate(good_controller, env_id), evaluate(always_right, env_id)
    assert (good.reward_threshold, good.max_episode_steps) == (threshold, limit)
    assert good.returns.tolist() == [limit] * 100
    assert good.solved
    assert good.perfect
    assert not bad.solved
    assert not bad.perfect
    assert bad.mean < 15


def test_each_return_is_that_of_one_episode_played_alone():
    evaluation = evaluate(always_right, episodes=20, seed=4)
    starts = gym.make_vec("CartPole-v1", num_envs=20).reset(seed=4)[0]
    for start, expected in zip(starts, evaluation.returns, strict=True):
        env = make_env()
        env.reset()
        env.unwrapped.state = start.astype(np.float64)
        total, over = 0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(1)
            total, over = total + reward, terminated or truncated
        assert total == expected


def test_policies_are_played_greedily():
    policy = LinearPolicy()
    asked = []
    policy.actions = lambda observations, deterministic: asked.append(deterministic) or observations[:, 2].gt(0).long()
    evaluate(policy, episodes=2)
    assert set(asked) == {True}


def test_same_seed_same_verdict_and_other_seeds_other_episodes():
    first, second, other = (evaluate(random_policy, episodes=20, seed=seed) for seed in (1, 1, 2))
    assert first.returns.tolist() == second.returns.tolist() != other.returns.tolist()


def test_unless_told_otherwise_it_plays_100_held_out_episodes_of_version_1():
    evaluation = evaluate(always_right)
    assert (evaluation.env_id, evaluation.seed, len(evaluation.returns)) == ("CartPole-v1", HELD_OUT_SEED, 100)


@pytest.mark.parametrize("policy", [random_policy, linear_policy(GOOD_DIRECTION)], ids=["function", "network"])
def test_the_surroundings_are_left_alone_when_the_policy_fails_too(policy):
    with global_state_untouched():
        evaluate(policy, episodes=3)
        with pytest.raises(InvalidAction):
            evaluate(lambda observations: np.random.random(len(observations)))  # noqa: NPY002


def test_it_reads_as_one_line_also_in_a_notebook(kernel):
    evaluation = verdict([500] * 99 + [0])
    assert pretty(evaluation) == str(evaluation) == "solved, mean return 495.0 in 100 episodes of CartPole-v1"
    assert str(verdict([500])).startswith("perfect, ")
    assert str(verdict([9])).startswith("not solved, ")
    messages = kernel.run("from conftest import always_right; from cartpole_lessons.evaluation import evaluate; evaluate(always_right)")
    (shown,) = [message["content"]["data"] for message in messages if message["msg_type"] == "execute_result"]
    assert json.dumps(shown).count("not solved, mean return") == 1
