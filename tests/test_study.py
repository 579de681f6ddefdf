"""Studies: resumable whatever kills them, the same on every engine; reading one runs nothing, whatever its files say."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
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

from cartpole_lessons.algorithms import hand_made
from cartpole_lessons.errors import InvalidInput, MissingDependency, RecordingError
from cartpole_lessons.study import StudyError, backends, lesson_code, read_study, run_study
from cartpole_lessons.study import run as run_module
from cartpole_lessons.study.report import write_report

ROOT = Path(__file__).resolve().parent.parent
ARS = "augmented_random_search"

# A learner of one's own, which takes no time and notes each of its trainings: what ran, and how often, is then known whatever was killed.
COUNTED = """
import os, time
from types import SimpleNamespace
from my_lessons.helper import ANSWER

def train(seed=0, *, env_id="CartPole-v1", log="", delay=0.0):
    with open(log, "a") as file:
        file.write(f"{seed} {os.getpid()}\\n")
    time.sleep(delay)
    figures = {"solved": True, "perfect": True, "mean_return": 500.0, "env_steps": 1_000 + seed, "seconds": delay}
    return SimpleNamespace(interrupted=False, summary=lambda: figures, history=SimpleNamespace(evaluations=[(1_000 + seed, 500.0)]))
"""
# One that returns what is no result.
NONSENSE = """
from types import SimpleNamespace

def train(seed=0, *, env_id="CartPole-v1"):
    figures = {"solved": True, "perfect": True, "mean_return": float("nan"), "env_steps": 1, "seconds": 1.0}
    return SimpleNamespace(interrupted=False, summary=lambda: figures, history=SimpleNamespace(evaluations=[]))
"""


@pytest.fixture(scope="session")
def my_lessons(tmp_path_factory):
    """The folder of the package my_lessons, which this process and all that it starts can import."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "my_lessons"
    package.mkdir()
    (package / "helper.py").write_text("ANSWER = 42\n")
    (package / "counted.py").write_text(COUNTED)
    (package / "nonsense.py").write_text(NONSENSE)
    (package / "no_train.py").write_text("")
    (package / "no_environment.py").write_text("def train(seed=0): ...\n")
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
FAILING = ("hand_made", {"state_cost": (0, 0, 0, 0)})


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
    assert str(study) == f"1 run in {tmp_path}, 0 of them failed"


def test_a_grid_makes_a_row_of_every_combination(tmp_path):
    study = quiet(ARS, [0, 1], folder=tmp_path, grid={"max_steps": np.array([1, 2]), "noise": [0.5, 1]})
    assert [(run["row"], run["seed"]) for run in study.runs] == [
        (f"{ARS} max_steps={steps} noise={noise}", seed) for steps in (1, 2) for noise in (0.5, 1.0) for seed in (0, 1)
    ]
    assert study.runs[0]["hyperparameters"] == {"max_steps": 1, "noise": 0.5}
    lines = study.to_csv(tmp_path / "table.csv").splitlines()
    assert (tmp_path / "table.csv").read_text() == "\n".join(lines) + "\n"
    assert lines[0].endswith("seconds,cpu_seconds,evaluation_seconds,worst_of_last,max_steps,noise")
    assert len(lines) == 9
    frame = study.to_frame()
    assert list(frame.columns) == lines[0].split(",")
    assert frame.groupby("noise").size().to_dict() == {0.5: 4, 1.0: 4}


def test_no_text_of_the_table_is_a_formula_to_a_spreadsheet(tmp_path):
    study = quiet({"=1+1": ("hand_made", {})}, [0], folder=tmp_path)
    assert study.to_csv().splitlines()[1].startswith("'=1+1,hand_made,")


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
    lessons = {"good": (ARS, {"max_steps": 1}), "bad": FAILING}
    study = quiet(lessons, [0, 1], folder=tmp_path)
    assert [(run["row"], run["status"]) for run in study.runs] == [("good", "ok")] * 2 + [("bad", "failed")] * 2
    assert [run["row"] for run in study.failed] == ["bad", "bad"]
    assert "\nInvalidInput: " in study.failed[0]["error"].replace("cartpole_lessons.errors.", "")
    assert str(ROOT) not in study.failed[0]["error"]
    assert study.summary()["bad"]["failed"] == 2
    assert study.to_csv().splitlines()[-1] == 'bad,hand_made,CartPole-v1,1,failed,False,False,,,,,,,,,,"[0.0, 0.0, 0.0, 0.0]"'

    files = sorted(tmp_path.glob("bad*"))
    before = [path.stat().st_mtime_ns for path in files]
    quiet(lessons, [0, 1], folder=tmp_path)
    assert [path.stat().st_mtime_ns for path in files] == before
    quiet(lessons, [0, 1], folder=tmp_path, retry_failed=True)
    assert all(path.stat().st_mtime_ns > then for path, then in zip(files, before, strict=True))


def test_a_train_of_ones_own_that_returns_no_result_has_failed(tmp_path, my_lessons):
    (run,) = quiet("my_lessons.nonsense", [0], folder=tmp_path).runs
    assert (run["status"], run["solved"], run["mean_return"]) == ("failed", False, None)
    one_sentence(run["error"].splitlines()[-1], "mean_return", "nan")
    assert read_study(tmp_path).runs == [run]


def changed(**result):
    """Spoils a file by other values in its result."""

    def spoil(path):
        record = json.loads(path.read_text())
        record["result"] |= result
        path.write_text(json.dumps(record))

    return spoil


def too_large(path):
    with path.open("r+b") as file:
        file.truncate(10**12)  # of which the disk holds nothing


SPOILT = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "of another seed": lambda path: shutil.copy(next(path.parent.glob("*seed1.json")), path),
    "of another row": changed(row="another"),
    "with other settings": changed(hyperparameters={"force_cost": 2.0}),
    "a failure that is solved": changed(status="failed", error="none"),
    "larger than any result": too_large,
}


@pytest.fixture(scope="module")
def two_results(tmp_path_factory):
    """The folder of a study of two seeds, to copy."""
    folder = tmp_path_factory.mktemp("two")
    quiet("hand_made", [0, 1], folder=folder)
    return folder


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in SPOILT.items()])
def test_a_file_that_holds_no_result_of_its_training_is_named_left_out_and_run_again(tmp_path, two_results, capsys, spoil):
    complete = results_on_disk(shutil.copytree(two_results, tmp_path, dirs_exist_ok=True))
    path = next(tmp_path.glob("*seed0.json"))
    spoil(path)
    left = read_study(tmp_path)
    assert left.corrupt == [path.name]
    assert [run["seed"] for run in left.runs] == [1]
    one_sentence(capsys.readouterr().out.rstrip(), path.name, "Left out")
    study = quiet("hand_made", [0, 1], folder=tmp_path)
    assert study.corrupt == [path.name]
    one_sentence(capsys.readouterr().out.rstrip(), path.name, "Run again")
    assert results_on_disk(tmp_path) == complete


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in folders are POSIX")
@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_what_is_no_file_is_left_out_and_never_replaced_by_a_result(tmp_path, two_results, put):
    path = next(shutil.copytree(two_results, tmp_path, dirs_exist_ok=True).glob("*seed0.json"))
    path.unlink()
    put(path)
    assert read_study(tmp_path).corrupt == [path.name]
    with pytest.raises(RecordingError) as error:
        quiet("hand_made", [0, 1], folder=tmp_path)
    one_sentence(error.value, str(path), "take it away")


def test_a_film_for_a_report_is_of_a_training_of_a_length_that_is_worth_it(tmp_path, monkeypatch):
    quiet({"long": ("hand_made", {"max_steps": 10**9})}, [0], folder=tmp_path / "study")
    asked, train = [], hand_made.train
    monkeypatch.setattr(hand_made, "train", functools.wraps(train)(lambda **keywords: asked.append(keywords) or train(**keywords)))
    write_report(tmp_path / "page.html", tmp_path / "study")
    assert [keywords["max_steps"] for keywords in asked] == [200_000]


def test_results_of_other_code_are_named_and_run_again(tmp_path, counted, my_lessons, capsys, monkeypatch):
    lessons, log = counted
    quiet(lessons, [0], folder=tmp_path / "study")
    # The module that the learner imports changes, and this process loads it anew.
    helper = my_lessons / "my_lessons" / "helper.py"
    monkeypatch.setattr(run_module, "loaded_code", lesson_code)
    helper.write_text("ANSWER = 43\n")
    (name,) = quiet(lessons, [0], folder=tmp_path / "study").stale
    one_sentence(capsys.readouterr().out.rstrip(), name, "Run again", "other code")
    assert quiet(lessons, [0], folder=tmp_path / "study").stale == []
    assert [seed for seed, _ in trainings(log)] == [0, 0]
    helper.write_text("ANSWER = 42\n")


def test_a_study_that_is_read_names_results_of_other_code(tmp_path, two_results, capsys):
    path = next(shutil.copytree(two_results, tmp_path, dirs_exist_ok=True).iterdir())
    changed(code="0" * 12)(path)
    for name in "abcd":
        (tmp_path / f"{name}.json").touch()
    study = read_study(tmp_path)
    assert (len(study.runs), study.stale) == (2, [path.name])
    left_out, stale = capsys.readouterr().out.splitlines()
    one_sentence(left_out, "a.json, b.json, c.json and 1 more.")
    one_sentence(stale, path.name, "other code")


def test_a_process_that_has_loaded_other_code_is_refused(tmp_path, counted, monkeypatch):
    lessons, _ = counted
    monkeypatch.setattr(run_module, "loaded_code", lambda lesson: "0" * 12)
    with pytest.raises(StudyError) as error:
        quiet(lessons, [0], folder=tmp_path / "study")
    one_sentence(error.value, "my_lessons.counted", socket.gethostname(), "restart")
    assert list((tmp_path / "study").iterdir()) == []


def test_reading_and_reporting_import_and_train_nothing_because_a_file_names_it(tmp_path, counted, my_lessons):
    lessons, log = counted
    quiet(lessons, [0], folder=tmp_path / "study")
    code = (
        "import sys; from cartpole_lessons.study import read_study; from cartpole_lessons.study.report import write_report\n"
        "study = read_study('study'); print(study.unknown, study.stale); print(study.summary()['counted']['runs'])\n"
        "write_report('page.html', 'study'); print([name for name in sys.modules if 'my_lessons' in name])"
    )
    environment = os.environ | {"PYTHONPATH": str(my_lessons)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (path,) = (tmp_path / "study").iterdir()
    told, figures, runs, told_again, imported = done.stdout.splitlines()
    one_sentence(told, path.name, "Not of the course's own lessons")
    assert (figures, runs, told_again, imported) == (f"['{path.name}'] []", "1", told, "[]")
    assert "counted: no film. " in (tmp_path / "page.html").read_text()
    assert len(trainings(log)) == 1


def test_ctrl_c_while_a_report_trains_for_its_films_stops_it_and_writes_nothing(tmp_path, monkeypatch):
    quiet("hand_made", [0], folder=tmp_path / "study")
    whole = hand_made.train(seed=0)
    monkeypatch.setattr(
        hand_made, "train", functools.wraps(hand_made.train)(lambda **keywords: dataclasses.replace(whole, interrupted=True))
    )
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "page.html", tmp_path / "study")
    assert not (tmp_path / "page.html").exists()


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
    folder, seeds = tmp_path / "study", 20

    interrupted = start_study(lessons, seeds, folder)
    wait_for(lambda: len(seeds_of(folder)) >= 5)
    os.killpg(interrupted.pid, signal.SIGINT)  # Ctrl-C in a terminal reaches the workers, too
    out, err = interrupted.communicate(timeout=30)
    one_sentence(out.strip(), f"of {seeds} results", str(folder))
    assert err.rstrip().endswith("KeyboardInterrupt")
    first, began = seeds_of(folder), len(trainings(log))
    assert 5 <= len(first) < seeds

    killed = start_study(lessons, seeds, folder)
    wait_for(lambda: len(seeds_of(folder)) >= len(first) + 5)
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


@pytest.mark.parametrize(
    ("lessons", "more", "named"),
    [
        ("pp", {}, ("'pp'", "'ppo'")),
        ("nowhere.at_all", {}, ("'nowhere.at_all'",)),
        ("..", {}, ("'..'",)),
        ([7], {}, ("7",)),
        ("my_lessons.no_train", {}, ("my_lessons.no_train", "train")),
        ("my_lessons.no_environment", {}, ("my_lessons.no_environment", "'env_id'")),
        ([], {}, ("at least one lesson",)),
        ("ppo", {"seeds": []}, ("one seed",)),
        ("ppo", {"seeds": 20}, ("range(20)",)),
        ("ppo", {"seeds": [-1]}, ("-1",)),
        ("ppo", {"grid": {"hiden": [1]}}, ("ppo", "'hiden'", "'hidden'")),
        ("ppo", {"grid": {"seed": [1]}}, ("'seed'",)),
        ("ppo", {"grid": {"hidden": 32}}, ("hidden", "32")),
        ("ppo", {"grid": {"hidden": []}}, ("hidden", "[]")),
        ("ppo", {"grid": {"hidden": [32, -3]}}, ("hidden", "-3")),
        ({"x": (ARS, {"method": "wrong"})}, {}, ("method", "'wrong'")),
        ({"x": ("ppo", {"clip": float("nan")})}, {}, ("clip", "nan")),
        ({"x": ("my_lessons.counted", {"log": object})}, {}, ("numbers, texts",)),
        ({"x": ("my_lessons.counted", {"log": [[1]]})}, {}, ("numbers, texts", "[[1]]")),
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


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(tmp_path, missing, my_lessons):
    for package, needs_it in {
        "a_package_that_nobody_has": lambda: quiet("my_lessons.needy", [0], folder=tmp_path),
        "distributed": lambda: quiet("hand_made", [0], folder=tmp_path, scheduler="tcp://127.0.0.1:1"),
        "joblib": lambda: quiet("hand_made", [0], folder=tmp_path, backend="loky"),
        "pandas": lambda: quiet("hand_made", [0], folder=tmp_path).to_frame(),
    }.items():
        missing(package)
        with pytest.raises(MissingDependency) as error:
            needs_it()
        one_sentence(error.value, package, "pip install")


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(StudyError) as error:
        read_study(tmp_path)
    one_sentence(error.value, str(tmp_path))


def test_the_bar_counts_what_is_there_and_what_failed(tmp_path, capsys):
    run_study({"bad": FAILING}, [0], folder=tmp_path, backend="sequential")
    run_study({"bad": FAILING, "good": (ARS, {"max_steps": 1})}, [0, 1], folder=tmp_path, backend="sequential")
    shown = capsys.readouterr().err
    assert "1/4" in shown
    assert "4/4" in shown
    assert "2 failed" in shown


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
    lessons = {"short": (ARS, {"max_steps": 1_000}), "bad": FAILING, "lqr": ("hand_made", {"state_cost": (1, 1, 1, 2)})}
    engines = {"sequential": {"backend": "sequential"}, "loky": {"workers": 2}, "dask": {"scheduler": cluster[0]}}
    for name, engine in engines.items():
        run_study(lessons, range(2), folder=tmp_path / name, progress=False, **engine)
    expected = results_on_disk(tmp_path / "sequential")
    assert len(expected) == 6
    assert results_on_disk(tmp_path / "loky") == expected
    assert results_on_disk(tmp_path / "dask") == expected
    # What a file says is written in one way only.
    for folder in engines:
        for path in (tmp_path / folder).iterdir():
            assert json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(",", ":")) + "\n" == path.read_text()


def test_a_cluster_that_loses_a_worker_finishes_and_repeats_only_what_that_worker_had(tmp_path, cluster, counted):
    address, workers = cluster
    lessons, log = counted
    folder, seeds = tmp_path / "study", 20

    def kill_one_midway():
        wait_for(lambda: len(list(folder.glob("*.json"))) >= 5)
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
    assert all(trainings(log).count((seed, workers[0].pid)) == 1 for seed in repeated)
    assert max(times.values()) <= 2
    assert {pid for _, pid in trainings(log)} == {worker.pid for worker in workers}


def test_workers_that_fail_are_told_apart_from_a_training_that_fails(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the pool is gone")
        yield

    monkeypatch.setattr(run_module, "results_of", broken)
    with pytest.raises(StudyError) as error:
        quiet("hand_made", [0], folder=tmp_path)
    one_sentence(error.value, "RuntimeError", "0 of 1", str(tmp_path))


def test_a_scheduler_that_does_not_answer_or_has_no_workers_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 1)
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
