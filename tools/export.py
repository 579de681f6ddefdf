"""Write the modules that the lessons export: `make export`, called in the repository's root."""

import re
import shutil
import tempfile
from pathlib import Path

from nbdev.export import nb_export

from cartpole_lessons._support.files import atomic_write
from cartpole_lessons.errors import in_short
from notebooks import read_notebook

PACKAGE = Path("cartpole_lessons")
#: A folder of this name beside the package is where a module is made; one that is there was left by an export that was killed.
WORKSHOP = ".export-"


def export(lesson: Path) -> bool:
    """Write the module that `lesson` exports, whole or not at all; False where it exports none. `SystemExit` with one sentence where it cannot be done."""
    code = [cell.source for cell in read_notebook(lesson).cells if cell.cell_type == "code"]
    directives = re.findall(r"^#\s*\|\s*(default_exp|exporti?s?)\b[ \t]*(.*)$", "\n".join(code), re.MULTILINE)
    names = {target for directive, target in directives if directive == "default_exp"}
    if not names:
        return False
    # nbdev would write to wherever a notebook says, over modules that were written by hand and outside the repository.
    if (
        len(names) > 1
        or not re.fullmatch(r"algorithms\.[a-z][a-z0-9_]*", *names)
        or any(target for name, target in directives if name != "default_exp")
    ):
        raise SystemExit(
            f"{lesson.name} exports to {' and '.join(sorted({target for _, target in directives if target}))}: a lesson exports one module algorithms.NAME."
        )
    workshop = Path(tempfile.mkdtemp(prefix=WORKSHOP, dir="."))
    try:
        nb_export(lesson, lib_path=workshop)
        (made,) = workshop.rglob("[a-z]*.py")
        with atomic_write(PACKAGE / "algorithms" / made.name) as file:
            file.write(made.read_bytes())
    # What a valid notebook may still hold instead of Python is found in many places.
    except Exception as error:
        raise SystemExit(f"{lesson.name} cannot be exported ({in_short(error)}): look at its cells that begin with `#| `.") from None
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return True


if __name__ == "__main__":
    for left in Path().glob(f"{WORKSHOP}*"):
        shutil.rmtree(left, ignore_errors=True)
    for half in (PACKAGE / "algorithms").glob(".*.py.*"):
        half.unlink()
    for path in sorted(Path("notebooks").glob("[0-9]*.ipynb")):
        export(path)
