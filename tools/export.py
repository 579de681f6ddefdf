"""Write the modules that the lessons export: `make export`, called in the repository's root."""

from pathlib import Path

from nbdev.export import nb_export

from cartpole_lessons.errors import in_short
from notebooks import read_notebook

PACKAGE = "cartpole_lessons"


def export(lesson: Path) -> bool:
    """Write the module that `lesson` exports into the package; False where it exports none. `SystemExit` with one sentence where it cannot be done."""
    code = [cell.source for cell in read_notebook(lesson).cells if cell.cell_type == "code"]
    if not any("#| default_exp" in source for source in code):
        return False
    try:
        nb_export(lesson, lib_path=PACKAGE)
    # What a valid notebook may still hold instead of Python is found in many places.
    except Exception as error:
        raise SystemExit(f"{lesson.name} cannot be exported ({in_short(error)}): look at its cells that begin with `#| `.") from None
    return True


if __name__ == "__main__":
    for path in sorted(Path("notebooks").glob("[0-9]*.ipynb")):
        export(path)
