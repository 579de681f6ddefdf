"""What a result depends on: the hash of a lesson's code changes with what can change a number, and with nothing else."""

from pathlib import Path

import pytest

from cartpole_lessons.lessons import lessons, module_name
from cartpole_lessons.study import code
from cartpole_lessons.study.code import COURSE, WITHOUT_NUMBERS, lesson_code, sources_of


@pytest.fixture
def edit(monkeypatch):
    """`edit("plots.py", change)`: as if that file of the course said `change(what it says)`; the files themselves stay as they are."""
    read, changes = Path.read_text, {}

    def edited(path, *arguments, **keywords):
        text = read(path, *arguments, **keywords)
        (change,) = [change for name, change in changes.items() if path.as_posix().endswith(f"cartpole_lessons/{name}")] or [str]
        assert change is str or change(text) != text
        return change(text)

    monkeypatch.setattr(Path, "read_text", edited)
    return changes.__setitem__


def more_code(text):
    return f"{text}\nMORE = 1\n"


@pytest.mark.parametrize(
    "file",
    ["rollout.py", "training.py", "evaluation.py", "policy.py", "_support/seeding.py", "_support/arithmetic.py", "algorithms/ppo.py"],
)
def test_a_change_of_what_numbers_come_from_is_another_code(edit, file):
    before = lesson_code("ppo")
    edit(file, more_code)
    assert lesson_code("ppo") != before


@pytest.mark.parametrize("file", ["plots.py", "video.py", "progress.py", "history.py", "checkpoints.py", "algorithms/dqn.py"])
def test_a_change_of_what_is_shown_or_kept_or_of_another_lesson_is_the_same_code(edit, file):
    before = lesson_code("ppo")
    edit(file, more_code)
    assert lesson_code("ppo") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"""', '"""In other words: ', 1),  # the module's docstring
        lambda text: text.replace('    """One episode of each', '    """\n    One episode of every', 1),  # a class's, over more lines
        lambda text: f"# what others say\n{text}\n\n# and more\n",
        lambda text: text.replace("import numpy as np\n", "import numpy as np  # numbers\n\n", 1),
    ],
)
def test_docstrings_comments_and_empty_lines_are_no_change(edit, change):
    before = lesson_code("ppo")
    edit("rollout.py", change)
    assert lesson_code("ppo") == before


def test_a_lesson_has_the_code_of_the_lessons_that_it_builds_on(edit):
    before = lesson_code("ppo")
    edit("algorithms/policy_gradient.py", more_code)
    assert lesson_code("ppo") != before


def test_no_two_lessons_have_the_same_code():
    assert len({lesson_code(lesson) for lesson in lessons()}) == len(lessons())


@pytest.mark.parametrize("lesson", lessons())
def test_every_module_that_a_training_can_import_counts_or_is_named_as_one_without_numbers(monkeypatch, lesson):
    counted = set(sources_of(module_name(lesson)))
    monkeypatch.setattr(code, "WITHOUT_NUMBERS", set())  # now also through those modules
    reached = set(sources_of(module_name(lesson)))
    assert reached - counted <= WITHOUT_NUMBERS
    assert {f"{COURSE}.training", f"{COURSE}.history"} <= reached


def test_what_is_named_as_without_numbers_is_there():
    folder = Path(code.__file__).parent.parent
    assert [name for name in WITHOUT_NUMBERS if not (folder / f"{name.removeprefix(f'{COURSE}.').replace('.', '/')}.py").is_file()] == []
