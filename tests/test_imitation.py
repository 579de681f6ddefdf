"""Lesson 15's first half: hands that err as they are told to, demonstrations, and pupils that learn from them."""

import numpy as np
import pytest
import torch

from cartpole_lessons.algorithms import imitation
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork
from cartpole_lessons.environment import make_env
from cartpole_lessons.hyperparameters import kind_of

GAINS = [0.0, 0.0, 1.0, 0.0]  # pushes to where the pole leans


def leaning(*angles):
    return [np.array([0, 0, angle, 0], dtype=np.float32) for angle in angles]


def test_a_steady_hand_pushes_by_the_rule():
    hand = imitation.Hand(GAINS)
    assert [hand.push(observation) for observation in leaning(1, -1, -1, 1, 1)] == [1, 0, 0, 1, 1]


@pytest.mark.parametrize("delay", [1, 3])
def test_a_late_hand_pushes_for_what_it_saw_that_many_steps_ago(delay):
    angles = np.random.default_rng(0).choice([-1, 1], size=40)
    hand = imitation.Hand(GAINS, delay=delay)
    pushes = [hand.push(observation) for observation in leaning(*angles)]
    assert pushes[delay:] == [int(angle > 0) for angle in angles[:-delay]]


def test_a_trembling_hand_slips_as_often_as_it_is_told():
    hand = imitation.Hand(GAINS, tremor=0.1)
    slips = [1 - hand.push(observation) for observation in leaning(*np.ones(4_000))]
    assert 0.08 < np.mean(slips) < 0.12


def test_a_hand_that_looks_away_goes_on_pushing_for_at_most_nine_steps():
    hand = imitation.Hand(GAINS, wandering=1.0)
    angles = np.random.default_rng(1).choice([-1, 1], size=2_000)
    pushes = [hand.push(observation) for observation in leaning(*angles)]
    right = np.array([push == (angle > 0) for push, angle in zip(pushes, angles, strict=True)])
    assert right.mean() < 0.75
    runs = np.diff(np.flatnonzero(np.diff(pushes, prepend=1 - pushes[0], append=1 - pushes[-1])))
    assert runs.max() > 5
    # Whoever looks up sees at least one step before looking away again.
    assert right.reshape(-1, 10).any(1).all()


def test_a_demonstration_holds_what_was_seen_and_what_the_hand_said():
    seen, said = imitation.demonstrate(make_env(seed=0), imitation.teacher_hands("lqr")[0])
    assert (seen.shape, seen.dtype, said.shape, said.dtype) == ((500, 4), torch.float32, (500,), torch.int64)
    again = imitation.teacher_hands("lqr")[0]
    assert [again.push(observation) for observation in seen.numpy()] == said.tolist()


def test_who_drives_decides_where_it_goes_and_the_hand_only_comments():
    class AlwaysRight(PolicyNetwork):
        def actions(self, observations, deterministic):
            return torch.ones(len(observations), dtype=torch.long)

    seen, said = imitation.demonstrate(make_env(seed=0), imitation.teacher_hands("lqr")[0], AlwaysRight())
    assert len(seen) < 15
    assert seen[-1, 1] > 1  # m/s: it was pushed to the right all the time
    assert 0 in said.tolist()


def test_fitting_makes_the_policy_do_as_it_was_shown():
    torch.manual_seed(0)
    policy, observations = PolicyNetwork(), torch.randn(500, 4)
    pushes = (observations[:, 2] > 0).long()
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    first = imitation.fit(policy, optimizer, observations, pushes, updates=1)
    last = imitation.fit(policy, optimizer, observations, pushes, updates=100)
    assert last < first / 2
    assert (policy.act(observations) == pushes).float().mean() > 0.95


@pytest.mark.parametrize("settings", [{}, {"teacher": "mixture", "dagger": True}, {"teacher": "shaky", "dagger": True}])
def test_pupils_are_perfect_within_the_steps_that_they_may_watch(settings):
    result = imitation.train(seed=0, **settings)
    assert result.evaluation.perfect
    assert result.env_steps < 15_000


def test_every_teacher_that_there_is_can_be_chosen():
    assert set(kind_of(imitation.train, "teacher").__args__) == set(imitation.TEACHERS)
