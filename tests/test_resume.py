"""A training that was cut off goes on with `resume=True`, to the very result that it would have had.

Cut off here by an exception that nobody catches, after every round was saved; `test_faults` kills real kernels, `test_cli` a process.
"""

import inspect
import random
import re
import warnings

import numpy as np
import pytest
import torch
from conftest import GOOD_DIRECTION, linear_policy, one_sentence, same_result, train

from cartpole_lessons import training
from cartpole_lessons.checkpoints import load_state, save_state
from cartpole_lessons.cli import algorithm, lessons
from cartpole_lessons.errors import CheckpointError, InvalidInput
from cartpole_lessons.training import Run


class Killed(BaseException):
    """The end of a process, as far as a test can have it."""


@pytest.fixture(autouse=True)
def saved_every_round(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)


@pytest.fixture
def cut_off(monkeypatch):
    """`cut_off(round, train, ...)` trains, and is killed when that round has taken its steps."""

    def run(last_round, train, **keywords):
        record, rounds = Run.record, 0

        def record_or_die(run, **figures):
            nonlocal rounds
            rounds += 1
            if rounds == last_round:
                raise Killed
            record(run, **figures)

        with monkeypatch.context() as patched:
            patched.setattr(Run, "record", record_or_die)
            with pytest.raises(Killed):
                train(**keywords)
        # Whatever else the next process has drawn, it goes on as the first one would have.
        random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002

    return run


def assert_same(first, second):
    assert same_result(first, second)
    assert first.env_steps == second.env_steps
    assert first.hyperparameters == second.hyperparameters


def resumed(train, capsys, **keywords):
    """`train(resume=True, ...)`, which must not have begun anew."""
    capsys.readouterr()
    result = train(resume=True, **keywords)
    said = re.search(r"goes on after ([\d,]+) steps", capsys.readouterr().out)
    assert said, "it begins anew"
    assert 0 < int(said[1].replace(",", "")) < result.env_steps
    return result


RESUMABLE = [lesson for lesson in lessons() if "resume" in inspect.signature(algorithm(lesson).train).parameters]


def test_every_lesson_that_trains_for_long_can_be_resumed():
    assert set(lessons()) - set(RESUMABLE) == {"hand_made", "many_seeds"}


@pytest.mark.parametrize(
    ("lesson", "keywords"),
    [
        *((lesson, {}) for lesson in RESUMABLE),
        ("policy_gradient", {"method": "blended_targets", "env_id": "CartPole-v0"}),
        ("reinforce", {"env_id": "CartPole-v0"}),
        ("dqn", {"stop_when_perfect": False, "updates_per_step": 0.1, "capacity": 1_000}),
        ("better_dqn", {"stop_when_perfect": False, "double": False, "dueling": False}),
        ("augmented_random_search", {"env_id": "CartPole-v1", "method": "basic"}),
        ("augmented_random_search", {"normalise_observations": True}),
    ],
    ids=str,
)
def test_a_lesson_goes_on_to_the_result_that_it_would_have_had(lesson, keywords, cut_off, tmp_path, capsys):
    train, keywords = algorithm(lesson).train, {"seed": 3, "max_steps": 2_500, **keywords}
    whole = train(**keywords)
    rounds = len(whole.history.metrics.get("loss", ())) or 4
    cut_off(rounds // 2 + 1, train, **keywords)
    (state,) = (tmp_path / "unfinished").glob("*.state")
    left_at = load_state(state)["own"]["env_steps"]
    assert 0 < left_at < whole.env_steps
    capsys.readouterr()
    again = train(resume=True, **keywords)
    assert capsys.readouterr().out == f"{lesson}, seed 3, goes on after {left_at:,} steps, where it was cut off.\n"
    assert_same(again, whole)
    assert not (tmp_path / "unfinished").exists(), "what a finished training leaves no longer is unfinished"


def test_it_may_be_cut_off_again_and_again(cut_off, capsys):
    whole = train(seed=4)
    for _ in range(3):
        cut_off(2, train, seed=4, resume=True)
    steps = [int(number.replace(",", "")) for number in re.findall(r"goes on after ([\d,]+) steps", capsys.readouterr().out)]
    assert len(steps) == 2
    assert 0 < steps[0] < steps[1]
    assert_same(resumed(train, capsys, seed=4), whole)


def test_it_may_be_cut_off_in_its_first_round(cut_off, capsys):
    whole = train(seed=4, max_steps=4_000)
    cut_off(1, train, seed=4, max_steps=4_000)
    capsys.readouterr()
    assert_same(train(seed=4, max_steps=4_000, resume=True), whole)
    assert "goes on after 0 steps" in capsys.readouterr().out


def test_a_training_that_was_stopped_by_its_user_can_go_on_too(monkeypatch, capsys):
    whole = train(seed=4)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "record", stopping_at(2_000))
        stopped = train(seed=4)
    assert capsys.readouterr().out.endswith("The same call with resume=True (on the command line: --resume) goes on.\n")
    assert stopped.interrupted
    assert stopped.env_steps < whole.env_steps
    assert_same(resumed(train, capsys, seed=4), whole)


def test_what_another_training_left_is_not_offered_after_ctrl_c(cut_off, monkeypatch, capsys):
    cut_off(3, train, seed=4)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 60)
    monkeypatch.setattr(Run, "record", stopping_at(0))
    capsys.readouterr()
    assert train(seed=4).interrupted
    assert "goes on" not in capsys.readouterr().out


def test_half_a_file_of_a_killed_process_is_removed_at_the_end(cut_off, tmp_path, capsys):
    cut_off(3, train, seed=4)
    (state,) = (tmp_path / "unfinished").glob("*.state")
    state.with_name(f".{state.name}.x7k2").write_bytes(b"half")
    resumed(train, capsys, seed=4)
    assert not (tmp_path / "unfinished").exists()


def stopping_at(steps, record=Run.record):
    def record_or_stop(run, **figures):
        record(run, **figures)
        if run.env_steps > steps:
            raise KeyboardInterrupt

    return record_or_stop


def test_the_episodes_of_an_ignite_engine_are_counted_on(cut_off, capsys):
    reinforce = algorithm("reinforce").train

    def episodes(**keywords):
        capsys.readouterr()
        reinforce(seed=3, max_steps=3_000, log_interval=1, **keywords)
        return re.findall(r"^episode (\d+): .*$", capsys.readouterr().out, re.MULTILINE)

    whole = episodes()
    cut_off(20, reinforce, seed=3, max_steps=3_000, log_interval=1)
    assert whole == [str(number + 1) for number in range(len(whole))]
    assert episodes(resume=True) == whole[19:]


def test_the_seconds_of_all_parts_are_added_up(cut_off, tmp_path, capsys):
    cut_off(3, train, seed=4)
    (path,) = (tmp_path / "unfinished").glob("*.state")
    state = load_state(path)
    assert 0 < state["own"]["seconds"] < 60
    state["own"]["seconds"] += 1_000
    save_state(path, state)
    assert 1_000 < resumed(train, capsys, seed=4).seconds < 1_060


def test_without_resume_it_begins_anew_and_says_that_it_need_not(cut_off, capsys):
    whole = train(seed=4)
    cut_off(3, train, seed=4)
    capsys.readouterr()
    again = train(seed=4)
    one_sentence(capsys.readouterr().out.replace(". It", ", it").rstrip("\n"), "conftest, seed 4,", "resume=True")
    assert_same(again, whole)


@pytest.mark.parametrize("other", [{"seed": 5}, {"max_steps": 30_000}, {"learning_rate": 0.1}, {"env_id": "CartPole-v0"}], ids=str)
def test_what_was_left_with_other_settings_is_not_touched(other, cut_off, capsys, tmp_path):
    cut_off(3, train, seed=4, max_steps=20_000)
    left = sorted(path.name for path in tmp_path.glob("unfinished/*"))
    capsys.readouterr()
    keywords = {"seed": 4, "max_steps": 20_000, **other}
    again = train(resume=True, **keywords)
    one_sentence(capsys.readouterr().out.rstrip("\n"), "begins anew", "unfinished")
    assert_same(again, train(**keywords))
    assert sorted(path.name for path in tmp_path.glob("unfinished/*")) == left


@pytest.mark.parametrize("setting", ["stop_when_perfect", "evaluate_every"])
def test_how_a_run_is_evaluated_is_a_setting_too(setting, evaluations):
    keywords = {"seed": 0, "env_id": "CartPole-v1", "max_steps": 5, "progress": False}
    assert Run("lesson", **keywords)._unfinished != Run("lesson", **keywords, **{setting: 0 if setting[0] == "s" else 7})._unfinished


# What cannot go on


@pytest.fixture
def left(cut_off, tmp_path):
    """The file of a training that was cut off."""
    cut_off(3, train, seed=4)
    (path,) = (tmp_path / "unfinished").glob("*.state")
    return path


def refused(path, *named):
    with pytest.raises(CheckpointError) as caught:
        train(seed=4, resume=True)
    one_sentence(caught.value, path.name, *named)


def test_a_damaged_state_is_refused_and_the_training_can_begin_anew(left):
    left.write_bytes(left.read_bytes()[:-100])
    refused(left, "delete it")
    assert train(seed=4).solved


def test_the_state_of_other_versions_is_refused(left, monkeypatch):
    monkeypatch.setattr(training, "VERSIONS", training.VERSIONS | {"torch": "99.0"})
    refused(left, f"torch {torch.__version__}", "without resume=True")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["parts"].pop(),
        lambda state: state["parts"].reverse(),
        lambda state: state["parts"][1]["state"].popitem(),
        lambda state: state["parts"][1]["state"].update({"layer.weight": torch.zeros(3, 3)}),
        lambda state: state["own"].clear(),
        lambda state: state["own"].update(env_steps="x"),
        lambda state: state["own"].update(_best=(1.0, {"layer.weight": 5})),
        lambda state: state["own"].update(seconds="long"),
        lambda state: state["parts"][0]["state"].update(step=5),
        lambda state: state["parts"][2]["state"].clear(),
        lambda state: state.clear(),
        lambda state: state["history"]["state"].clear(),
        lambda state: state["random"].update(torch=torch.zeros(3)),
    ],
)
def test_a_state_that_does_not_fit_the_code_is_refused(left, change):
    state = load_state(left)
    change(state)
    save_state(left, state)
    refused(left, "without resume=True")


def test_a_lesson_that_names_nothing_cannot_resume(evaluations):
    with (
        pytest.raises(InvalidInput) as caught,
        Run("lesson", seed=0, env_id="CartPole-v1", max_steps=5, progress=False, resume=True) as run,
    ):
        run.goes_on(linear_policy(GOOD_DIRECTION))
    one_sentence(caught.value, "lesson", "run.keep(", "resume=True")


def test_a_state_without_a_reason_is_refused_in_a_sentence_too(left, monkeypatch):
    def asserts(part, state):
        raise AssertionError

    monkeypatch.setattr(training, "restore", asserts)
    refused(left, "AssertionError")


def test_a_file_that_may_not_be_read_is_no_damaged_one(left, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    with pytest.raises(CheckpointError) as caught:
        train(seed=4, resume=True)
    assert "delete" not in one_sentence(caught.value, left.name, "Permission denied")


def test_a_number_cannot_be_kept(evaluations):
    with pytest.raises(InvalidInput) as caught, Run("lesson", seed=0, env_id="CartPole-v1", max_steps=5, progress=False) as run:
        run.keep(linear_policy(GOOD_DIRECTION), 0.0)
    one_sentence(caught.value, "float", "torch.tensor(0.0)")


def test_what_cannot_be_kept_is_told_once_and_training_and_its_history_go_on(evaluations, tmp_path):
    evaluations(20)

    class Odd:
        def __init__(self):
            self.things = {1, 2}

    def train():
        policy = linear_policy(GOOD_DIRECTION)
        with Run("lesson", seed=0, env_id="CartPole-v1", max_steps=5, progress=False) as run:
            run.keep(policy, Odd())
            while run.goes_on(policy):
                lines.append(len(next(tmp_path.glob("unfinished/*.csv")).read_text().splitlines()))
                run.record(env_steps=1, returns=[1.0])
                assert list(tmp_path.glob("unfinished/*.state")) == []
        return run.result

    lines = []
    with pytest.warns(UserWarning, match=r"Odd\.things: set.*could not be resumed") as caught:
        result = train()
    assert len(caught) == 1
    assert result.env_steps == 5
    assert lines == [1, 2, 3, 4, 5]
    assert not (tmp_path / "unfinished").exists()


def test_without_saves_keeping_costs_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(seed=4)
    assert list(tmp_path.iterdir()) == []
