"""A run: when it stops, what it returns, that it repeats itself, and that it can be stopped anywhere."""

import contextlib
import inspect
import json
import os
import signal
import sys
import time

import numpy as np
import pytest
import torch
from conftest import (
    GOOD_DIRECTION,
    LinearPolicy,
    always_right,
    global_state_untouched,
    is_beginning_of,
    linear_policy,
    one_sentence,
    printed,
    same_result,
    train,
)
from IPython.core.formatters import DisplayFormatter

from cartpole_lessons import evaluation
from cartpole_lessons import training as training_module
from cartpole_lessons._support import arithmetic, interrupts, seeding
from cartpole_lessons.checkpoints import load_checkpoint
from cartpole_lessons.evaluation import HELD_OUT_SEED, evaluate
from cartpole_lessons.history import RESULT_MIME
from cartpole_lessons.hyperparameters import Count
from cartpole_lessons.rollout import Tally
from cartpole_lessons.training import Run, training

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def start_run(**keywords):
    return Run("lesson", **{"max_steps": 10_000, **keywords})


def numbered_training(interrupt=lambda place, update: None, policy=None, **keywords):
    """A run in which every update takes 1000 environment steps and writes its number into the policy's weights.

    `interrupt(place, update)` is called where Ctrl-C might come.
    """
    policy = policy or linear_policy(GOOD_DIRECTION)
    updates = 0
    with start_run(**keywords) as run:
        interrupt("before the first goes_on", 0)
        while run.goes_on(policy):
            updates += 1
            interrupt("collecting", updates)
            with torch.no_grad():
                policy.layer.bias.fill_(updates)
            interrupt("learning", updates)
            run.record(Tally(1_000, [400.0, 600.0], [500, 1_000]), loss=torch.tensor(1 / updates))
    return run.result


def number_of(weights):
    return weights["layer.bias"][0].item()


# When it stops


@pytest.mark.parametrize(
    ("means", "keywords", "evaluated"),
    [
        # A perfect evaluation counts once its confirmation, on other episodes, is perfect too.
        ((20, 300, 500, 500, 500), {}, [(1_000, 20), (2_000, 300), (3_000, 500)]),
        ((500, 499, 500, 400, 500, 500, 500), {}, [(1_000, 500), (2_000, 500), (3_000, 500)]),
        # Solved is not enough.
        ((499.9,), {"max_steps": 2_000}, [(1_000, 499.9), (2_000, 499.9)]),
        ((500,), {"max_steps": 2_000, "stop_when_perfect": False}, [(1_000, 500), (2_000, 500)]),
        # The last update is evaluated, due or not.
        ((100,), {"evaluate_every": 2_500, "max_steps": 6_500}, [(3_000, 100), (6_000, 100), (7_000, 100)]),
    ],
)  # fmt: skip
def test_training_ends_when_an_evaluation_is_perfect_and_confirmed_or_the_steps_are_used_up(evaluations, means, keywords, evaluated):
    evaluations(*means)
    result = numbered_training(**keywords)
    assert result.history.evaluations == evaluated
    assert result.env_steps == evaluated[-1][0]
    assert result.solved == (means[-1] >= 475)
    assert not result.interrupted


def test_evaluations_switch_dropout_off_and_training_switches_it_on_again(evaluations):
    scripted = evaluations(100)
    policy, modes = linear_policy(GOOD_DIRECTION).train(), []
    result = numbered_training(lambda place, update: modes.append(policy.training), policy, max_steps=2_000)
    assert set(modes) == {True}
    assert set(scripted.was_training) == {False}
    assert not result.policy.training


# What it returns


def test_the_result_is_the_best_policy_seen(evaluations):
    scripted = evaluations(10, 300, 200, 250, 300, 20, 100)
    result = numbered_training(max_steps=6_000)
    # Of two equally good ones the later, which has learned from more.
    assert number_of(result.policy.state_dict()) == number_of(scripted.weights[-1]) == 5
    assert result.evaluation.mean == 100


def test_no_two_evaluations_of_any_seed_are_of_the_same_episodes(evaluations):
    scripted = evaluations(500, 400, 500, 500, 500)
    result = numbered_training()
    assert result.evaluation.seed == scripted.seeds[-1]
    for seed in range(20):
        numbered_training(seed=seed + 1, max_steps=3_000)
    assert len({HELD_OUT_SEED, *scripted.seeds}) == len(scripted.seeds) + 1 > 50


def test_a_learner_learns_and_its_result_keeps_the_contract(trained, tmp_path):
    assert trained.solved
    assert evaluate(trained.policy).solved
    assert (trained.lesson, trained.env_id, trained.seed) == ("conftest", "CartPole-v1", 3)
    assert trained.hyperparameters == {"episodes": 8, "learning_rate": 0.2, "angle_scale": 5.0}
    assert trained.policy.act(np.zeros((7, 4), dtype=np.float32)).shape == (7,)
    assert trained.env_steps == sum(trained.history.episode_returns) == trained.history.episode_ends[-1]
    assert len(trained.history.losses) == len(trained.history.episode_returns) / 8
    assert trained.curve == (trained.history.evaluations, True)
    assert trained.seconds > 0
    checkpoint = load_checkpoint(trained.save(tmp_path / "policy.npz"))
    assert (checkpoint.lesson, checkpoint.env_id, checkpoint.seed) == ("conftest", "CartPole-v1", 3)
    assert (checkpoint.hyperparameters, checkpoint.mean_return) == (trained.hyperparameters, trained.evaluation.mean)


def test_a_result_is_one_line_and_its_figures_are_json(trained):
    bundle = DisplayFormatter().format(trained)[0]
    assert bundle["text/plain"] == str(trained)
    assert "\n" not in str(trained)
    assert str(trained).startswith("conftest, seed 3: ")
    figures = json.loads(json.dumps(bundle[RESULT_MIME]))
    assert (figures["solved"], figures["env_steps"], figures["seed"]) == (True, trained.env_steps, 3)


@pytest.mark.parametrize("number", [np.int64(100), torch.tensor(100)], ids=["NumPy", "torch"])
def test_steps_episodes_and_metrics_are_noted_in_order_whoever_counted_them(evaluations, number):
    evaluations(100)
    policy = linear_policy(GOOD_DIRECTION)
    with start_run(max_steps=200) as run:
        while run.goes_on(policy):
            run.record(Tally(number, [60.0, 40.0], [100, 100]), loss=np.float32(0.5))
            run.record(Tally(100, torch.tensor([70.0, 30.0, 20.0]), torch.tensor([90, 30, 30])))
    history = run.result.history
    assert history.episode_returns == [60, 40, 30, 20, 70]
    assert history.episode_ends == [100, 100, 130, 130, 190]
    assert history.losses == [(100, 0.5)]
    assert json.loads(json.dumps(run.result.summary()))["env_steps"] == 200
    assert history.to_csv().splitlines()[1] == "episode_return,100,60.0"


# What @training makes of an algorithm


@training("lesson", max_steps=700)
def documented(run: Run, *, clip: Count = 3):  # how far
    """An algorithm."""
    run.goes_on(linear_policy(GOOD_DIRECTION))


def test_help_shows_every_keyword_with_its_default_its_type_and_its_words():
    signature = inspect.signature(documented)
    assert list(signature.parameters) == ["seed", "env_id", "max_steps", "progress", "stop_when_perfect", "clip"]
    assert (signature.parameters["max_steps"].default, signature.parameters["clip"].default) == (700, 3)
    assert signature.parameters["clip"].annotation is int
    lines = inspect.getdoc(train).splitlines()
    assert lines[0].startswith("A learner")
    for name in inspect.signature(train).parameters:
        assert any(line.startswith(f"{name}: ") for line in lines), name
    assert next(line for line in lines if line.startswith("learning_rate")).startswith("learning_rate: step size of Adam (")


def test_a_result_that_is_not_there_yet_and_a_loop_that_never_asks_are_explained():
    with pytest.raises(RuntimeError) as caught:
        _ = start_run().result
    one_sentence(caught.value, "`with` block")
    with pytest.raises(RuntimeError) as caught, start_run():
        pass
    one_sentence(caught.value, "run.goes_on(policy)")


def test_the_surroundings_are_left_as_they_were_also_when_the_algorithm_fails(evaluations, capsys):
    evaluations(20)

    def fail(place, update):
        torch.rand(1)
        return 1 / (3 - update)

    with global_state_untouched():
        train(max_steps=500)
        with pytest.raises(ZeroDivisionError):
            numbered_training(fail, progress=True)


# That it can be stopped


def interrupt_at(*wanted):
    def interrupt(*here):
        if here == wanted:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize(
    ("place", "update", "best", "env_steps"), [("collecting", 1, 0, 0), ("learning", 1, 1, 0), ("collecting", 4, 2, 3_000), ("learning", 4, 2, 3_000)]
)  # fmt: skip
def test_stopping_returns_the_best_policy_so_far_with_its_history_and_says_so(evaluations, capsys, place, update, best, env_steps):
    evaluations(20, 300, 100, 250)
    with global_state_untouched():
        result = numbered_training(interrupt_at(place, update))
    assert result.interrupted
    assert number_of(result.policy.state_dict()) == best
    assert result.env_steps == env_steps == (result.history.episode_ends or [0])[-1]
    assert len(result.history.evaluations) == update - 1
    assert not result.policy.training
    said = capsys.readouterr().out
    assert said.startswith("Stopped by you")
    assert said.count("\n") == 1


def test_stopping_before_there_is_a_policy_stops(evaluations):
    evaluations(20)
    with global_state_untouched(), pytest.raises(KeyboardInterrupt):
        numbered_training(interrupt_at("before the first goes_on", 0))


@pytest.mark.parametrize(
    "means", [(KeyboardInterrupt(), 20), (20, 300, KeyboardInterrupt(), 300), (20, 500, KeyboardInterrupt(), 500), (20, 500, 500, KeyboardInterrupt(), 480)],
    ids=["first evaluation", "evaluation", "confirmation", "result"],
)  # fmt: skip
def test_stopping_a_long_evaluation_returns_what_there_is(evaluations, means, capsys):
    evaluations(*means)
    with global_state_untouched():
        result = numbered_training()
    assert result.interrupted
    assert number_of(result.policy.state_dict()) == (2 if len(means) > 2 else 1)
    assert result.evaluation.mean == means[-1]
    assert "Stopped by you" in capsys.readouterr().out


def test_stopping_that_evaluation_of_what_there_is_too_really_stops(evaluations):
    evaluations(20, KeyboardInterrupt())
    with global_state_untouched(), pytest.raises(KeyboardInterrupt):
        numbered_training(interrupt_at("learning", 2))


def interrupted_at_each_line(function):
    """What `function` returns with Ctrl-C pressed at its first line in the course's delicate modules, at the second, and so on; None where
    that stops it. The last one is that of a call in which there were no more lines to press it at."""
    delicate = {module.__file__ for module in (training_module, evaluation, seeding, arithmetic, interrupts, contextlib)}
    left = 0

    def press_when_due(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in delicate:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return press_when_due

    tracer, line = sys.gettrace(), 0
    while left <= 0:
        line += 1
        left = line
        returned = None
        with global_state_untouched():
            try:
                sys.settrace(press_when_due)
                returned = function()
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(tracer)
        yield returned


def test_ctrl_c_at_any_line_gives_the_result_so_far_or_stops_and_breaks_nothing(evaluations, capsys):
    def short_training():
        evaluations(20, 30, 10)
        return train(seed=1, max_steps=60, episodes=2)

    whole, outcomes = short_training(), []
    for result in interrupted_at_each_line(short_training):
        outcomes.append(result)
        assert result is None or is_beginning_of(result.history.to_csv(), whole.history.to_csv())
        if len(outcomes) % 4 == 0:  # what one stop breaks is still broken a few stops later
            assert same_result(whole, short_training())
    *stopped, over = outcomes
    assert same_result(whole, short_training())
    assert same_result(whole, over)
    # Before there is a policy, and in the last lines of all, there is nothing to return, or nobody to return it to.
    from_the_first = stopped[next(line for line, result in enumerate(stopped) if result) :]
    assert len(from_the_first) > 100
    assert all(result and result.interrupted for result in from_the_first[:-10])


def test_ctrl_c_at_any_line_of_an_evaluation_stops_it_and_breaks_nothing():
    def verdict():
        return evaluate(always_right, episodes=2).returns.tolist()

    whole = verdict()
    outcomes = list(interrupted_at_each_line(verdict))
    assert outcomes[-1] == whole
    assert outcomes.count(None) == len(outcomes) - 1 > 100


@POSIX
def test_an_algorithm_that_never_asks_is_stopped_where_it_is(evaluations, capsys):
    evaluations(20)

    def hang(place, update):
        if update == 2:
            signal.raise_signal(signal.SIGINT)
            time.sleep(60)

    began = time.perf_counter()
    with global_state_untouched():
        assert numbered_training(hang).interrupted
    assert 1 <= time.perf_counter() - began < 10


def test_stopping_a_cell_in_a_real_kernel_returns_the_best_policy_and_says_so(kernel):
    messages = kernel.run(
        """
        from conftest import LinearPolicy
        from cartpole_lessons.rollout import Tally
        from cartpole_lessons.training import Run
        policy = LinearPolicy()
        with Run("endless", seed=0, max_steps=10**9) as run:
            while run.goes_on(policy):
                run.record(Tally(10, [10], [10]))
                if run.env_steps == 2_000:
                    print("two evaluations done", flush=True)
        print(run.result.interrupted, len(run.result.history.evaluations) >= 1, run.result.policy is policy)
        """,
        interrupt_at="two evaluations done",
    )
    assert "Stopped by you. This is the best policy so far: endless, seed 0: " in printed(messages)
    assert printed(messages).endswith("True True True\n")
    assert [message for message in messages if message["msg_type"] == "error"] == []


def test_files_go_where_the_training_began_also_when_the_notebook_changes_its_folder(evaluations, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_module, "SECONDS_BETWEEN_SAVES", 0)
    evaluations(100)
    with Run("moving", max_steps=3_000) as run:
        policy = LinearPolicy()
        while run.goes_on(policy):
            kept = sorted(path.suffix for path in (tmp_path / "unfinished").glob("*"))
            os.chdir(tmp_path / "elsewhere")
            run.record(Tally(1_000))
    assert kept == [".csv", ".npz"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere"]
