"""What is asked of this machine: each function finds out one fact, and judges nothing."""

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

PACKAGE = "cartpole-lessons"
CGROUP = Path("/sys/fs/cgroup")  # in a container, what it may use


def run(*command: str, **options: Any) -> subprocess.CompletedProcess:
    """What another program prints, and how it ends; the first import of torch on a slow disk takes its time."""
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, stdin=subprocess.DEVNULL, **options)


def installed(name: str) -> importlib.metadata.Distribution | None:
    """What is known of an installed package."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements() -> dict[str, dict[str, str]]:
    """{extra ("" for the core): {package: range}} of the course; nothing where it is not installed.

    Read by hand, for where no library that reads them is installed; the course's own requirements have no conditions but extras.
    """
    course, found = installed(PACKAGE), {}
    for text in (course.requires or []) if course else []:
        name, specifier, extra = re.match(r"([\w.-]+)([^;]*)(?:.*extra == ['\"]([\w-]+))?", text).groups("")
        found.setdefault(extra, {})[name] = specifier.strip()
    return found


def in_range(version: str, specifier: str) -> bool:
    """Whether `version` is in the range; True where nothing here can tell."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return SpecifierSet(specifier).contains(version, prereleases=True)


def load(modules: list[str]) -> dict[str, Any]:
    """How it goes to load `modules` as they are installed, past any file of the student's: the answer of `trial.py`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # what it names is in sys.path
    done = run(sys.executable, str(Path(__file__).with_name("trial.py")), json.dumps(sys.path), *modules, env=environment)
    lines = done.stdout.splitlines()
    if lines and lines[-1].startswith("{"):
        return json.loads(lines[-1])
    culprit = [line for line in lines if line in modules][-1]  # it took the process with it, and left this one alone
    answer = load([name for name in modules if name != culprit])
    answer["broken"][culprit] = f"Python itself ended with code {done.returncode}"
    return answer


def hiding(names: Iterable[str], folders: list[str]) -> dict[str, Path]:
    """{module: file, or folder of a package} of the modules that these folders hold under a name of `names`."""
    found = {}
    for name in sorted({*names} - {"__main__", "sitecustomize", "usercustomize"}):
        spec = PathFinder.find_spec(name, folders)
        if spec is not None and spec.has_location:  # a folder without __init__.py hides nothing
            found[name] = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
    return found


def doubles(names: set[str]) -> dict[str, list[str]]:
    """{folder: modules} that Python loads from there, although this environment has its own of them."""
    used = hiding(names, sys.path)
    own = hiding(names, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    found: dict[str, list[str]] = {}
    for name in sorted(used.keys() & own.keys()):
        if not used[name].samefile(own[name]):
            found.setdefault(str(used[name].parent), []).append(name)
    return found


def memory_left() -> int | None:
    """The bytes that this machine has free, or its container where that leaves less; None where neither can be found out."""
    left = []
    with contextlib.suppress(ImportError):
        import psutil

        left.append(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit: "max"
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        left.append(max(limit - used, 0))
    return min(left, default=None)


def prefix_of(python: str) -> str | None:
    """The environment that the program `python` belongs to; None where it does not run."""
    try:
        return run(python, "-c", "import os, sys; print(os.path.realpath(sys.prefix))").stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def kernel() -> tuple[str, str | None]:
    """The program of Jupyter's Python kernel, and its environment (None: it does not run).

    `ImportError` without Jupyter, `KeyError` without such a kernel.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    # Jupyter itself replaces a plain "python" by the Python that it runs in.
    return program, os.path.realpath(sys.prefix) if re.fullmatch(r"python(3(\.\d+)?)?", program) else prefix_of(program)
