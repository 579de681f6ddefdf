"""The contract that every lesson's `train` keeps, held up to each of them: see "The contract" in CONTRIBUTING.md."""

import contextlib
import functools
import inspect
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import global_state_untouched, one_sentence, same_result

from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons.hyperparameters import hyperparameters_of, kind_of, plain_type
from cartpole_lessons.lessons import lessons, load_lesson, load_policy
from cartpole_lessons.video import record

#: All lessons with a `train` that `@training` made.
LEARNERS = {name: train for name in lessons() if hasattr(train := load_lesson(name).train, "__wrapped__")}
OBSERVATIONS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
STEPS = 500
BOTH_KINDS = {"hand_made", "augmented_random_search", "learned_model"}  # of pushes


@functools.cache
def trained(name):
    return LEARNERS[name](seed=3, max_steps=STEPS)


@pytest.fixture(params=LEARNERS)
def learner(request):
    return request.param


def test_these_are_the_lessons_that_learn():
    assert set(LEARNERS) >= {
        "hand_made", "policy_gradient", "reinforce", "actor_critic", "ppo", "dqn", "better_dqn", "gaussian_reinforce", "augmented_random_search",
        "imitation", "preferences",
    }  # fmt: skip


def test_a_result_holds_what_the_contract_says(learner):
    result = trained(learner)
    history = result.history
    assert (result.lesson, result.seed, result.interrupted) == (learner, 3, False)
    assert result.env_id == inspect.signature(LEARNERS[learner]).parameters["env_id"].default
    # An update that had begun is finished; the longest plays 16 whole episodes.
    assert result.env_steps < STEPS + 16 * 500
    if learner != "hand_made":  # which takes no step
        assert history.evaluations[-1][0] == result.env_steps
        assert result.env_steps >= STEPS or result.evaluation.perfect
        assert history.episode_returns
        assert history.episode_ends == sorted(history.episode_ends)
        assert history.episode_ends[-1] <= result.env_steps
    assert all(np.isfinite(value) for points in history.metrics.values() for _, value in points)
    assert len(history.to_frame()) == len(history.to_csv().splitlines()) - 1
    assert result.seconds > 0
    json.dumps(result.summary())


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        *((name, {}) for name in LEARNERS),
        ("policy_gradient", {"method": "blended_targets"}),
        ("policy_gradient", {"env_id": "CartPole-v0"}),
        ("reinforce", {"env_id": "CartPole-v0"}),
        ("augmented_random_search", {"env_id": "CartPole-v1"}),
        ("augmented_random_search", {"method": "basic", "step_size": 0.001}),
        ("augmented_random_search", {"normalise_observations": True}),  # V2 of the paper
    ],
)
def test_it_solves_its_environment_and_holds_on_other_episodes(name, keywords):
    result = LEARNERS[name](seed=1, **keywords)
    assert result.solved
    # Judged again from outside, on episodes that this training has never seen.
    assert evaluate(result.policy, result.env_id, seed=12_345).solved


def test_its_policy_acts_as_promised_can_be_evaluated_filmed_saved_and_loaded(learner, tmp_path):
    result = trained(learner)
    actions = result.policy.act(OBSERVATIONS)
    assert actions.shape[0] == 50
    assert np.array_equal(result.policy.act(OBSERVATIONS[7]), actions[7])
    assert record(result.policy, result.env_id, max_steps=2).frames == 3
    loaded = load_policy(result.save(tmp_path / "policy.npz"))
    assert type(loaded) is type(result.policy)
    again = evaluate(loaded, result.env_id, seed=result.evaluation.seed)
    assert again.returns.tolist() == result.evaluation.returns.tolist()


def test_the_same_seed_gives_the_same_result_beside_other_trainings_and_nothing_around_it_changes(learner):
    def train(seed):
        return LEARNERS[learner](seed=seed, max_steps=STEPS)

    with global_state_untouched(), ThreadPoolExecutor(2) as pool:
        again, other = pool.map(train, (3, 4))
    assert again.history.to_csv() == trained(learner).history.to_csv()
    assert same_result(again, trained(learner))
    if again.env_steps:
        assert other.history.to_csv() != again.history.to_csv()


@contextlib.contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def without_gradients():
    with torch.no_grad(), torch.device("meta"):
        yield


SURROUNDINGS = {"float64 and autocast": float64, "no_grad and another device": without_gradients, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_what_a_notebook_has_set_of_torch_changes_nothing(learner, surroundings):
    with SURROUNDINGS[surroundings](), global_state_untouched():
        result = LEARNERS[learner](seed=3, max_steps=STEPS)
    assert same_result(result, trained(learner))
    with SURROUNDINGS[surroundings]():
        assert evaluate(result.policy, result.env_id, seed=result.evaluation.seed).mean == result.evaluation.mean


def test_numbers_of_numpy_and_devices_of_torch_are_taken_for_what_they_are_and_can_be_saved(learner, tmp_path):
    train = LEARNERS[learner]
    given, plain = {}, {}
    for name, parameter in hyperparameters_of(train).items():
        value = parameter.default
        kind = plain_type(kind_of(train, name))
        if name == "device":
            given[name], plain[name] = torch.device(value), value
        elif kind is int:
            given[name], plain[name] = np.int64(value), value
        elif kind is float:
            given[name] = np.float32(value)
            plain[name] = float(given[name])
    result = train(seed=np.uint32(3), max_steps=np.int64(100), **given)
    assert {name: result.hyperparameters[name] for name in plain} == plain
    assert all(type(result.hyperparameters[name]) is type(plain[name]) for name in plain)
    assert load_policy(result.save(tmp_path / "policy.npz")).act(OBSERVATIONS).shape[0] == 50


def test_an_environment_that_it_cannot_learn_is_refused_in_one_sentence(learner):
    own = inspect.signature(LEARNERS[learner]).parameters["env_id"].default
    other = [] if learner in BOTH_KINDS else [CONTINUOUS_CARTPOLE if own == "CartPole-v1" else "CartPole-v1"]
    for env_id in ["Acrobot-v1", "Pendulum-v1", *other]:
        with pytest.raises(InvalidInput) as caught:
            LEARNERS[learner](env_id=env_id)
        one_sentence(caught.value, env_id)
