"""Lesson 01's exported rules: the linearised physics, LQR's gains, and what they reach."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import one_sentence
from hypothesis import assume, given, settings

from cartpole_lessons.algorithms import hand_made
from cartpole_lessons.environment import CONTINUOUS_CARTPOLE, make_env, make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import evaluate

ENV_IDS = ["CartPole-v0", "CartPole-v1", CONTINUOUS_CARTPOLE]
REACHABLE = [2.4, 3.0, 0.35, 3.0]  # m, m/s, rad, rad/s
states = st.tuples(*(st.floats(-bound, bound) for bound in REACHABLE)).map(lambda state: np.array(state, dtype=np.float32))


def lqr(env_id="CartPole-v1"):
    return hand_made.policy_for(env_id, hand_made.lqr_gains(*hand_made.linearised_dynamics(env_id)))


def next_state(env_id, state, newtons):
    """The environment's own step in float64; CartPole-v1 pushes with `force_mag` whatever that is set to."""
    env = make_env(env_id).unwrapped
    env.reset(seed=0)
    env.state, env.force_mag = np.array(state, dtype=float), newtons
    env.step(np.array([1.0]) if env_id == CONTINUOUS_CARTPOLE else 1)
    return np.array(env.state)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_linearised_dynamics_equal_numerical_differentiation_of_the_environments_step(env_id):
    A, B = hand_made.linearised_dynamics(env_id)
    small = 1e-5
    by_state = [(next_state(env_id, small * unit, 0.0) - next_state(env_id, -small * unit, 0.0)) / (2 * small) for unit in np.eye(4)]
    by_force = (next_state(env_id, np.zeros(4), small) - next_state(env_id, np.zeros(4), -small)) / (2 * small)
    np.testing.assert_allclose(A, np.transpose(by_state), atol=1e-9)
    np.testing.assert_allclose(B, by_force, atol=1e-9)


@pytest.mark.parametrize("state_cost", [(1, 1, 1, 1), (100, 1, 1, 1), (1, 0, 0, 0), (0.01, 5, 50, 0)])
@pytest.mark.parametrize("force_cost", [0.001, 1, 1_000])
def test_lqr_gains_stabilise_what_falls_without_them(state_cost, force_cost):
    A, B = hand_made.linearised_dynamics()
    gains = hand_made.lqr_gains(A, B, state_cost, force_cost)
    assert gains.shape == (4,)
    assert np.abs(np.linalg.eigvals(A)).max() > 1
    assert np.abs(np.linalg.eigvals(A + np.outer(B, gains))).max() < 1


def total_cost(gains, start, steps=5_000):
    """The cost that LQR minimises, added up step by step."""
    A, B = hand_made.linearised_dynamics()
    state, total = start, 0.0
    for _ in range(steps):
        force = gains @ state
        total += state @ state + force**2
        state = A @ state + B * force
    return total


@pytest.mark.parametrize("entry", range(4))
@pytest.mark.parametrize("factor", [0.9, 0.99, 1.01, 1.1])
def test_every_other_gain_costs_more(entry, factor):
    start = np.array([0.5, -0.2, 0.1, 0.3])
    best = hand_made.lqr_gains(*hand_made.linearised_dynamics())
    other = best.copy()
    other[entry] *= factor
    assert total_cost(other, start) > total_cost(best, start)


@given(states)
def test_mirrored_observations_are_pushed_the_other_way(state):
    discrete, continuous = lqr(), lqr(CONTINUOUS_CARTPOLE)
    np.testing.assert_array_equal(continuous.act(-state), -continuous.act(state))
    if discrete(torch.from_numpy(state)) != 0:
        assert discrete.act(-state) == 1 - discrete.act(state)


@settings(max_examples=20)
@given(states, st.sampled_from(["CartPole-v1", CONTINUOUS_CARTPOLE]))
def test_a_mirrored_start_lasts_equally_long(state, env_id):
    state = state / 10
    # Without any force wanted, full force has to prefer one side.
    assume(lqr()(torch.from_numpy(state)) != 0)
    path = hand_made.simulate(lqr(env_id), np.stack([state, -state]), env_id, steps=30)
    np.testing.assert_allclose(path[:, 0], -path[:, 1], atol=1e-12)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_lqr_is_perfect_on_200_episodes(env_id):
    assert evaluate(lqr(env_id), env_id, episodes=200).perfect


def test_pushing_where_it_leans_fails_in_both_environments():
    for env_id in ENV_IDS:
        assert not evaluate(hand_made.policy_for(env_id, (0, 0, 100, 0)), env_id).solved


@pytest.mark.parametrize(("env_id", "one_action"), [("CartPole-v1", ()), (CONTINUOUS_CARTPOLE, (1,))])
def test_act_keeps_the_contract_of_a_policy(env_id, one_action):
    policy = lqr(env_id)
    observations = np.random.default_rng(0).uniform(-3, 3, size=(50, 4)).astype(np.float32)
    actions = policy.act(observations)
    assert actions.shape == (50, *one_action)
    assert policy.act(observations[0]).shape == one_action
    assert make_envs(env_id, 50).action_space.contains(actions)
    np.testing.assert_array_equal(policy.act(observations, deterministic=False), actions)
    assert isinstance(policy.act(torch.from_numpy(observations)), torch.Tensor)
    assert list(policy.parameters()) == []


def test_simulate_plays_what_the_environment_plays():
    env = make_env("CartPole-v1", seed=3)
    policy = hand_made.policy_for("CartPole-v1", (0, 0, 100, 0))  # fails early
    observation, _ = env.reset()
    path = hand_made.simulate(policy, np.array(env.unwrapped.state)[None], steps=100)[:, 0]
    terminated, step = False, 0
    while not terminated:
        np.testing.assert_allclose(path[step], observation, atol=1e-6)
        observation, _, terminated, _, _ = env.step(policy.act(observation))
        step += 1
    assert np.isnan(path[step:]).all()
    assert len(path) == 101


def test_simulate_goes_on_beyond_the_time_limit():
    path = hand_made.simulate(lqr(), np.full((1, 4), 0.01), steps=700)
    assert np.isfinite(path).all()


def test_training_computes_the_rule_of_the_environment_and_takes_no_step_in_it():
    for env_id in ENV_IDS:
        result = hand_made.train(seed=1, env_id=env_id)
        assert result.evaluation.perfect
        assert result.env_steps == 0
        assert torch.equal(result.policy.gains, lqr(env_id).gains)
    assert not torch.equal(hand_made.train(force_cost=0.5).policy.gains, lqr().gains)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"state_cost": (0, 1, 1, 1)}, "(0.0, 1.0, 1.0, 1.0)"),
        ({"state_cost": (1, 1, 1)}, "(1, 1, 1)"),
        ({"state_cost": (1, -1, 1, 1)}, "(1, -1, 1, 1)"),
        ({"force_cost": 0}, "force_cost"),
        ({"force_cost": float("nan")}, "nan"),
    ],
)
def test_what_leaves_no_best_rule_gets_one_sentence(keywords, named):
    with pytest.raises(InvalidInput) as caught:
        hand_made.train(**keywords)
    one_sentence(caught.value, named)


def test_starts_of_another_shape_get_one_sentence():
    with pytest.raises(InvalidInput, match=r"\(n, 4\), but got \(4,\)"):
        hand_made.simulate(lqr(), np.zeros(4))
