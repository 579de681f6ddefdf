"""Signs of health: watching changes nothing, sound trainings are healthy, and bugs that no learning curve shows are seen."""

import numpy as np
import pytest

from cartpole_lessons.algorithms import actor_critic, dqn, gaussian_reinforce, policy_gradient, ppo
from cartpole_lessons.bugs import BUGS
from cartpole_lessons.diagnostics import BIN, SIGNS, Diagnosis, diagnose, watched
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.study import read_figures


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        (policy_gradient, {"start_value", "explained_variance"}),
        (actor_critic, set()),
        (ppo, set()),
        (dqn, {"entropy", "approximate_kl"}),
    ],
)
def test_a_watched_training_takes_the_same_steps_and_shows_every_sign_that_it_can_have(module, missing):
    seen, alone = watched(module.train, seed=1, max_steps=1_500), module.train(seed=1, max_steps=1_500)
    assert seen.history.episode_returns == alone.history.episode_returns
    assert seen.history.evaluations == alone.history.evaluations
    assert seen.history.losses == alone.history.losses
    assert set(SIGNS) - set(seen.history.metrics) == missing
    for sign in set(SIGNS) - missing:
        assert np.isfinite(seen.history.metrics[sign]).all()


def test_signs_are_what_they_are_called():
    metrics = {name: np.array(points)[:, 1] for name, points in watched(ppo.train, seed=2, max_steps=1_500).history.metrics.items()}
    assert metrics["entropy"][0] == pytest.approx(np.log(2), abs=0.05)
    assert metrics["greedy_share"][0] == pytest.approx(0.5, abs=0.1)
    assert metrics["start_value"][-1] > metrics["start_value"][0] + 2
    assert (metrics["approximate_kl"] >= 0).all()
    assert (metrics["explained_variance"] <= 1).all()


def test_a_diagnosis_names_the_signs_of_a_bug_and_draws_them():
    diagnosis = diagnose(BUGS["zero_grad"].train, seed=0, max_steps=4_000)
    assert "gradient_norm" in diagnosis.unhealthy
    (line,) = (line for line in str(diagnosis).splitlines() if "gradient_norm" in line)
    assert line.endswith("<- look here")
    titles = [ax.get_title() for ax in diagnosis.plot().axes if ax.get_title()]
    assert titles == [sign.replace("_", " ") for sign in diagnosis.signs]


def test_readings_are_compared_with_the_range_of_their_steps():
    class Training:
        class history:
            metrics = {"entropy": [(10, 0.5), (BIN + 10, 0.5), (BIN + 20, 0.1), (2 * BIN + 1, float("nan")), (3 * BIN, 9.0)]}  # noqa: RUF012

    diagnosis = Diagnosis(Training, {"entropy": [[0.4, 0.6], [0.0, 0.3], [0.0, 1.0], None]})
    assert diagnosis.outside("entropy") == (0, 0.5)  # two of four: one too large, one no number; the last has no range
    assert diagnosis.unhealthy == []


@pytest.mark.parametrize(
    ("train", "why"), [(gaussian_reinforce.train, "no ranges for gaussian_reinforce"), (print, "written as these are")]
)
def test_what_cannot_be_judged_is_named(train, why):
    with pytest.raises(InvalidInput, match=why):
        diagnose(train) if train is not print else watched(train)


def test_published_signs_tell_sound_trainings_from_those_that_a_bug_keeps_from_learning():
    unhealthy = read_figures("diagnostics")["unhealthy"]
    sound = [count for row, counts in unhealthy.items() if row not in BUGS for count in counts]
    assert np.mean(np.array(sound) >= 2) <= 0.15
    for row in ("past_returns", "wrong_shape", "same_object", "endless_future", "last_step_dropped"):
        assert np.mean(np.array(unhealthy[row]) >= 2) >= 0.9, row
