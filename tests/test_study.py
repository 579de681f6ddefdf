"""Studies: resumable whatever kills them, the same on every engine, and the statistics by hand."""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import full_disk, one_sentence

from cartpole_lessons import study as study_module
from cartpole_lessons.errors import InvalidInput, MissingDependency, RecordingError
from cartpole_lessons.study import (
    RESULTS,
    StudyError,
    lesson_code,
    median_interval,
    read_results,
    read_study,
    readable,
    run_study,
    summarise,
    wilson_interval,
    worst_of_last,
    write_results,
)

ROOT = Path(__file__).resolve().parent.parent
ARS = "augmented_random_search"

# A learner of one's own, which notes each of its trainings: what ran, and how often, is then known whatever was killed.
COUNTED = """
import os, time
from cartpole_lessons.algorithms import hand_made
from my_lessons.helper import ANSWER

def train(seed=0, *, env_id="CartPole-v1", max_steps=2, progress=False, log="", delay=0.0):
    if max_steps > 1:  # not the warm-up
        with open(log, "a") as file:
            file.write(f"{seed} {os.getpid()}\\n")
    time.sleep(delay)
    return hand_made.train(seed=seed, env_id=env_id)
"""


@pytest.fixture(scope="session")
def my_lessons(tmp_path_factory):
    """The folder of the package my_lessons, which this process and all that it starts can import."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "my_lessons"
    package.mkdir()
    (package / "helper.py").write_text("ANSWER = 42\n")
    (package / "counted.py").write_text(COUNTED)
    (package / "no_train.py").write_text("")
    (package / "needy.py").write_text("import a_package_that_nobody_has\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def counted(tmp_path, my_lessons):
    """(lessons, log): a study's one row, and the file in which every training leaves its seed and process."""
    log = tmp_path / "trainings.log"
    log.touch()
    return {"counted": ("my_lessons.counted", {"log": str(log), "delay": 0.1})}, log


def trainings(log):
    """[(seed, process id)] of every training that began."""
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]


def results_on_disk(folder):
    """{file name: what it says but for timings and machine, as text}."""
    return {
        path.name: json.dumps(json.loads(path.read_text())["result"], sort_keys=True, separators=(",", ":"))
        for path in folder.glob("*.json")
    }


def seeds_of(folder):
    """The seeds that have a result on disk."""
    return {json.loads(text)["seed"] for text in results_on_disk(folder).values()}


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


quiet = functools.partial(run_study, progress=False, backend="sequential")


# What a study keeps -------------------------------------------------------------------------------------------------------------


def test_a_result_says_what_ran_what_came_out_and_where(tmp_path):
    study = quiet(ARS, [3], folder=tmp_path)
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(rf"{ARS}-[0-9a-f]{{8}}-seed3\.json", path.name)
    (run,) = study.runs
    assert {name: run[name] for name in ("row", "lesson", "env_id", "hyperparameters", "seed", "status", "error")} == {
        "row": ARS,
        "lesson": ARS,
        "env_id": "cartpole_lessons/ContinuousCartPole-v0",
        "hyperparameters": {},
        "seed": 3,
        "status": "ok",
        "error": None,
    }
    assert run["solved"] is True
    assert run["mean_return"] >= 475
    assert run["evaluations"][-1][0] == run["env_steps"]
    assert run["seconds"] > 0
    assert run["code"] == lesson_code(ARS)
    assert {"python", "torch", "gymnasium", "numpy", "cartpole_lessons", "host"} <= set(run["machine"])
    assert read_study(tmp_path).runs == study.runs
    assert str(study) == f"1 runs in {tmp_path}, 0 of them failed"


def test_the_first_training_of_a_process_is_not_charged_for_imports(tmp_path, counted):
    lessons, log = counted
    study_module._warm.discard("my_lessons.counted")
    quiet(lessons, [0, 1], folder=tmp_path / "study")
    assert [seed for seed, _ in trainings(log)] == [0, 1]
    assert "my_lessons.counted" in study_module._warm


def test_a_grid_makes_a_row_of_every_combination(tmp_path):
    study = quiet(ARS, [0, 1], folder=tmp_path, grid={"max_steps": np.array([1, 2]), "noise": [0.5, 1]})
    assert [(run["row"], run["seed"]) for run in study.runs] == [
        (f"{ARS} max_steps={steps} noise={noise}", seed) for steps in (1, 2) for noise in (0.5, 1) for seed in (0, 1)
    ]
    assert study.runs[0]["hyperparameters"] == {"max_steps": 1, "noise": 0.5}
    lines = study.to_csv(tmp_path / "table.csv").splitlines()
    assert (tmp_path / "table.csv").read_text() == "\n".join(lines) + "\n"
    assert lines[0].endswith("env_steps,seconds,worst_of_last,max_steps,noise")
    assert len(lines) == 9
    frame = study.to_frame()
    assert list(frame.columns) == lines[0].split(",")
    assert frame.groupby("noise").size().to_dict() == {0.5: 4, 1.0: 4}


def test_a_second_call_runs_only_what_is_missing(tmp_path, counted):
    lessons, log = counted
    folder = tmp_path / "study"
    quiet(lessons, [0, 1], folder=folder)
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    study = quiet(lessons, [0, 1, 2, 2], folder=folder)
    assert [run["seed"] for run in study.runs] == [0, 1, 2]
    assert [seed for seed, _ in trainings(log)] == [0, 1, 2]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_training_that_raises_is_a_result_and_runs_again_only_when_asked(tmp_path):
    lessons = {"good": (ARS, {"max_steps": 1}), "bad": (ARS, {"method": "wrong"})}
    study = quiet(lessons, [0, 1], folder=tmp_path)
    assert [(run["row"], run["status"]) for run in study.runs] == [("good", "ok")] * 2 + [("bad", "failed")] * 2
    assert [run["row"] for run in study.failed] == ["bad", "bad"]
    assert study.failed[0]["error"].endswith("InvalidInput: method is 'augmented' or 'basic', but got 'wrong'.\n")
    assert str(ROOT) not in study.failed[0]["error"]
    assert study.summary()["bad"]["failed"] == 2
    assert study.to_csv().splitlines()[-1] == f"bad,{ARS},cartpole_lessons/ContinuousCartPole-v0,1,failed,False,False,,,,,,wrong"

    files = sorted(tmp_path.glob("bad*"))
    before = [path.stat().st_mtime_ns for path in files]
    quiet(lessons, [0, 1], folder=tmp_path)
    assert [path.stat().st_mtime_ns for path in files] == before
    quiet(lessons, [0, 1], folder=tmp_path, retry_failed=True)
    assert all(path.stat().st_mtime_ns > then for path, then in zip(files, before, strict=True))


def test_corrupt_results_are_named_and_run_again(tmp_path, counted, capsys):
    lessons, log = counted
    folder = tmp_path / "study"
    quiet(lessons, range(5), folder=folder)
    files = sorted(folder.iterdir())
    complete = files[4].read_bytes()
    files[0].write_bytes(b"")
    files[1].write_bytes(complete[: len(complete) // 2])
    files[2].write_bytes(b"[1, 2]")
    files[3].write_bytes(b'{"result": {}, "timings": {}, "machine": {}}')
    capsys.readouterr()
    left = read_study(folder)
    assert left.corrupt == [path.name for path in files[:4]]
    assert [run["seed"] for run in left.runs] == [4]
    one_sentence(capsys.readouterr().out.rstrip(), files[0].name, "and 1 more", "left out")

    study = quiet(lessons, range(5), folder=folder)
    assert study.corrupt == [path.name for path in files[:4]]
    one_sentence(capsys.readouterr().out.rstrip(), files[0].name, "run again")
    assert Counter(seed for seed, _ in trainings(log)) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1}
    assert files[4].read_bytes() == complete


def test_results_of_other_code_are_named_and_run_again(tmp_path, counted, my_lessons, capsys, monkeypatch):
    lessons, log = counted
    quiet(lessons, [0], folder=tmp_path / "study")
    # The module that the learner imports changes, and this process loads it anew.
    helper = my_lessons / "my_lessons" / "helper.py"
    monkeypatch.setattr(study_module, "_loaded_code", lesson_code)
    helper.write_text("# a comment is no change\n\nANSWER = 42\n")
    assert quiet(lessons, [0], folder=tmp_path / "study").stale == []
    helper.write_text("ANSWER = 43\n")
    (name,) = read_study(tmp_path / "study").stale
    one_sentence(capsys.readouterr().out.rstrip(), name, "other code")
    assert quiet(lessons, [0], folder=tmp_path / "study").stale == [name]
    one_sentence(capsys.readouterr().out.rstrip(), name, "runs again")
    assert quiet(lessons, [0], folder=tmp_path / "study").stale == []
    assert [seed for seed, _ in trainings(log)] == [0, 0]
    helper.write_text("ANSWER = 42\n")


def test_a_process_that_has_loaded_other_code_is_refused(tmp_path, counted, monkeypatch):
    lessons, _ = counted
    monkeypatch.setattr(study_module, "_loaded_code", lambda lesson: "0" * 12)
    with pytest.raises(StudyError) as error:
        quiet(lessons, [0], folder=tmp_path / "study")
    one_sentence(error.value, "my_lessons.counted", socket.gethostname(), "restart")
    assert list((tmp_path / "study").iterdir()) == []


def test_the_code_of_a_lesson_is_that_of_the_lessons_that_it_imports_too(monkeypatch):
    looked_at = []
    find_spec = study_module.util.find_spec
    monkeypatch.setattr(study_module.util, "find_spec", lambda name: looked_at.append(name) or find_spec(name))
    lesson_code("ppo")
    assert {name.rpartition(".")[2] for name in looked_at} == {"ppo", "actor_critic", "policy_gradient"}
    assert len({lesson_code(name) for name in ("ppo", "actor_critic", "policy_gradient", "reinforce")}) == 4


def test_a_lesson_that_is_gone_leaves_its_results_readable(tmp_path, capsys):
    quiet("hand_made", [0], folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"lesson":"hand_made"', '"lesson":"gone.away"'))
    study = read_study(tmp_path)
    assert (len(study.runs), study.stale) == (1, [path.name])


# Killed, interrupted, out of disk -----------------------------------------------------------------------------------------------


@pytest.fixture
def start_study(tmp_path, my_lessons):
    """Starts a study of two processes in a process of its own; whatever is left of it at the end is killed."""
    code = (
        "import json, signal, sys; from cartpole_lessons.study import run_study\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started these tests\n"
        "run_study(json.loads(sys.argv[1]), range(int(sys.argv[2])), folder=sys.argv[3], workers=2, progress=False)"
    )
    started = []

    def start(lessons, seeds, folder):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(lessons), str(seeds), str(folder)],
                env=os.environ | {"PYTHONPATH": str(my_lessons)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes are POSIX")
def test_a_study_interrupted_and_then_killed_midway_loses_nothing_and_repeats_nothing(tmp_path, counted, start_study):
    lessons, log = counted
    folder, seeds = tmp_path / "study", 30

    def finished():
        return len(list(folder.glob("*.json")))

    interrupted = start_study(lessons, seeds, folder)
    wait_for(lambda: finished() >= 5)
    os.killpg(interrupted.pid, signal.SIGINT)  # Ctrl-C in a terminal reaches the workers, too
    out, err = interrupted.communicate(timeout=30)
    one_sentence(out.strip(), f"of {seeds} results", str(folder))
    assert err.rstrip().endswith("KeyboardInterrupt")
    first, began = seeds_of(folder), len(trainings(log))
    assert 5 <= len(first) < seeds

    killed = start_study(lessons, seeds, folder)
    wait_for(lambda: finished() >= len(first) + 5)
    killed.kill()
    killed.communicate(timeout=30)  # ends when its workers have ended too: they hold its output
    second = seeds_of(folder)
    assert len(first) < len(second) < seeds
    again = [seed for seed, _ in trainings(log)[began:]]
    assert not first & set(again)
    assert len(again) == len(set(again))
    began = len(trainings(log))

    study = quiet(lessons, range(seeds), folder=folder)
    assert [run["seed"] for run in study.runs] == list(range(seeds))
    assert study.corrupt == study.failed == study.stale == []
    assert [seed for seed, _ in trainings(log)[began:]] == sorted(set(range(seeds)) - second)
