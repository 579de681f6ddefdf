"""The swing-up: the continuous CartPole's physics, another start, another reward, and the same conventions."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from cartpole_lessons.continuous import derivative
from cartpole_lessons.environment import make_env, make_envs
from cartpole_lessons.swing_up import STANDING, SWING_UP, wrapped


def test_gymnasiums_checker_finds_nothing(recwarn):
    check_env(make_env(SWING_UP).unwrapped)
    assert [str(warning.message) for warning in recwarn] == []


def test_an_episode_starts_hanging_and_pays_where_the_pole_stands():
    env = make_env(SWING_UP, seed=0)
    observation, _ = env.reset()
    assert abs(wrapped(observation[2] - np.pi)) < 0.05 + 1e-6
    for angle, reward in ((0.0, 1.0), (0.9 * STANDING, 1.0), (1.1 * STANDING, 0.0), (2 * np.pi, 1.0), (np.pi, 0.0)):
        env.unwrapped.state = np.array([0.0, 0.0, angle, 0.0])
        observation, paid, terminated, _, _ = env.step(np.zeros(1, np.float32))
        assert (paid, terminated) == (reward, False), angle
        assert env.observation_space.contains(observation)


def test_the_end_of_the_track_ends_an_episode_and_pays_nothing():
    env = make_env(SWING_UP, seed=0)
    env.reset()
    env.unwrapped.state = np.array([2.39, 5.0, 0.0, 0.0])
    assert env.step(np.zeros(1, np.float32))[1:3] == (0.0, True)


def test_a_step_is_the_continuous_cartpoles():
    env = make_env(SWING_UP, seed=0)
    env.reset()
    before = np.array([0.3, -1.0, 2.0, 3.0])
    env.unwrapped.state = before.copy()
    observation, *_ = env.step(np.float32([0.5]))
    np.testing.assert_allclose(observation, before + 0.02 * derivative(before, 5.0), rtol=1e-6)


def test_many_step_as_one_does_also_after_they_have_failed():
    envs = make_envs(SWING_UP, 3, seed=0)
    observations, _ = envs.reset()
    single = make_env(SWING_UP).unwrapped
    single.reset(seed=1)
    single.state = envs.unwrapped.state[:, 1].copy()
    rng, ended = np.random.default_rng(0), 0
    for _ in range(400):
        actions = np.full((3, 1), rng.uniform(0.2, 1), np.float32)
        observations, rewards, terminated, _, _ = envs.step(actions)
        seen, reward, over, _, _ = single.step(actions[1])
        np.testing.assert_array_equal(observations[1], seen)
        assert (rewards[1], terminated[1]) == (reward, over)
        if over:
            ended += 1
            observations, rewards, *_ = envs.step(actions)  # resets
            assert np.abs(wrapped(observations[1, 2] - np.pi)) < 0.05 + 1e-6
            assert rewards[1] == 0
            single.reset()
            single.state = envs.unwrapped.state[:, 1].copy()
    assert ended > 0


def test_a_picture_shows_the_whole_of_a_hanging_pole():
    env = make_env(SWING_UP, seed=0, render="rgb_array")
    env.reset()
    picture = env.render()
    pole = (picture == np.array([202, 152, 101])).all(-1)  # Gymnasium's colour of the pole
    assert pole.any()
    assert not pole[-1].any()
    assert env.unwrapped.x_threshold == pytest.approx(2.4)
