"""Lesson 15's second half: a judge, a reward model that explains its answers, and an apprentice that has nothing else."""

import math

import numpy as np
import pytest
import torch

from cartpole_lessons.algorithms import preferences
from cartpole_lessons.algorithms.preferences import CLIP, HORIZON, LIMITS
from cartpole_lessons.rollout import StepCollector


def clip(angle=0.0, position=0.0):
    """A clip of a pole that is at this angle [rad], all the time or step by step."""
    states = torch.zeros(CLIP, 4)
    states[:, 0], states[:, 2] = torch.as_tensor(position), torch.as_tensor(angle)
    return states


def always_right(observations):
    return np.ones(len(observations), dtype=np.int64)


def test_nothing_ends_an_episode_but_the_horizon():
    steps = StepCollector(preferences.endless_envs("CartPole-v1", 4, seed=0), HORIZON + 1).collect(always_right)
    assert not steps.terminated.any()
    assert steps.truncated[HORIZON - 1].all()
    assert int(steps.truncated.sum()) == 4
    assert steps.env_steps == 4 * HORIZON
    assert (steps.observations[HORIZON, :, 2].abs() > LIMITS[1]).all()


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (clip(0.0), clip(0.3)),
        (clip(0.01), clip(0.1)),
        (clip(0.1), clip(0.0, position=3.0)),
        (clip(0.0, position=0.1), clip(0.0, position=-2.0)),
        # It counts for how long, not how well.
        (clip(0.2), clip(torch.cat([torch.zeros(CLIP - 1), torch.ones(1)]))),
    ],
)
def test_the_judge_prefers_who_stays_within_the_limits_longer_and_then_who_is_nearer_to_the_middle(better, worse):
    pair = torch.stack([better, worse])
    assert preferences.simulated_answers(pair, pair.flip(0)).tolist() == [1, 0]


def test_the_judge_errs_as_often_as_it_is_told():
    good, bad = (clip(angle).expand(4_000, CLIP, 4) for angle in (0.0, 0.3))
    torch.manual_seed(0)
    assert 0.78 < preferences.simulated_answers(good, bad, 0.2).mean() < 0.82
    assert preferences.simulated_answers(good, bad, 1.0).sum() == 0


def test_the_log_odds_are_the_difference_of_the_clips_summed_rewards():
    torch.manual_seed(0)
    model, first, second = preferences.RewardModel(), torch.randn(6, CLIP, 4), torch.randn(6, CLIP, 4)
    logits = preferences.preference_logits(model, first, second)
    by_hand = torch.stack(
        [sum(model(a)[:, step] - model(b)[:, step] for step in range(CLIP)) for a, b in zip(first, second, strict=True)], 1
    )
    torch.testing.assert_close(logits, by_hand, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(preferences.preference_logits(model, second, first), -logits)


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_pole_that_has_turned_right_round_is_paid_as_if_it_had_not(hidden):
    torch.manual_seed(0)
    model, states = preferences.RewardModel(hidden=hidden), torch.randn(10, 4)
    turned = states + torch.tensor([0, 0, 2 * math.pi, 0])
    torch.testing.assert_close(model(states), model(turned), atol=1e-5, rtol=1e-4)
    assert model(states.reshape(2, 5, 4)).shape == (3, 2, 5)


def test_questions_are_about_pairs_on_which_the_model_disagrees_with_itself():
    torch.manual_seed(0)
    model, clips = preferences.RewardModel(), torch.randn(40, CLIP, 4)

    def doubt(first, second):
        return preferences.preference_logits(model, first, second).sigmoid().var(0).mean()

    chosen = preferences.least_sure(model, clips, 20)
    assert chosen[0].shape == chosen[1].shape == (20, CLIP, 4)
    assert doubt(*chosen) > 1.5 * doubt(*preferences.least_sure(model, clips, 20, tries=1))


def test_the_model_comes_to_agree_with_the_answers_and_a_contrary_judge_makes_a_contrary_model():
    upright, fallen = clip(0.0).expand(40, CLIP, 4), clip(0.5).expand(40, CLIP, 4)
    for answer in (0.0, 1.0):
        torch.manual_seed(0)
        apprentice = preferences.Apprentice(seed=0)
        apprentice.hear(upright, fallen, torch.full((40,), answer))
        rewards = apprentice.model(torch.stack([upright[0], fallen[0]])).mean((0, 2))
        assert (rewards[0] > rewards[1]) == bool(answer)


def test_the_clips_to_ask_about_are_cut_from_the_last_episodes_and_never_across_two():
    torch.manual_seed(0)
    apprentice = preferences.Apprentice(seed=0, num_envs=2)
    for _ in range(5):
        steps = apprentice.play()
    assert apprentice.clips.shape == (3 * 4, CLIP, 4)
    torch.testing.assert_close(apprentice.clips[-4], steps.observations[1 : CLIP + 1, 0])
    # A cart moves by its velocity, but between two episodes it jumps.
    moved = apprentice.clips[:, 1:, 0] - apprentice.clips[:, :-1, 0]
    torch.testing.assert_close(moved, 0.02 * apprentice.clips[:, :-1, 1], atol=1e-5, rtol=1e-4)


def test_steps_upright_are_counted_until_the_first_fall():
    steps = StepCollector(preferences.endless_envs("CartPole-v1", 3, seed=0), HORIZON + 1).collect(always_right)
    angles = steps.observations[1 : HORIZON + 1, :, 2].numpy()
    by_hand = [int(np.argmax(np.abs(angle) >= LIMITS[1].item())) for angle in angles.T]
    assert preferences.steps_upright(steps) == by_hand
    assert max(by_hand) < 15


@pytest.mark.parametrize("seed", [0, 1])
def test_an_apprentice_balances_after_at_most_120_answers(seed):
    result = preferences.train(seed=seed)
    assert result.solved
    assert 0 < result.history.metrics["answers"][-1][1] <= 120


def test_the_judge_is_asked_no_more_often_than_agreed():
    result = preferences.train(seed=0, answers=10, wrong_answers=0.5, max_steps=2_000)
    assert [count for _, count in result.history.metrics["answers"]] == [4, 8, 10, 10, 10]
    assert max(result.history.episode_returns) <= HORIZON


def test_a_person_answers_by_two_buttons_and_may_stop_after_any_click():
    pytest.importorskip("ipywidgets")
    torch.manual_seed(0)
    apprentice = preferences.Apprentice(seed=0)
    panel = preferences.Panel(apprentice, answers_per_round=2)
    before = apprentice.actor.layers[0].weight.clone()
    for clicks, button in enumerate((panel.left, panel.right, panel.right), start=1):
        shown, films = panel.pair, panel.films.value
        button.click()
        assert len(apprentice.answers) == clicks
        torch.testing.assert_close(apprentice.first[-1:], shown[0])
        assert films.count("<video autoplay") == 2
        assert panel.films.value != films
    assert apprentice.answers.tolist() == [1, 0, 0]
    assert panel.words.value.startswith("2 answers; ")
    assert not torch.equal(apprentice.actor.layers[0].weight, before)
    assert apprentice.actor.act(np.zeros(4, dtype=np.float32)) in (0, 1)
