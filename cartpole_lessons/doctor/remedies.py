"""The commands that mend: for a cell where the doctor was called in one, else for the terminal, and always for the Python examined."""

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

from cartpole_lessons.display import in_notebook

WINDOWS = os.name == "nt"


def quoted(word: str | Path) -> str:
    """`word` as the shell needs it."""
    return f'"{word}"' if WINDOWS else shlex.quote(str(word))


def in_turn(*commands: str) -> str:
    """One command after the other: a cell takes a line for each."""
    return ("\n" if in_notebook() else " && ").join(commands)


def pip(arguments: str) -> str:
    """pip for the environment that was examined; where it has none, it gets one first."""
    if in_notebook():
        return f"%pip {arguments}"
    python = quoted(sys.executable)
    return f"{'' if importlib.util.find_spec('pip') else f'{python} -m ensurepip && '}{python} -m pip {arguments}"


def reinstall(name: str, specifier: str = "") -> str:
    """A fresh copy of a package that is there and does not work."""
    # Builds of torch differ in the libraries that they need, so a fresh one brings its own.
    return pip(f'install --force-reinstall {"" if name == "torch" else "--no-deps "}"{name}{specifier}"')


def install_xvfb() -> str:
    """The program behind virtual displays, on Debian, Ubuntu, Colab and the like."""
    return f"{'!' if in_notebook() else ''}{'sudo ' if shutil.which('sudo') else ''}apt-get install -y xvfb"


def set_variable(name: str, value: str = "", *, before_start: bool = False) -> str:
    """An environment variable gets `value`, or none any more; before_start: Python reads it when it starts, and never again."""
    if in_notebook() and not before_start:
        return f"%env {name}={value}"
    command = f"set {name}={value}" if WINDOWS else f"export {name}={value}" if value else f"unset {name}"
    return f"in a terminal, before Jupyter is started from it: {command}" if in_notebook() else command


def rename(path: Path) -> str:
    """A file or folder gets a name that is nobody else's."""
    new = path.with_name(f"my_{path.name}")
    while new.exists():
        new = new.with_name(f"my_{new.name}")
    command = f"ren {quoted(path)} {quoted(new.name)}" if WINDOWS else f"mv {quoted(path)} {quoted(new)}"
    return f"!{command}" if in_notebook() else command
