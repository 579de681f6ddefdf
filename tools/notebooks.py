"""Read a lesson's notebook, or say in one sentence why that cannot be; and what is said of its pictures."""

import json
import warnings
from pathlib import Path

import nbformat

from cartpole_lessons.errors import in_short


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path`. `SystemExit` with one sentence where it is none, or cannot be a lesson."""
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a cell without an id is only warned of
            nbformat.validate(json.loads(text))
        notebook = nbformat.reads(text, as_version=4)
        if len(notebook.cells) < 2 or not isinstance(notebook.metadata.get("cartpole_lessons", {}), dict):
            raise ValueError("it has not got the cells or the metadata of a lesson")
    # A damaged file fails in as many ways as there are lines in its readers.
    except Exception as error:
        raise SystemExit(f"{path.name} is not a whole notebook ({in_short(error)}): restore it, for example with `git checkout`.") from None
    return notebook


def text_of(output: nbformat.NotebookNode) -> str:
    """What is said of an output's picture to those who cannot see it."""
    return output.metadata.get("image/png", {}).get("alt", "A picture that this cell makes")
