"""What happens when something breaks for real: processes killed, disks full, Ctrl-C at any moment, files altered, clocks gone wild.

`make test-faults` does each of these as often as the README says, and writes the figures for its table; without it, fewer times.
"""

import contextlib
import errno
import functools
import json
import math
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    FULL,
    Kernel,
    is_beginning_of,
    one_sentence,
    printed,
    rows_by_name,
    same_result,
    surroundings,
    train,
    write_reliability_figures,
)
from test_training import numbered_training
from test_video import NOISE, decode

from cartpole_lessons import progress
from cartpole_lessons import training as training_module
from cartpole_lessons.algorithms import augmented_random_search, dqn, many_seeds, policy_gradient, ppo, reinforce
from cartpole_lessons.checkpoints import load_checkpoint, load_policy, save_checkpoint
from cartpole_lessons.errors import CheckpointError, RecordingError
from cartpole_lessons.training import Run
from cartpole_lessons.video import encode

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these signals nor these file systems")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="done with what Linux has")
ABOUT = {"lesson": "ppo", "env_id": "CartPole-v1", "seed": 0, "hyperparameters": {}}
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
        environment = os.environ | {"PYTHONPATH": paths} | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env=environment, **pipes)
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


# A process that is killed while it trains


def train_slowly(seconds_between_saves, seconds_per_update):
    """Train for minutes, and keep what there is as often as told."""
    training_module.SECONDS_BETWEEN_SAVES, record_at_once = seconds_between_saves, Run.record

    def record_slowly(*arguments, **metrics):
        time.sleep(seconds_per_update)
        record_at_once(*arguments, **metrics)

    Run.record = record_slowly
    never_perfect()


def never_perfect():
    """A lesson's training that never comes to a perfect policy."""
    return ppo.train(seed=1, actor_learning_rate=1e-6, max_steps=20_000 if FULL else 6_000)


@POSIX
def test_a_killed_training_leaves_its_history_and_best_policy_and_the_same_call_repeats_it(child, tmp_path, monkeypatch, figures):
    between, kills = (training_module.SECONDS_BETWEEN_SAVES, 3) if FULL else (0.2, 1)
    monkeypatch.chdir(tmp_path)
    ages, whole = [], never_perfect()
    for number in range(kills):
        process = child(f"import test_faults; test_faults.train_slowly({between}, {between / 16}); open('over', 'w')")
        started = time.time()
        while not list(tmp_path.glob("unfinished/*.npz")) and time.time() - started < 60:
            time.sleep(0.01)
        time.sleep(random.Random(number).uniform(0, 2 * between))
        process.kill()
        killed = time.time()
        assert not (tmp_path / "over").exists(), "the training was over before it was killed"
        (saved,) = tmp_path.glob("unfinished/*.npz")
        ages += [killed - file.stat().st_mtime for file in (saved, saved.with_suffix(".csv"))]
        history = saved.with_suffix(".csv").read_text()
        assert len(history.splitlines()) > 5
        assert is_beginning_of(history, whole.history.to_csv())
        means = [float(value) for _, value in rows_by_name(history).get("evaluation", [])]
        assert load_checkpoint(saved).mean_return == (max(means) if means else None)
        assert load_policy(saved, policy_gradient.PolicyNetwork).act(OBSERVATIONS).shape == (200,)
        assert same_result(never_perfect(), whole)
        assert not (tmp_path / "unfinished").exists(), "what a finished training leaves no longer is unfinished"
    assert max(ages) < between + 2
    figures["killed"] = {"trainings": kills, "oldest_seconds": round(max(ages), 1)}


def kept(folder, monkeypatch, between=0.0, interrupt=lambda: None, **keywords):
    """A run of five updates in `folder`; its result, and the names of what was kept in `unfinished` at each of them."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(training_module, "SECONDS_BETWEEN_SAVES", between)
    seen = []

    def look(place, update):
        if place == "collecting":
            seen.append(sorted(path.name for path in folder.glob("unfinished/*")))
            if update == 4:
                interrupt()

    return numbered_training(look, max_steps=5_000, **keywords), seen


def test_a_training_of_more_than_8_seconds_is_kept_on_its_way_and_cleared_away_at_its_end(tmp_path, monkeypatch, evaluations):
    assert training_module.SECONDS_BETWEEN_SAVES == 8
    evaluations(20)
    _, seen = kept(tmp_path, monkeypatch, between=8)
    assert seen == [[]] * 5
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "of-another.npz").touch()
    _, seen = kept(tmp_path, monkeypatch)
    assert [len(names) for names in seen] == [3] * 5
    assert seen[0][0].startswith("lesson-seed0-")
    assert [path.name for path in tmp_path.glob("unfinished/*")] == ["of-another.npz"]
    assert kept(tmp_path, monkeypatch)[1] == seen != kept(tmp_path, monkeypatch, hyperparameters={"hidden": 8})[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_one_that_was_stopped_or_failed_is_kept(tmp_path, monkeypatch, evaluations, error, capsys):
    def fail():
        raise error

    evaluations(20, 300, 100)
    with contextlib.suppress(ZeroDivisionError):
        assert kept(tmp_path, monkeypatch, interrupt=fail, evaluate_every=1)[0].interrupted
    (saved,) = tmp_path.glob("unfinished/*.npz")
    assert load_checkpoint(saved).mean_return == 300
    assert len(rows_by_name(saved.with_suffix(".csv").read_text())["episode_return"]) == 6


def test_where_it_cannot_be_kept_one_warning_says_so_and_training_goes_on(tmp_path, monkeypatch, evaluations):
    evaluations(20)
    (tmp_path / "unfinished").touch()
    with pytest.warns(UserWarning, match="not saved") as caught:
        result, _ = kept(tmp_path, monkeypatch)
    (warning,) = caught
    one_sentence(str(warning.message).removesuffix(" Training goes on, but is not saved on its way."), "unfinished", "choose a folder")
    assert result.env_steps == 5_000


# Ctrl-C: tests/test_training.py presses it at every line


#: Each way in which a lesson's training runs: in rounds, on an Ignite engine, from a memory, without gradients, many seeds at once.
STEPS = 2_500 if FULL else 800
PRESSED = {
    "a small learner": functools.partial(train, max_steps=STEPS),
    "reinforce": functools.partial(reinforce.train, max_steps=STEPS // 2),
    "ppo": functools.partial(ppo.train, max_steps=STEPS),
    "dqn": functools.partial(dqn.train, max_steps=STEPS),
    "augmented_random_search": functools.partial(augmented_random_search.train, max_steps=STEPS),
    "many_seeds": lambda seed, progress: many_seeds.train([seed, seed + 1], max_steps=STEPS // 2, progress=progress),
}


def ctrl_c_at_random_moments(count):
    """Train and press Ctrl-C, `count` times; print a line of JSON that says how often a result, or nothing at all, came out of it."""
    progress.LivePlot.__init__.__defaults__ = (0.05 if FULL else 0.1,)  # seconds: while it draws is a moment like any other
    torch.set_num_threads(2)
    outcomes, faults, generator = {"result": 0, "nothing begun": 0, "came too late": 0}, [], random.Random(5)
    train(seed=7, max_steps=100, progress=True)  # the first draws for longer, and changes what matplotlib knows
    for name, learner in PRESSED.items():

        def learn(learner=learner):
            results = learner(seed=7, progress=True)
            return results if isinstance(results, list) else [results]

        began = time.perf_counter()
        whole = learn()
        duration, before, pressed = time.perf_counter() - began, surroundings(), 0
        while pressed < count / len(PRESSED):
            timer = threading.Timer(generator.uniform(0, duration), os.kill, (os.getpid(), signal.SIGINT))
            results = []
            try:
                timer.start()
                results = learn()
                timer.cancel()
                timer.join()
            except KeyboardInterrupt:
                timer.join()
            interrupted = any(result.interrupted for result in results)
            outcomes["result" if interrupted else "came too late" if results else "nothing begun"] += 1
            pressed += interrupted or not results
            for result, uninterrupted in zip(results, whole, strict=False):
                if not is_beginning_of(result.history.to_csv(), uninterrupted.history.to_csv()):
                    faults.append(f"{name}: another history")
                if result.policy.act(OBSERVATIONS).shape[0] != 200 or not np.isfinite(result.evaluation.returns).all():
                    faults.append(f"{name}: an unusable result")
            after = surroundings()
            faults += [f"{name}: {what}" for what in before if after[what] != before[what]]
        if not all(map(same_result, whole, learn())):
            faults.append(f"{name}: the next training is another one")
    print("\noutcomes: " + json.dumps({**outcomes, "faults": faults}))


@POSIX
def test_ctrl_c_at_random_moments_gives_a_result_and_breaks_nothing(tmp_path, figures):
    count = 120 if FULL else len(PRESSED)
    kernel = Kernel()
    try:
        kernel.run(f"import os; os.chdir({str(tmp_path)!r}); from cartpole_lessons.display import setup; setup(); import test_faults")
        messages = kernel.run(f"test_faults.ctrl_c_at_random_moments({count})")
    finally:
        kernel.close()
    (line,) = [line for line in printed(messages).splitlines() if line.startswith("outcomes: ")] or [str(messages[-3:])]
    outcomes = json.loads(line.removeprefix("outcomes: "))
    assert outcomes["faults"] == []
    assert outcomes["result"] > 0.5 * count
    assert [message for message in messages if message["msg_type"] == "update_display_data"], "nobody was watching"
    stopped = {"results": outcomes["result"], "nothing_begun": outcomes["nothing begun"]}
    figures["ctrl_c"] = {"moments": sum(stopped.values()), "learners": len(PRESSED), **stopped}


@POSIX
def test_ctrl_c_in_the_first_second_of_a_process_leaves_a_process_that_trains(child, figures):
    """Each process is forked off one that has imported the lesson and trained nothing: what the first training loads, it loads there."""
    moments = [0.002 + 0.006 * number for number in range(200)] if FULL else [0.1, 0.5]
    code = f"""
        import os, signal, threading, time
        from cartpole_lessons.algorithms import policy_gradient
        for moment in {moments}:
            if os.fork() == 0:
                threading.Thread(target=lambda: (time.sleep(moment), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
                try:
                    policy_gradient.train(seed=0, max_steps=1_000_000)
                except KeyboardInterrupt:
                    pass
                os._exit(policy_gradient.train(seed=0, max_steps=600).env_steps < 600)
            print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert finished(child(code), 600).split()[-len(moments) :] == ["0"] * len(moments)
    figures["first_second"] = {"processes": len(moments)}


# A full disk


def savers():
    """What writes a file that matters, of many pages: {name: (how, which error it raises)}."""
    result = train(seed=0, max_steps=100)
    result.history.metrics["loss"] = [(step, 1 / 3) for step in range(10_000)]
    policy = ppo.PolicyNetwork(hidden=2_048)
    return {
        "film": (encode(NOISE, fps=10, label="noise").save, RecordingError),
        "checkpoint": (lambda path: save_checkpoint(path, policy, **ABOUT), CheckpointError),
        "history": (result.history.to_csv, RecordingError),
    }


def fill(folder, left=0):
    """Leave so many bytes free, in whole pages."""
    (folder / "filling").unlink(missing_ok=True)
    (folder / "filling").write_bytes(bytes(shutil.disk_usage(folder).free - left))
    assert shutil.disk_usage(folder).free == left


def test_a_disk_with_any_space_left_holds_the_old_file_or_the_new_one(disk, figures):
    folder, told, whole, generator = disk(8), 0, 0, random.Random(4)
    for name, (save, error) in savers().items():
        path = folder / name
        save(path)
        old = path.read_bytes()
        pages = math.ceil(len(old) / 4096)
        assert pages >= 10, "too small for a disk to fill up while it is written"
        for left in [0] + [generator.randrange(pages * 5 // 4) for _ in range(33 if FULL else 3)]:
            fill(folder, left=4096 * left)
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


def test_a_folder_that_cannot_be_written_is_named(unwritable):
    for name, (save, error) in savers().items():
        with pytest.raises(error) as caught:
            save(unwritable / name)
        one_sentence(caught.value, str(unwritable), "choose a folder")


def test_a_disk_that_tells_only_at_the_end_that_it_is_full_is_told_too(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name, (save, error) in savers().items():
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(error) as caught:
            save(tmp_path / name)
        one_sentence(caught.value, str(tmp_path), "space")
    assert list(tmp_path.iterdir()) == []


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


@LINUX
def test_the_clock_of_a_whole_process_that_jumps_changes_nothing(child, tmp_path, figures):
    """Every library of the process sees it: libfaketime answers in place of the system. (Not while it films: what ends Python's sleep
    fails under libfaketime itself.)"""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib").glob("faketime/libfaketime.so.1")]
    if not libraries:
        pytest.skip("libfaketime is not installed: apt-get install -y faketime")
    code = """
        from pathlib import Path
        from cartpole_lessons import training
        from conftest import same_result, train
        plain = train(seed=3, max_steps=5_000)
        training.SECONDS_BETWEEN_SAVES = 0.01
        Path("jumping").touch()
        result = train(seed=3, max_steps=5_000, progress=True)
        Path("jumping").unlink()
        print(same_result(plain, result), 0 < result.seconds < 60)
    """
    clock, generator, offsets = tmp_path / "clock", random.Random(0), [0]
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # that one never jumps, by its definition
    }
    process = child(code, **faked)
    while process.poll() is None:
        if (tmp_path / "jumping").exists():
            offsets.append(generator.randint(-600_000_000, 900_000_000))
            (tmp_path / "next").write_text(f"{offsets[-1]:+d}")
            (tmp_path / "next").replace(clock)
        time.sleep(0.005)
    assert finished(process).splitlines()[-1] == "True True"
    assert sum(later < earlier for earlier, later in pairwise(offsets)) > 10, "the clock has hardly jumped"
    figures["clock"] = {"jumps": len(offsets) - 1}


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
    evaluations = 200 if FULL else 60
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
        for _ in range({evaluations}):
            evaluate(policy)
        print(resident() - before)
    """
    grown = int(finished(child(code), 600))
    assert grown < 1e6, f"{grown / evaluations:.0f} bytes more at each evaluation"
    figures["memory"] = {"evaluations": evaluations, "grown_megabytes": round(max(grown, 0) / 1e6, 1)}


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
    kernels = [Kernel(), Kernel()]
    try:
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda kernel: kernel.run(code), kernels))
    finally:
        for kernel in kernels:
            kernel.close()
    assert [printed(messages) for messages in said] == ["over\n", "over\n"], [printed(messages, "stderr") for messages in said]
    films = sorted((tmp_path / "films").iterdir())
    assert {film.name for film in films} == {f"rl-video-episode-{episode}.mp4" for episode in range(episodes)}
    assert all(len(decode(film)[1]) > 5 for film in films)
    figures["notebooks"] = {"films": 2 * episodes}


WRITERS = {
    "writes": """
        from cartpole_lessons._support.files import atomic_write
        while True:
            for letter in b"ab":
                with atomic_write("file") as file:
                    for _ in range(50):
                        file.write(bytes([letter]) * 20_000)
    """,
    "films": """
        from conftest import good_controller
        from cartpole_lessons.video import record
        while True:
            for steps in (20, 60):
                record(good_controller, max_steps=steps).save("file")
    """,
}


@POSIX
@pytest.mark.parametrize(("what", "kills"), [("writes", 100 if FULL else 5), ("films", 20 if FULL else 1)])
def test_a_process_killed_while_it_writes_leaves_the_old_file_or_the_new_one(child, tmp_path, figures, what, kills):
    generator = random.Random(1)
    for _ in range(kills):
        (tmp_path / "file").unlink(missing_ok=True)
        process = child(WRITERS[what], TMPDIR=str(tmp_path))
        while not (tmp_path / "file").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1 if what == "writes" else 0.6))
        process.kill()
        process.wait()
        if what == "films":
            assert len(decode(tmp_path / "file")[1]) in (21, 61)
        else:
            content = (tmp_path / "file").read_bytes()
            assert (len(content), len(set(content))) == (1_000_000, 1)
    figures[what] = {"kills": kills}


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
        with pytest.raises(RecordingError) as caught:
            encode(frames, fps=50, label="noise").save(tmp_path / "film.mp4")
        monkeypatch.undo()
        one_sentence(caught.value)
        assert not (tmp_path / "film.mp4").exists()
    figures["ffmpeg"] = {"kills": kills}


# Files that are not what they should be


def corrupt(whole, generator):
    """`whole` with something done to it: bits, bytes, blocks; cut, stretched, shuffled."""
    start, length = generator.randrange(len(whole)), generator.randrange(1, 64)
    before, block, after = whole[:start], whole[start : start + length], whole[start + length :]
    match generator.randrange(7):
        case 0:
            return before + bytes([whole[start] ^ 1 << generator.randrange(8)]) + whole[start + 1 :]
        case 1:
            return before
        case 2:
            return before + after
        case 3:
            return before + generator.randbytes(length) + block + after
        case 4:
            return before + bytes(len(block)) + after
        case 5:
            return before + whole[: len(block)] + after
    # A number in the archive's directory, where sizes, names and offsets are.
    place = generator.randrange(len(whole) * 3 // 4, len(whole) - 4)
    return whole[:place] + generator.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f"]) + whole[place + 4 :]


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


def header(descr, shape):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


HEADERS = [header("'<f4'", shape) for shape in ("(1000000000000,)", "(400000000, 4)", "(-64, -4)", "'exit'", "(exit(),)")]
HEADERS += [header(descr, "(1,)") for descr in ("'|O'", "[('a', '|O'), ('b', '<f4')]", "'|S1024'")]
HEADERS += ["__import__('os').abort()", "{"]


def test_a_thousand_corruptions_of_a_checkpoint_are_refused_or_change_nothing(tmp_path, figures):
    checkpoint = save_checkpoint(tmp_path / "whole.npz", ppo.PolicyNetwork(), **ABOUT)
    weights = load_policy(checkpoint, ppo.PolicyNetwork).state_dict()
    content, path, generator, refused = checkpoint.read_bytes(), tmp_path / "altered", random.Random(0), 0
    tracemalloc.start()
    try:
        for number in range(1_000):
            if number < len(HEADERS):
                with_header(path, checkpoint, HEADERS[number])
            else:
                path.write_bytes(corrupt(content, generator))
            try:
                loaded = load_policy(path, ppo.PolicyNetwork).state_dict()
            except CheckpointError as error:
                one_sentence(error, str(path))
                refused += 1
                continue
            assert number >= len(HEADERS), HEADERS[number]
            assert loaded.keys() == weights.keys()
            assert all(torch.equal(loaded[name], weights[name]) for name in weights)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused > 700
    assert peak < 20e6, "memory is taken for what is in the file, not for what it claims"
    figures["checkpoints"] = {"corruptions": 1_000, "refused": refused, "unchanged": 1_000 - refused}


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


def test_an_altered_notebook_is_exported_or_named_in_one_sentence(monkeypatch, tmp_path, figures):
    from export import export  # a child process that imports this module has no tools

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
    assert (refused > 10, exported > 0) == (True, True)
    figures["exports"] = {"alterations": alterations, "refused": refused}
