"""Grading: every notebook has its rows with known marks, whatever it does, and nothing that it pretends counts as right."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import one_sentence

from cartpole_lessons import grading
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.grading import Limits, Row, grade, has_walls

RIGHT = "def answer(rewards, terminated, next_values, discount):\n    return rewards + discount * next_values.max(1).values * ~terminated"
CHECK = "exercise.td_targets.check(answer)"
COURSE = "from cartpole_lessons.exercises import lesson_06 as exercise"
FORGED = """
import sys, cartpole_lessons.exercises as exercises
exercises.Exercise.check = lambda self, answer: exercises.Card("right", "I say so.")
for module in list(sys.modules.values()):
    if hasattr(module, "Exercise"): module.Exercise = exercises.Exercise
exercise.td_targets.check(lambda *given: 0)
print("Right. points: 1")
"""
# What each notebook's cells are, and what is to be said of its td_targets and of its ceiling.
NOTEBOOKS = {
    "right": ([COURSE, RIGHT, CHECK, "exercise.ceiling.check(100)"], ("right", "right")),
    "copied, moved and renamed": (["exercise.ceiling.check(7)", COURSE, RIGHT, CHECK, CHECK, "exercise.ceiling.check(100)"], ("right", "right")),
    "wrong": ([COURSE, "exercise.td_targets.check(lambda r, t, v, d: r)", "exercise.ceiling.check(50)"], ("wrong", "wrong")),
    "not attempted": ([COURSE, "exercise.td_targets.check(...)"], ("missing", "missing")),
    "leaves": ([COURSE, "import os; os._exit(0)", RIGHT, CHECK], ("error", "error")),
    "never ends": ([COURSE, RIGHT, CHECK, "while True: pass"], ("right", "time-out")),
    "forged": ([COURSE, FORGED], ("wrong", "missing")),
    "looks for solutions": (
        [COURSE, "import inspect\nanswer = vars(inspect.getmodule(exercise.td_targets)).get('_td_targets') or exercise.td_targets._solution", CHECK],
        ("error", "error"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The rows of all these notebooks and of one that is none, and the folder with what was written."""
    here = tmp_path_factory.mktemp("class")
    folder = here / "submissions"
    folder.mkdir()
    for name, (cells, _) in NOTEBOOKS.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        (folder / f"{name}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    (folder / "torn.ipynb").write_text('{"cells": [', encoding="utf-8")
    (folder / "another's.ipynb").symlink_to(folder / "right.ipynb")
    os.mkfifo(folder / "pipe.ipynb")
    rows = grade(folder, lessons=["06"], csv_file=here / "grades.csv", limits=Limits(seconds=20))
    return rows, here


@pytest.mark.skipif(not has_walls(), reason="this system has no namespaces for us")
def test_every_notebook_has_the_marks_that_it_deserves(graded):
    rows, _ = graded
    states = {}
    for row in rows:
        states.setdefault(row.notebook.removesuffix(".ipynb"), {})[row.exercise.partition(".")[2]] = row.state
    expected = {name: {"td_targets": first, "ceiling": second} for name, (_, (first, second)) in NOTEBOOKS.items()}
    assert states == expected | {name: {"td_targets": "error", "ceiling": "error"} for name in ("torn", "another's", "pipe")}
    assert [row for row in rows if row.points != (row.state == "right")] == []
    for row in rows:
        one_sentence(row.reason)


@pytest.mark.skipif(not has_walls(), reason="this system has no namespaces for us")
def test_the_table_and_the_page_hold_every_row(graded):
    rows, here = graded
    with open(here / "grades.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["notebook"], row["state"]) for row in table] == [(row.notebook, row.state) for row in rows]
    page = (here / "grades.html").read_text(encoding="utf-8")
    assert page.count("<tr>") >= len(rows)
    assert {path.name for path in here.iterdir()} == {"submissions", "grades.csv", "grades.html"}


@pytest.mark.skipif(not has_walls(), reason="this system has no namespaces for us")
def test_the_exercises_of_ones_own_that_the_instructors_page_shows_are_graded(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "instructors.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "week_3.py").write_text(example, encoding="utf-8")
    folder = tmp_path / "submissions"
    folder.mkdir()
    cells = [
        "import week_3 as exercise",
        f"seen = open({str(tmp_path / 'week_3.py')!r}).read()",
        "exercise.half.check(lambda x: x / 2 if seen else x * 2)",
        "exercise.seven.check(3.5)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, folder / "one.ipynb")
    rows = grade(folder, own=[tmp_path / "week_3.py"], lessons=["week_3"], csv_file=tmp_path / "grades.csv", limits=Limits(seconds=20))
    assert {row.exercise: row.state for row in rows} == {"week_3.half": "wrong", "week_3.seven": "right"}
    assert "That is twice the number." in next(row.reason for row in rows if row.state == "wrong")


def test_a_folder_without_notebooks_and_an_unknown_lesson_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="no notebooks"):
        grade(tmp_path)
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": []}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="99"):
        grade(tmp_path, lessons=["99"])


def test_nothing_is_judged_before_the_notebook_is_over():
    """Or a notebook could try answer after answer, and see from the time that a reply takes which is right."""
    messages = iter(
        [{"name": "one", "value": 3}, {"name": "two", "function": True}, {"value": 5, "changed": []}, {"name": "one", "value": None}]
    )
    sent = []
    box = SimpleNamespace(receive=lambda: next(messages, None), send=sent.append, trouble=("time-out", "Too long."))
    exercises = {"one": SimpleNamespace(check=pytest.fail), "two": SimpleNamespace(check=pytest.fail, inputs=[(1,)])}
    handed_in = {}
    assert grading._listen(box, exercises, handed_in) == ("time-out", "Too long.")
    assert sent == [None, {"tuple": [1]}, None, None]
    assert handed_in["one"].sent == 3  # what is no attempt replaces none
    assert handed_in["two"](1) == 5


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Three notebooks, and workers that grade them without looking, but die of those in `deadly`: `workers.grade()`, and what was `begun`."""
    for name in "abc":
        (tmp_path / f"{name}.ipynb").write_text(name, encoding="utf-8")
    here = SimpleNamespace(
        deadly=set(), begun=[], stop_after=99, grade=lambda: grade(tmp_path, csv_file=tmp_path / "grades.csv", workers=2)
    )

    def graded(notebooks, names, job, workers):
        for start in range(0, len(notebooks), workers):
            together = notebooks[start : start + workers]
            here.begun += [path.stem for path in together]
            died = BrokenProcessPool("it died") if here.deadly & {path.stem for path in together} else None
            for path in together:
                yield path, died or [Row(names[path], "06.ceiling", "right", 1.0, "Just so.")]
                if len(here.begun) > here.stop_after:
                    raise KeyboardInterrupt
            if died:
                return

    monkeypatch.setattr(grading, "_graded", graded)
    return here


def test_a_killed_grader_s_folder_goes_with_the_next_run_and_a_living_one_s_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = subprocess.run(
        [sys.executable, "-c", "import os, signal; from cartpole_lessons.grading import _scratch; kept = _scratch(); os.kill(os.getpid(), signal.SIGKILL)"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with grading._scratch() as first, grading._scratch() as second:
        assert {*map(str, tmp_path.iterdir())} == {first, second}
        assert not left.exists()
    assert [*tmp_path.iterdir()] == []


def test_only_the_notebook_that_kills_its_worker_again_and_again_is_given_up(workers):
    workers.deadly = {"b"}
    assert {row.notebook: row.state for row in workers.grade()} == {"a.ipynb": "right", "b.ipynb": "error", "c.ipynb": "right"}
    assert "".join(workers.begun) == "abab" + "bc"  # two together, then each of them alone, then what was never begun


def test_a_run_goes_on_where_it_was_stopped_but_not_with_another_course(workers, monkeypatch):
    workers.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        workers.grade()
    monkeypatch.setattr(grading, "__version__", "another")
    with pytest.raises(KeyboardInterrupt):
        workers.grade()
    workers.stop_after = 99
    assert [row.state for row in workers.grade()] == ["right"] * 3
    assert "".join(workers.begun) == "ab" + "ab" + "bc"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("That is the mean. The agent will\ntake the better one.", "That is the mean."),
        ("NameError: name 'x' is not defined. Did you mean: 'y'?", "NameError: name 'x' is not defined."),
        ("ValueError: \x1b[31mno\nin the line: return 1", "ValueError: [31mno in the line: return 1."),
        ("This is <Net at 0x7f7798ce85d0>", "This is <Net>."),
        ("long " * 100, "long " * 59 + "lo..."),
    ],
)
def test_a_reason_is_one_sentence(said, reason):
    assert grading._sentence(said) == reason
