"""Errors of the course: one sentence that names what was wrong and the next step, in a notebook that sentence alone."""

import math

import numpy as np
import pytest
import torch
from conftest import GOOD_DIRECTION, LinearPolicy, ScriptedEnvs, always_right, good_controller, linear_policy, one_sentence, printed, train
from gymnasium import make_vec, spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector.utils import batch_space

from cartpole_lessons import errors
from cartpole_lessons._support.checks import check_choice, check_count, check_seed
from cartpole_lessons._support.seeding import derive_seed
from cartpole_lessons.continuous import CONTINUOUS_CARTPOLE, ContinuousCartPoleEnv, ContinuousCartPoleVectorEnv
from cartpole_lessons.environment import env_spec, make_env, make_envs
from cartpole_lessons.errors import CourseError, InvalidAction, InvalidInput
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons.plots import Curve, plot_learning_curves
from cartpole_lessons.policy import Policy, action_function, check_actions
from cartpole_lessons.rollout import StepCollector, collect_episodes
from cartpole_lessons.video import encode, record, record_training, side_by_side

KINDS = {
    "InvalidInput": ValueError,
    "InvalidAction": ValueError,
    "MissingDependency": ImportError,
    "NoDisplay": RuntimeError,
    "RecordingError": OSError,
    "CheckpointError": ValueError,
}
PUSHES = batch_space(spaces.Discrete(2), 3)
FORCES = batch_space(spaces.Box(-10, 10, (1,), np.float32), 3)
CONVERSION = "np.asarray(observations, dtype=np.float32)"


def act(observations):
    return linear_policy(GOOD_DIRECTION).act(observations)


def single(action, *, reset=True):
    """A step of the continuous CartPole."""
    env = ContinuousCartPoleEnv()
    if reset:
        env.reset()
    return env.step(action)


def many(actions):
    envs = make_envs(CONTINUOUS_CARTPOLE, 3, seed=0)
    envs.reset()
    return envs.step(actions)


def without_a_limit():
    envs = ScriptedEnvs([[15]])
    envs.spec = None
    return collect_episodes(envs, always_right)


def longer_episodes():
    envs = make_vec("CartPole-v1", num_envs=2, max_episode_steps=1_000)
    envs.reset(seed=0)
    return collect_episodes(envs, good_controller)


def with_nan(**keywords):
    policy = LinearPolicy()
    with torch.no_grad():
        policy.layer.weight[0, 0] = np.nan
    return policy.act(np.zeros((2, 4), np.float32), **keywords) if keywords else action_function(policy)


#: What is done wrong -> what the sentence names of it.
INVALID_INPUT = [
    *((lambda seed=seed: check_seed(seed), [repr(seed), "pass for example seed=0"]) for seed in (-1, 2**32, 1.0, np.float32(3), "0", None, True, [0])),
    *((lambda make=make: make(seed=-1), ["-1"]) for make in (make_env, make_envs, train)),
    (lambda: derive_seed(-1, "purpose"), ["-1"]),
    *((lambda count=count: check_count("episodes", count), ["episodes", repr(count)]) for count in (0, -3, 2.5, "4", None, True)),
    (lambda: check_choice("method", "magic", ("one", "other")), ["method", "'magic'", "'one'", "'other'"]),
    *((lambda make=make: make("cartpole-v1"), ["'cartpole-v1'", "did you mean 'CartPole-v1'"]) for make in (env_spec, make_env, make_envs)),
    (lambda: make_env("Pong"), ["'Pong'", "CartPole-v0 and CartPole-v1"]),
    (lambda: make_env(["CartPole-v1"]), ["['CartPole-v1']"]),
    (lambda: make_env(render="ansi"), ["'ansi'", "'rgb_array'", "'human'"]),
    (lambda: make_envs(num_envs=0), ["num_envs", "0"]),
    (lambda: make_envs("Pendulum-v1", 2, actions="discrete"), ["Pendulum-v1", "discrete", "continuous"]),
    (lambda: make_envs("Pendulum-v1", 2, actions="continuous"), ["Pendulum-v1", "4 float32 numbers"]),
    (lambda: make_envs("CartPole-v1", 2, actions="continuous"), ["CartPole-v1"]),
    (lambda: make_envs("CartPole-v1", 2, actions="sideways"), ["'sideways'"]),
    (lambda: evaluate(always_right, episodes=0), ["episodes", "0"]),
    (lambda: evaluate(always_right, seed=-1), ["-1"]),
    (lambda: evaluate(always_right, "CartPole-v9"), ["'CartPole-v9'"]),
    (lambda: evaluate(7), ["int", "act(observations)"]),
    (lambda: evaluate(always_right, "Pendulum-v1"), ["Pendulum-v1", "reward threshold"]),
    (lambda: train(env_id="CartPole-v7"), ["'CartPole-v7'"]),
    (lambda: train(max_steps=0), ["max_steps"]),
    (lambda: train(progress=1), ["progress"]),
    (lambda: train(stop_when_perfect="no"), ["stop_when_perfect"]),
    (lambda: train(episodes=0), ["episodes", "from 1"]),
    (lambda: train(learning_rate="fast"), ["learning_rate", "'fast'"]),
    (lambda: train(learning_rat=0.1), ["'learning_rat'", "did you mean 'learning_rate'"]),
    (lambda: StepCollector(make_envs("CartPole-v1", 2), 2.5), ["steps", "2.5"]),
    (without_a_limit, ["time limit", "make_envs()"]),
    (longer_episodes, ["500 steps", "register"]),
    (lambda: record(always_right, "CartPole-v7"), ["'CartPole-v7'"]),
    (lambda: record(always_right, max_steps=0), ["max_steps"]),
    (lambda: record(always_right, slow_motion=0), ["slow_motion"]),
    (lambda: record(7), ["int"]),
    (lambda: encode([], fps=10, label=""), ["at least one frame"]),
    (lambda: side_by_side(), ["record(...)"]),
    (lambda: record_training(make_env(render="rgb_array"), "films", every=0), ["every", "0"]),
    (lambda: record_training(make_env(), "films"), ["None", "render='rgb_array'"]),
    *((lambda curves=curves: plot_learning_curves(curves), ["train(seed=0).curve"]) for curves in ([], [Curve([], False)])),
    *((lambda shape=shape: act(np.zeros(shape, np.float32)), [str(shape), "(4,) or (n, 4)"]) for shape in ((3,), (4, 2), (1, 2, 4), (), (0,))),
    (lambda: act(torch.zeros(2, 3)), ["(2, 3)"]),
    (lambda: act(np.zeros(4)), ["float64", CONVERSION]),
    (lambda: act(torch.zeros(4, dtype=torch.float64)), ["float64", CONVERSION]),
    (lambda: act([0.0, 0.0, 0.0, 0.0]), ["list", CONVERSION]),
    *((lambda row=row: act(np.array([[0] * 4, row], np.float32)), ["NaN or infinity"]) for row in ([0, math.nan, 0, 0], [math.inf, -math.inf, 0, 0])),
    (lambda: act(torch.tensor([0, 0, 0, math.inf])), ["NaN or infinity"]),
    *(
        (lambda kind=kind, name=name, value=value: kind(**{name: value}), [name, repr(value)])
        for kind in (ContinuousCartPoleEnv, ContinuousCartPoleVectorEnv)
        for name, value in [("angle_limit_degrees", 0), ("force_magnitude", "strong"), ("failure_reward", None), ("dtype", "float16"), ("render_mode", "ansi")]
    ),
]  # fmt: skip
INVALID_ACTION = [
    (lambda: check_actions(np.array([0, 1]), PUSHES), ["(2,)", "(3,)"]),
    (lambda: check_actions(None, PUSHES), ["()"]),
    (lambda: check_actions(torch.randn(3, 2, requires_grad=True), PUSHES), ["(3, 2)"]),  # logits, the argmax forgotten
    (lambda: check_actions((np.array([0, 1, 1]), None), PUSHES), ["pair", "predict(observations)[0]"]),  # of Stable-Baselines3's predict
    (lambda: check_actions([[0], [1, 2], [1]], PUSHES), ["list", "one action each"]),
    (lambda: check_actions(np.array([0.0, 1.0, 1.0]), PUSHES), ["float64", "argmax"]),
    (lambda: check_actions(np.array([True, False, True]), PUSHES), ["bool", "argmax"]),
    (lambda: check_actions(np.array(["left", "left", "right"]), PUSHES), ["<U5"]),
    (lambda: check_actions(np.array([0, 1, -1]), PUSHES), ["-1", "0 to 1"]),
    (lambda: check_actions(np.array([0, 1, 2]), PUSHES), ["2", "0 to 1"]),
    (lambda: check_actions(np.array([[0.0], [math.nan], [0.0]]), FORCES), ["NaN or infinite", "learning rate"]),
    (lambda: evaluate(lambda observations: np.full(len(observations), np.nan)), ["float64"]),
    (lambda: evaluate(lambda observations: (np.zeros(len(observations), dtype=int), None)), ["pair"]),
    (lambda: record(lambda observations: 1), ["()"]),
    (lambda: collect_episodes(make_envs("CartPole-v1", 2), lambda observations: np.array([0.4, 0.6])), ["float64"]),
    (lambda: StepCollector(make_envs("CartPole-v1", 2), 3).collect(lambda observations: np.array([0, 7])), ["7"]),
    (lambda: with_nan(deterministic=False), ["NaN", "learning rate"]),
    (lambda: with_nan(), ["NaN", "learning rate"]),
    *((lambda force=force: single(force), ["(1,)"]) for force in (0.5, np.zeros(2), [], "left", None, [[1], [1, 2]], 1j)),
    *((lambda force=force: single(np.array([force])), ["NaN or infinite"]) for force in (math.nan, math.inf)),
    *((lambda shape=shape: many(np.zeros(shape)), ["(3, 1)", str(shape)]) for shape in ((), (3,), (1, 3), (4, 1))),
    (lambda: many(np.array([[0.0], [0.0], [math.nan]])), ["NaN or infinite"]),
]  # fmt: skip
CASES = [(InvalidInput, *case) for case in INVALID_INPUT] + [(InvalidAction, *case) for case in INVALID_ACTION]
CASES += [
    (ResetNeeded, lambda: single(np.zeros(1), reset=False), ["reset()"]),
    (ResetNeeded, lambda: ContinuousCartPoleVectorEnv(2).step(np.zeros((2, 1))), ["reset()"]),
    (NotImplementedError, lambda: Policy().act(np.zeros(4, np.float32)), ["Policy", "actions(observations, deterministic)"]),
]


@pytest.mark.parametrize(("kind", "do", "named"), CASES, ids=[f"{number}: {case[2][0]}" for number, case in enumerate(CASES)])
def test_what_is_wrong_is_named_in_one_sentence_with_what_to_do(kind, do, named, no_screen):
    with pytest.raises(kind) as caught:
        do()
    one_sentence(caught.value, *named)


@pytest.mark.parametrize(("name", "builtin"), KINDS.items())
def test_each_is_a_course_error_and_the_built_in_one_that_programmers_expect(name, builtin):
    assert issubclass(getattr(errors, name), CourseError)
    assert issubclass(getattr(errors, name), builtin)


def test_no_kind_is_forgotten_here():
    assert {kind.__name__ for kind in CourseError.__subclasses__() if kind.__module__ == errors.__name__} == set(KINDS)


def test_a_notebook_shows_the_sentence_alone_and_other_errors_with_their_traceback(kernel):
    messages = kernel.run("from cartpole_lessons.environment import make_env\nmake_env('CartPole-v7')")
    (error,) = [message["content"] for message in messages if message["msg_type"] == "error"]
    assert error["traceback"] == [f"InvalidInput: {error['evalue']}"]
    assert printed(messages, "stderr") == ""
    (error,) = [message["content"] for message in kernel.run("1 / 0") if message["msg_type"] == "error"]
    assert len(error["traceback"]) > 1


def test_an_error_too_deep_to_be_printed_is_named_by_its_kind():
    class Nested(ValueError):
        def __str__(self):
            raise RecursionError

    assert errors.in_short(Nested()) == "Nested"
