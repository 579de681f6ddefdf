"""What the facts mean for the course: findings, each with the command that mends it."""

import os
import platform
import shutil
import site
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cartpole_lessons.display import has_display, in_notebook, named_displays
from cartpole_lessons.errors import in_short

from .questions import PACKAGE, doubles, hiding, in_range, installed, kernel, load, memory_left, prefix_of, requirements, run
from .remedies import WINDOWS, in_turn, install_xvfb, pip, quoted, reinstall, rename, set_variable

OK, NOTE, PROBLEM = "ok", "note", "problem"
MARKS = {OK: "✓", NOTE: "!", PROBLEM: "✗"}
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
OLDEST, NEWEST_TESTED = (3, 11), (3, 13)
MB = 2**20


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
            lines.append(f"{MARKS[finding.severity]} {finding.what:<{width}}  {finding.found}")
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
    here = sys.version_info[:2]
    severity = PROBLEM if here < OLDEST else NOTE if here > NEWEST_TESTED else OK
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST_TESTED))
    said = f"{platform.python_version()} ({sys.executable})" + f"; the course is tested on {oldest} to {newest}" * (severity != OK)
    yield Finding("Python", severity, said, f"python{newest} -m venv .venv" * (severity != OK))
    if installed(PACKAGE) is None:
        checkout = Path(__file__).resolve().parents[2]
        said = f"the course is not installed here, it is only found in {checkout}; what it needs is not known"
        yield Finding("packages", PROBLEM, said, pip(f"install -e {quoted(checkout)}"))
    needed = requirements()
    for extra in [extra for extra in EXTRAS if extra in needed]:
        fine = []
        for name, specifier in needed[extra].items():
            what, severity = (EXTRAS[extra], NOTE) if extra else (name, PROBLEM)
            package, install = installed(name), pip(f'install "{name}{specifier}"')
            if package and in_range(package.version, specifier):
                fine.append(f"{name} {package.version}")
            elif package:
                yield Finding(what, severity, f"{name} is {package.version}, but the course needs {specifier}", install)
            elif name != "pygame-ce":  # has a row of its own, because pygame serves as well
                yield Finding(what, severity, f"{name} is not installed", install)
        if fine:
            yield Finding(EXTRAS[extra], OK, ", ".join(fine))
    if gym := installed("gym"):
        said = f"gym {gym.version} is there, Gymnasium's unmaintained predecessor: where you want Gymnasium, `import gymnasium as gym`"
        yield Finding("old gym", NOTE, said, pip("uninstall -y gym"))


def libraries(students: list[str]) -> Iterator[Finding]:
    """What is installed must also be found, and load: a broken library shows only then."""
    needed = requirements()
    pygames = [name for name in ("pygame", "pygame-ce") if installed(name)]
    tried = {name: _module(name) for name in [*needed.get("", ()), *pygames[-1:]] if installed(name)}
    answer = load(list(tried.values()))
    course = {_module(name).partition(".")[0] for names in needed.values() for name in names}

    hidden = hiding({*answer["loaded"], *course}, students)
    for name, file in hidden.items():
        said = f"{file} is taken for the module {name}: rename it{', and restart the kernel' if in_notebook() else ''}"
        yield Finding(file.name, PROBLEM, said, rename(file))
    elsewhere = {}
    for folder, names in doubles(course).items():
        variable = ("PYTHONNOUSERSITE", "1") if folder == site.getusersitepackages() else ("PYTHONPATH",)
        elsewhere |= dict.fromkeys(names, set_variable(*variable, before_start=True))
        said = f"{', '.join(names)}: Python takes what is in {folder}, not what is in this environment"
        yield Finding("two copies", NOTE, said, elsewhere[names[0]])
    for name, module in tried.items():
        if reason := answer["broken"].get(module):
            said = f"{name} is installed, but it does not load ({in_short(reason)})"
            what = "pygame" if name in pygames else f"import {module}"
            yield Finding(what, PROBLEM, said, elsewhere.get(module) or reinstall(name, needed[""].get(name, "")))
    if tried and not (answer["broken"] or hidden):
        yield Finding("imports", OK, "the core packages load")
    if reason := answer["backend_error"]:
        named = os.environ.get("MPLBACKEND")
        said = f"the backend {named or 'in matplotlibrc'} cannot be used here ({in_short(reason)})"
        yield Finding("plots", PROBLEM, said, set_variable("MPLBACKEND", "" if named else "agg"))
    if len(pygames) == 2:
        said = f"pygame {installed('pygame').version} and pygame-ce are both installed, and have overwritten each other's files"
        yield Finding("pygame", PROBLEM, said, in_turn(pip("uninstall -y pygame pygame-ce"), pip("install pygame-ce")))
    elif not pygames:
        yield Finding("pygame", NOTE, "not installed, so there are no films and no windows", pip("install pygame-ce"))


def _module(package: str) -> str:
    return MODULES.get(package, package.replace("-", "_"))


def display() -> Iterator[Finding]:
    """Where windows appear."""
    named = named_displays()
    if has_display():
        yield Finding("display", OK, " and ".join(named.values()) or "the system's own")
    elif named:
        said = " and ".join(f"{name} is {value}" for name, value in named.items())
        yield Finding("display", NOTE, f"{said}, but nothing answers there, so windows fail", in_turn(*map(set_variable, named)))
    elif shutil.which("Xvfb"):
        yield Finding("display", OK, "none, but a virtual one (Xvfb): films work, windows inside virtual_display()")
    else:
        yield Finding("display", NOTE, "none, and no virtual one (Xvfb): films work, windows do not", install_xvfb())


def films() -> Iterator[Finding]:
    """The program that encodes films."""
    chosen = os.environ.get("IMAGEIO_FFMPEG_EXE")
    program, remedy = chosen or "imageio-ffmpeg's program", set_variable("IMAGEIO_FFMPEG_EXE") if chosen else reinstall("imageio-ffmpeg")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        if "libx264" in run(get_ffmpeg_exe(), "-hide_banner", "-encoders").stdout:
            yield Finding("ffmpeg", OK, get_ffmpeg_exe())
        else:
            yield Finding("ffmpeg", PROBLEM, f"{program} cannot encode H.264, so there are no films", remedy)
    except ImportError:
        yield Finding("ffmpeg", PROBLEM, "imageio-ffmpeg is not installed, so there are no films", pip("install imageio-ffmpeg"))
    except (RuntimeError, OSError) as error:
        yield Finding("ffmpeg", PROBLEM, f"{program} does not run ({in_short(error)}), so there are no films", remedy)


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
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"a full disk lets files be made, but not be filled")
            free = shutil.disk_usage(folder).free
            # An episode's film has 25 kB, all executed lessons together some 20 MB.
            yield _amount(what, free, f"free in {folder}", 500 * MB, 50 * MB, pip("cache purge"))
        except OSError as error:
            yield Finding(what, PROBLEM, f"{folder or 'it'} cannot be written ({error.strerror})", mend)


def _amount(what: str, amount: int, where: str, little: int, too_little: int, remedy: str) -> Finding:
    severity = PROBLEM if amount < too_little else NOTE if amount < little else OK
    said = f"{amount / MB / 1024:.1f} GB" if amount >= 1024 * MB else f"{amount / MB:.0f} MB"
    return Finding(what, severity, f"{said} {where}", "" if severity == OK else remedy)


def memory() -> Iterator[Finding]:
    """What is left for a lesson, which stays below 1 GB."""
    left = memory_left()
    if left is not None:
        yield _amount("memory", left, "free", 1024 * MB, 512 * MB, "shut down kernels and programs that are not in use")


def environments() -> Iterator[Finding]:
    """Terminal and notebooks should use the environment that this runs in: what one installs, the others would not find."""
    here, shell = os.path.realpath(sys.prefix), shutil.which("python") or shutil.which("python3")
    if shell is None or prefix_of(shell) == here:
        yield Finding("terminal", OK, f"`python` in a terminal is that of {sys.prefix} too")
    else:
        script = Path(sys.prefix) / ("Scripts/activate" if WINDOWS else "bin/activate")
        activate = f"{'' if WINDOWS else 'source '}{quoted(script)}" if script.exists() else f"{quoted(sys.executable)} -m pip"
        advice = ": install with %pip, not with !pip" if in_notebook() else ""
        yield Finding("terminal", NOTE, f"`python` in a terminal is {shell}, but this runs in {sys.prefix}{advice}", activate)
    if in_notebook():
        return
    try:
        program, prefix = kernel()
    except ImportError:
        yield Finding("kernel", NOTE, "Jupyter is not installed in this environment", pip("install jupyterlab ipykernel"))
    except KeyError:
        yield Finding("kernel", NOTE, "Jupyter has no Python kernel", pip("install ipykernel"))
    else:
        if prefix == here:
            yield Finding("kernel", OK, f"notebooks run in {sys.prefix}")
        else:
            said = f"notebooks run in {prefix}, not in {sys.prefix}" if prefix else f"notebooks would run {program}, which does not run"
            # The kernel that is left then is that of the environment itself.
            yield Finding("kernel", PROBLEM, said, f"{quoted(sys.executable)} -m jupyter_client.kernelspecapp remove -f python3")
