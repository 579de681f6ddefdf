"""What is asked of this machine: each function finds out one fact, and judges nothing."""

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

PACKAGE = "cartpole-lessons"
PATIENCE = 120  # seconds for another process; the first import of torch on a slow disk takes its time
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def run(*command: str, **options: Any) -> subprocess.CompletedProcess:
    """What another program prints, and how it ends."""
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL, **options)


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
    for package in ("packaging", "pip._vendor.packaging"):  # nearly every environment has one of them
        try:
            return importlib.import_module(f"{package}.specifiers").SpecifierSet(specifier).contains(version, prereleases=True)
        except ImportError:
            continue
    return True


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
    for name in used.keys() & own.keys():
        if not used[name].samefile(own[name]):
            found.setdefault(str(used[name].parent), []).append(name)
    return found


def ffmpeg() -> tuple[str, str, bool]:
    """The program that encodes films, its version, and whether it can do H.264; `ImportError`, `RuntimeError` or `OSError` without one."""
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    version = re.search(r"ffmpeg version (\S+)", run(program, "-version").stdout)
    if version is None:
        raise RuntimeError("it is no ffmpeg")
    return program, version[1], "libx264" in run(program, "-hide_banner", "-encoders").stdout


def room(folder: Path) -> int:
    """The bytes that are free at `folder`; `OSError` where it cannot be written."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"a full disk lets files be made, but not be filled")
    return shutil.disk_usage(folder).free


def memory_left() -> dict[str, int]:
    """{where: bytes}: what this machine has free, and what a container and `ulimit -v` leave of it."""
    left = {"in this container": _container_memory()}
    with contextlib.suppress(ImportError):
        import psutil

        left["on this machine"] = psutil.virtual_memory().available
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
        # Addresses are not memory: torch alone reserves several times what it uses.
        left["under `ulimit -v`"] = addresses // 4 if addresses != resource.RLIM_INFINITY else None
    return {where: amount for where, amount in left.items() if amount is not None}


def _container_memory() -> int | None:
    """What the tightest memory limit of this process's control groups, and of those above them, leaves; None where there is no limit."""
    remaining = []
    for line in OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.exists() else []:
        _, controllers, path = line.split(":", 2)
        root, limit_file, used_file = CGROUPS, "memory.max", "memory.current"
        if controllers:  # version 1
            root, limit_file, used_file = CGROUPS / controllers, "memory.limit_in_bytes", "memory.usage_in_bytes"
        group = root / path.lstrip("/")
        # In a container the path may be that of the host, and the container's own group is the root.
        for folder in [group, *(parent for parent in group.parents if parent.is_relative_to(root))]:
            with contextlib.suppress(OSError, ValueError):  # no such group, or no limit: "max"
                limit, used = (int((folder / name).read_text()) for name in (limit_file, used_file))
                remaining += [max(limit - used, 0)] if limit < 2**60 else []  # version 1 writes an absurd number for "no limit"
    return min(remaining, default=None)


def prefix_of(python: str) -> str | None:
    """The environment that the program `python` belongs to; None where it does not run."""
    try:
        return run(python, "-c", "import os, sys; print(os.path.realpath(sys.prefix))").stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def kernel() -> tuple[str, str | None, Path]:
    """The program of Jupyter's Python kernel, its environment (None: it does not run), and the folder that says so.

    `ImportError` without Jupyter, `KeyError` without such a kernel.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    program = spec.argv[0]
    # Jupyter itself replaces a plain "python" by the Python that it runs in.
    prefix = os.path.realpath(sys.prefix) if re.fullmatch(r"python(3(\.\d+)?)?", program) else prefix_of(program)
    return program, prefix, Path(spec.resource_dir)
