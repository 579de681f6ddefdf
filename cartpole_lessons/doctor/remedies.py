"""The commands that mend: for a cell where the doctor was called in one, else for the terminal, and always for the Python examined."""

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

from cartpole_lessons.display import in_notebook


def quoted(word: str | Path) -> str:
    """`word` as the shell needs it."""
    return shlex.quote(str(word)) if os.name != "nt" else f'"{word}"' if " " in str(word) else str(word)


def in_terminal(command: str) -> str:
    """For what a running kernel cannot change any more."""
    return f"in a terminal, before Jupyter is started from it: {command}" if in_notebook() else command


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


def pythonpath_sends_to(folder: str | os.PathLike) -> bool:
    """Whether PYTHONPATH makes Python look into `folder`, before this environment."""
    return str(folder) in [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def system_install(**packages: str) -> str:
    """A program is installed on this system; packages: package manager -> the program's package there."""
    prefix = "!" if in_notebook() else ""
    prefix += "sudo " if hasattr(os, "geteuid") and os.geteuid() != 0 and shutil.which("sudo") else ""
    commands = {"apt": "apt-get install -y", "dnf": "dnf install -y", "pacman": "pacman -S", "apk": "apk add"}
    manager = next((name for name in packages if shutil.which(commands[name].split()[0])), "apt")
    return f"{prefix}{commands[manager]} {packages[manager]}"


def set_variable(name: str, value: str = "", *, before_start: bool = False) -> str:
    """An environment variable gets `value`, or none any more; before_start: Python reads it when it starts, and never again."""
    if in_notebook() and not before_start:
        return f"%env {name}={value}"
    return in_terminal(f"set {name}={value}" if os.name == "nt" else f"export {name}={value}" if value else f"unset {name}")


def rename(path: Path) -> str:
    """A file or folder gets a name that is nobody else's."""
    new = path.with_name(f"my_{path.name}")
    while new.exists():
        new = new.with_name(f"my_{new.name}")
    command = f"ren {quoted(path)} {quoted(new.name)}" if os.name == "nt" else f"mv {quoted(path)} {quoted(new)}"
    return f"!{command}" if in_notebook() else command
