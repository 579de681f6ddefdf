"""Lesson 03's exported algorithm: an Ignite engine whose iteration is a time step and whose epoch is an episode."""

import numpy as np
import pytest
import torch

from cartpole_lessons.algorithms import policy_gradient, reinforce
from cartpole_lessons.environment import make_env


@pytest.fixture
def lengths_of():
    """Play a number of episodes with an engine and return their lengths and the engine."""

    def play(policy, episodes, env_id="CartPole-v1"):
        env = make_env(env_id, seed=0)
        engine = reinforce.make_engine(env, policy)
        lengths = []
        engine.add_event_handler(reinforce.EPISODE_STARTED, reinforce.reset_environment, env, policy)
        engine.add_event_handler(reinforce.EPISODE_COMPLETED, lambda engine: lengths.append(len(engine.state.rewards)))
        engine.run(max_epochs=episodes, epoch_length=10_000)
        return lengths, engine

    return play


class Balancer(reinforce.PolicyNetwork):
    """Never falls: every episode ends by the time limit alone."""

    def actions(self, observations, deterministic):
        return (observations[:, 2] + 0.5 * observations[:, 3] > 0).long()


def test_an_iteration_is_a_time_step_and_an_epoch_an_episode(lengths_of):
    lengths, engine = lengths_of(reinforce.PolicyNetwork(), 5)
    assert engine.state.epoch == len(lengths) == 5
    assert engine.state.iteration == sum(lengths)


def test_an_episode_also_ends_at_the_time_limit(lengths_of):
    assert lengths_of(Balancer(), 2, "CartPole-v0")[0] == [200, 200]


def test_running_reward_is_the_exponential_average_from_10(lengths_of):
    _, engine = lengths_of(reinforce.PolicyNetwork(), 1)
    expected = 10.0
    for rewards in ([1.0] * 30, [1.0] * 7, [1.0] * 200):
        engine.state.rewards = rewards
        reinforce.update_running_reward(engine)
        expected = 0.05 * len(rewards) + 0.95 * expected
        assert engine.state.running_reward == pytest.approx(expected)


def test_finishing_an_episode_follows_the_policy_gradient_of_lesson_02(lengths_of):
    policy = reinforce.PolicyNetwork(dropout=0.0)
    _, engine = lengths_of(policy, 1)
    state = engine.state
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    reinforce.finish_episode(engine, policy, optimizer, discount=0.9)
    returns = [sum(0.9**k for k in range(len(state.rewards) - step)) for step in range(len(state.rewards))]
    advantages = (np.array(returns) - np.mean(returns)) / np.std(returns)
    logits = policy(torch.from_numpy(np.stack(state.observations)))
    log_probs = policy_gradient.log_probs_of(logits, torch.tensor(np.array(state.actions)))
    loss = policy_gradient.policy_loss(log_probs, torch.tensor(advantages, dtype=torch.float32))
    expected = torch.autograd.grad(loss, list(policy.parameters()))
    for weights, gradient in zip(policy.parameters(), expected, strict=True):
        torch.testing.assert_close(weights.grad, gradient, rtol=1e-3, atol=1e-5)


def test_dropout_is_on_while_training_and_off_when_the_result_is_used(lengths_of):
    policy = reinforce.PolicyNetwork().eval()
    lengths_of(policy, 1)
    assert policy.training
    result = reinforce.train(seed=0, max_steps=1_000)
    assert not result.policy.training
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert torch.equal(result.policy(torch.from_numpy(observations)), result.policy(torch.from_numpy(observations)))


def test_logs_every_so_many_episodes_and_not_otherwise(capsys):
    reinforce.train(seed=0, max_steps=600, log_interval=5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["episode 5", "episode 10"]
    reinforce.train(seed=0, max_steps=600)
    assert capsys.readouterr().out == ""
