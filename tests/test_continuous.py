"""The continuous CartPole: its physics, its episodes, and that it is a Gymnasium environment like any other."""

import math
import warnings

import gymnasium as gym
import hypothesis.strategies as st
import numpy as np
import pytest
from conftest import GOOD_DIRECTION, one_sentence
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given

from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE, ContinuousCartPoleEnv, ContinuousCartPoleVectorEnv, derivative
from cartpole_lessons.environment import make_env, make_envs

#: What makes the continuous CartPole the discrete one.
LIKE_DISCRETE = {"angle_limit_degrees": 12, "failure_reward": 1.0}
#: Two float32 numbers that round the same value differently are this far apart, for the sizes that occur here.
FLOAT32_ROUNDING = {"rtol": 1e-6, "atol": 1e-7}


def controller(observations):
    """Forces (n, 1) for observations (n, 4): every episode reaches the time limit."""
    return (observations @ np.array(GOOD_DIRECTION) * 3)[..., None]


# Equal to Gymnasium's CartPole


def test_forces_of_full_strength_reproduce_cartpole_for_10_000_random_steps():
    discrete, continuous = CartPoleEnv(), ContinuousCartPoleEnv(**LIKE_DISCRETE)
    pushes = np.random.default_rng(0).integers(0, 2, 10_000)
    observations = [env.reset(seed=0)[0] for env in (discrete, continuous)]
    episodes = 0
    for push in pushes:
        np.testing.assert_allclose(*observations, **FLOAT32_ROUNDING)
        expected, obtained = discrete.step(push), continuous.step(np.array([2.0 * push - 1]))
        assert obtained[1:] == expected[1:]
        observations = [expected[0], obtained[0]]
        if expected[2]:
            observations = [env.reset()[0] for env in (discrete, continuous)]
            episodes += 1
    assert episodes > 100


def test_vector_environment_reproduces_gymnasiums_across_resets_and_time_limits():
    discrete = gym.make_vec("CartPole-v1", num_envs=16, max_episode_steps=20)
    continuous = gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=16, max_episode_steps=20, **LIKE_DISCRETE)
    np.testing.assert_array_equal(discrete.reset(seed=3)[0], continuous.reset(seed=3)[0])
    ends = np.zeros(2)
    for push in np.random.default_rng(3).integers(0, 2, (625, 16)):
        expected, obtained = discrete.step(push), continuous.step(2.0 * push[:, None] - 1)
        np.testing.assert_allclose(obtained[0], expected[0], **FLOAT32_ROUNDING)
        for theirs, ours in zip(expected[1:4], obtained[1:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        ends += [expected[2].sum(), expected[3].sum()]
    assert (ends > 50).all(), "both ways for an episode to end must have been seen"


# Vector equals single


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vector_environment_equals_single_ones_step_by_step_across_resets(dtype):
    n, limit = 5, 40
    envs = gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=n, max_episode_steps=limit, dtype=dtype)
    singles = [gym.make(CONTINUOUS_CARTPOLE, max_episode_steps=limit, dtype=dtype) for _ in range(n)]
    envs.reset(seed=1)

    def start(i):
        """Reset the single environment `i` into the state that its partner has now."""
        singles[i].reset()
        singles[i].unwrapped.state = envs.state[:, i].copy()

    for i in range(n):
        start(i)
    random = np.random.default_rng(1)
    was_over = np.zeros(n, dtype=bool)
    ends = np.zeros(2)
    for _ in range(600):
        forces = random.uniform(-1.5, 1.5, (n, 1))
        observations, rewards, terminated, truncated, _ = envs.step(forces)
        for i in range(n):
            if was_over[i]:
                start(i)
                assert (rewards[i], terminated[i], truncated[i]) == (0, False, False)
                assert np.abs(observations[i]).max() <= 0.05
                continue
            single = singles[i].step(forces[i])
            np.testing.assert_allclose(observations[i], single[0], rtol=1e-6, atol=1e-9)
            assert (rewards[i], terminated[i], truncated[i]) == single[1:4]
        ends += [terminated.sum(), truncated.sum()]
        was_over = terminated | truncated
    assert (ends > 5).all(), "both ways for an episode to end must have been seen"


# Physics


def equations_of_motion(state, force, gravity=9.8, cart_mass=1.0, pole_mass=0.1, half_length=0.5):
    """The same mechanics from another side: Lagrange's equations, as a mass matrix times the two accelerations.

    T = M v² / 2 + m l v w cos(a) + (4/3) m l² w² / 2,  V = m g l cos(a), with M the mass of both and l half the pole's length.
    """
    _, velocity, angle, angular_velocity = state
    coupling = pole_mass * half_length * math.cos(angle)
    masses = [[cart_mass + pole_mass, coupling], [coupling, 4 / 3 * pole_mass * half_length**2]]
    forces = [
        force + pole_mass * half_length * angular_velocity**2 * math.sin(angle),
        pole_mass * gravity * half_length * math.sin(angle),
    ]
    acceleration, angular_acceleration = np.linalg.solve(masses, forces)
    return np.array([velocity, acceleration, angular_velocity, angular_acceleration])


finite = st.floats(-1, 1)
states = st.tuples(finite, finite, finite, finite).map(lambda unit: np.array(unit) * [2.4, 10, math.radians(20), 20])


@given(st.lists(st.tuples(states, finite), min_size=1, max_size=4), st.tuples(*[st.floats(0.1, 3)] * 4))
def test_equations_agree_with_lagranges_for_any_constants_and_many_states_at_once(pairs, constants):
    constants = dict(zip(("gravity", "cart_mass", "pole_mass", "half_length"), constants, strict=True))
    one_by_one = [equations_of_motion(state, 10 * push, **constants) for state, push in pairs]
    batch, pushes = np.array([state for state, _ in pairs]).T, np.array([push for _, push in pairs])
    np.testing.assert_allclose(derivative(batch, 10 * pushes, **constants).T, one_by_one, atol=1e-8)


def stepped(state, push, **arguments):
    """The state after one step from `state`."""
    env = ContinuousCartPoleEnv(dtype="float64", **arguments)
    env.reset()
    env.state = np.array(state)
    return env.step(np.array([push]))[0]


@given(states, finite)
def test_left_and_right_are_mirror_images(state, push):
    np.testing.assert_allclose(stepped(-state, -push), -stepped(state, push), rtol=1e-12, atol=1e-15)


# The observation space leaves velocities free: up to the largest number of float32.
any_velocity = st.floats(-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))


@given(states, any_velocity, any_velocity, st.floats(-1e300, 1e300))
def test_no_state_within_bounds_leads_to_nan(state, velocity, angular_velocity, push):
    assert np.isfinite(stepped(state, push)).all()
    assert np.isfinite(stepped([state[0], velocity, state[2], angular_velocity], push)).all()


# Episodes


@given(st.integers(0, 2**31), st.integers(1, 9))
def test_episodes_start_within_range(seed, num_envs):
    assert np.abs(make_env(CONTINUOUS_CARTPOLE, seed=seed).reset()[0]).max() <= 0.05
    assert np.abs(make_envs(CONTINUOUS_CARTPOLE, num_envs, seed=seed).reset()[0]).max() <= 0.05


def test_reset_options_hold_until_the_next_reset_for_autoresets_too():
    env = make_env(CONTINUOUS_CARTPOLE)
    observation, _ = env.reset(seed=0, options={"low": 0.1, "high": 0.2})
    assert ((observation >= 0.1) & (observation <= 0.2)).all()
    envs = gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=4, max_episode_steps=1)
    envs.reset(seed=0, options={"low": 0.1, "high": 0.2})
    envs.step(np.zeros((4, 1)))
    observations, rewards, *_ = envs.step(np.zeros((4, 1)))
    assert not rewards.any()
    assert ((observations >= 0.1) & (observations <= 0.2)).all()
    with pytest.raises(ValueError, match="must be lower"):
        envs.reset(options={"low": 1, "high": 0})


@pytest.mark.parametrize(
    ("index", "value", "fails"), [(2, math.radians(19.9), False), (2, math.radians(20.1), True), (0, 2.39, False), (0, 2.41, True)]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_fails_beyond_20_degrees_or_2_4_metres_and_the_failing_step_is_worth_nothing(index, value, fails, sign):
    env, envs = ContinuousCartPoleEnv(), ContinuousCartPoleVectorEnv(1)
    env.reset(), envs.reset()
    env.state = np.zeros(4)
    env.state[index] = sign * value
    envs.state = env.state[:, None].copy()
    observation, reward, terminated, truncated, info = env.step(np.zeros(1))
    assert (reward, terminated, truncated, info) == (float(not fails), fails, False, {})
    assert observation in env.observation_space
    _, rewards, terminated, _, _ = envs.step(np.zeros((1, 1)))
    assert (rewards[0], terminated[0]) == (float(not fails), fails)


def test_arguments_move_the_limit_the_force_and_the_reward():
    over = [0, 0, math.radians(15), 0]
    env = ContinuousCartPoleEnv(angle_limit_degrees=14, failure_reward=-3, force_magnitude=20)
    env.reset()
    env.state = np.array(over)
    assert env.step(np.zeros(1))[1:3] == (-3.0, True)
    envs = gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=1, angle_limit_degrees=14, failure_reward=-3, force_magnitude=20)
    envs.reset()
    envs.state = np.array(over)[:, None]
    _, rewards, terminated, _, _ = envs.step(np.zeros((1, 1)))
    assert (rewards[0], terminated[0]) == (-3, True)
    np.testing.assert_allclose(stepped(np.zeros(4), 0.5, force_magnitude=20), stepped(np.zeros(4), 1.0))


def test_time_limit_of_one_environment_is_the_wrappers():
    env, spec = make_env(CONTINUOUS_CARTPOLE, seed=0), gym.spec(CONTINUOUS_CARTPOLE)
    assert isinstance(env, gym.wrappers.TimeLimit)
    assert (spec.max_episode_steps, spec.reward_threshold, spec.nondeterministic) == (500, 475, False)
    plain = env.unwrapped
    observation, _ = plain.reset(seed=0)
    for _ in range(700):
        observation, _, terminated, truncated, _ = plain.step(controller(observation))
        assert not terminated
        assert not truncated
    observation, _ = env.reset()
    outcomes = []
    while not outcomes or not any(outcomes[-1]):
        observation, _, *outcome, _ = env.step(controller(observation))
        outcomes.append(outcome)
    assert len(outcomes) == 500
    assert outcomes[-1] == [False, True]


def test_what_is_not_reset_does_not_step():
    env, envs = ContinuousCartPoleEnv(), ContinuousCartPoleVectorEnv(2)
    for each in (env, envs):
        with pytest.raises(ResetNeeded) as caught:
            each.step(np.zeros(each.action_space.shape))
        one_sentence(caught.value, "reset()")
    env.reset()
    env.state = np.array([3.0, 0, 0, 0])
    assert env.step(np.zeros(1))[2]
    with pytest.raises(ResetNeeded) as caught:
        env.step(np.zeros(1))
    one_sentence(caught.value, "over", "reset()")
    env.reset()
    env.step(np.zeros(1))


# Actions


@pytest.mark.parametrize("size", [1.5, 7, 1e300])
def test_actions_outside_the_bounds_are_clipped(size):
    env, envs = ContinuousCartPoleEnv(), ContinuousCartPoleVectorEnv(2)
    outcomes = []
    for factor in (1, size):
        env.reset(seed=0), envs.reset(seed=0)
        outcomes.append((env.step(np.array([factor]))[0], envs.step(np.array([[factor], [-factor]]))[0]))
    np.testing.assert_array_equal(outcomes[0][0], outcomes[1][0])
    np.testing.assert_array_equal(outcomes[0][1], outcomes[1][1])


# A Gymnasium environment like any other


@pytest.mark.parametrize("arguments", [{}, {"dtype": "float64"}, LIKE_DISCRETE, {"render_mode": "rgb_array"}])
def test_gymnasiums_checker_finds_nothing_to_remark(arguments, no_screen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(CONTINUOUS_CARTPOLE, **arguments).unwrapped)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_type_is_that_of_observations_actions_and_rewards(dtype):
    env, envs = gym.make(CONTINUOUS_CARTPOLE, dtype=dtype), gym.make_vec(CONTINUOUS_CARTPOLE, num_envs=3, dtype=dtype)
    for each in (env, envs):
        assert each.observation_space.dtype == each.action_space.dtype == dtype
        observation, _ = each.reset(seed=0)
        after, reward, *_ = each.step(each.action_space.sample())
        assert observation.dtype == after.dtype == dtype
        assert observation in each.observation_space
        np.testing.assert_array_equal(after, each.unwrapped.state.T.astype(dtype))
    assert reward.dtype == dtype
    assert each.unwrapped.state.dtype == np.float64


# Pictures


def test_frames_are_those_of_cartpole(no_screen):
    frames = []
    for env in (CartPoleEnv(render_mode="rgb_array"), ContinuousCartPoleEnv(render_mode="rgb_array")):
        env.reset(seed=0)
        env.state = np.array([0.7, 0, 0.2, 0])
        frames.append(env.render())
        env.close()
    assert frames[0].shape == (400, 600, 3)
    np.testing.assert_array_equal(*frames)


# With the course's tools
