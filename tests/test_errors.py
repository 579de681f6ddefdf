"""Errors of the course: one sentence in a notebook, and the built-in exception for those who catch it."""

import pytest
from conftest import one_sentence, printed

from cartpole_lessons import errors
from cartpole_lessons.errors import CourseError

KINDS = {
    "InvalidInput": ValueError,
    "InvalidAction": ValueError,
    "MissingDependency": ImportError,
    "NoDisplay": RuntimeError,
    "RecordingError": OSError,
    "CheckpointError": ValueError,
}


@pytest.mark.parametrize(("name", "builtin"), KINDS.items())
def test_each_is_a_course_error_and_the_built_in_one_that_programmers_expect(name, builtin):
    kind = getattr(errors, name)
    assert issubclass(kind, CourseError)
    assert issubclass(kind, builtin)
    assert str(kind("one sentence.")) == "one sentence."
    assert kind.__doc__
    assert kind("one sentence.")._render_traceback_() == [f"{name}: one sentence."]


def test_no_kind_is_forgotten_here():
    assert {kind.__name__ for kind in CourseError.__subclasses__() if kind.__module__ == errors.__name__} == set(KINDS)


def test_a_notebook_shows_the_sentence_alone(kernel):
    messages = kernel.run("from cartpole_lessons.environment import make_env\nmake_env('CartPole-v7')")
    (error,) = [message["content"] for message in messages if message["msg_type"] == "error"]
    assert error["ename"] == "InvalidInput"
    (line,) = error["traceback"]
    assert line == f"InvalidInput: {error['evalue']}"
    one_sentence(error["evalue"], "'CartPole-v7'", "'CartPole-v1'")
    assert printed(messages, "stderr") == ""


def test_other_errors_keep_their_traceback(kernel):
    messages = kernel.run("1 / 0")
    (error,) = [message["content"] for message in messages if message["msg_type"] == "error"]
    assert len(error["traceback"]) > 1
