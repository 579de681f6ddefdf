"""Lesson 16's exported pieces: the drawing against Gymnasium's pictures, what each network is shown, what is remembered, and that it learns."""

import numpy as np
import pytest
import torch

from cartpole_lessons.algorithms.pixels import (
    COLUMNS,
    ROWS,
    Eye,
    Glance,
    PictureDQN,
    PictureLearner,
    PictureNetwork,
    PictureValues,
    draw,
    two_pictures,
)
from cartpole_lessons.algorithms.recurrent import MemoryLearner
from cartpole_lessons.environment import make_env


@pytest.mark.parametrize("state", [[0, 0, 0, 0], [1.7, 0, 0.2, 0], [-2.0, 0, -0.15, 0], [0.33, 0, 0.01, 0]])
def test_the_drawing_is_gymnasiums_picture_made_small(state):
    env = make_env(render="rgb_array", seed=0)
    env.reset()
    env.unwrapped.state = np.array(state, dtype=float)
    grey = (1 - env.render()[100:340].mean(-1) / 255).reshape(ROWS, 10, COLUMNS, 10).mean((1, 3))
    (ours,) = draw(np.array([state]))
    assert np.abs(ours - grey).mean() < 0.02
    assert np.abs(ours - grey).max() < 0.5


def test_velocities_cannot_be_seen_in_one_picture_and_can_in_two():
    still, moving = np.array([[0.1, 0.0, 0.05, 0.0]]), np.array([[0.1, 2.0, 0.05, -1.0]])
    np.testing.assert_array_equal(draw(still), draw(moving))
    seen = two_pictures(draw(still), draw(still + np.array([0.02, 0, 0.01, 0])))
    assert seen.shape == (1, 2, ROWS, COLUMNS)
    assert seen[0, 1].abs().max() > 0.1
    assert (two_pictures(draw(still), draw(still))[0, 1] == 0).all()


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_network_answers_for_each_row_and_one_picture_means_one(pictures):
    network = PictureNetwork(pictures)
    seen = torch.rand(5, 2, ROWS, COLUMNS)
    logits, values = network(seen)
    assert (logits.shape, values.shape) == ((5, 2), (5,))
    changed = seen.clone()
    changed[:, 1] += 1
    assert torch.equal(network(changed)[0], logits) is (pictures == 1)


def test_after_a_reset_nothing_seems_to_move():
    learner = PictureLearner(seed=0, num_envs=4)
    for _ in range(60):
        done = learner.done.copy()
        learner.step(torch.ones(4, dtype=torch.int64))
        moved = np.abs(learner.eye.now - learner.eye.before).max((1, 2)) > 0
        assert not moved[done].any()
    assert len(learner.durations) > 8


@pytest.mark.parametrize(("kind", "env_steps"), [(PictureLearner, 12_000), (MemoryLearner, 4_000)])
def test_it_learns(kind, env_steps):
    learner = kind(seed=0)
    before = learner.play(episodes=20).mean()
    learner.practise(env_steps)
    assert learner.env_steps >= env_steps
    assert learner.play(episodes=20).mean() > before + 20


def test_the_dqn_learns_from_what_happened_and_sees_what_the_eye_would_see():
    learner = PictureDQN(seed=0)
    learner.practise(1_100)
    batch = learner.memory.sample(500)
    assert len(learner.memory) == learner.env_steps
    # Positions of two steps in a row: what is now is what the next step calls before.
    goes_on = batch.discounts > 0
    assert torch.equal(batch.next_observations[goes_on, 2:], batch.observations[goes_on, :2])
    assert 0 < (~goes_on).sum() < 500

    states, then = np.random.default_rng(0).uniform(-0.2, 0.2, (2, 5, 4)).astype(np.float32)
    eye, glance, nothing_began = Eye(states), Glance(states), np.zeros(5, dtype=bool)
    eye.look(then, nothing_began)
    glance.look(then, nothing_began)
    values = PictureValues()
    torch.testing.assert_close(values(glance.sees), 100 + 10 * values.pictures(eye.sees)[0])


def test_the_memory_is_shown_no_velocity_and_is_wiped_where_an_episode_begins():
    learner = MemoryLearner(seed=0, num_envs=4)
    states = np.random.default_rng(0).uniform(-0.2, 0.2, (4, 4)).astype(np.float32)
    faster = states + np.array([0, 1, 0, -1], dtype=np.float32)
    (seen, began), (same, _) = learner.glance(Glance(states)), learner.glance(Glance(faster))
    assert torch.equal(seen, same)
    assert began.all()

    full, empty = torch.ones(4, 32), torch.zeros(4, 32)
    with torch.no_grad():
        wiped, kept = (learner.network(seen, full, torch.full((4,), each))[2] for each in (True, False))
        fresh = learner.network(seen, empty, began)[2]
    assert torch.equal(wiped, fresh)
    assert not torch.equal(kept, fresh)


def test_without_a_memory_every_step_is_the_first():
    learner = MemoryLearner(seed=0, num_envs=4, remembers=False)
    glance = Glance(np.zeros((4, 4), dtype=np.float32))
    glance.look(np.zeros((4, 4), dtype=np.float32), np.zeros(4, dtype=bool))
    assert learner.glance(glance)[1].all()
    assert not MemoryLearner(seed=0, num_envs=4).glance(glance)[1].any()


def test_a_training_that_goes_nowhere_begins_anew_and_its_steps_go_on_counting():
    learner = MemoryLearner(seed=0, num_envs=4)
    learner.patience = 300
    learner.learn()
    first = learner.network
    learner.learn()
    assert (learner.network is first, learner.env_steps > 300) == (True, True)
    learner.learn()
    assert learner.network is not first
    assert learner.began_at > 300
    assert learner.env_steps > learner.began_at
    assert learner.optimizer.param_groups[0]["lr"] == 0.005  # the pace is that of a beginning


def test_its_first_ratios_are_one_so_that_the_memory_is_taken_up_where_it_was():
    """What the network says of the stretch that was collected is what it said while collecting."""
    learner = MemoryLearner(seed=0)
    for _ in range(3):
        learner.learn()
    memory = learner.memory
    began, got = learner.collect(64)
    with torch.no_grad():
        for step in range(64):
            logits, _, memory = learner.network(got.seen[step], memory, began[step])
            again = logits.log_softmax(-1).gather(-1, got.actions[step, :, None]).squeeze(-1)
            torch.testing.assert_close(again, got.log_probs[step])
