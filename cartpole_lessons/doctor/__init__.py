"""Is this machine ready for the course? One row per question, and where the answer is no, the exact command that mends it.

It has to work where little else does, so it imports the standard library alone; what may crash is tried out in another process.
"""

import html
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cartpole_lessons.display import has_display, in_notebook

OK, NOTE, PROBLEM = "ok", "note", "problem"
MARKS = {OK: "✓", NOTE: "!", PROBLEM: "✗"}
COLOURS = {OK: "green", NOTE: "#b36b00", PROBLEM: "red"}

PACKAGE = "cartpole-lessons"
#: What an extra of the package is for; those that only its developers need are not asked about.
EXTRAS = {
    "render": "films and windows",
    "video": "films during a training",
    "display": "windows where there is no screen",
    "ignite": "the lesson on PyTorch-Ignite",
    "notebook": "JupyterLab",
    "cli": "the command line",
    "study": "studies on all cores",
    "cluster": "studies on a cluster",
}
#: Packages whose module has another name, or loads what it is made of only with the part named here.
MODULES = {
    "pillow": "PIL.Image",
    "scipy": "scipy.linalg",
    "pygame-ce": "pygame",
    "pytorch-ignite": "ignite",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "ipython": "IPython",
}
OLDEST, NEWEST_TESTED = ">=3.11", (3, 13)  # the first is pyproject's, for where the course is used without being installed
LITTLE_DISK, TOO_LITTLE_DISK = 500 * 2**20, 50 * 2**20  # bytes; an episode's film has 25 kB, all executed lessons together some 20 MB
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 2**30, 2**29  # bytes; a lesson stays below 1 GB
PATIENCE = 120  # seconds for another process; the first import of torch on a slow disk takes its time
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, what was found, and the command (or the step) that mends it."""

    what: str
    severity: str  #: "ok", "note" (something optional is missing) or "problem"
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` returns."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that keep lessons from working."""
        return tuple(finding for finding in self.findings if finding.severity == PROBLEM)

    @property
    def exit_code(self) -> int:
        """1 where there is a problem, 0 where not; notes are no problem."""
        return 1 if self.problems else 0

    def verdict(self) -> str:
        """One sentence on all of it."""
        notes = sum(finding.severity == NOTE for finding in self.findings)
        notes_too = f"; {notes} optional thing{'s' * (notes != 1)} could be better" if notes else ""
        if not self.problems:
            return f"Ready for the course{notes_too}."
        return f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)} to mend{notes_too}."

    def to_text(self) -> str:
        """The table as plain text; a command stands on a line of its own, where it can be copied."""
        width = max(len(finding.what) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{MARKS[finding.severity]} {finding.what:<{width}}  {finding.found}")
            lines += [f"  {'':<{width}}  -> {command}" for command in finding.remedy.splitlines()]
        return "\n".join([*lines, "", self.verdict()])

    def to_html(self) -> str:
        """The table for a notebook."""
        rows = []
        for finding in self.findings:
            mark = f'<span style="color:{COLOURS[finding.severity]};font-weight:bold">{MARKS[finding.severity]} {finding.severity}</span>'
            remedy = "".join(f"<br><code>{html.escape(command)}</code>" for command in finding.remedy.splitlines())
            cells = (mark, html.escape(finding.what), html.escape(finding.found) + remedy)
            rows.append("<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{cell}</td>' for cell in cells) + "</tr>")
        return f"<table>{''.join(rows)}</table><p>{html.escape(self.verdict())}</p>"

    def __repr__(self) -> str:
        return f"<doctor: {self.verdict()}>"


def doctor() -> Diagnosis:
    """Examine this machine and show what was found: a table in a notebook, coloured text in a terminal, plain text elsewhere."""
    diagnosis = examine()
    if in_notebook():
        from IPython.display import display

        display({"text/html": diagnosis.to_html(), "text/plain": diagnosis.to_text()}, raw=True)
    else:
        _print(diagnosis)
    return diagnosis


def examine() -> Diagnosis:
    """Every question, asked; nothing is shown. A question that itself fails is a note, and the others are still asked."""
    findings: list[Finding] = []
    for ask in (_python, _packages, _imports, _pygame, _old_gym, _display, _ffmpeg, _folders, _disk, _memory, _cores, _environments):
        try:
            findings += ask()
        except Exception as error:
            findings.append(Finding(ask.__name__.strip("_"), NOTE, f"could not be examined ({type(error).__name__}: {error})"))
    return Diagnosis(tuple(findings))


def _print(diagnosis: Diagnosis) -> None:
    text = diagnosis.to_text()
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        for severity, mark in MARKS.items():
            text = text.replace(mark, {OK: "+", NOTE: "!", PROBLEM: "X"}[severity])
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(text)
        return
    console, colours = Console(highlight=False), {MARKS[OK]: "green", MARKS[NOTE]: "yellow", MARKS[PROBLEM]: "bold red"}
    for line in text.splitlines():
        # Lines are not wrapped: half of a command cannot be copied.
        console.print(Text(line, style="bold" if line.lstrip().startswith("->") else colours.get(line[:1], "")), soft_wrap=True)


# Commands -----------------------------------------------------------------------------------------------------------------------


def _pip(arguments: str) -> str:
    """The pip command for the very environment that was examined."""
    if in_notebook():
        return f"%pip {arguments}"
    python = _quoted(sys.executable)
    first = "" if importlib.util.find_spec("pip") else f"{python} -m ensurepip && "
    return f"{first}{python} -m pip {arguments}"


def _in_turn(*commands: str) -> str:
    """One command after the other: a cell takes a line for each."""
    return ("\n" if in_notebook() else " && ").join(commands)


def _quoted(word: str) -> str:
    return f'"{word}"' if os.name == "nt" and " " in word else word if os.name == "nt" else shlex.quote(word)


def _system_install(**packages: str) -> str:
    """The command that installs a program on this system; packages: package manager -> the program's package there."""
    prefix = "!" if in_notebook() else ""
    prefix += "sudo " if hasattr(os, "geteuid") and os.geteuid() != 0 and shutil.which("sudo") else ""
    for manager, package in packages.items():
        command = {"apt": "apt-get install -y", "dnf": "dnf install -y", "pacman": "pacman -S", "apk": "apk add"}[manager]
        if shutil.which(command.split()[0]):
            return f"{prefix}{command} {package}"
    return f"{prefix}apt-get install -y {packages['apt']}"


def _run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL)


# Questions ----------------------------------------------------------------------------------------------------------------------


def _python() -> Iterator[Finding]:
    version, place = platform.python_version(), f"{platform.python_version()} ({sys.executable})"
    newest = ".".join(map(str, NEWEST_TESTED))
    remedy = f"python{newest} -m venv .venv"
    specifier = _metadata("Requires-Python") or OLDEST
    if not _in_range(version, specifier):
        yield Finding("Python", PROBLEM, f"{place}; the course needs {specifier} and is tested up to {newest}", remedy)
    elif sys.version_info[:2] > NEWEST_TESTED:
        yield Finding("Python", NOTE, f"{place}; the course is tested up to {newest}", remedy)
    else:
        yield Finding("Python", OK, place)


def _packages() -> Iterator[Finding]:
    """The core in one row, each extra in one row, and a row for whatever is missing or out of its range."""
    requirements = _requirements()
    if requirements is None:
        checkout = Path(__file__).resolve().parent.parent
        said = f"the course is not installed here, it is only found in {checkout}; what it needs is not known"
        yield Finding("packages", PROBLEM, said, _pip(f"install -e {_quoted(str(checkout))}"))
        return
    for extra, names in requirements.items():
        fine = []
        for name, specifier in names:
            version = _version(name)
            wanted = f'"{name}{specifier}"'
            severity, title = (NOTE, EXTRAS[extra]) if extra else (PROBLEM, name)
            if version is None and name == "pygame-ce":
                continue  # has a row of its own, because pygame serves as well
            if version is None:
                yield Finding(title, severity, f"{name} is not installed", _pip(f"install {wanted}"))
            elif not _in_range(version, specifier):
                yield Finding(title, severity, f"{name} is {version}, but the course needs {specifier}", _pip(f"install {wanted}"))
            else:
                fine.append(f"{name} {version}")
        if fine:
            yield Finding(EXTRAS[extra] if extra else "core packages", OK, ", ".join(fine))


#: Imports each module and prints {module: error or None}, then what torch says of the GPU.
_TRY = """
import contextlib, io, json, sys
tried = {}
for name in sys.argv[1:]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            __import__(name)
        tried[name] = None
    except BaseException as error:
        tried[name] = f"{type(error).__name__}: {error}"
gpu = None
if tried.get("torch", "not tried") is None:
    import torch
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "Apple GPU" if torch.backends.mps.is_available() else ""
print(json.dumps({"tried": tried, "gpu": gpu}))
"""


def _imports() -> Iterator[Finding]:
    """What is installed must also load: a broken library shows only then, and may take the process with it. The GPU is asked on the way."""
    core = dict((_requirements() or {}).get("", []))
    modules = {name: MODULES.get(name, name) for name in core if _version(name) is not None}
    broken, gpu = _try_imports(list(modules.values()))
    for name, module in modules.items():
        if broken.get(module):
            reason = str(broken[module]).splitlines()[0][:150]
            yield Finding(
                f"import {module}",
                PROBLEM,
                f"installed, but it does not load ({reason})",
                _reinstall(name, core),
            )
    if modules and not any(broken.values()):
        yield Finding("imports", OK, "the core packages load")
    if gpu:
        yield Finding("GPU", OK, f"{gpu}; the lessons do not need it")
    elif shutil.which("nvidia-smi") and _run("nvidia-smi", "-L").stdout.strip():
        yield Finding(
            "GPU",
            NOTE,
            "there is an NVIDIA GPU, but torch does not see it; the lessons do not need it",
            _reinstall("torch", core),
        )
    else:
        yield Finding("GPU", OK, "none; the lessons do not need one")


def _reinstall(name: str, ranges: dict[str, str]) -> str:
    """The command that puts a fresh copy of a core package in place, in the course's range."""
    # Builds of torch differ in the libraries that they need, so a fresh one brings its own.
    alone = "" if name == "torch" else " --no-deps"
    return _pip(f'install --force-reinstall{alone} "{name}{ranges.get(name, "")}"')


def _try_imports(modules: list[str]) -> tuple[dict[str, str | None], str]:
    """Import `modules` together in another process: what each raised (None: nothing), and the name of the GPU."""
    if not modules:
        return {}, ""
    done = _run(sys.executable, "-c", _TRY, *modules)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer["tried"], answer["gpu"] or ""
    except (IndexError, ValueError, TypeError, KeyError):
        if len(modules) == 1:  # the process did not live to answer
            return {modules[0]: f"Python itself ended with code {done.returncode}"}, ""
    # One of them took the process with it: ask one by one.
    answers = [_try_imports([module]) for module in modules]
    return {module: reason for tried, _ in answers for module, reason in tried.items()}, next((gpu for _, gpu in answers if gpu), "")


def _pygame() -> Iterator[Finding]:
    pygame, community = _version("pygame"), _version("pygame-ce")
    if pygame and community:
        yield Finding(
            "pygame",
            PROBLEM,
            f"pygame {pygame} and pygame-ce {community} are both installed, and have overwritten each other's files",
            _in_turn(_pip("uninstall -y pygame pygame-ce"), _pip("install pygame-ce")),
        )
    elif not (pygame or community):
        yield Finding("pygame", NOTE, "not installed, so there are no films and no windows", _pip("install pygame-ce"))
    elif (reason := _try_imports(["pygame"])[0]["pygame"]) is not None:
        name = "pygame-ce" if community else "pygame"
        yield Finding(
            "pygame", PROBLEM, f"{name} is installed, but it does not load ({reason})", _pip(f"install --force-reinstall --no-deps {name}")
        )
    else:
        yield Finding("pygame", OK, f"pygame-ce {community}" if community else f"pygame {pygame}, which serves as well as pygame-ce")


def _old_gym() -> Iterator[Finding]:
    version = _version("gym")
    name = f"gym {version}" if version else "gym"
    if "gym" in sys.modules:
        yield Finding(
            "old gym",
            PROBLEM,
            f"{name} has been imported here; it is the unmaintained predecessor: write `import gymnasium as gym`, and restart the kernel",
            _pip("uninstall -y gym"),
        )
    elif version or importlib.util.find_spec("gym") is not None:
        remedy = _pip("uninstall -y gym") if version else ""
        yield Finding("old gym", NOTE, f"{name} is there; harmless unless something imports it instead of gymnasium", remedy)
    else:
        yield Finding("old gym", OK, "not installed")


def _display() -> Iterator[Finding]:
    if has_display():
        screen = os.environ.get("DISPLAY", "")
        local = re.fullmatch(r"(?:unix)?:(\d+)(?:\.\d+)?", screen)
        if sys.platform == "linux" and local and not os.environ.get("WAYLAND_DISPLAY") and not _x_server(local[1]):
            yield Finding("display", NOTE, f"DISPLAY is {screen}, but nothing answers there, so windows fail", "unset DISPLAY")
        else:
            yield Finding("display", OK, screen or os.environ.get("WAYLAND_DISPLAY", "") or "the system's own")
        return
    missing = []
    if shutil.which("Xvfb") is None:
        missing.append(_system_install(apt="xvfb", dnf="xorg-x11-server-Xvfb", pacman="xorg-server-xvfb", apk="xvfb"))
    if importlib.util.find_spec("pyvirtualdisplay") is None:
        missing.append(_pip("install pyvirtualdisplay"))
    if missing:
        said = "none, and no virtual one (Xvfb with pyvirtualdisplay): films work, windows do not"
        yield Finding("display", NOTE, said, _in_turn(*missing))
    else:
        yield Finding("display", OK, "none, but a virtual one (Xvfb): films work, windows inside virtual_display()")


def _x_server(number: str) -> bool:
    """Whether an X server listens at the local display `number`, on its socket in the file system or on the abstract one."""
    import socket

    for address in (f"/tmp/.X11-unix/X{number}", f"\0/tmp/.X11-unix/X{number}"):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(address)
                return True
            except OSError:
                pass
    return False


def _ffmpeg() -> Iterator[Finding]:
    chosen = os.environ.get("IMAGEIO_FFMPEG_EXE")
    remedy = _pip("install --force-reinstall --no-deps imageio-ffmpeg")
    if chosen:
        remedy = "%env IMAGEIO_FFMPEG_EXE=" if in_notebook() else "unset IMAGEIO_FFMPEG_EXE"
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
        version = re.search(r"ffmpeg version (\S+)", _run(program, "-version").stdout)
        if version is None:
            raise RuntimeError("it is no ffmpeg")
        encodes = "libx264" in _run(program, "-hide_banner", "-encoders").stdout
    except ImportError:
        yield Finding("ffmpeg", PROBLEM, "imageio-ffmpeg is not installed, so there are no films", _pip("install imageio-ffmpeg"))
    except (RuntimeError, OSError) as error:
        which = f"the program that IMAGEIO_FFMPEG_EXE names ({chosen})" if chosen else "imageio-ffmpeg's program"
        yield Finding("ffmpeg", PROBLEM, f"{which} does not run ({str(error).splitlines()[0]}), so there are no films", remedy)
    else:
        if encodes:
            yield Finding("ffmpeg", OK, version[1])
        else:
            yield Finding("ffmpeg", PROBLEM, f"{program} cannot encode H.264, so there are no films", remedy)


def _folders() -> Iterator[Finding]:
    home = str(Path.home())
    export = "%env {}={}" if in_notebook() else "export {}={}"
    remedies = {
        "current folder": (Path.cwd, 'cd "$HOME"' if not in_notebook() else "%cd ~"),
        "home folder": (Path.home, export.format("HOME", '"$(mktemp -d)"' if not in_notebook() else "/tmp")),
        "temporary folder": (lambda: Path(tempfile.gettempdir()), export.format("TMPDIR", home)),
    }
    asked = next((value for name in ("TMPDIR", "TEMP", "TMP") if (value := os.environ.get(name))), None)
    for what, (find, remedy) in remedies.items():
        try:
            folder = find()
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"a full disk lets files be made, but not be filled")
        except OSError as error:
            place = error.filename if what == "temporary folder" or not isinstance(error.filename, str) else folder
            yield Finding(what, PROBLEM, f"{place or ''} cannot be written ({error.strerror})".strip(), remedy)
            continue
        if what == "temporary folder" and asked and not (Path(asked).is_dir() and folder.samefile(asked)):
            yield Finding(what, NOTE, f"TMPDIR is {asked}, which cannot be used; {folder} is used instead", "unset TMPDIR")
        else:
            yield Finding(what, OK, f"{folder} can be written")


def _nearest(folder: str) -> Path:
    """`folder`, or the first of its parents that exists."""
    path = Path(folder).absolute()
    return path if path.exists() else next(parent for parent in path.parents if parent.exists())


def _disk() -> Iterator[Finding]:
    places = {}
    for folder in (Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        nearest = _nearest(str(folder))
        places.setdefault(nearest.stat().st_dev, nearest)
    free, folder = min((shutil.disk_usage(folder).free, folder) for folder in places.values())
    severity = PROBLEM if free < TOO_LITTLE_DISK else NOTE if free < LITTLE_DISK else OK
    remedy = "" if severity == OK else _pip("cache purge")
    yield Finding("free disk", severity, f"{_size(free)} at {folder}", remedy)


def _memory() -> Iterator[Finding]:
    """The least of what the machine has free, what a container may still take, and what `ulimit -v` leaves."""
    limits = {"free on this machine": (_free_memory(), "close other programs and shut down kernels that are not in use")}
    remaining = _cgroup_remaining()
    if remaining is not None:
        limits["left in this container"] = (
            remaining,
            "shut down kernels that are not in use, or give the container more: docker run --memory=2g",
        )
    if os.name == "posix":
        import resource

        ceiling = resource.getrlimit(resource.RLIMIT_AS)[0]
        if ceiling != resource.RLIM_INFINITY:
            limits["of addresses allowed by ulimit -v"] = (ceiling, "ulimit -v unlimited")
    known = {name: limit for name, limit in limits.items() if limit[0] is not None}
    if not known:
        yield Finding("memory", NOTE, "cannot be measured here", _pip("install psutil"))
        return
    name, (amount, remedy) = min(known.items(), key=lambda item: item[1][0])
    # Addresses are not memory: torch alone reserves gigabytes of them.
    scale = 4 if "addresses" in name else 1
    severity = PROBLEM if amount < scale * TOO_LITTLE_MEMORY else NOTE if amount < scale * LITTLE_MEMORY else OK
    yield Finding("memory", severity, f"{_size(amount)} {name}", "" if severity == OK else remedy)


def _free_memory() -> int | None:
    """Bytes that programs can still get from this machine; None where that cannot be found out."""
    try:
        import psutil

        return psutil.virtual_memory().available
    except ImportError:
        pass
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return int(found[1]) * 1024 if found else None


def _cgroup_remaining() -> int | None:
    """Bytes left under the tightest memory limit of this process's control group and those above it; None where there is no limit."""
    if not OWN_CGROUPS.exists():
        return None
    remaining = []
    for line in OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit_file, used_file = CGROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit_file, used_file = CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be that of the host, and the container's own group is the root.
        for folder in [group, *(parent for parent in group.parents if parent == root or root in parent.parents)]:
            try:
                limit, used = (folder / limit_file).read_text().strip(), (folder / used_file).read_text().strip()
            except OSError:
                continue
            if limit.isdigit() and int(limit) < 2**60:  # version 1 writes an absurd number for "no limit"
                remaining.append(max(int(limit) - int(used), 0))
    return min(remaining, default=None)


def _cores() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("CPU cores", OK, f"{cores}; a lesson uses one, a study all of them")


def _environments() -> Iterator[Finding]:
    """Notebook and terminal should use the same environment: what one installs, the other would not find."""
    shell = shutil.which("python") or shutil.which("python3")
    where = "notebook" if in_notebook() else "command"
    if shell is None or _prefix_of(shell) == os.path.realpath(sys.prefix):
        yield Finding("terminal", OK, f"`python` in a terminal is this {where}'s, of {sys.prefix}")
    else:
        said = f"`python` in a terminal is {shell}, but this {where} runs in {sys.prefix}"
        activate = Path(sys.prefix) / ("Scripts/activate" if os.name == "nt" else "bin/activate")
        remedy = (
            f"{'' if os.name == 'nt' else 'source '}{_quoted(str(activate))}" if activate.exists() else f"{_quoted(sys.executable)} -m pip"
        )
        yield Finding("terminal", NOTE, f"{said}: install with %pip, not with !pip" if in_notebook() else said, remedy)
    if not in_notebook():
        yield from _kernel_spec()


def _kernel_spec() -> Iterator[Finding]:
    """Whether notebooks that are started from here run here."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        yield Finding("kernel", NOTE, "Jupyter is not installed in this environment", _pip("install jupyterlab ipykernel"))
        return
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Finding("kernel", NOTE, "Jupyter has no Python kernel", _pip("install ipykernel"))
        return
    program, folder = spec.argv[0], Path(spec.resource_dir)
    where = "--sys-prefix" if folder.is_relative_to(sys.prefix) else "--user"
    mend = f"{_quoted(sys.executable)} -m ipykernel install {where} --name python3"
    if any(folder.is_relative_to(place) for place in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if place):
        mend = "unset JUPYTER_PATH"
    # Jupyter itself replaces these by the Python that it runs in.
    prefix = os.path.realpath(sys.prefix) if re.fullmatch(r"python(3(\.\d+)?)?", program) else _prefix_of(program)
    if prefix == os.path.realpath(sys.prefix):
        yield Finding("kernel", OK, f"notebooks run in {sys.prefix}")
    elif prefix is None:
        yield Finding("kernel", PROBLEM, f"notebooks would run {program}, which does not run ({folder})", mend)
    else:
        yield Finding("kernel", PROBLEM, f"notebooks run in {prefix}, not in {sys.prefix} ({folder})", mend)


def _prefix_of(python: str) -> str | None:
    """The environment that the program `python` belongs to; None where it does not run."""
    try:
        done = _run(python, "-c", "import os, sys; print(os.path.realpath(sys.prefix))")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _size(amount: int) -> str:
    return f"{amount / 2**30:.1f} GB" if amount >= 2**30 else f"{amount / 2**20:.0f} MB"


# What is installed --------------------------------------------------------------------------------------------------------------


def _metadata(field: str) -> str | None:
    try:
        return importlib.metadata.metadata(PACKAGE).get(field)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, list[tuple[str, str]]] | None:
    """{"": the core's (name, range) pairs, extra: its own}, of those extras that a student may want; None where the course is not installed.

    Read by hand, for where no library that reads them is installed; the course's own requirements have no conditions but extras.
    """
    try:
        texts = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for text in texts:
        requirement, _, condition = text.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        name, specifier = re.match(r"([\w.-]+)\s*(.*)", requirement.strip()).groups()
        if extra is None or extra[1] in EXTRAS:
            found.setdefault(extra[1] if extra else "", []).append((name, specifier.strip()))
    return found


def _in_range(version: str, specifier: str) -> bool:
    """Whether `version` is in the range; True where nothing here can tell."""
    specifiers = _packaging("specifiers")
    return specifiers is None or specifiers.SpecifierSet(specifier).contains(version, prereleases=True)


def _packaging(module: str) -> Any:
    """The module of `packaging`, which nearly every environment has, or of the copy inside pip."""
    for package in ("packaging", "pip._vendor.packaging"):
        try:
            return importlib.import_module(f"{package}.{module}")
        except ImportError:
            continue
    return None
