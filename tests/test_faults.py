"""What happens when something breaks for real: processes killed, disks full, Ctrl-C at any moment, files altered, clocks gone wild.

`make test-faults` does each of these as often as the README says, and writes the figures for its table; without it, fewer times.
"""

import ast
import csv
import errno
import functools
import json
import math
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import tracemalloc
import zipfile
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import (
    GOOD_DIRECTION,
    Kernel,
    LinearPolicy,
    always_right,
    linear_policy,
    one_sentence,
    printed,
    same_result,
    train,
    write_reliability_figures,
)
from test_states import same
from test_video import NOISE, decode

from cartpole_lessons import plots, training
from cartpole_lessons.algorithms import augmented_random_search, dqn, many_seeds, ppo, reinforce
from cartpole_lessons.checkpoints import (
    LARGEST_CHECKPOINT,
    STATE_FORMAT,
    load_checkpoint,
    load_policy,
    load_state,
    save_checkpoint,
    save_state,
)
from cartpole_lessons.errors import CheckpointError, InvalidAction, RecordingError
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons._support.interrupts import HeldInterrupts
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.training import Run
from cartpole_lessons.video import encode, record

ROOT = Path(__file__).resolve().parent.parent
FULL = os.environ.get("FAULTS") == "full"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these signals nor these file systems")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="done with what Linux has")
OBSERVATIONS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


@pytest.fixture(scope="session")
def figures():
    """What the tests measured, for the README; kept where all was done as often as it says."""
    measured = {}
    yield measured
    if FULL and measured:
        write_reliability_figures(measured)


@pytest.fixture
def child(tmp_path):
    """`child(code)`: a Python process that runs `code` in tmp_path and can import the tests; ended with the test."""
    children = []

    def start(code, folder=tmp_path, **variables):
        paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(process)
        return process

    yield start
    for process in children:
        process.kill()
        process.communicate()


def finished(process, seconds=120):
    """What the process printed; it must have ended well."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def disk(tmp_path):
    """`disk(megabytes, "ro")`: a small file system of its own, for the test that asked."""
    mounted = []

    def mount(megabytes, mode="rw"):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,{mode}", "tmpfs", str(folder)]
        if sys.platform != "linux" or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("no file system can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def by_name(text):
    """A history's CSV text as {name: [(env step, value), ...]}."""
    rows = {}
    for row in csv.DictReader(text.splitlines()):
        rows.setdefault(row["name"], []).append((row["env_step"], row["value"]))
    return rows


def is_beginning_of(part, whole):
    """Whether each list of the history `part` is how that of `whole` begins."""
    part, whole = by_name(part), by_name(whole)
    return all(rows == whole[name][: len(rows)] for name, rows in part.items())


# A process that is killed while it trains


def slow_down(seconds):
    """From now on every update takes so much longer, so that there is time to kill the process."""
    original = Run.record

    def record_slowly(run, **keywords):
        time.sleep(seconds)
        original(run, **keywords)

    Run.record = record_slowly


def short_training(**keywords):
    return train(seed=2, max_steps=20_000, learning_rate=0.01, **keywords)


def long_training(**keywords):
    """A lesson's training that never comes to a perfect policy."""
    return ppo.train(seed=1, learning_rate=1e-6, max_steps=150_000, **keywords)


@POSIX
@pytest.mark.parametrize(
    ("learner", "kind", "slower", "between", "kills"),
    [
        (short_training, LinearPolicy, 0.02, 0.1, 1),
        pytest.param(
            long_training,
            ppo.Actor,
            0.06,
            training.SECONDS_BETWEEN_SAVES,
            3,
            marks=pytest.mark.skipif(not FULL, reason="takes minutes: `make test-faults`"),
        ),
    ],
)
def test_a_killed_training_leaves_its_history_and_best_policy_and_goes_on_to_the_identical_result(
    learner, kind, slower, between, kills, tmp_path, monkeypatch, figures, capsys
):
    ages = []
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", between)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uninterrupted = learner()
    monkeypatch.chdir(tmp_path)
    for number in range(kills):
        kernel = Kernel()
        try:
            kernel.run(
                f"import os; os.chdir({str(tmp_path)!r}); import test_faults; test_faults.slow_down({slower}); "
                f"test_faults.training.SECONDS_BETWEEN_SAVES = {between}"
            )
            started = time.time()
            kernel.client.execute(f"test_faults.{learner.__name__}(); open('over', 'w')")
            while not list(tmp_path.glob("unfinished/*.state")) and time.time() - started < 60:
                time.sleep(0.01)
            time.sleep(random.Random(number).uniform(0, 2 * between))
            os.kill(kernel.manager.provisioner.process.pid, signal.SIGKILL)
            killed = time.time()
        finally:
            kernel.close()
        assert not (tmp_path / "over").exists(), "the training was over before it was killed"
        (saved,) = tmp_path.glob("unfinished/*.npz")
        for file in (saved, saved.with_suffix(".csv"), saved.with_suffix(".state")):
            ages.append(killed - file.stat().st_mtime)
            assert ages[-1] < between + 2
        history = saved.with_suffix(".csv").read_text()
        means = [float(value) for _, value in by_name(history).get("evaluation", [])]
        assert load_checkpoint(saved).mean_return == (max(means) if means else None)
        assert load_policy(saved, kind).act(OBSERVATIONS).shape == (200,)
        assert len(history.splitlines()) > 5

        capsys.readouterr()
        resumed = learner(resume=True)
        assert re.search(r"goes on after [1-9][\d,]* steps", capsys.readouterr().out)
        assert is_beginning_of(history, resumed.history.to_csv())
        assert same_result(resumed, uninterrupted)
        assert not (tmp_path / "unfinished").exists(), "what a finished training leaves no longer is unfinished"
    if learner is long_training:
        figures["killed"] = {"trainings": kills, "oldest_seconds": round(max(ages), 1)}


def numbered_run(folder, monkeypatch, interrupt_at=None, error=KeyboardInterrupt, **keywords):
    """A run of five updates that saves after each; the names of the saved files after every one of them."""
    monkeypatch.chdir(folder)
    policy, seen = linear_policy(GOOD_DIRECTION), []
    with Run("lesson", **{"seed": 0, "env_id": "CartPole-v1", "max_steps": 5, "progress": False, **keywords}) as run:
        run.keep(policy)
        while run.goes_on(policy):
            seen.append(sorted(path.name for path in folder.glob("unfinished/*")))
            if len(seen) > (interrupt_at or math.inf):
                raise error
            run.record(env_steps=1, returns=[1.0])
    return run.result, seen


def test_a_short_training_writes_nothing(tmp_path, monkeypatch, evaluations):
    evaluations(20)
    _, seen = numbered_run(tmp_path, monkeypatch)
    assert seen == [[]] * 5
    assert list(tmp_path.iterdir()) == []


def test_a_longer_one_is_kept_on_its_way_and_cleared_away_at_its_end(tmp_path, monkeypatch, evaluations):
    evaluations(20)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "of-another.npz").touch()
    _, seen = numbered_run(tmp_path, monkeypatch)
    assert [len(names) for names in seen] == [4] * 5
    assert [path.name for path in tmp_path.glob("unfinished/*")] == ["of-another.npz"]
    assert re.fullmatch(r"lesson-seed0-[0-9a-f]{6}\.csv", seen[0][0])
    _, same = numbered_run(tmp_path, monkeypatch)
    _, other = numbered_run(tmp_path, monkeypatch, hidden=8)
    assert seen == same != other


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_one_that_was_stopped_or_failed_is_kept(tmp_path, monkeypatch, evaluations, error, capsys):
    evaluations(20, 300, 100)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    try:
        result, _ = numbered_run(tmp_path, monkeypatch, interrupt_at=3, error=error, evaluate_every=1)
        assert result.interrupted
    except ZeroDivisionError:
        pass
    (saved,) = tmp_path.glob("unfinished/*.npz")
    assert load_checkpoint(saved).mean_return == 300
    assert by_name(saved.with_suffix(".csv").read_text())["episode_return"] == [("1", "1.0"), ("2", "1.0"), ("3", "1.0")]


def test_where_it_cannot_be_kept_one_warning_says_so_and_training_goes_on(tmp_path, monkeypatch, evaluations):
    evaluations(20)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    (tmp_path / "unfinished").touch()
    with pytest.warns(UserWarning, match="not saved") as caught:
        result, _ = numbered_run(tmp_path, monkeypatch)
    (warning,) = caught
    one_sentence(str(warning.message).removesuffix(" Training goes on, but is not saved on its way."), "unfinished", "choose a folder")
    assert result.env_steps == 5


def test_keeping_it_changes_nothing_in_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = train(seed=4, max_steps=4_000)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    assert same_result(plain, train(seed=4, max_steps=4_000))


# Ctrl-C


def surroundings():
    """What a training must leave as it was."""
    return {
        "random": random.getstate(),
        "numpy.random": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "torch's generator": torch.get_rng_state().tolist(),
        "torch's threads": torch.get_num_threads(),
        "torch's gradients": torch.is_grad_enabled(),
        "figures": plt.get_fignums(),
        "style": dict(mpl.rcParams),
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
        "environment variables": dict(os.environ),
    }


#: Each way in which a lesson's training runs: in rounds, on an Ignite engine, from a memory, without gradients, many seeds at once.
PRESSED = {
    "a small learner": functools.partial(train, max_steps=3_000),
    "reinforce": functools.partial(reinforce.train, max_steps=1_500),
    "ppo": functools.partial(ppo.train, max_steps=2_500),
    "dqn": functools.partial(dqn.train, max_steps=2_500),
    "augmented_random_search": functools.partial(augmented_random_search.train, max_steps=2_500),
    "many_seeds": lambda seed, progress: many_seeds.train([seed, seed + 1], max_steps=1_500, progress=progress),
}


def ctrl_c_at_random_moments(count):
    """Train and press Ctrl-C, `count` times; print a line of JSON that says how often a result, or nothing at all, came out of it."""
    plots.LivePlot.__init__.__defaults__ = (0.05,)  # seconds: while it draws is a moment like any other
    torch.set_num_threads(2)
    outcomes, faults = {"result": 0, "nothing begun": 0, "came too late": 0}, []
    generator, each = random.Random(5), math.ceil(count / len(PRESSED))
    for name, learner in PRESSED.items():
        learn = functools.partial(learner, seed=7, progress=True)
        learn()  # the first draws for longer, and changes what matplotlib knows
        began = time.perf_counter()
        whole = as_list(learn())
        duration = time.perf_counter() - began
        before, of_these = surroundings(), 0
        while of_these < each:
            results = []
            timer = threading.Timer(generator.uniform(0, duration), os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                results = as_list(learn())
                timer.cancel()
                timer.join()
            except KeyboardInterrupt as error:
                frames = {frame.f_code.co_name: frame for frame, _ in traceback.walk_tb(error.__traceback__)}
                outcome = "nothing begun" if "train" in frames else "came too late"
                if "train" in frames and something_was_learned(frames["train"].f_locals):
                    faults.append(f"{name} lost the result: " + traceback.format_exc()[-1500:])
                del frames
                timer.join()
            else:
                outcome = "result" if any(result.interrupted for result in results) else "came too late"
            outcomes[outcome] += 1
            of_these += outcome != "came too late"
            for result, uninterrupted in zip(results, whole, strict=True) if results else ():
                if not is_beginning_of(result.history.to_csv(), uninterrupted.history.to_csv()):
                    faults.append(f"{name}: another history")
                if result.policy.act(OBSERVATIONS).shape[0] != 200 or not np.isfinite(result.evaluation.returns).all():
                    faults.append(f"{name}: an unusable result")
            after = surroundings()
            faults += [f"{name}: {what}" for what in before if after[what] != before[what]]
        if not all(map(same_result, whole, as_list(learn()))):
            faults.append(f"{name}: the next training is another one")
    print("\noutcomes: " + json.dumps({**outcomes, "faults": faults}))


def as_list(results):
    return results if isinstance(results, list) else [results]


def something_was_learned(variables):
    """Whether a `train()` with these local variables has had a policy to return."""
    return variables["run"]._policy is not None if "run" in variables else "left" in variables


@POSIX
def test_ctrl_c_at_random_moments_gives_a_result_and_breaks_nothing(tmp_path, figures):
    count = 120 if FULL else 12
    kernel = Kernel()
    try:
        kernel.run(f"import os; os.chdir({str(tmp_path)!r}); from cartpole_lessons.display import setup; setup(); import test_faults")
        messages = kernel.run(f"test_faults.ctrl_c_at_random_moments({count})")
    finally:
        kernel.close()
    (line,) = [line for line in printed(messages).splitlines() if line.startswith("outcomes: ")] or [str(messages[-3:])]
    outcomes = json.loads(line.removeprefix("outcomes: "))
    assert outcomes["faults"] == []
    assert outcomes["result"] > count / 2
    pictures = [message for message in messages if message["msg_type"] == "update_display_data"]
    assert pictures, "nobody was watching"
    figures["ctrl_c"] = {
        "moments": outcomes["result"] + outcomes["nothing begun"],
        "learners": len(PRESSED),
        "results": outcomes["result"],
        "nothing_begun": outcomes["nothing begun"],
    }


def press():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # the signal is delivered between two lines


@POSIX
def test_ctrl_c_while_things_are_put_back_takes_effect_when_they_are():
    steps = []

    def hold():
        with HeldInterrupts() as held:
            press()
            steps.append(held.pressed)

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert steps == [True]
    with HeldInterrupts(deliver=False) as held:
        with HeldInterrupts():
            press()
        steps.append("outer block goes on")
    assert held.pressed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_have_no_ctrl_c_to_hold(monkeypatch):
    entered = []

    def use():
        with HeldInterrupts() as held:
            entered.append(held.pressed)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert entered == [False]


@POSIX
def test_ctrl_c_while_the_generators_are_put_back_puts_all_of_them_back(monkeypatch):
    put_back = random.setstate
    monkeypatch.setattr(random, "setstate", lambda state: (press(), put_back(state)))
    before = surroundings()

    def draw():
        with seeded(3):
            random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002

    with pytest.raises(KeyboardInterrupt):
        draw()
    monkeypatch.undo()
    assert surroundings() == before


@POSIX
@pytest.mark.parametrize("place", ["the last plot", "seeding"])
def test_ctrl_c_before_and_after_the_training_breaks_nothing(monkeypatch, evaluations, tmp_path, capsys, place):
    evaluations(20)
    if place == "the last plot":
        monkeypatch.setattr(training.LivePlot, "finish", lambda plot, history: press())
        result, _ = numbered_run(tmp_path, monkeypatch, progress=True)
        assert result.interrupted
        assert result.env_steps == 5
        assert "Stopped by you" in capsys.readouterr().out
    else:
        before = surroundings()
        entered, one_thread = [], training.one_thread
        monkeypatch.setattr(training, "one_thread", lambda: (press(), entered.append(True), one_thread())[-1])
        with pytest.raises(KeyboardInterrupt):
            numbered_run(tmp_path, monkeypatch)
        assert entered, "the run had begun to seed"
        monkeypatch.undo()
        assert surroundings() == before


# A full disk


def savers():
    """What writes a file that matters, of many pages: {name: (how, which error it raises)}."""
    film = encode(NOISE, fps=10, label="noise")
    result = train(seed=0, max_steps=100)
    result.history.metrics["loss"] = [(step, 1 / 3) for step in range(10_000)]
    weights = {"weights": torch.rand(200, 200)}
    about = {"lesson": "lesson", "env_id": "CartPole-v1", "seed": 0, "hyperparameters": {}}
    return {
        "film": (film.save, RecordingError),
        "checkpoint": (lambda path: save_checkpoint(path, weights, **about), CheckpointError),
        "history": (result.history.to_csv, RecordingError),
        "state": (lambda path: save_state(path, weights), CheckpointError),
    }


def assert_told_and_nothing_lost(folder):
    for name, (save, error) in savers().items():
        path = folder / name
        path.write_bytes(b"")  # needs no space
        with pytest.raises(error) as caught:
            save(path)
        one_sentence(caught.value, str(folder), "space")
        assert path.read_bytes() == b""
    assert sorted(path.name for path in folder.iterdir() if path.name != "filling") == ["checkpoint", "film", "history", "state"]


def fill(folder, left=0):
    """Leave so many bytes free, in whole pages."""
    (folder / "filling").unlink(missing_ok=True)
    (folder / "filling").write_bytes(bytes(shutil.disk_usage(folder).free - left))
    assert shutil.disk_usage(folder).free == left


def test_a_disk_that_is_full_is_told_and_leaves_the_old_files(disk):
    folder = disk(1)
    fill(folder)
    assert_told_and_nothing_lost(folder)


def test_a_disk_with_any_space_left_holds_the_old_file_or_the_new_one(disk, figures):
    folder, told, whole, generator = disk(8), 0, 0, random.Random(4)
    for name, (save, error) in savers().items():
        path = folder / name
        save(path)
        old = path.read_bytes()
        pages = math.ceil(len(old) / 4096)
        assert pages >= 20, "too small for a disk to fill up while it is written"
        for _ in range(25 if FULL else 3):
            fill(folder, left=4096 * generator.randrange(pages * 5 // 4))
            try:
                save(path)
                whole += 1
            except error as sentence:
                one_sentence(sentence, str(folder), "space")
                told += 1
            assert path.read_bytes() == old  # what is written is the same each time
            assert sorted(file.name for file in folder.iterdir()) == sorted(["filling", name])
        path.unlink()
        (folder / "filling").unlink()
    assert told > whole
    figures["full_disk"] = {"writes": told + whole, "told": told, "whole": whole}


def test_a_disk_that_tells_only_at_the_end_that_it_is_full_is_told_too(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert_told_and_nothing_lost(tmp_path)


def test_recording_and_training_on_a_full_disk(disk, monkeypatch):
    folder = disk(1)
    fill(folder)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(RecordingError) as caught:
        record(always_right, max_steps=10)
    one_sentence(caught.value, str(folder), "free some space")
    plain = train(seed=0, max_steps=2_000)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    monkeypatch.chdir(folder)
    with pytest.warns(UserWarning, match="not saved"):
        assert same_result(train(seed=0, max_steps=2_000), plain)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["filling"]


# Places that cannot be written


COURSE_IN_SHORT = """
    from cartpole_lessons.display import setup
    setup()
    from conftest import always_right, train
    from cartpole_lessons import training
    from cartpole_lessons.plots import plot_durations
    from cartpole_lessons.video import record
    training.SECONDS_BETWEEN_SAVES = 0
    result = train(seed=0, max_steps=1_000)
    plot_durations(result.history.episode_returns).figure.canvas.draw()
    print(record(always_right, max_steps=5).frames, result.env_steps > 0)
"""


@POSIX
def test_a_home_and_a_folder_that_cannot_be_written_stop_nothing(child, disk, unwritable, tmp_path, figures):
    try:
        home = folder = disk(1, "ro")
    except pytest.skip.Exception:  # at least a home that nobody can write to
        home, folder = unwritable, tmp_path
    process = child(COURSE_IN_SHORT, folder, HOME=str(home), XDG_CONFIG_HOME="", XDG_CACHE_HOME="", MPLBACKEND="agg")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "6 True"
    assert "Traceback" not in err
    assert ("Read-only file system" in err) == (home == folder)  # the warning of the training
    figures["unwritable"] = {"folder_too": home == folder}


# Clocks, forks, memory


def test_a_clock_that_jumps_changes_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plain = train(seed=3, max_steps=2_000, progress=True)
    generator = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: generator.uniform(-1e9, 1e10))
    began = time.perf_counter()
    result = train(seed=3, max_steps=2_000, progress=True)
    assert same_result(plain, result)
    assert 0 < result.seconds < time.perf_counter() - began
    assert list(tmp_path.iterdir()) == []
    assert record(always_right, max_steps=3).frames == 4


@LINUX
def test_the_clock_of_a_whole_process_that_jumps_changes_nothing(child, tmp_path, figures):
    """Every library of the process sees it: libfaketime answers in place of the system. (Not while it films: what ends Python's sleep
    fails under libfaketime itself.)"""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib").glob("faketime/libfaketime.so.1")]
    if not libraries:
        pytest.skip("libfaketime is not installed: apt-get install -y faketime")
    code = """
        import random, sys, threading, time
        import test_faults
        from pathlib import Path
        from cartpole_lessons._support.files import atomic_write
        from conftest import same_result, train
        clock, generator, over, jumps = Path("clock"), random.Random(0), threading.Event(), []

        def jump():
            while not over.wait(0.005):
                seconds = generator.randint(-600_000_000, 900_000_000)
                with atomic_write(clock) as file:
                    file.write(f"{seconds:+d}".encode())
                jumps.append(time.time())

        plain = train(seed=3, max_steps=5_000)
        test_faults.training.SECONDS_BETWEEN_SAVES = 0.01
        thread = threading.Thread(target=jump, daemon=True)
        thread.start()
        result = train(seed=3, max_steps=5_000, progress=True)
        over.set()
        thread.join()
        backwards = sum(later < earlier for earlier, later in zip(jumps, jumps[1:]))
        print(same_result(plain, result), 0 < result.seconds < 60, len(jumps), backwards)
    """
    (tmp_path / "clock").write_text("+0")
    faked = {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # that one never jumps, by its definition
    }
    same, measured, jumps, backwards = finished(child(code, **faked)).splitlines()[-1].split()
    assert (same, measured) == ("True", "True")
    assert int(backwards) > 10, "the clock has hardly jumped"
    figures["clock"] = {"jumps": int(jumps)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_after_torch_has_started_its_threads_trains_the_same(child, figures):
    forks = 10 if FULL else 1
    code = f"""
        import os, sys, torch
        from conftest import train
        torch.set_num_threads(2)
        torch.rand(2_000, 2_000) @ torch.rand(2_000, 2_000)
        torch.rand(3_000_000).exp_()
        here = train(seed=1, max_steps=1_500).history.to_csv()
        for _ in range({forks}):
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.close(reader)
                with open(writer, "w") as pipe:
                    pipe.write(train(seed=1, max_steps=1_500).history.to_csv())
                os._exit(0)
            os.close(writer)
            with open(reader) as pipe:
                print(pipe.read() == here, os.wait()[1], torch.get_num_threads())
    """
    assert finished(child(code, OMP_NUM_THREADS="2")) == "True 0 2\n" * forks
    figures["forks"] = {"forks": forks}


@LINUX
def test_memory_stays_flat_over_many_evaluations(child, figures):
    code = f"""
        import gc, resource
        from conftest import GOOD_DIRECTION, always_right, linear_policy
        from cartpole_lessons.evaluation import evaluate

        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()

        policy = linear_policy(GOOD_DIRECTION) if {FULL} else linear_policy([0.0, 0.0, -1.0, 0.0])
        for _ in range(20):
            evaluate(policy)
        before = resident()
        for _ in range(200):
            evaluate(policy)
        print(resident() - before)
    """
    grown = int(finished(child(code), 600))
    assert grown < 1e6, f"{grown / 200:.0f} bytes more at each evaluation"
    figures["memory"] = {"evaluations": 200, "grown_megabytes": round(max(grown, 0) / 1e6, 1)}


# Two at once, and killed in the middle


def test_two_notebooks_that_film_into_the_same_folder_leave_whole_films(tmp_path, figures):
    episodes = 10 if FULL else 3
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from test_video import filmed, play
env = filmed("films", every=1)
play(env, {episodes})
env.close()
print("over")
"""
    kernels, said = [Kernel(), Kernel()], {}
    try:
        cells = [threading.Thread(target=lambda kernel=kernel: said.update({kernel: kernel.run(code)})) for kernel in kernels]
        for cell in cells:
            cell.start()
        for cell in cells:
            cell.join()
    finally:
        for kernel in kernels:
            kernel.close()
    assert [printed(said[kernel]) for kernel in kernels] == ["over\n", "over\n"], [printed(said[kernel], "stderr") for kernel in kernels]
    films = sorted((tmp_path / "films").iterdir())
    assert {film.name for film in films} == {f"rl-video-episode-{episode}.mp4" for episode in range(episodes)}
    assert all(len(decode(film)[1]) > 5 for film in films)
    figures["notebooks"] = {"films": 2 * episodes}


@POSIX
def test_a_process_killed_while_it_writes_leaves_the_old_file_or_the_new_one(child, tmp_path, figures):
    code = """
        from cartpole_lessons._support.files import atomic_write
        print("ready", flush=True)
        while True:
            for letter in b"ab":
                with atomic_write("file") as file:
                    for _ in range(50):
                        file.write(bytes([letter]) * 20_000)
    """
    kills, generator = 100 if FULL else 15, random.Random(1)
    for _ in range(kills):
        process = child(code)
        process.stdout.readline()
        time.sleep(generator.uniform(0.01, 0.1))
        process.kill()
        process.wait()
        content = (tmp_path / "file").read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1
    figures["writes"] = {"kills": kills}


@POSIX
def test_a_process_killed_while_it_films_leaves_a_whole_film_or_none(child, tmp_path, figures):
    code = """
        from conftest import GOOD_DIRECTION, linear_policy
        from cartpole_lessons.video import encode, record
        from test_video import NOISE
        encode(NOISE, fps=10, label="the first").save("film.mp4")
        print("ready", flush=True)
        while True:
            record(linear_policy(GOOD_DIRECTION), max_steps=60).save("film.mp4")
    """
    kills, generator = 20 if FULL else 1, random.Random(2)
    for _ in range(kills):
        process = child(code, TMPDIR=str(tmp_path))
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0, 0.6))
        process.kill()
        process.wait()
        assert len(decode(tmp_path / "film.mp4")[1]) in (40, 61)
    figures["films"] = {"kills": kills}


@POSIX
def test_a_killed_ffmpeg_is_told_and_leaves_no_film(tmp_path, monkeypatch, figures):
    import imageio_ffmpeg

    if shutil.which("timeout") is None:
        pytest.skip("there is no `timeout` to kill it with")
    frames = np.random.default_rng(0).integers(0, 256, (150, 400, 600, 3), dtype=np.uint8)
    kills, generator = 20 if FULL else 2, random.Random(3)
    for kill in range(kills):
        program = tmp_path / f"ffmpeg{kill}"
        seconds = generator.uniform(0.05, 0.5)
        program.write_text(f'#!/bin/sh\nexec timeout -s KILL {seconds} "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
        imageio_ffmpeg._utils._get_ffmpeg_exe.cache_clear()
        try:
            with pytest.raises(RecordingError) as caught:
                encode(frames, fps=50, label="noise").save(tmp_path / "film.mp4")
        finally:
            monkeypatch.undo()
            imageio_ffmpeg._utils._get_ffmpeg_exe.cache_clear()
        one_sentence(caught.value)
        assert not (tmp_path / "film.mp4").exists()
    figures["ffmpeg"] = {"kills": kills}


# Weights that are no numbers, and files that are not what they should be


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_told_although_the_greedy_action_looks_fine(value):
    policy = linear_policy(GOOD_DIRECTION)
    policy.layer.weight.data[0, 0] = value
    assert policy.act(OBSERVATIONS[:1])[0] in (0, 1)
    for play in (evaluate, record):
        with pytest.raises(InvalidAction) as caught:
            play(policy)
        one_sentence(caught.value, "NaN", "learning rate")
    policy = linear_policy(GOOD_DIRECTION)
    policy.scale[0] = value
    with pytest.raises(InvalidAction):
        evaluate(policy)


def corrupt(whole, generator):
    """`whole` with something done to it: bits, bytes, blocks; cut, stretched, shuffled."""
    content = bytearray(whole)
    place, length = generator.randrange(len(content)), generator.randrange(1, 64)
    match generator.randrange(8):
        case 0:
            content[place] ^= 1 << generator.randrange(8)
        case 1:
            for _ in range(length):
                content[generator.randrange(len(content))] = generator.randrange(256)
        case 2:
            content = content[:place]
        case 3:
            del content[place : place + length]
        case 4:
            content[place:place] = generator.randbytes(length)
        case 5:
            content[place : place + length] = bytes(length)
        case 6:
            content[place : place + length] = content[: len(content[place : place + length])]
        case 7:  # a number in the archive's directory, where sizes, names and offsets are
            start = generator.randrange(len(content) * 3 // 4, len(content) - 4)
            content[start : start + 4] = generator.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f"])
    return bytes(content)


def with_header(path, whole, header):
    """The checkpoint with another NumPy header in its largest entry; the zip format itself has nothing to object."""
    with zipfile.ZipFile(whole) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    largest = max((name for name in entries if name != "metadata.npy"), key=lambda name: len(entries[name]))
    text = header.encode().ljust(117) + b"\n"
    entries[largest] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + entries[largest][128:]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (400000000, 4), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-64, -4), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '|O'), ('b', '<f4')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 'exit', }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (exit(),), }",
    "{'descr': '|S1024', 'fortran_order': False, 'shape': (1,), }",
    "__import__('os').abort()",
    "{",
]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(LinearPolicy, "__module__", "lesson")
    policy = ppo.Actor(hidden=64)
    keywords = {"lesson": "ppo", "env_id": "CartPole-v1", "seed": 1, "hyperparameters": {"hidden": 64}, "mean_return": 12.5}
    return save_checkpoint(tmp_path / "whole.npz", policy, **keywords)


def a_thousand_corruptions(whole, load, unchanged, *named):
    """Load that many altered copies of the file `whole`; returns what became of them. Each is refused in one sentence, or `unchanged`."""
    content, path, generator, refused = whole.read_bytes(), whole.with_name("altered"), random.Random(0), 0
    tracemalloc.start()
    try:
        for number in range(1_000):
            if number < len(HEADERS):
                with_header(path, whole, HEADERS[number])
            else:
                path.write_bytes(corrupt(content, generator))
            try:
                loaded = load(path)
            except CheckpointError as error:
                one_sentence(error, str(path), *named)
                refused += 1
                continue
            assert number >= len(HEADERS), HEADERS[number]
            assert unchanged(loaded)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > 700
    assert peak < 20e6, "memory is taken for what is in the file, not for what it claims"
    return {"corruptions": 1_000, "refused": refused, "unchanged": 1_000 - refused}


def test_a_thousand_corruptions_of_a_checkpoint_are_refused_or_change_nothing(checkpoint, figures):
    def weights(path):
        return dict(load_policy(path, ppo.Actor).state_dict())

    figures["checkpoints"] = a_thousand_corruptions(checkpoint, weights, functools.partial(same, weights(checkpoint)))


def test_a_thousand_corruptions_of_a_state_are_refused_or_change_nothing(tmp_path, monkeypatch, figures):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    numbered_run(tmp_path, monkeypatch, interrupt_at=3, max_steps=50)
    (whole,) = tmp_path.glob("unfinished/*.state")
    figures["states"] = a_thousand_corruptions(whole, load_state, functools.partial(same, load_state(whole)), "delete it")


TREES = [
    None, [], 5, "text", {}, {"dict": 1}, {"dict": [1]}, {"dict": [[[1], 2]]}, {"tensor": "none"}, {"array": 5}, {"pickle": "array0"},
    {"tuple": 5}, {"number": "array0"}, {"dict": [["parts", [{"tensor": "array0"}]]]},
    {"dict": [["versions", {"dict": []}], ["parts", []], ["own", []], ["history", []], ["random", []]]},
    {"dict": [["versions", training.VERSIONS], ["parts", ["os.system"]], ["own", {}], ["history", {}], ["random", {}]]},
]  # fmt: skip


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_whole_file_with_a_state_that_somebody_made_up_is_one_sentence(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0)
    numbered_run(tmp_path, monkeypatch, interrupt_at=3, max_steps=50)
    (path,) = tmp_path.glob("unfinished/*.state")
    metadata = json.dumps({"format": STATE_FORMAT, "state": tree, "entries": ["array0"]}).encode()
    with path.open("wb") as file:
        np.savez(file, metadata=np.frombuffer(metadata, dtype=np.uint8), array0=np.zeros(3))
    with pytest.raises(CheckpointError) as caught:
        numbered_run(tmp_path, monkeypatch, max_steps=50, resume=True)
    one_sentence(caught.value, path.name)


@LINUX
def test_a_checkpoint_that_asks_for_a_huge_network_is_refused_before_any_memory_is_taken(child, tmp_path):
    sizes = [10**8, 10**9, 10**15]
    for hidden in sizes:
        keywords = {"lesson": "ppo", "env_id": "CartPole-v1", "seed": 1, "hyperparameters": {"hidden": hidden}}
        save_checkpoint(tmp_path / f"{hidden}.npz", ppo.Actor(hidden=64), **keywords)
    code = f"""
        import resource
        from cartpole_lessons.algorithms import ppo
        from cartpole_lessons.checkpoints import load_policy
        from cartpole_lessons.errors import CheckpointError
        ppo.Actor(hidden=64)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for hidden in {sizes}:
            try:
                load_policy(f"{{hidden}}.npz", ppo.Actor)
            except CheckpointError as error:
                print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
    """
    lines = finished(child(code)).splitlines()
    assert len(lines) == len(sizes)
    for line in lines:
        kilobytes, sentence = line.split(maxsplit=1)
        assert "do not fit Actor" in sentence
        assert int(kilobytes) < 50_000


def test_a_file_far_larger_than_any_checkpoint_is_not_even_read(tmp_path):
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(10**11 if sys.platform == "linux" else LARGEST_CHECKPOINT + 1)  # a hole, which takes no space
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "large.npz")
    one_sentence(caught.value, "64 MB")


class WithItem(LinearPolicy):
    """A policy that looks at its weights while it is made, which torch's device without memory does not allow."""

    def __init__(self):
        super().__init__()
        self.largest = self.layer.weight.detach().max().item()


def test_a_class_that_needs_real_weights_to_be_made_can_be_loaded(tmp_path):
    policy = WithItem()
    path = save_checkpoint(tmp_path / "p.npz", policy, lesson=__name__, env_id="CartPole-v1", seed=0, hyperparameters={})
    assert torch.equal(load_policy(path, WithItem).layer.weight, policy.layer.weight)


# Notebooks, as the tools read them


def structures(notebook, generator):
    """The notebook's JSON with one value somewhere in it replaced by one of another kind, or left out."""
    altered = json.loads(json.dumps(notebook))
    node = altered
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = generator.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and generator.random() < 0.7:
            node = node[key]
            continue
        if generator.random() < 0.4:
            del node[key]
        else:
            node[key] = generator.choice([None, 7, "text", [], {}, [[]], {"a": 1}, -1.5, True])
        return json.dumps(altered).encode()


def test_an_altered_notebook_is_read_or_named_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import badges

    from notebooks import read_notebook

    whole = (ROOT / "notebooks" / "02_policy_gradient.ipynb").read_bytes()
    small = json.loads(whole)
    for cell in small["cells"]:
        cell.pop("outputs", None)
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    text = json.dumps(small).encode()
    generator, path, refused = random.Random(0), tmp_path / "altered.ipynb", 0
    monkeypatch.setattr(badges, "ROOT", tmp_path)
    monkeypatch.setattr(badges, "launch_badges", lambda path: "badges")
    for number in range(1_000 if FULL else 100):
        path.write_bytes(structures(small, generator) if number % 2 else corrupt(text, generator))
        for use in (read_notebook, badges.lesson_notebook, badges.title_and_summary, badges.exported_module):
            try:
                use(path)
            except SystemExit as error:
                one_sentence(error, "altered.ipynb")
                refused += 1
    assert refused > 50


def test_an_altered_notebook_is_exported_or_named_in_one_sentence(monkeypatch, tmp_path, figures):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from export import export

    whole = json.loads((ROOT / "notebooks" / "02_policy_gradient.ipynb").read_bytes())
    whole["cells"] = [cell | {"outputs": []} if cell["cell_type"] == "code" else cell for cell in whole["cells"]]
    text = json.dumps(whole).encode()
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "notebooks" / "altered.ipynb"
    path.parent.mkdir()
    path.write_bytes(text)
    assert export(path)
    generator, exported, refused = random.Random(0), 0, 0
    alterations = 1_000 if FULL else 40
    for number in range(alterations):
        path.write_bytes(structures(whole, generator) if number % 2 else corrupt(text, generator))
        try:
            exported += export(path)
        except SystemExit as error:
            one_sentence(error, "altered.ipynb")
            refused += 1
    assert refused > 10
    assert exported > 0
    figures["exports"] = {"alterations": alterations, "refused": refused}


def test_the_fuzzed_headers_would_be_harmful_where_they_are_run():
    """Otherwise the test of the corruptions would prove nothing of code that is run."""
    assert isinstance(ast.parse(HEADERS[8]).body[0].value, ast.Call)
