"""Lessons in other languages: made from the English ones and a catalogue, and never older than either."""

import shutil
import time
from pathlib import Path

import nbformat
import pytest
import translate
from conftest import outdated_frames

ROOT = Path(__file__).resolve().parent.parent
CATALOGUES = sorted((ROOT / "translations").glob("*.po"))


def problems(language="pcm"):
    """What `make translations` would complain about."""
    catalogue = translate.Catalogue(language)
    translate.edition(catalogue)
    return catalogue.problems()


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_an_edition_is_whole_up_to_date_and_small(path):
    catalogue = translate.Catalogue(path.stem)
    stale = [difference for file, wanted in translate.edition(catalogue).items() for difference in translate.outdated(file, wanted)]
    assert (stale, catalogue.problems()) == ([], []), "translate what is named, then run `make translations`"
    assert path.stat().st_size < 60_000


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*/*.ipynb")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_lesson_in_another_language_was_executed_without_an_error(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in {output.output_type for cell in cells for output in cell.outputs}
    assert str(ROOT) not in path.read_text(encoding="utf-8")
    assert outdated_frames(notebook) == [], "delete this file, then run `make translations`"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of what an edition is made from."""
    for folder in ("notebooks", "translations"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(translate, "ROOT", tmp_path)
    monkeypatch.setattr(translate, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(translate, "CATALOGUES", tmp_path / "translations")
    return tmp_path


def change_lesson(repository, change):
    """Apply `change` to the cells of lesson 04, {id: cell} in order."""
    path = repository / "notebooks" / "04_actor_critic.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    notebook.cells = list((change(cells) or cells).values())
    nbformat.write(notebook, path)


def catalogue_says(repository, old, new):
    path = repository / "translations" / "pcm.po"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def a_word(cells):
    cells["summary"].source = cells["summary"].source.replace("critic", "judge", 1)


def a_number(cells):
    cells["learn-intro"].source += "\n\nIt takes 7 seconds to see it."


def a_cell_added(cells):
    new = nbformat.v4.new_markdown_cell("Something nobody has translated.", id="new")
    return {"intro": cells.pop("intro"), "new": new, **cells}


def a_comment_in_code(cells):
    cells["seed-and-steps"].source = cells["seed-and-steps"].source.replace("another seed", "a new seed")


@pytest.mark.parametrize(
    ("change", "where"),
    [(a_word, "04/summary"), (a_number, "04/learn-intro"), (a_cell_added, "04/new"), (a_comment_in_code, "04/seed-and-steps")],
)
def test_changed_english_names_exactly_one_message_in_under_a_second(repository, change, where):
    change_lesson(repository, change)
    started = time.process_time()
    (found,) = problems()
    assert time.process_time() - started < 1
    assert found.startswith(f"{where}: ")


def test_a_changed_program_needs_no_translator_but_another_execution(repository):
    def change(cells):
        cells["learn"].source = cells["learn"].source.replace("progress=True", "progress=False")

    change_lesson(repository, change)
    assert problems() == []
    assert translate.write(translate.Catalogue("pcm")) == ["pcm/04_actor_critic"]


def test_a_moved_cell_moves_in_the_edition(repository):
    def change(cells):
        return {"intro": cells.pop("intro"), "film": cells.pop("film"), **cells}

    change_lesson(repository, change)
    assert problems() == []
    translate.write(translate.Catalogue("pcm"))
    edition = nbformat.read(repository / "notebooks" / "pcm" / "04_actor_critic.ipynb", as_version=4)
    assert [cell.id for cell in edition.cells][:2] == ["intro", "film"]


@pytest.mark.parametrize(
    ("source", "translation", "what"),
    [
        ("It lasts 500 steps.", "E last 50 steps.", "number"),
        ("The value $V(s)$ counts.", "Di value $V(a)$ count.", "formula"),
        ("See [lesson 02](02_policy_gradient.ipynb).", "See [lesson 02](03_other.ipynb).", "link"),
        ("Call `train` now.", "Call `training` now.", "code"),
        ("This is the **return** here.", "Dis na di return here.", "bold term"),
        ("* one\n* two", "* one", "mark"),
    ],
)
def test_what_has_to_be_the_same_in_a_translation_is_compared(source, translation, what):
    assert translate.differences(source, source) == []
    assert any(what in difference for difference in translate.differences(source, translation))


def test_an_empty_translation_is_named(repository):
    catalogue_says(repository, 'msgstr "another seed go give another training"', 'msgstr ""')
    (found,) = problems()
    assert found.startswith("02/seed-and-steps: ")
    assert "is not translated" in found


def test_a_new_language_is_begun_with_the_english_of_every_message(repository):
    translate.Catalogue("sw").renew(["00"])
    begun = translate.Catalogue("sw")
    assert begun.lessons == ["00"]
    assert all(entry.comment and not entry.msgstr for entry in begun.entries.values())
    assert len(problems("sw")) == len(begun.entries) > 50
