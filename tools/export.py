"""Write the modules that the lessons export: `make export`, called in the repository's root."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbdev.export import nb_export

from cartpole_lessons._support.files import atomic_write
from cartpole_lessons.errors import in_short
from notebooks import read_notebook

PACKAGE = Path("cartpole_lessons")
#: A folder of this name beside the package is where a module is made; one that is there was left by an export that was killed.
WORKSHOP = ".export-"
DIRECTIVE = r"^#\s*\|\s*(default_exp|exporti?s?)\b[ \t]*(.*)$"


def export(lesson: Path) -> bool:
    """Write the modules that `lesson` exports, each whole or not at all; False where it exports none. `SystemExit` with one sentence where it cannot be done.

    A lesson in two halves exports two: the second begins at the last `# Title` above its `#| default_exp`.
    """
    notebook = read_notebook(lesson)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    directives = re.findall(DIRECTIVE, "\n".join(code), re.MULTILINE)
    names = [target for directive, target in directives if directive == "default_exp"]
    if not names:
        return False
    halves = list(_halves(notebook.cells))
    # nbdev would write to wherever a notebook says, over modules that were written by hand and outside the repository.
    if (
        not len(halves) == len(names) == len(set(names))
        or not all(re.fullmatch(r"algorithms\.[a-z][a-z0-9_]*", name) for name in names)
        or any(target for name, target in directives if name != "default_exp")
    ):
        raise SystemExit(
            f"{lesson.name} exports to {' and '.join(sorted({target for _, target in directives if target}))}: "
            "below a title a lesson exports one module algorithms.NAME."
        )
    workshop = Path(tempfile.mkdtemp(prefix=WORKSHOP, dir="."))
    try:
        copy = workshop / "notebooks" / lesson.name
        copy.parent.mkdir()
        for number, cells in enumerate(halves):
            nbformat.write(nbformat.v4.new_notebook(cells=cells), copy)
            nb_export(copy, lib_path=workshop / str(number))
            (made,) = (workshop / str(number)).rglob("[a-z]*.py")
            with atomic_write(PACKAGE / "algorithms" / made.name) as file:
                file.write(made.read_bytes())
    # What a valid notebook may still hold instead of Python is found in many places.
    except Exception as error:
        raise SystemExit(f"{lesson.name} cannot be exported ({in_short(error)}): look at its cells that begin with `#| `.") from None
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return True


def _halves(cells: list[nbformat.NotebookNode]) -> Iterator[list[nbformat.NotebookNode]]:
    """The cells from one title to the next, where each but the last has exported something."""
    half, exports = [], False
    for cell in cells:
        if exports and cell.cell_type == "markdown" and cell.source.startswith("# "):
            yield half
            half, exports = [], False
        half.append(cell)
        exports = exports or (cell.cell_type == "code" and "default_exp" in dict(re.findall(DIRECTIVE, cell.source, re.MULTILINE)))
    yield half


if __name__ == "__main__":
    for left in Path().glob(f"{WORKSHOP}*"):
        shutil.rmtree(left, ignore_errors=True)
    for half in (PACKAGE / "algorithms").glob(".*.py.*"):
        half.unlink()
    for path in sorted(Path("notebooks").glob("[0-9]*.ipynb")):
        export(path)
