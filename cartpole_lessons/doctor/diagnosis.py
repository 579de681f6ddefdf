"""What the facts mean for the course: findings, each with the command that mends it."""

import importlib.util
import os
import platform
import shutil
import site
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cartpole_lessons.display import has_display, in_notebook, named_displays

from .questions import PACKAGE, doubles, ffmpeg, hiding, in_range, installed, kernel, load, memory_left, prefix_of, requirements, room
from .remedies import in_terminal, in_turn, pip, pythonpath_sends_to, quoted, reinstall, rename, set_variable, system_install

OK, NOTE, PROBLEM = "ok", "note", "problem"
#: What an extra of the package is for; those that only its developers need are not asked about.
EXTRAS = {
    "": "core packages",
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
MODULES = {"pillow": "PIL.Image", "scipy": "scipy.linalg", "pygame-ce": "pygame", "pytorch-ignite": "ignite", "ipython": "IPython"}
OLDEST, NEWEST_TESTED = ">=3.11", (3, 13)  # the first is pyproject's, for where the course is used without being installed
LITTLE_DISK, TOO_LITTLE_DISK = 500 * 2**20, 50 * 2**20  # bytes; an episode's film has 25 kB, all executed lessons together some 20 MB
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 2**30, 2**29  # bytes; a lesson stays below 1 GB


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, what was found, and the command (or the step) that mends it."""

    what: str
    severity: str  #: "ok", "note" (something optional is missing) or "problem"
    found: str
    remedy: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `doctor` returns; as a string it is the table that `doctor` shows."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 where something keeps lessons from working, 0 where nothing does."""
        return int(any(finding.severity == PROBLEM for finding in self.findings))

    def verdict(self) -> str:
        """One sentence on all of it."""
        notes, problems = (sum(finding.severity == severity for finding in self.findings) for severity in (NOTE, PROBLEM))
        said = f"{problems} problem{'s' * (problems != 1)} to mend" if problems else "Ready for the course"
        return said + (f"; {notes} optional thing{'s' * (notes != 1)} could be better." if notes else ".")

    def __str__(self) -> str:
        width, lines = max(len(finding.what) for finding in self.findings), []
        for finding in self.findings:
            lines.append(f"{ {OK: '✓', NOTE: '!', PROBLEM: '✗'}[finding.severity] } {finding.what:<{width}}  {finding.found}")
            lines += [f"  {'':<{width}}  -> {command}" for command in finding.remedy.splitlines()]
        return "\n".join([*lines, "", self.verdict()])

    def __repr__(self) -> str:
        return f"<doctor: {self.verdict()}>"


def examine(students: list[str]) -> Diagnosis:
    """Every question, asked; one that itself fails is a note. students: folders of the student's own in which Python looks first."""
    findings: list[Finding] = []
    for ask in (packages, libraries, display, films, folders, memory, environments):
        try:
            findings += ask(students) if ask is libraries else ask()
        except Exception as error:
            findings.append(Finding(ask.__name__, NOTE, f"could not be examined ({type(error).__name__}: {error})"))
    return Diagnosis(tuple(findings))


def packages() -> Iterator[Finding]:
    """Python, the core in one row, each extra in one row, and a row for whatever is missing, out of its range, or in the way."""
    course, place, newest = installed(PACKAGE), f"{platform.python_version()} ({sys.executable})", ".".join(map(str, NEWEST_TESTED))
    needed = course.metadata["Requires-Python"] if course else OLDEST
    severity = OK if sys.version_info[:2] <= NEWEST_TESTED else NOTE
    if not in_range(platform.python_version(), needed):
        severity, place = PROBLEM, f"{place}; the course needs {needed}"
    said = place if severity == OK else f"{place}; the course is tested up to {newest}"
    yield Finding("Python", severity, said, "" if severity == OK else f"python{newest} -m venv .venv")

    if course is None:
        checkout = Path(__file__).resolve().parents[2]
        said = f"the course is not installed here, it is only found in {checkout}; what it needs is not known"
        yield Finding("packages", PROBLEM, said, pip(f"install -e {quoted(checkout)}"))
    for extra, names in requirements().items():
        if extra not in EXTRAS:
            continue
        fine = []
        for name, specifier in names.items():
            what, severity = (EXTRAS[extra], NOTE) if extra else (name, PROBLEM)
            package, install = installed(name), pip(f'install "{name}{specifier}"')
            if package and in_range(package.version, specifier):
                fine.append(f"{name} {package.version}")
            elif package:
                yield Finding(what, severity, f"{name} is {package.version}, but the course needs {specifier}", _mend(package, install))
            elif name != "pygame-ce":  # has a row of its own, because pygame serves as well
                yield Finding(what, severity, f"{name} is not installed", install)
        if fine:
            yield Finding(EXTRAS[extra], OK, ", ".join(fine))

    gym, uninstall = installed("gym"), pip("uninstall -y gym")
    if "gym" in sys.modules:
        said = "has been imported here: write `import gymnasium as gym`, and restart the kernel"
        yield Finding("old gym", PROBLEM, f"Gymnasium's unmaintained predecessor {said}", uninstall if gym else "")
    elif gym:
        said = f"gym {gym.version} is there; harmless unless something imports it instead of gymnasium"
        yield Finding("old gym", NOTE, said, uninstall)


def _mend(package: Any, command: str) -> str:
    """`command`, which puts a package of this environment right, unless PYTHONPATH sends Python to a copy elsewhere."""
    return set_variable("PYTHONPATH", before_start=True) if pythonpath_sends_to(package.locate_file("")) else command


def libraries(students: list[str]) -> Iterator[Finding]:
    """What is installed must also be found, and load: a broken library shows only then."""
    needed = requirements()
    pygames = [name for name in ("pygame", "pygame-ce") if installed(name)]
    tried = {name: _module(name) for name in [*needed.get("", ()), *pygames[-1:]] if installed(name)}
    answer = load(list(tried.values()))
    course = {_module(name).partition(".")[0] for names in needed.values() for name in names}

    hidden = hiding({*answer["loaded"], *course}, students)
    for name, file in hidden.items():
        library = f"Python's own module {name}" if name in sys.stdlib_module_names else f"the library {name}"
        said = f"{file} is taken for {library}: rename it{', and restart the kernel' if in_notebook() else ''}"
        yield Finding(file.name, PROBLEM, said, rename(file))
    for folder, names in doubles(course).items():
        variable = (
            ["PYTHONPATH"] if pythonpath_sends_to(folder) else ["PYTHONNOUSERSITE", "1"] if folder == site.getusersitepackages() else []
        )
        said = f"{', '.join(sorted(names))}: Python takes what is in {folder}, not what is in this environment"
        yield Finding("two copies", NOTE, said, set_variable(*variable, before_start=True) if variable else "")
    for name, module in tried.items():
        if reason := answer["broken"].get(module):
            mend = _mend(installed(name), reinstall(name, needed[""].get(name, "")))
            said = f"{name} is installed, but it does not load ({_first_line(reason)})"
            yield Finding("pygame" if name in pygames else f"import {module}", PROBLEM, said, mend)
    if tried and not (answer["broken"] or hidden):
        yield Finding("imports", OK, f"the core packages load; GPU: {answer['gpu'] or 'none that torch sees'}, and the lessons need none")
    if reason := answer["backend_error"]:
        named = os.environ.get("MPLBACKEND")
        said = f"{f'MPLBACKEND is {named}, which' if named else 'the backend in matplotlibrc'} cannot be used here ({_first_line(reason)})"
        yield Finding("plots", PROBLEM, said, set_variable("MPLBACKEND", "" if named else "agg"))
    if len(pygames) == 2:
        said = f"pygame {installed('pygame').version} and pygame-ce are both installed, and have overwritten each other's files"
        yield Finding("pygame", PROBLEM, said, in_turn(pip("uninstall -y pygame pygame-ce"), pip("install pygame-ce")))
    elif not pygames:
        yield Finding("pygame", NOTE, "not installed, so there are no films and no windows", pip("install pygame-ce"))


def _module(package: str) -> str:
    return MODULES.get(package, package.replace("-", "_"))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:150]


def display() -> Iterator[Finding]:
    """Where windows appear."""
    named, missing = named_displays(), []
    if shutil.which("Xvfb") is None:
        missing.append(system_install(apt="xvfb", dnf="xorg-x11-server-Xvfb", pacman="xorg-server-xvfb", apk="xvfb"))
    if importlib.util.find_spec("pyvirtualdisplay") is None:
        missing.append(pip("install pyvirtualdisplay"))
    if has_display():
        yield Finding("display", OK, " and ".join(named.values()) or "the system's own")
    elif named:
        said = " and ".join(f"{name} is {value}" for name, value in named.items())
        yield Finding("display", NOTE, f"{said}, but nothing answers there, so windows fail", in_turn(*map(set_variable, named)))
    elif missing:
        said = "none, and no virtual one (Xvfb with pyvirtualdisplay): films work, windows do not"
        yield Finding("display", NOTE, said, in_turn(*missing))
    else:
        yield Finding("display", OK, "none, but a virtual one (Xvfb): films work, windows inside virtual_display()")


def films() -> Iterator[Finding]:
    """The program that encodes films."""
    chosen = os.environ.get("IMAGEIO_FFMPEG_EXE")
    said, remedy = "", set_variable("IMAGEIO_FFMPEG_EXE") if chosen else reinstall("imageio-ffmpeg")
    try:
        program, version, encodes = ffmpeg()
        said = "" if encodes else f"{program} cannot encode H.264"
    except ImportError:
        said, remedy = "imageio-ffmpeg is not installed", pip("install imageio-ffmpeg")
    except (RuntimeError, OSError) as error:
        which = f"the program that IMAGEIO_FFMPEG_EXE names ({chosen})" if chosen else "imageio-ffmpeg's program"
        said = f"{which} does not run ({_first_line(str(error))})"
    yield Finding("ffmpeg", PROBLEM, f"{said}, so there are no films", remedy) if said else Finding("ffmpeg", OK, version)


def folders() -> Iterator[Finding]:
    """The folders that the course writes to, and the room on their disks."""
    notebook = in_notebook()
    for what, find, mend in (
        ("current folder", Path.cwd, "%cd ~" if notebook else 'cd "$HOME"'),
        ("home folder", Path.home, set_variable("HOME", "/tmp" if notebook else '"$(mktemp -d)"')),
        ("temporary folder", lambda: Path(tempfile.gettempdir()), set_variable("TMPDIR", str(Path.home()))),
    ):
        folder = None
        try:
            folder = find()
            yield _amount(what, room(folder), f"free in {folder}", LITTLE_DISK, TOO_LITTLE_DISK, pip("cache purge"))
        except OSError as error:
            yield Finding(what, PROBLEM, f"{folder or 'it'} cannot be written ({error.strerror})", mend)


def _amount(what: str, amount: int, where: str, little: int, too_little: int, remedy: str) -> Finding:
    severity = PROBLEM if amount < too_little else NOTE if amount < little else OK
    said = f"{amount / 2**30:.1f} GB" if amount >= 2**30 else f"{amount / 2**20:.0f} MB"
    return Finding(what, severity, f"{said} {where}", "" if severity == OK else remedy)


def memory() -> Iterator[Finding]:
    """The least of what the machine has free and of what limits leave."""
    kernels = "shut down kernels that are not in use"
    remedies = {
        "on this machine": f"close other programs and {kernels}",
        "in this container": f"{kernels}, or give the container more: docker run --memory=2g",
        "under `ulimit -v`": in_terminal("ulimit -v unlimited"),
    }
    left = memory_left()
    if left:
        where = min(left, key=left.get)
        yield _amount("memory", left[where], f"free {where}", LITTLE_MEMORY, TOO_LITTLE_MEMORY, remedies[where])
    else:
        yield Finding("memory", NOTE, "cannot be measured here", pip("install psutil"))


def environments() -> Iterator[Finding]:
    """Terminal and notebooks should use the environment that this runs in: what one installs, the others would not find."""
    here, shell = os.path.realpath(sys.prefix), shutil.which("python") or shutil.which("python3")
    where, advice = ("notebook", ": install with %pip, not with !pip") if in_notebook() else ("command", "")
    if shell is None or prefix_of(shell) == here:
        yield Finding("terminal", OK, f"`python` in a terminal is this {where}'s, of {sys.prefix}")
    else:
        script = Path(sys.prefix) / ("Scripts/activate" if os.name == "nt" else "bin/activate")
        activate = f"{'' if os.name == 'nt' else 'source '}{quoted(script)}" if script.exists() else f"{quoted(sys.executable)} -m pip"
        yield Finding("terminal", NOTE, f"`python` in a terminal is {shell}, but this {where} runs in {sys.prefix}{advice}", activate)
    if in_notebook():
        return
    try:
        program, prefix, folder = kernel()
    except ImportError:
        yield Finding("kernel", NOTE, "Jupyter is not installed in this environment", pip("install jupyterlab ipykernel"))
    except KeyError:
        yield Finding("kernel", NOTE, "Jupyter has no Python kernel", pip("install ipykernel"))
    else:
        place = "--sys-prefix" if folder.is_relative_to(sys.prefix) else "--user"
        mend = f"{quoted(sys.executable)} -m ipykernel install {place} --name python3"
        if any(folder.is_relative_to(entry) for entry in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if entry):
            mend = set_variable("JUPYTER_PATH")
        said = f"notebooks run in {prefix}, not in {sys.prefix}" if prefix else f"notebooks would run {program}, which does not run"
        wrong = Finding("kernel", PROBLEM, f"{said} ({folder})", mend)
        yield Finding("kernel", OK, f"notebooks run in {sys.prefix}") if prefix == here else wrong
