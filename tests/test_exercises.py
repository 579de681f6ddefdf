"""Exercises: every right answer passes in any style, every typical mistake is named, and nothing that a student writes becomes a traceback of ours."""

import ast
import contextlib
import copy
import inspect
import itertools
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import cartpole_lessons.exercises as exercises
from cartpole_lessons.exercises import Exercise, Prediction, progress
from cartpole_lessons.grading import exercises_in, modules_with_exercises

MODULES = modules_with_exercises().values()
EVERYTHING = [thing for module in MODULES for thing in exercises_in(module).values()]
TO_WRITE = [each for each in EVERYTHING if isinstance(each, Exercise)]
TO_PREDICT = [each for each in EVERYTHING if isinstance(each, Prediction)]
# These change nothing that anybody could see: where two values are equal no gradient flows either way.
EQUIVALENT = {
    "05.has_gradient": {"advantages >= 0", "ratios >= 1 + clip", "ratios <= 1 - clip"},
}


@pytest.fixture(autouse=True)
def noted(tmp_path, monkeypatch):
    monkeypatch.setattr(exercises, "PROGRESS", tmp_path / "folder" / "progress.json")
    return exercises.PROGRESS


def by_name(name):
    (found,) = (each for each in EVERYTHING if each.name == name)
    return found


def named(each):
    return each.name


def styles_of(function):
    """The same answer as other students would return it."""

    def converted(convert):
        def answer(*given):
            value = function(*given)
            return tuple(map(convert, value)) if isinstance(value, tuple) else convert(value)

        return answer

    yield function
    yield converted(np.asarray)
    yield converted(lambda value: np.asarray(value).tolist())
    yield converted(lambda value: torch.as_tensor(value).double() if torch.as_tensor(value).is_floating_point() else value)
    yield lambda *renamed: function(*renamed)


@pytest.mark.parametrize("exercise", TO_WRITE, ids=named)
def test_a_right_answer_passes_in_any_style(exercise):
    for answer in styles_of(exercise._solution):
        card = exercise.check(answer)
        assert card.state == "right", card
        assert card.text


@pytest.mark.parametrize("exercise", TO_WRITE, ids=named)
def test_each_typical_mistake_is_told_by_its_own_sentence(exercise):
    assert len(exercise.mistakes) >= 5
    for why, mistake in exercise.mistakes.items():
        card = exercise.check(mistake)
        assert (card.state, card.text.split("\n")[-1]) == ("wrong", why)


@pytest.mark.parametrize("exercise", EVERYTHING, ids=named)
def test_hints_come_one_after_the_other_and_the_solution_only_for_who_is_sure(exercise):
    assert exercise.name.split(".")[1] in vars(next(module for module in MODULES if module.__name__.endswith(exercise.name[:2])))
    hints = [exercise.hint().text for _ in exercise._hints]
    assert len(set(hints)) == len(hints) >= 1
    assert exercise.hint().text == hints[0]
    assert exercise.solution().state == "hint"
    assert exercise.solution(sure=True).state == "solution"


@pytest.mark.parametrize("prediction", TO_PREDICT, ids=named)
def test_a_prediction_knows_right_wrong_and_not_yet(prediction):
    assert prediction.check(...).state == "not attempted"
    assert prediction.check(prediction._answer).state == "right"
    wrong = (
        [*prediction._choices, "?", object()]
        if isinstance(prediction._answer, str)
        else [prediction._answer * 2, 0, "many", None.__class__]
    )
    for answer in wrong:
        card = prediction.check(answer)
        assert card.state == "wrong"
        assert card.text


def loops_for_ever(*given):
    while True:
        pass


def swallows_everything(*given):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.001)


def divides_by_zero(*given):
    return 1 / 0


def prints_a_lot(*given):
    print("x" * 10_000_000)


def endless(*given):
    yield from itertools.count()


@pytest.mark.parametrize(
    ("answer", "state", "word"),
    [
        (None, "not attempted", "no function"), (..., "not attempted", "no function"), (3, "wrong", "not a function"), (lambda *given: ..., "not attempted", "dots"),
        (loops_for_ever, "wrong", "loop"), (swallows_everything, "wrong", "loop"), (divides_by_zero, "wrong", "return 1 / 0"),
        (prints_a_lot, "not attempted", "nothing"), (endless, "wrong", "shape"), (lambda: 1, "wrong", "called"), (lambda *given: "text", "wrong", "numbers"),
        (lambda *given: {"a": 1}, "wrong", "numbers"), (lambda *given: np.zeros(10**7), "wrong", "shape"), (lambda *given: exit(), "wrong", "SystemExit"),
        (lambda rewards, terminated, values, discount: (rewards + discount * values.max(1).values * ~terminated)[:, None], "wrong", "shape"),
        (lambda rewards, terminated, values, discount: rewards.add_(1), "wrong", "changes its input rewards"),
        (lambda *given: torch.full((4,), float("nan")), "wrong", "NaN"),
    ],
)  # fmt: skip
def test_whatever_a_student_writes_ends_in_one_of_three_answers(answer, state, word, capsys):
    started = time.perf_counter()
    card = by_name("06.td_targets").check(answer)
    assert card.state == state, card
    assert word in card.text
    assert len(repr(card)) < 1_000
    assert capsys.readouterr().out == ""
    assert time.perf_counter() - started < 3


def test_a_card_is_readable_in_a_notebook_and_in_a_terminal():
    card = by_name("06.td_targets").check(lambda *given: "<script>")
    assert "<script>" not in card._repr_html_()
    assert "role='status'" in card._repr_html_()
    assert repr(card).startswith("Wrong. ")


def test_progress_is_kept_and_a_solved_exercise_stays_solved(noted):
    exercise = by_name("06.td_targets")
    exercise.check(...)
    assert not noted.exists()
    exercise.check(lambda *given: 1)
    assert "td_targets wrong" in progress().text
    exercise.check(exercise._solution)
    exercise.check(lambda *given: 1)
    assert "1 exercise solved" in progress().text
    noted.write_text("{half a file")
    assert exercise.check(exercise._solution).state == "right"


def test_where_progress_cannot_be_kept_the_answer_comes_anyway(monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setattr(exercises, "PROGRESS", tmp_path / "a file" / "progress.json")
    assert by_name("06.td_targets").check(by_name("06.td_targets")._solution).state == "right"


SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Gt: ast.GtE, ast.Lt: ast.LtE, ast.GtE: ast.Gt, ast.LtE: ast.Lt,
}  # fmt: skip
OTHER_METHODS = {
    "max": "min",
    "argmax": "argmin",
    "mean": "sum",
    "sum": "mean",
    "exp": "expm1",
    "ceil": "floor",
    "median": "mean",
    "softmax": "log_softmax",
}


class Mutants(ast.NodeTransformer):
    """Changes the `number`-th place that can be changed."""

    def __init__(self, number):
        self.left, self.changed = number, None

    def _here(self, node, new):
        self.generic_visit(node)
        self.left -= 1
        if self.left == -1:
            self.changed = ast.unparse(new)
            return new
        return node

    def visit_BinOp(self, node):
        swapped = SWAPS.get(type(node.op))
        return self._here(node, ast.BinOp(node.left, swapped(), node.right)) if swapped else self.generic_visit(node)

    def visit_Compare(self, node):
        swapped = SWAPS.get(type(node.ops[0]))
        return self._here(node, ast.Compare(node.left, [swapped()], node.comparators)) if swapped else self.generic_visit(node)

    def visit_UnaryOp(self, node):
        return self._here(node, node.operand)

    def visit_Attribute(self, node):
        other = OTHER_METHODS.get(node.attr)
        return self._here(node, ast.Attribute(node.value, other, node.ctx)) if other else self.generic_visit(node)

    def visit_IfExp(self, node):
        return self._here(node, ast.IfExp(node.test, node.orelse, node.body))

    def visit_Constant(self, node):
        return self._here(node, ast.Constant(node.value + 1)) if type(node.value) in (int, float) else node


def mutants(exercise):
    """(what was changed, the changed function) for each place of the solution."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(exercise._solution)))
    for number in itertools.count():
        mutator = Mutants(number)
        changed = ast.fix_missing_locations(mutator.visit(copy.deepcopy(tree)))
        if mutator.changed is None:
            return
        names = dict(vars(inspect.getmodule(exercise._solution)))
        exec(compile(changed, "mutant", "exec"), names)
        yield mutator.changed, names[exercise._solution.__name__]


def test_changed_solutions_are_rejected_but_for_those_that_do_the_same():
    survivors, count = [], 0
    for exercise in TO_WRITE:
        for changed, function in mutants(exercise):
            count += 1
            if exercise.check(function).state == "right" and changed not in EQUIVALENT.get(exercise.name, ()):
                survivors.append(f"{exercise.name}: {changed}")
    assert survivors == []
    same = sum(map(len, EQUIVALENT.values()))
    said = (Path(__file__).parent.parent / "docs" / "instructors.md").read_text(encoding="utf-8")
    assert f"Of {count} small changes to the solutions" in said
    assert f"{count - same} are rejected. The other {same} compute the same" in said
