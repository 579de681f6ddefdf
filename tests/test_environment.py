"""Environments, alone and side by side: seeded as promised, and honest about which of their steps are real."""

import warnings

import gymnasium as gym
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import ScriptedEnvs, one_sentence
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings

from cartpole_lessons.environment import ENV_IDS, make_env, make_envs, valid_steps
from cartpole_lessons.errors import InvalidInput


def step_randomly(envs, steps, seed=0):
    """Rewards, terminated and truncated of random steps, each (steps, n)."""
    pushes = np.random.default_rng(seed).integers(0, 2, (steps, envs.num_envs))
    outcomes = [envs.step(push)[1:4] for push in pushes]
    return [torch.tensor(np.array(column)) for column in zip(*outcomes, strict=True)]


# One environment


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_first_reset_needs_no_seed(env_id):
    unseeded, _ = make_env(env_id, seed=42).reset()
    seeded, _ = make_env(env_id).reset(seed=42)
    np.testing.assert_array_equal(unseeded, seeded)


def test_later_resets_go_on_in_the_stream_of_the_seed():
    env, reference = make_env(seed=42), make_env()
    env.reset()
    reference.reset(seed=42)
    for _ in range(3):
        np.testing.assert_array_equal(env.reset()[0], reference.reset()[0])


def test_the_action_space_draws_from_a_stream_of_its_own():
    env = make_env(seed=42)
    assert env.action_space.np_random.bit_generator.state != env.unwrapped.np_random.bit_generator.state
    pushes = [env.action_space.sample() for _ in range(50)]
    again = make_env(seed=42)
    assert pushes == [again.action_space.sample() for _ in range(50)]
    # Seeded with the environment's own number, it would draw what the environment draws.
    in_step = gym.spaces.Discrete(2, seed=42)
    assert pushes != [in_step.sample() for _ in range(50)]


@pytest.mark.parametrize("make", [make_env, make_envs])
def test_version_0_greets_nobody_with_a_warning(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("CartPole-v0", seed=0)


def test_frames_need_no_screen(no_screen):
    env = make_env(seed=0, render="rgb_array")
    env.reset()
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((400, 600, 3), np.uint8)
    assert len(np.unique(frame)) > 2
    env.close()


# Many environments


def test_cartpoles_step_together_in_gymnasiums_own_vector_environment():
    envs = make_envs("CartPole-v1", 7, seed=0)
    assert isinstance(envs.unwrapped, CartPoleVectorEnv)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observations, _ = envs.reset()
    assert (observations.shape, observations.dtype) == ((7, 4), np.float32)
    _, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
    assert rewards.shape == terminated.shape == truncated.shape == (7,)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_first_reset_of_many_needs_no_seed_either(env_id):
    reference = make_envs(env_id, 5)
    np.testing.assert_array_equal(make_envs(env_id, 5, seed=42).reset()[0], reference.reset(seed=42)[0])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0"], ids=["with its own vector entry point", "without one"])
def test_same_seed_makes_many_environments_behave_the_same(env_id):
    first, second = make_envs(env_id, 3, seed=9), make_envs(env_id, 3, seed=9)
    other = make_envs(env_id, 3, seed=10)
    starts = [envs.reset()[0] for envs in (first, second, other)]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])
    samples = [np.array([envs.action_space.sample() for _ in range(20)]) for envs in (first, second, other)]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


def test_an_environment_whose_package_is_missing_is_refused_in_one_sentence(missing):
    missing("Box2D")
    for make in (make_env, make_envs):
        with pytest.raises(InvalidInput) as caught:
            make("LunarLander-v3")
        one_sentence(caught.value, "LunarLander-v3", "Box2D", "CartPole-v1")


def test_environments_that_reset_in_another_way_are_refused(monkeypatch):
    class SameStepEnvs(ScriptedEnvs):
        def __init__(self, num_envs, **kwargs):
            super().__init__([[3]] * num_envs)
            self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    monkeypatch.setitem(gym.registry, "SameStep-v0", gym.envs.registration.EnvSpec("SameStep-v0", vector_entry_point=SameStepEnvs))
    with pytest.raises(InvalidInput) as caught:
        make_envs("SameStep-v0", 2)
    one_sentence(caught.value, "SameStep-v0", "NEXT_STEP")


# Which steps are real


def slow_valid_steps(done, done_before):
    valid = torch.empty_like(done)
    for i in range(done.shape[1]):
        before = bool(done_before[i])
        for t in range(len(done)):
            valid[t, i] = not before
            before = bool(done[t, i])
    return valid


@st.composite
def rollouts(draw):
    n, steps = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    flags = st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=steps + 1, max_size=steps + 1)
    flags = torch.tensor(draw(flags))
    return flags[1:], flags[0]


@given(rollouts())
def test_valid_steps_are_those_that_follow_no_end(rollout):
    done, done_before = rollout
    assert torch.equal(valid_steps(done, done_before), slow_valid_steps(done, done_before))
    assert torch.equal(valid_steps(done), slow_valid_steps(done, torch.zeros_like(done_before)))


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 6), st.sampled_from(["CartPole-v0", "CartPole-v1", "MountainCar-v0"]))
def test_valid_steps_are_those_that_gymnasium_rewards(seed, num_envs, env_id):
    envs = make_envs(env_id, num_envs, seed=seed)
    envs.reset()
    rewards, terminated, truncated = step_randomly(envs, 250, seed)
    done = terminated | truncated
    assert done.any()
    # Every real step of these environments is worth 1 or -1; the step that only resets is worth 0.
    assert torch.equal(valid_steps(done), rewards != 0)
    assert torch.equal(valid_steps(done[100:], done[99]), rewards[100:] != 0)
