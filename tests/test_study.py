"""Studies: resumable whatever kills them, the same on every engine, and the statistics by hand."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import full_disk, one_sentence

from cartpole_lessons import study as study_module
from cartpole_lessons.algorithms import hand_made
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


def test_ctrl_c_stops_the_study_and_is_no_result(tmp_path, monkeypatch, capsys):
    whole = hand_made.train

    @functools.wraps(whole)
    def train(seed=0, **keywords):
        # What training.Run makes of Ctrl-C: the best policy so far, marked.
        return dataclasses.replace(whole(seed=seed, **keywords), interrupted=seed == 1)

    monkeypatch.setattr(hand_made, "train", train)
    with pytest.raises(KeyboardInterrupt):
        quiet("hand_made", range(3), folder=tmp_path)
    one_sentence(capsys.readouterr().out.strip(), "1 of 3 results", str(tmp_path))
    assert seeds_of(tmp_path) == {0}


def test_a_worker_leaves_ctrl_c_to_its_owner_and_goes_with_it(monkeypatch):
    owner, handled = 4711, {}
    parents = iter([owner, owner, owner, 1, 1])

    class AtOnce:
        def __init__(self, target, daemon):
            assert daemon
            self.start = target

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(study_module, "_following", [])
    monkeypatch.setattr(study_module.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(study_module.os, "_exit", leave)
    monkeypatch.setattr(study_module.signal, "signal", handled.__setitem__)
    monkeypatch.setattr(study_module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(study_module.threading, "Thread", AtOnce)
    with pytest.raises(SystemExit):
        study_module._obey(owner)
    assert handled == {signal.SIGINT: signal.SIG_IGN}
    # It begins nothing more, either.
    with pytest.raises(SystemExit):
        study_module._obey(owner)


def test_a_full_disk_stops_the_study_in_one_sentence_and_leaves_what_was_finished(tmp_path, counted):
    lessons, log = counted
    folder = tmp_path / "study"
    quiet(lessons, [0, 1], folder=folder)
    finished = {path: path.read_bytes() for path in folder.iterdir()}
    with full_disk(100), pytest.raises(RecordingError) as error:
        quiet(lessons, range(4), folder=folder)
    one_sentence(error.value, str(folder), "free some space")
    assert {path: path.read_bytes() for path in folder.iterdir()} == finished
    assert quiet(lessons, range(4), folder=folder).failed == []
    # The training whose result found no room is the only one that began twice.
    assert Counter(seed for seed, _ in trainings(log)) == {0: 1, 1: 1, 2: 2, 3: 1}


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(unwritable, counted, tmp_path):
    lessons, log = counted
    with pytest.raises(RecordingError) as error:
        quiet(lessons, [0], folder=unwritable)
    one_sentence(error.value, str(unwritable))
    assert trainings(log) == []
    study = quiet(lessons, [0], folder=tmp_path / "study")
    with pytest.raises(RecordingError) as error:
        study.to_csv(unwritable / "table.csv")
    one_sentence(error.value, str(unwritable))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_read_only_file_system_is_refused_for_root_too(counted):
    with pytest.raises(RecordingError) as error:
        quiet(counted[0], [0], folder="/proc/sys")
    one_sentence(error.value, "/proc/sys")


# Wrong use ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lessons", "more", "named"),
    [
        ("pp", {}, ("'pp'", "'ppo'")),
        ("zzz", {}, ("'zzz'", "actor_critic, ")),
        ("nowhere.at_all", {}, ("'nowhere.at_all'",)),
        ("..", {}, ("'..'",)),
        ([7], {}, ("7",)),
        ("my_lessons.no_train", {}, ("my_lessons.no_train", "train")),
        ([], {}, ("at least one lesson",)),
        ("ppo", {"seeds": []}, ("one seed",)),
        ("ppo", {"seeds": 20}, ("range(20)",)),
        ("ppo", {"seeds": [-1]}, ("-1",)),
        ("ppo", {"grid": {"hiden": [1]}}, ("ppo", "'hiden'", "'hidden'")),
        ("ppo", {"grid": {"seed": [1]}}, ("'seed'",)),
        ({"x": ("ppo", {"zzz": 1})}, {}, ("ppo", "'zzz'", "learning_rate")),
        ("ppo", {"grid": {"hidden": 32}}, ("hidden", "32")),
        ("ppo", {"grid": {"hidden": []}}, ("hidden", "[]")),
        ({"x": ("ppo", {"hidden": object})}, {}, ("numbers",)),
        ({"x": ("ppo", {"learning_rate": float("nan")})}, {}, ("numbers", "nan")),
        ({"x": ("ppo", {"env_id": "CartPole-v7"})}, {}, ("CartPole-v7", "CartPole-v1")),
        ("ppo", {"backend": "threads"}, ("backend", "'threads'", "'loky'")),
        ("ppo", {"backend": "dask"}, ("scheduler", "tcp://")),
        ("ppo", {"workers": 0}, ("workers", "0")),
    ],
)
def test_what_cannot_be_run_is_said_in_one_sentence_before_anything_is_written(tmp_path, my_lessons, lessons, more, named):
    with pytest.raises(InvalidInput) as error:
        run_study(lessons, **{"seeds": [0], "folder": tmp_path / "study", "progress": False} | more)
    one_sentence(error.value, *named)
    assert not (tmp_path / "study").exists()


def test_a_lesson_that_needs_a_missing_package_names_it(tmp_path, my_lessons):
    with pytest.raises(MissingDependency) as error:
        quiet("my_lessons.needy", [0], folder=tmp_path)
    one_sentence(error.value, "my_lessons.needy", "a_package_that_nobody_has")


@pytest.mark.parametrize(("module", "more"), [("joblib", {"backend": "loky"}), ("distributed", {"scheduler": "tcp://127.0.0.1:1"})])
def test_missing_engines_are_named_with_the_command_that_installs_them(tmp_path, missing, module, more):
    missing(module)
    with pytest.raises(MissingDependency) as error:
        run_study("hand_made", [0], folder=tmp_path, progress=False, **more)
    one_sentence(error.value, module, "pip install")


def test_a_frame_without_pandas_names_it(tmp_path, missing):
    study = quiet("hand_made", [0], folder=tmp_path)
    missing("pandas")
    with pytest.raises(MissingDependency) as error:
        study.to_frame()
    one_sentence(error.value, "pip install pandas")


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(StudyError) as error:
        read_study(tmp_path)
    one_sentence(error.value, str(tmp_path))


def test_the_bar_counts_what_is_there_and_what_failed(tmp_path, capsys):
    run_study({"bad": (ARS, {"method": "wrong"})}, [0], folder=tmp_path, backend="sequential")
    run_study({"bad": (ARS, {"method": "wrong"}), "good": (ARS, {"max_steps": 1})}, [0, 1], folder=tmp_path, backend="sequential")
    shown = capsys.readouterr().err
    assert "1/4" in shown
    assert "4/4" in shown
    assert "2 failed" in shown


# Engines ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(my_lessons, tmp_path_factory):
    """(address, workers): a Dask scheduler and two worker processes on loopback, each a program of its own."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": str(my_lessons), "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}

    def start(program, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", "--scheduler-file", str(file), "--no-dashboard", *arguments]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=file.parent)

    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
    # Without a nanny, which would start another one in place of the killed worker.
    workers = [start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1") for _ in range(2)]
    try:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        yield json.loads(file.read_text())["address"], workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_results_are_the_same_on_every_engine(tmp_path, cluster):
    lessons = {"short": (ARS, {"max_steps": 2_000}), "bad": (ARS, {"method": "wrong"}), "lqr": ("hand_made", {"state_cost": (1, 1, 1, 2)})}
    engines = {"sequential": {"backend": "sequential"}, "loky": {"workers": 2}, "dask": {"scheduler": cluster[0]}}
    for name, engine in engines.items():
        run_study(lessons, range(3), folder=tmp_path / name, progress=False, **engine)
    expected = results_on_disk(tmp_path / "sequential")
    assert len(expected) == 9
    assert results_on_disk(tmp_path / "loky") == expected
    assert results_on_disk(tmp_path / "dask") == expected
    # What a file says is written in one way only.
    for folder in engines:
        for path in (tmp_path / folder).iterdir():
            assert json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(",", ":")) + "\n" == path.read_text()


def test_a_cluster_that_loses_a_worker_finishes_and_repeats_only_what_that_worker_had(tmp_path, cluster, counted):
    address, workers = cluster
    lessons, log = counted
    folder, seeds = tmp_path / "study", 40

    def kill_one_midway():
        wait_for(lambda: len(list(folder.glob("*.json"))) >= 10)
        began.extend(trainings(log))
        workers[0].kill()

    began = []
    killer = threading.Thread(target=kill_one_midway)
    killer.start()
    study = run_study(lessons, range(seeds), folder=folder, scheduler=address, progress=False)
    killer.join()
    assert workers[0].wait() == (1 if sys.platform == "win32" else -signal.SIGKILL)
    assert 0 < len({seed for seed, _ in began}) < seeds

    assert [run["seed"] for run in study.runs] == list(range(seeds))
    assert study.failed == []
    times = Counter(seed for seed, _ in trainings(log))
    assert sorted(times) == list(range(seeds))
    repeated = {seed for seed, count in times.items() if count > 1}
    assert {pid for seed, pid in trainings(log) if seed in repeated} <= {workers[0].pid, workers[1].pid}
    assert all(trainings(log).count((seed, workers[0].pid)) == 1 for seed in repeated)
    assert max(times.values()) <= 2
    assert {pid for _, pid in trainings(log)} == {worker.pid for worker in workers}


def test_a_worker_without_the_lesson_is_told_apart_from_a_training_that_fails(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the pool is gone")
        yield

    monkeypatch.setattr(study_module, "_results", broken)
    with pytest.raises(StudyError) as error:
        quiet("hand_made", [0], folder=tmp_path)
    one_sentence(error.value, "RuntimeError", "0 of 1", str(tmp_path))


def test_a_scheduler_that_does_not_answer_or_has_no_workers_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "CONNECT_SECONDS", 1)
    with pytest.raises(StudyError) as error:
        run_study("hand_made", [0], folder=tmp_path, progress=False, scheduler="tcp://127.0.0.1:9")
    one_sentence(error.value, "tcp://127.0.0.1:9", "dask scheduler")
    with pytest.raises(StudyError) as error:
        run_study("hand_made", [0], folder=tmp_path, progress=False, scheduler="nonsense://")
    one_sentence(error.value, "nonsense://")
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", processes=False, protocol="tcp", host="127.0.0.1") as empty:
        with pytest.raises(StudyError) as error:
            run_study("hand_made", [0], folder=tmp_path, progress=False, scheduler=empty.scheduler_address)
        one_sentence(error.value, empty.scheduler_address, "dask worker")


# Figures ------------------------------------------------------------------------------------------------------------------------


def a_run(**differences):
    return {
        "row": "row",
        "lesson": "lesson",
        "env_id": "CartPole-v1",
        "hyperparameters": {},
        "seed": 0,
        "code": "c0de",
        "status": "ok",
        "error": None,
        "solved": True,
        "perfect": True,
        "mean_return": 500.0,
        "env_steps": 1000,
        "seconds": 1.0,
        "evaluations": [[1000, 500.0]],
        "machine": {"host": "secret", "python": "3.11"},
    } | differences


@pytest.mark.parametrize(("successes", "of"), [(0, 10), (7, 10), (100, 100), (95, 100)])
def test_wilson_interval_is_the_published_formula(successes, of):
    z, share = 1.959963984540054, successes / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    reach = z / (1 + z**2 / of) * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    assert wilson_interval(successes, of) == pytest.approx((middle - reach, middle + reach), abs=1e-12)


def test_wilson_interval_of_all_of_a_hundred_by_hand():
    # 100 of 100: the lower end is n / (n + z^2), the upper one is 1.
    low, high = wilson_interval(100, 100)
    assert low == pytest.approx(100 / (100 + 3.8414588), abs=1e-7)
    assert high == 1.0


def test_bootstrap_interval_of_three_values_by_hand():
    # The median of three draws from {1, 2, 3} is 1 with probability 7/27, and 3 as well: both are more than 2.5 %.
    assert median_interval([3, 1, 2]) == (2.0, 1.0, 3.0)
    # Of nine values, the k-th smallest draw has a binomial law: P(median <= first) = P(Bin(9, 1/9) >= 5) = 0.12 %, and
    # P(median <= second) = P(Bin(9, 2/9) >= 5) = 2.55 %, just too much: the interval begins at the second value, and ends at the eighth.
    assert median_interval(range(1, 10)) == (5.0, 2.0, 8.0)
    assert median_interval([7.0]) == (7.0, 7.0, 7.0)


def test_bootstrap_interval_agrees_with_scipys():
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).lognormal(size=41)
    theirs = bootstrap((values,), np.median, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)).confidence_interval
    _, low, high = median_interval(values)
    assert (low, high) == pytest.approx(tuple(theirs), rel=0.1)
    assert median_interval(values) == median_interval(values[::-1])


def test_runs_that_were_not_solved_count_as_longer_than_any_that_was():
    solved = [a_run(seed=seed, env_steps=steps, seconds=steps / 1000) for seed, steps in enumerate([1000, 3000, 2000])]
    unsolved = a_run(seed=3, solved=False, perfect=False, env_steps=10, seconds=0.01)
    crashed = a_run(seed=4, status="failed", solved=False, perfect=False, env_steps=None, seconds=None, mean_return=None, evaluations=[])
    summary = summarise([*solved, unsolved, crashed])["row"]
    assert (summary["runs"], summary["failed"]) == (5, 1)
    assert (summary["solved"]["count"], summary["solved"]["of"], summary["solved"]["share"]) == (3, 5, 0.6)
    # Sorted: 1000, 2000, 3000, infinity, infinity.
    assert summary["env_steps"]["median"] == 3000
    assert summary["seconds"]["median"] == 3.0
    assert summary["env_steps"]["high"] == np.inf
    assert not any(np.isnan(value) for value in summary["env_steps"].values())
    half = summarise([*solved[:2], unsolved, crashed])["row"]
    assert half["env_steps"]["median"] == np.inf
    assert readable(half)["env_steps"] == "not reached (1,000-not reached)"
    assert readable(summarise([crashed])["row"])["seconds"] == "not reached"


def test_rows_keep_their_order_and_their_runs_apart():
    summary = summarise([a_run(row="b"), a_run(row="a"), a_run(row="b", seed=1)])
    assert {row: entry["runs"] for row, entry in summary.items()} == {"b": 2, "a": 1}


def test_stable_runs_keep_above_the_threshold_in_their_last_ten_evaluations():
    fell_long_ago = a_run(evaluations=[[1, 20.0]] + [[step, 475.0] for step in range(2, 12)])
    fell_lately = a_run(evaluations=[[step, 500.0] for step in range(1, 11)] + [[11, 474.99]])
    crashed = a_run(status="failed", solved=False, evaluations=[])
    assert [worst_of_last(run) for run in (fell_long_ago, fell_lately, crashed)] == [475.0, 474.99, None]
    summary = summarise([fell_long_ago, fell_lately, crashed])["row"]
    assert summary["worst_of_last"] == [475.0, 474.99, None]
    assert (summary["stable"]["count"], summary["stable"]["of"]) == (1, 3)
    assert summarise([crashed])["row"]["stable"] is None
    assert readable(summary)["stable"] == "1 of 3 (6-79 %)"


def test_cells_are_readable():
    summary = summarise([a_run(seed=seed, seconds=0.5) for seed in range(100)])["row"]
    assert readable(summary | {"env_steps": {"median": 12_394.5, "low": 9_000.0, "high": 20_000.0}}) == {
        "solved": "100 of 100 (96-100 %)",
        "perfect": "100 of 100 (96-100 %)",
        "stable": "100 of 100 (96-100 %)",
        "env_steps": "12,394 (9,000-20,000)",
        "seconds": "0.50",
    }


# Published results --------------------------------------------------------------------------------------------------------------


def test_published_results_come_back_as_they_were_but_for_the_machines_name(tmp_path):
    long = [[step, 475.25 if step % 2 else 500.0] for step in range(1, 101)]
    runs = [a_run(seed=0, evaluations=long), a_run(seed=1, status="failed", solved=False, env_steps=None, seconds=None, evaluations=[])]
    path = write_results(runs, tmp_path)
    assert path == tmp_path / "row.json"
    assert "secret" not in path.read_text()
    assert '"env_steps":1000,"seconds":1.0' in path.read_text()
    (back,) = read_results(tmp_path).values()
    differs = ("machine", "error", "evaluations")
    assert [{k: v for k, v in run.items() if k not in differs} for run in back] == [
        {k: v for k, v in run.items() if k not in differs} for run in runs
    ]
    assert back[0]["machine"] == {"python": "3.11"}
    kept = back[0]["evaluations"]
    assert len(kept) == 60
    assert kept[0] == [1, 475.25]
    assert kept[-10:] == long[-10:]
    assert all(point in long for point in kept)
    assert summarise(back)["row"] == summarise(runs)["row"]


def test_the_courses_published_results_are_complete_and_small_and_those_of_its_code():
    rows = read_results()
    for row, runs in rows.items():
        assert {run["code"] for run in runs} == {lesson_code(runs[0]["lesson"])}, f"{row} is stale: run `make study`"
        assert [run["seed"] for run in runs] == list(range(100)), row
        assert {run["row"] for run in runs} == {row}
        assert {run["status"] for run in runs} <= {"ok", "failed"}
    assert set(summarise(run for runs in rows.values() for run in runs)) == set(rows)
    assert sum(path.stat().st_size for path in RESULTS.glob("*.json")) < 500_000


@pytest.fixture
def make_study(monkeypatch, tmp_path):
    """benchmarks/study.py as a module, with its results, its picture and its tool's writing kept away from the repository's own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.delitem(sys.modules, "study", raising=False)
    import badges
    import study

    assert Path(study.__file__).parent.name == "benchmarks"
    for module in (study, badges):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "PICTURE", tmp_path / "docs" / "picture.png")
    monkeypatch.setattr(study, "run_study", functools.partial(run_study, backend="sequential", progress=False))
    monkeypatch.setattr(badges, "PICTURE", str(tmp_path / "docs" / "picture.png"))
    monkeypatch.setattr(badges, "write", list)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["study.py", "--folder", str(tmp_path / "study"), *arguments])
        return study.main()

    study.run = run
    study.badges = badges
    return study


def test_fewer_seeds_are_shown_but_not_published(make_study, tmp_path, capsys):
    assert make_study.run("hand_made", "--seeds", "2") == 0
    shown = capsys.readouterr().out
    assert "2 of 2 (34-100 %)" in shown
    assert "Nothing is published from 2 seeds" in shown
    assert not (tmp_path / "results").exists()


def test_all_seeds_are_published_and_drawn(make_study, monkeypatch, tmp_path, capsys):
    from PIL import Image

    monkeypatch.setattr(make_study, "SEEDS", 2)
    monkeypatch.setitem(make_study.ROWS, ARS, (ARS, {"max_steps": 3_000}))
    assert make_study.run("hand_made", ARS, "--seeds", "2") == 0
    assert "Stable-Baselines3 is left out" in capsys.readouterr().out
    assert set(read_results(tmp_path / "results")) == {"hand_made", ARS}
    # Nothing is learned in hand_made, so it has no curve.
    assert set(make_study.drawn_rows()) == {ARS}
    with Image.open(tmp_path / "docs" / "picture.png") as picture:
        assert picture.text["Description"] == make_study.fingerprint(make_study.drawn_rows())
    assert "on 2 seeds" in make_study.badges.learning_curves()
    (tmp_path / "docs" / "picture.png").unlink()
    assert make_study.badges.learning_curves() == "*`make study` draws the learning curves here.*"


def test_a_wrong_row_and_a_folder_that_cannot_be_written_end_in_one_sentence(make_study, monkeypatch, unwritable):
    with pytest.raises(SystemExit) as stop:
        make_study.run("nothing_like_it")
    assert stop.value.code == 2
    monkeypatch.setattr(sys, "argv", ["study.py", "hand_made", "--folder", str(unwritable)])
    with pytest.raises(SystemExit) as stop:
        make_study.main()
    one_sentence(stop.value, str(unwritable))


def test_the_published_comparison_is_that_of_the_courses_code():
    pairs = json.loads((RESULTS / "against_stable_baselines3.json").read_text())["pairs"]
    assert {pair["lesson"]: pair["code"] for pair in pairs} == {pair["lesson"]: lesson_code(pair["lesson"]) for pair in pairs}
    assert {len(pair["runs"]) for pair in pairs} == {20}


def test_a_study_that_should_compare_says_at_once_where_it_cannot(make_study, monkeypatch, capsys):
    monkeypatch.setattr(make_study, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        make_study.run()
    assert stop.value.code == 2
    assert "--no-comparison" in capsys.readouterr().err


def test_trainings_that_go_on_have_no_steps_to_solve():
    assert readable(summarise([a_run()])["row"])["env_steps"] != "-"
    cells = readable(summarise([a_run(hyperparameters={"stop_when_perfect": False})])["row"])
    assert (cells["env_steps"], cells["seconds"]) == ("-", "-")
    assert cells["stable"] != "-"


def test_every_row_of_the_published_study_can_be_run(make_study):
    for row, (lesson, keywords) in make_study.ROWS.items():
        assert study_module._checked_keywords(study_module._check_lesson(lesson), keywords) == keywords, row
    assert set(read_results()) == set(make_study.ROWS)


def test_the_picture_in_the_readme_shows_the_published_results(make_study, monkeypatch):
    from PIL import Image

    path = ROOT / "docs" / "learning_curves.png"
    if not path.exists():
        pytest.skip("not drawn yet: run `make study`")
    monkeypatch.setattr(make_study, "RESULTS", RESULTS)
    with Image.open(path) as picture:
        assert picture.text["Description"] == make_study.fingerprint(make_study.drawn_rows()), "run `make study`"
    assert path.stat().st_size < 150_000


def test_what_will_be_seen_is_said_as_measured(make_study):
    solved = summarise([a_run(seed=seed) for seed in range(3)])["row"]
    assert make_study.badges.you_will_see(solved) == (
        "You will see: solved on 3 of 3 seeds, typically after 1,000 environment steps and 1.00 seconds (measured; medians)."
    )
    at_once = summarise([a_run(env_steps=0)])["row"]
    assert "in 1.00 seconds without training" in make_study.badges.you_will_see(at_once)
    never = summarise([a_run(solved=False)])["row"]
    assert make_study.badges.you_will_see(never) == "You will see: solved on 0 of 1 seeds (measured)."


def test_the_comparisons_table_holds_both_sides_and_the_ratios(make_study, tmp_path):
    assert "make study" in make_study.badges.comparison_table()
    side = {"solved": True, "perfect": True, "env_steps": 1000, "seconds": 2.0}
    runs = [{"seed": seed, "ours": side, "theirs": side | {"env_steps": steps}} for seed, steps in enumerate([2000, 3000, 9000])]
    (tmp_path / "results").mkdir()
    pair = {"lesson": "ppo", "theirs": "SB3 PPO", "version": "2.9", "runs": runs}
    (tmp_path / "results" / "against_stable_baselines3.json").write_text(json.dumps({"machine": {}, "pairs": [pair]}))
    last = make_study.badges.comparison_table().splitlines()[-1]
    assert last == "| 05 PPO | 3 of 3 | 1,000 | 2.00 | SB3 PPO 2.9 | 3 of 3 | 3,000 | 2.00 | 3.0 | 1.0 |"
    assert read_results(tmp_path / "results") == {}
