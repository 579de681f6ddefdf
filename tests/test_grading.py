"""Grading: every notebook has its rows with known marks, whatever it does, and nothing that it pretends counts as right."""

import csv
import json
import re
from pathlib import Path

import nbformat
import pytest

from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.grading import Limits, grade, has_walls

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
    rows = grade(folder, lessons=["06"], csv_file=here / "grades.csv", limits=Limits(seconds=20))
    return rows, here


@pytest.mark.skipif(not has_walls(), reason="this system has no namespaces for us")
def test_every_notebook_has_the_marks_that_it_deserves(graded):
    rows, _ = graded
    states = {}
    for row in rows:
        states.setdefault(row.notebook.removesuffix(".ipynb"), {})[row.exercise.partition(".")[2]] = row.state
    expected = {name: {"td_targets": first, "ceiling": second} for name, (_, (first, second)) in NOTEBOOKS.items()}
    assert states == expected | {"torn": {"td_targets": "error", "ceiling": "error"}}
    assert [row for row in rows if row.points != (row.state == "right")] == []
    assert [row for row in rows if not row.reason] == []


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
    cells = ["import week_3 as exercise", "exercise.half.check(lambda x: x * 2)", "exercise.seven.check(3.5)"]
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
