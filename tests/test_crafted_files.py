"""Files that somebody made up: every reader leaves them out by name, or says in one sentence what is wrong, and runs nothing.

`make test-faults` reads 500 of them, and writes the figures for the README's table; without it, 60.
"""

import contextlib
import csv
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import FULL, one_sentence, write_reliability_figures

from cartpole_lessons.algorithms import policy_gradient
from cartpole_lessons.checkpoints import load_checkpoint, save_checkpoint
from cartpole_lessons.errors import CourseError
from cartpole_lessons.lessons import load_policy
from cartpole_lessons.study import read_results, read_study, run_study, write_results
from cartpole_lessons.study.report import write_report

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are POSIX")

DEEP = json.loads("[" * 400 + "]" * 400)
VALUES = [None, True, False, 0, -1, 0.5, 7, 10**18, 10**300, 1e308, -1e308, float("nan"), float("inf"), [], {}, [[]], {"a": {}}, [None] * 9]
VALUES += ["", "ppo", "trap", "trap.code", "os", "../trap", "=1+1", "@SUM(A1)", "$\\foo$", "$x", "100%", "%s{}", "<script>x</script>"]
VALUES += ["\x1b[2J", "a\nb", "a\rb", "\0", "\u202e", "\ud800", "\N{GRINNING FACE}\N{COMBINING ACUTE ACCENT}", "x" * 100_000, DEEP]
KEYS = ["seed", "row", "__class__", "=1", "a b", "\x1b", "max_steps", "", "hidden", "x" * 10_000]


def altered(content, generator):
    """A copy with values somewhere in it replaced, left out or added; one in ten has three such places."""
    content = json.loads(json.dumps(content))
    for _ in range(generator.choice([1] * 9 + [3])):
        node = content
        while isinstance(node, dict | list) and node:
            key = generator.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if isinstance(node[key], dict | list) and node[key] and generator.random() < 0.8:
                node = node[key]
                continue
            choice = generator.random()
            if choice < 0.15:
                del node[key]
            elif choice < 0.3 and isinstance(node, dict):
                node[generator.choice(KEYS)] = generator.choice(VALUES)
            else:
                node[key] = generator.choice(VALUES)
            break
    return content


def damaged(whole, generator):
    """The bytes with some of them changed, cut off, or put in."""
    place = generator.randrange(len(whole))
    return generator.choice(
        [
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :],
            whole[:place] + generator.randbytes(9) + whole[place:],
            whole[place:],
        ]
    )


def link(target):
    return lambda path: path.symlink_to(target)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(10**12)


#: What is no file of ours from its first byte on, whichever reader gets it.
STRANGE = [os.mkfifo, Path.mkdir, sparse, link("/dev/zero"), link("nowhere"), lambda path: path.symlink_to(path.name)]
STRANGE += [
    (lambda path, content=content: path.write_bytes(content))
    for content in (b"", b"null", b"[" * 200_000, b'{"a":' * 100_000, b"1" * 1_000_000, b"[0" + b",0" * 3_000_000 + b"]", b"\xff\xfe{\x00")
]


def crafted_json(path, generator):
    """Put something in place of the JSON file at `path`."""
    whole, others = path.read_bytes(), [other for other in path.parent.glob("*.json") if other != path and other.is_file()]
    path.unlink()
    draw = generator.random()
    if draw < 0.15:
        generator.choice(STRANGE)(path)
    elif draw < 0.25:
        path.write_bytes(damaged(whole, generator))
    elif draw < 0.3:
        shutil.copy(generator.choice(others), path)
    else:
        path.write_text(json.dumps(altered(json.loads(whole), generator)), encoding="utf-8")


def crafted_archive(path, generator):
    """Put something in place of the checkpoint at `path`."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    path.unlink()
    draw = generator.random()
    if draw < 0.1:
        generator.choice(STRANGE)(path)
        return
    if draw < 0.2:
        path.write_bytes(damaged(whole, generator))
        return
    if draw < 0.8:
        metadata = json.loads(np.load(io.BytesIO(entries["metadata.npy"])).tobytes())
        text = io.BytesIO()
        np.save(text, np.frombuffer(json.dumps(altered(metadata, generator)).encode(), dtype=np.uint8))
        entries["metadata.npy"] = text.getvalue()
    elif draw < 0.9:
        foreign = {
            "../trap.py": b"open('loot', 'w')",
            "weights/more.npy": b"1" * 99,
            "data.pkl": b"cos\nsystem\n(S'touch loot'\ntR.",
            "\x1b": b"",
        }
        name = generator.choice(list(foreign))
        entries[name] = foreign[name]
    else:
        entries[generator.choice(list(entries))] = generator.choice(list(entries.values())) * generator.choice([0, 1, 2])
    with zipfile.ZipFile(path, "w", generator.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


# Each reader reads a folder in which one file was made up, and says whether it was left out or refused.


def read_a_study(folder, path):
    study = read_study(folder)
    rows = list(csv.reader(io.StringIO(study.to_csv())))
    assert len(rows) == len(study.runs) + 1
    assert [cell for row in rows for cell in row if cell[:1] in set("=+@\t\r")] == []
    assert study.summary()
    page = write_report("page.html", folder, films=False).read_text(encoding="utf-8")
    assert page.replace("\n", "").isprintable() or "\u202e" in page
    assert "<script" not in page
    assert len(study.runs) == 3 - (path.name in study.corrupt)
    return path.name in study.corrupt


def resume_a_study(folder, path):
    study = run_study("hand_made", range(3), folder=folder, backend="sequential", progress=False)
    assert [(run["seed"], run["status"]) for run in study.runs] == [(seed, "ok") for seed in range(3)]
    return path.name in study.corrupt + study.stale


def read_published(folder, path):
    assert all(len({run["seed"] for run in runs}) == len(runs) for runs in read_results(folder).values())
    return False


def read_a_checkpoint(folder, path):
    load_checkpoint(path)
    policy = load_policy(path)
    assert policy.act(np.zeros((3, 4), dtype=np.float32)).shape == (3,)
    return False


READERS = {read_a_study: "*seed1.json", resume_a_study: "*seed1.json", read_published: "hand_made.json", read_a_checkpoint: "policy.npz"}


def read_all(count):
    """Let the readers read so many files; print a line of JSON with what came of it. Runs in a process of its own, in an empty folder."""
    Path("trap.py").write_text("open('loot', 'w').close()\n")
    sys.path.insert(0, "")
    whole = Path("whole")
    runs = run_study("hand_made", range(3), folder=whole, backend="sequential", progress=False).runs
    published = Path("published")
    for name in ("hand_made", "another"):
        write_results([run | {"row": name} for run in runs], published)
    save_checkpoint(
        published / "policy.npz",
        policy_gradient.PolicyNetwork(),
        lesson="ppo",
        env_id="CartPole-v1",
        seed=0,
        hyperparameters={"hidden": 64},
    )
    before = peak_megabytes()
    outcomes, faults, generator = {"left_out": 0, "refused": 0, "harmless": 0}, [], random.Random(0)
    for number in range(count):
        reader, pattern = list(READERS.items())[number % len(READERS)]
        folder = shutil.copytree(published if reader in (read_published, read_a_checkpoint) else whole, f"folder{number}")
        (path,) = Path(folder).glob(pattern)
        (crafted_archive if path.suffix == ".npz" else crafted_json)(path, generator)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                outcomes["left_out" if reader(Path(folder), path) else "harmless"] += 1
        except CourseError as error:
            outcomes["refused"] += 1
            said.write(str(error))
            try:
                one_sentence(error, path.name)
            except AssertionError:
                faults.append(f"{number} {reader.__name__}: {str(error)[:300]}")
        except BaseException as error:
            faults.append(f"{number} {reader.__name__}: {type(error).__name__} {str(error)[:300]}")
        if not said.getvalue().replace("\n", "").isprintable():
            faults.append(f"{number} {reader.__name__}: it printed what a terminal obeys")
        shutil.rmtree(folder)
    ran = [name for name in ("trap", "trap.code") if name in sys.modules] + [str(path) for path in Path().rglob("loot")]
    memory = {"peak_megabytes": peak_megabytes(), "megabytes_before": before}
    print("\noutcomes: " + json.dumps(outcomes | {"faults": faults, "ran": ran} | memory))


def peak_megabytes():
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 2**20)


def test_made_up_files_are_left_out_by_name_or_refused_in_one_sentence_and_nothing_in_them_is_run(tmp_path):
    count = 500 if FULL else 40
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, "-c", f"import test_crafted_files; test_crafted_files.read_all({count})"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1].removeprefix("outcomes: "))
    assert outcomes.pop("faults") == []
    assert outcomes.pop("ran") == []
    peak = outcomes.pop("peak_megabytes")
    # What torch itself takes differs by half a gigabyte, with its build.
    assert peak - outcomes.pop("megabytes_before") < 400
    assert sum(outcomes.values()) == count
    assert outcomes["harmless"] < count / 3
    if FULL:
        write_reliability_figures({"crafted": {"files": count, "peak_megabytes": peak} | outcomes})
