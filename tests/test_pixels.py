"""Lesson 16's exported pieces: the drawing against Gymnasium's pictures, what the network is shown, and that it learns."""

import numpy as np
import pytest
import torch

from cartpole_lessons.algorithms.pixels import COLUMNS, ROWS, PictureLearner, PictureNetwork, draw, play_pictures, two_pictures
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


def test_it_learns_from_pictures():
    learner = PictureLearner(seed=0)
    before = play_pictures(learner.network, episodes=20).mean()
    learner.practise(12_000)
    assert learner.env_steps >= 12_000
    assert play_pictures(learner.network, episodes=20).mean() > before + 20
