"""The stacked backend: every seed learns as the lesson says, and as if it were alone."""

import dataclasses
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import global_state_untouched, one_sentence

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.seeding import derive_seed, seeded
from cartpole_lessons.algorithms.gaussian_reinforce import GaussianPolicy
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork
from cartpole_lessons.environment import CONTINUOUS_CARTPOLE
from cartpole_lessons.errors import InvalidAction, InvalidInput
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons.hyperparameters import check_hyperparameters
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.study import read_study, run_study
from cartpole_lessons.study import stacked as module
from cartpole_lessons.study.stacked import STACKED, evaluate_each, stacked, train_stacked

SEEDS = [7, 0, 123]
#: Small enough that a few updates take no time, and unlike the defaults.
SETTINGS = {
    "policy_gradient": {"episodes_per_update": 3, "discount": 0.9, "hidden": 8},
    "actor_critic": {"num_envs": 3, "steps_per_update": 40, "entropy_bonus": 0.1, "hidden": 8},
    "ppo": {"num_envs": 3, "steps_per_update": 43, "epochs": 2, "minibatches": 3, "clip": 0.05, "hidden": 8},
    "gaussian_reinforce": {"episodes_per_update": 3, "epochs": 2, "minibatches": 3, "hidden": 8},
    "dqn": {"num_envs": 3, "learning_starts": 30, "updates_per_step": 0.3, "batch_size": 16, "capacity": 50, "hidden": 8},
}


class Written(np.random.Generator):
    """A seed's generator that writes down what it has drawn."""

    def __init__(self, generator):
        super().__init__(generator.bit_generator)
        self.drawn = []

    def random(self, *arguments):
        self.drawn.append(super().random(*arguments))
        return self.drawn[-1]


def env_of(lesson):
    return load_lesson(lesson).train.__signature__.parameters["env_id"].default


def settings_of(lesson):
    return check_hyperparameters(load_lesson(lesson).train, SETTINGS[lesson], lesson)


def rounds(lesson, seeds, count):
    """The stack of some seeds after so many rounds, what was collected in each, and what each seed's generator has drawn."""
    with course_arithmetic():
        stack = STACKED[lesson](seeds, env_of(lesson), settings_of(lesson), 1_000_000)
        for learner in stack.learners:
            learner.generator = Written(learner.generator)
        collected, collect = [], stack.collect
        stack.collect = lambda: collected.append(collect()) or collected[-1]
        for _ in range(count):
            module.one_round(stack)
    return stack, collected, [learner.generator.drawn for learner in stack.learners]


def of_seed(collected, position, n):
    """What was collected, but only by the n environments of one seed."""
    columns = slice(position * n, (position + 1) * n)
    tensors = {name: value for name, value in vars(collected).items() if isinstance(value, torch.Tensor)}
    tensors = {name: value[:, columns] if value.ndim > 1 else value[columns] for name, value in tensors.items()}
    return dataclasses.replace(collected, **tensors)


class LessonsOwn:
    """Stands in for a `Run` in which the lesson's own `train` gets the batches of a stacked seed, and the orders that it has drawn."""

    def __init__(self, lesson, seed, batches, drawn, monkeypatch):
        self.seed, self.env_id, self.env_steps, self.metrics = seed, env_of(lesson), 0, []
        self.batches, settings, own = iter(batches), settings_of(lesson), load_lesson(lesson)
        if lesson in ("policy_gradient", "gaussian_reinforce"):
            monkeypatch.setattr(own, "collect_episodes", lambda *_: self.batch)
        else:
            monkeypatch.setattr(own, "StepCollector", lambda *_: SimpleNamespace(collect=lambda *_, **__: self.batch))
        orders = (keys for each in drawn if len(each) == settings.get("epochs") for keys in each)
        monkeypatch.setattr(torch, "randperm", lambda _: torch.from_numpy(next(orders).argsort()))
        samples = (draws for each in drawn if each.dtype == np.float64 for draws in each)
        monkeypatch.setattr(torch, "randint", lambda held, *_, **__: torch.from_numpy((next(samples) * held).astype(np.int64)))
        with seeded(derive_seed(seed, "training")), course_arithmetic():
            own.train.__wrapped__(self, **settings)

    def goes_on(self, policy):
        self.policy, self.batch = policy, next(self.batches, None)
        return self.batch is not None

    def record(self, collected, **metrics):
        self.env_steps += collected.env_steps
        self.metrics.append({name: float(value.detach()) for name, value in metrics.items()})


@pytest.mark.parametrize("lesson", STACKED)
def test_a_seed_learns_from_its_batches_what_the_lesson_learns_from_them(lesson, monkeypatch):
    stack, collected, drawn = rounds(lesson, SEEDS, 4)
    for position, (seed, learner) in enumerate(zip(SEEDS, stack.learners, strict=True)):
        batches = [of_seed(each, position, stack.n) for each in collected]
        with monkeypatch.context() as patch:
            alone = LessonsOwn(lesson, seed, batches, drawn[position], patch)
        for name, weights in module.state_of(stack.policy, position).items():
            assert torch.allclose(weights, alone.policy.state_dict()[name], rtol=0, atol=1e-4), name
        assert learner.env_steps == alone.env_steps
        for name, points in learner.history.metrics.items():
            wanted = [metrics[name] for metrics in alone.metrics if name in metrics]
            assert [value for _, value in points] == pytest.approx(wanted, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("lesson", STACKED)
def test_a_seed_learns_the_same_alone_and_among_others(lesson):
    among, _, _ = rounds(lesson, SEEDS, 4)
    for position, seed in enumerate(SEEDS):
        alone, _, _ = rounds(lesson, [seed], 4)
        (own,), other = alone.learners, among.learners[position]
        assert own.history.episode_ends == other.history.episode_ends
        assert own.history.episode_returns == other.history.episode_returns
        assert own.env_steps == other.env_steps
        for name, weights in module.state_of(alone.policy, 0).items():
            assert torch.allclose(weights, module.state_of(among.policy, position)[name], rtol=0, atol=1e-4), name


@pytest.fixture(scope="module")
def trained():
    """Five seeds of lesson 04 that learned side by side until each was perfect: in the order in which they left."""
    with global_state_untouched():
        return dict(train_stacked("actor_critic", [200, 201, 202, 203, 207], max_steps=8_000))


def test_who_stays_goes_on_as_if_nobody_had_left(trained):
    steps = [result.env_steps for result in trained.values()]
    assert steps[0] < steps[-1]
    assert sorted(trained) == [200, 201, 202, 203, 207]
    last, result = list(trained.items())[-1]
    ((_, alone),) = train_stacked("actor_critic", [last], max_steps=8_000)
    assert alone.env_steps == result.env_steps
    assert alone.history.episode_ends == result.history.episode_ends
    assert alone.history.evaluations == result.history.evaluations
    for name, points in alone.history.metrics.items():
        assert np.allclose(points, result.history.metrics[name], atol=1e-3)


def evaluated_by_a_run(updates, max_steps):
    """After which of its updates, each by the step at which it came, a `Run` evaluates."""
    steps = [0]
    for step in updates:
        if step >= min(steps[-1] + 1_000, max_steps):
            steps.append(step)
    return steps[1:]


def test_verdicts_are_those_of_a_run(trained):
    for seed, result in trained.items():
        history = result.history
        steps = [step for step, _ in history.evaluations]
        assert steps == evaluated_by_a_run([step for step, _ in history.losses], max_steps=8_000)
        assert steps[-1] == result.env_steps
        assert max(history.episode_ends) <= result.env_steps == history.losses[-1][0]
        perfect = sum(mean == 500 for _, mean in history.evaluations)
        number = len(steps) + perfect  # every perfect evaluation has had its confirmation
        if result.env_steps < 8_000:
            assert evaluate(result.policy, seed=derive_seed(seed, "confirmation", number)).perfect
        again = evaluate(result.policy, seed=derive_seed(seed, "result", number + 1))
        assert np.array_equal(again.returns, result.evaluation.returns)
        assert result.summary()["evaluation_steps"] > 0
    # What all of them took together is dealt out among them.
    assert all(0 < result.evaluation_seconds < result.seconds for result in trained.values())


@pytest.mark.parametrize(("env_id", "network"), [("CartPole-v0", PolicyNetwork), (CONTINUOUS_CARTPOLE, GaussianPolicy)])
def test_evaluations_of_all_at_once_are_those_of_each(env_id, network):
    with seeded(0):
        policies = [network(hidden=8).eval() for _ in range(3)]
    together = evaluate_each(stacked(policies), [4, 5, 6], env_id, episodes=20)
    for seed, policy, evaluation in zip((4, 5, 6), policies, together, strict=True):
        alone = evaluate(policy, env_id, episodes=20, seed=seed)
        assert np.array_equal(evaluation.returns, alone.returns)
        assert (evaluation.steps, evaluation.seed) == (alone.steps, seed)


def test_a_seed_whose_weights_break_leaves_alone(monkeypatch):
    update = STACKED["actor_critic"].update

    def breaks_seed_1(stack, steps):
        metrics = update(stack, steps)
        for position, learner in enumerate(stack.learners):
            if learner.seed == 1:
                stack.weights[0][position] = torch.nan
        return metrics

    monkeypatch.setattr(STACKED["actor_critic"], "update", breaks_seed_1)
    outcomes = dict(train_stacked("actor_critic", range(3), max_steps=500))
    assert isinstance(outcomes[1], InvalidAction)
    assert [outcomes[seed].env_steps >= 500 for seed in (0, 2)] == [True, True]


@pytest.mark.parametrize(
    ("lesson", "given", "named"),
    [
        ("reinforce", {}, ("reinforce", "ppo")),
        ("my_lesson", {}, ("my_lesson",)),
        ("ppo", {"clop": 0.2}, ("clop", "clip")),
        ("ppo", {"clip": -1}, ("clip", "-1")),
        ("ppo", {"env_id": CONTINUOUS_CARTPOLE}, ("discrete",)),
        ("ppo", {"env_id": "MountainCar-v0"}, ("MountainCar-v0",)),
        ("ppo", {"num_envs": 1, "steps_per_update": 8}, ("4 minibatches",)),
        ("gaussian_reinforce", {"episodes_per_update": 2}, ("4 minibatches",)),
        ("policy_gradient", {"method": "blended_targets"}, ("blended_targets", "score_function")),
        ("dqn", {"capacity": 20}, ("capacity",)),
        ("dqn", {"learning_starts": 20}, ("learning_starts",)),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_one_sentence_before_anything_runs(lesson, given, named, tmp_path):
    with pytest.raises(InvalidInput) as error:
        run_study({"good": ("actor_critic", {}), "bad": (lesson, given)}, [0], folder=tmp_path, backend="stacked", progress=False)
    one_sentence(error.value, *named)
    assert list(tmp_path.glob("*.json")) == []


def test_a_study_keeps_what_left_the_stack_and_goes_on_from_there(tmp_path, monkeypatch):
    study = {"short": ("actor_critic", {"max_steps": 300})}
    first = run_study(study, [0, 1], folder=tmp_path, backend="stacked", progress=False)
    assert [run["status"] for run in first.runs] == ["ok", "ok"]
    assert all(run["env_steps"] >= 300 and run["cpu_seconds"] > 0 for run in first.runs)
    assert read_study(tmp_path).runs == first.runs
    assert {run["machine"]["backend"] for run in first.runs} == {"stacked"}
    trained = []
    train = module.train_stacked
    monkeypatch.setattr(
        module, "train_stacked", lambda lesson, seeds, **settings: trained.append(seeds) or train(lesson, seeds, **settings)
    )
    more = run_study(study, [0, 1, 2], folder=tmp_path, backend="stacked", progress=False)
    assert trained == [[2]]
    assert more.runs[:2] == first.runs


def test_seeds_that_have_left_are_kept_when_the_rest_is_stopped():
    with closing(train_stacked("actor_critic", [200, 202], max_steps=8_000)) as results:
        seed, result = next(results)
    assert seed == 200
    assert result.solved
