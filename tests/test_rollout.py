"""Whole episodes, and steps that run on from batch to batch: nothing that autoreset does gets into either."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import (
    GOOD_DIRECTION,
    LinearPolicy,
    ScriptedEnvs,
    good_controller,
    linear_policy,
)
from hypothesis import given, settings

from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.environment import make_env, make_envs
from cartpole_lessons.errors import InvalidAction
from cartpole_lessons.rollout import StepCollector, collect_episodes, play_episode

LIMIT = 20
#: Of up to 5 environments: the lengths of the episodes that each would play, more than fit before the longest first one ends.
lengths = st.lists(st.lists(st.integers(1, LIMIT + 5), min_size=1, max_size=4), min_size=1, max_size=5)


# Whole episodes


@given(lengths)
def test_the_mask_is_true_while_the_first_episode_lasts(lengths):
    episodes = collect_episodes(ScriptedEnvs(lengths, LIMIT), linear_policy(GOOD_DIRECTION))
    first = [min(own[0], LIMIT) for own in lengths]
    slow = [[t < length for length in first] for t in range(max(first))]
    assert episodes.mask.tolist() == slow
    assert episodes.lengths.tolist() == first
    assert episodes.returns.tolist() == first
    assert episodes.env_steps == sum(first)


@given(lengths)
def test_an_episode_ends_when_all_environments_together_have_taken_so_many_steps(lengths):
    episodes = collect_episodes(ScriptedEnvs(lengths, LIMIT), linear_policy(GOOD_DIRECTION))
    assert episodes.ends.tolist() == [int(episodes.mask[:length].sum()) for length in episodes.lengths]
    assert episodes.ends.max() == episodes.env_steps


@given(lengths)
def test_truncated_episodes_are_told_from_terminated_ones(lengths):
    episodes = collect_episodes(ScriptedEnvs(lengths, LIMIT), linear_policy(GOOD_DIRECTION))
    # An episode whose pole falls in the very step of the time limit is terminated: there is nothing after it to hope for.
    assert episodes.terminated.tolist() == [own[0] <= LIMIT for own in lengths]
    assert episodes.truncated.tolist() == [own[0] > LIMIT for own in lengths]


@given(lengths)
def test_rewards_and_observations_are_those_of_the_first_episode(lengths):
    episodes = collect_episodes(ScriptedEnvs(lengths, LIMIT), linear_policy(GOOD_DIRECTION))
    assert torch.equal(episodes.rewards, episodes.mask.float())
    # These environments count: the policy sees 0 at the start, then 1, and so on to the episode's end.
    for i, length in enumerate(episodes.lengths):
        assert episodes.observations[:length, i, 0].tolist() == list(range(length))


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 5), st.floats(-1, 1), st.floats(-1, 1))
def test_replaying_the_actions_one_environment_at_a_time_gives_the_same_episodes(seed, num_envs, angle, speed):
    policy = linear_policy((0.0, 0.0, angle, speed))
    with seeded(seed):
        episodes = collect_episodes(make_envs("CartPole-v0", num_envs, seed=seed), policy)
    for i in range(num_envs):
        env = make_env("CartPole-v0")
        env.reset()
        for t in range(episodes.lengths[i]):
            # Step by step from what the policy saw: over many steps the rounding of a float32 would grow.
            env.unwrapped.state = episodes.observations[t, i].double().numpy()
            after, _, terminated, truncated, _ = env.step(int(episodes.actions[t, i]))
            if t < episodes.lengths[i] - 1:
                np.testing.assert_allclose(after, episodes.observations[t + 1, i], atol=1e-5)
                assert not terminated
                assert not truncated
        assert (terminated, truncated and not terminated) == (episodes.terminated[i], episodes.truncated[i])


def test_shapes_and_dtypes_are_those_promised():
    episodes = collect_episodes(make_envs("CartPole-v1", 6, seed=0), LinearPolicy())
    steps = int(episodes.lengths.max())
    assert (episodes.observations.shape, episodes.observations.dtype) == ((steps, 6, 4), torch.float32)
    assert (episodes.actions.shape, episodes.actions.dtype) == ((steps, 6), torch.int64)
    assert (episodes.rewards.shape, episodes.rewards.dtype) == ((steps, 6), torch.float32)
    assert (episodes.mask.shape, episodes.mask.dtype) == ((steps, 6), torch.bool)
    assert (episodes.terminated.shape, episodes.truncated.shape) == ((6,), (6,))
    assert (episodes.lengths.dtype, episodes.returns.dtype) == (torch.int64, torch.float32)
    assert type(episodes.env_steps) is int
    assert {tensor.device.type for tensor in vars(episodes.to("meta")).values()} == {"meta"}


@pytest.mark.parametrize(("env_id", "limit"), [("CartPole-v0", 200), ("CartPole-v1", 500)])
def test_a_balanced_pole_is_truncated_at_the_time_limit(env_id, limit):
    episodes = collect_episodes(make_envs(env_id, 3, seed=0), linear_policy([100 * weight for weight in GOOD_DIRECTION]))
    assert episodes.lengths.tolist() == [limit] * 3
    assert episodes.truncated.all()
    assert not episodes.terminated.any()


def test_forces_are_collected_as_forces():
    pendulums = make_envs("Pendulum-v1", 2, seed=0)
    episodes = collect_episodes(pendulums, lambda observations: np.full((2, 1), 0.5, dtype=np.float32))
    assert (episodes.actions.shape, episodes.actions.dtype) == ((200, 2, 1), torch.float32)
    assert (episodes.actions == 0.5).all()


def test_actions_are_drawn_as_in_training_and_every_call_plays_new_episodes():
    policy, envs = LinearPolicy(), make_envs("CartPole-v1", 8, seed=0)
    first, second = (collect_episodes(envs, policy) for _ in range(2))
    assert not torch.equal(policy.act(first.observations[first.mask]), first.actions[first.mask])
    assert not torch.equal(first.observations[0], second.observations[0])


def test_one_episode_yields_its_start_and_what_each_step_led_to():
    policy = linear_policy(GOOD_DIRECTION)
    observations = list(play_episode(make_env("CartPole-v0", seed=3), policy))
    assert len(observations) == 201
    np.testing.assert_array_equal(observations[0], make_env("CartPole-v0", seed=3).reset()[0])
    with pytest.raises(InvalidAction):
        list(play_episode(make_env(), lambda observations: np.array([2])))


# Steps that run on


def concatenated(batches, name):
    return torch.cat([getattr(batch, name) for batch in batches])


@settings(max_examples=50)
@given(lengths, st.integers(1, 30), st.integers(1, 4))
def test_batches_are_one_long_rollout_cut_in_pieces(lengths, steps, batches):
    collector = StepCollector(ScriptedEnvs(lengths, LIMIT), steps)
    pieces = [collector.collect(linear_policy(GOOD_DIRECTION)) for _ in range(batches)]
    whole = StepCollector(ScriptedEnvs(lengths, LIMIT), steps * batches).collect(linear_policy(GOOD_DIRECTION))
    for name in ("rewards", "terminated", "truncated", "mask"):
        assert torch.equal(concatenated(pieces, name), getattr(whole, name))
    assert torch.equal(torch.cat([piece.observations[:-1] for piece in pieces]), whole.observations[:-1])
    assert [value for piece in pieces for value in piece.returns] == whole.returns
    assert sum(piece.env_steps for piece in pieces) == whole.env_steps
    # What a batch's last step led to is where the next batch starts.
    for piece, following in itertools.pairwise(pieces):
        assert torch.equal(piece.observations[-1], following.observations[0])


@given(lengths, st.integers(1, 60))
def test_steps_are_told_from_resets_and_terminated_from_truncated_ones(lengths, steps):
    batch = StepCollector(ScriptedEnvs(lengths, LIMIT), steps).collect(linear_policy(GOOD_DIRECTION))
    for i, own in enumerate(lengths):
        rows = []  # (real, terminated, truncated) of each step that environment i takes
        for episode in range(steps):
            length = own[min(episode, len(own) - 1)]
            rows += [(True, False, False)] * (min(length, LIMIT) - 1)
            rows += [(True, length <= LIMIT, length > LIMIT), (False, False, False)]
        mask, terminated, truncated = zip(*rows[:steps], strict=True)
        assert batch.mask[:, i].tolist() == list(mask)
        assert batch.terminated[:, i].tolist() == list(terminated)
        assert batch.truncated[:, i].tolist() == list(truncated)
    assert torch.equal(batch.rewards, batch.mask.float())


@given(lengths, st.integers(1, 60))
def test_returns_are_those_of_the_episodes_that_ended(lengths, steps):
    batch = StepCollector(ScriptedEnvs(lengths, LIMIT), steps).collect(linear_policy(GOOD_DIRECTION))
    ended = [(t, i) for t in range(steps) for i in range(len(lengths)) if batch.terminated[t, i] or batch.truncated[t, i]]
    # These environments count, so that what the last step led to is the episode's length.
    assert batch.returns == [batch.observations[t + 1, i, 0].item() for t, i in ended]
    assert batch.ends == [int(batch.mask[: t + 1].sum()) for t, _ in ended]
    assert all(isinstance(value, float) for value in batch.returns)


def test_steps_of_cartpole_have_the_shapes_promised():
    collector = StepCollector(make_envs("CartPole-v1", 6, seed=0), 40)
    batch = collector.collect(LinearPolicy())
    assert (batch.observations.shape, batch.observations.dtype) == ((41, 6, 4), torch.float32)
    assert (batch.actions.shape, batch.actions.dtype) == ((40, 6), torch.int64)
    assert (batch.rewards.shape, batch.rewards.dtype) == ((40, 6), torch.float32)
    for flags in (batch.terminated, batch.truncated, batch.mask):
        assert (flags.shape, flags.dtype) == ((40, 6), torch.bool)
    assert type(batch.env_steps) is int
    assert batch.env_steps + sum(~batch.mask.flatten()) == 40 * 6
    moved = batch.to("meta")
    assert {tensor.device.type for tensor in vars(moved).values() if isinstance(tensor, torch.Tensor)} == {"meta"}
    assert (moved.returns, moved.ends) == (batch.returns, batch.ends)


def test_steps_are_drawn_as_in_training_or_chosen_by_a_function():
    policy = LinearPolicy()
    batch = StepCollector(make_envs("CartPole-v1", 8, seed=0), 50).collect(policy)
    assert not torch.equal(policy.act(batch.observations[:-1][batch.mask]), batch.actions[batch.mask])
    assert StepCollector(make_envs("CartPole-v1", 2, seed=0), 500).collect(good_controller).truncated[-1].all()
