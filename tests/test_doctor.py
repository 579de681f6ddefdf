"""The doctor on machines that are really broken: environments made for a test, where it says what is wrong and its commands mend it."""

import importlib
import importlib.metadata
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import packaging
import pytest
from conftest import printed
from packaging.requirements import Requirement

import cartpole_lessons
from cartpole_lessons.doctor import diagnosis, questions
from cartpole_lessons.doctor.diagnosis import Diagnosis, Finding

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="broken by means that Linux has")

# As a cell or a script would: it looks into the current folder first, though not for what is ours here.
ASK = """
import sys
sys.path.remove("")
import json
sys.path.insert(0, "")
exec(sys.argv[1])
import cartpole_lessons
print(json.dumps([vars(finding) for finding in cartpole_lessons.doctor().findings]))
"""
NOTEBOOK = "import types; sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1))"


class Machine:
    """A Python of its own with nothing installed, not even pip; beside it an empty folder, in which the student works."""

    def __init__(self, folder):
        self.folder, self.work = folder, folder / "work"
        self.work.mkdir(parents=True)
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")

    def course(self, *requirements, real=False, python=">=3.11"):
        """The course is installed and has these requirements; real: after its own, it has the packages of the Python that runs the tests."""
        places = [str(ROOT), *[sysconfig.get_path("purelib")] * real]
        (self.site / "course.pth").write_text("\n".join(places))
        return self.install("cartpole-lessons", "0.1.0", requirements=requirements, python=python)

    def install(self, name, version, source="", *, site=None, requirements=(), python=">=3"):
        """A package of one module, which holds `source`."""
        site = site or self.site
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        fields = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", f"Requires-Python: {python}"]
        (info / "METADATA").write_text("\n".join([*fields, *(f"Requires-Dist: {text}" for text in requirements)]) + "\n")
        if name != "cartpole-lessons":
            (site / f"{name.replace('-ce', '').replace('-', '_')}.py").write_text(source)
        return self

    def program(self, name, script):
        """A program that a shell finds before others of its name."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def run(self, arguments, shell="", **variables):
        """A command line for its Python, after commands for the shell; a variable of None is taken away."""
        variables = {"PYTHONPATH": None, "DISPLAY": None, "WAYLAND_DISPLAY": None, "MPLBACKEND": None} | variables
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        environment = {name: value for name, value in environment.items() if variables.get(name, "") is not None}
        script = f"{shell}\nexec {shlex.join(map(str, [self.python, *arguments]))}"
        return subprocess.run(["bash", "-c", script], cwd=self.work, env=environment, capture_output=True, text=True, timeout=120)

    def doctor(self, shell="", *, before="", **variables):
        """{what: Finding} of the doctor; before: Python that runs first."""
        done = self.run(["-c", ASK, before], shell, **variables)
        assert done.returncode == 0, done.stderr
        return {finding["what"]: Finding(**finding) for finding in json.loads(done.stdout.splitlines()[-1])}


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "machine")


def is_well_formed(command):
    """A shell, or a cell, can run it: its program is there, and what it installs is a valid requirement."""
    command = command.lstrip("%!")
    assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0
    for part in command.split(" && "):
        words = shlex.split(part)
        assert shutil.which(words[0]) or words[0] in ("pip", "env", "cd", "unset", "export", "ulimit", "source", "sudo", "apt-get"), part
        if "pip" in words and "install" in words:
            assert [Requirement(word) for word in words[words.index("install") + 1 :] if not word.startswith("-")], part
    return True


def test_the_machine_that_runs_these_tests_is_ready_and_loads_each_core_package(machine):
    machine.python = sys.executable
    found = machine.doctor()
    assert [finding for finding in found.values() if finding.severity == "problem"] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [Requirement(text).name for text in project["dependencies"]]
    assert [name for name in core if f"{name} " not in found["core packages"].found] == []
    assert "the core packages load" in found["imports"].found


def test_pyprojects_conditions_are_those_that_the_doctor_reads():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == diagnosis.OLDEST
    every = [*project["dependencies"], *(text for texts in project["optional-dependencies"].values() for text in texts)]
    assert [text for text in every if ";" in text] == []
    assert {"", *project["optional-dependencies"]} == {*diagnosis.EXTRAS, "dev", "compare", "all"}


@pytest.mark.parametrize(("name", "is_folder"), [("gymnasium", False), ("torch", False), ("matplotlib", True), ("pygame", False)])
def test_a_students_file_named_like_a_library_is_named_never_run_and_can_be_renamed(machine, name, is_folder):
    package = "pygame-ce" if name == "pygame" else name
    machine.course(package).install(package, "1.0")
    file = machine.work / (name if is_folder else f"{name}.py")
    if is_folder:
        file.mkdir()
    (file / "__init__.py" if is_folder else file).write_text("raise SystemExit('my exercise')")
    finding = machine.doctor()[file.name]
    assert finding.severity == "problem"
    assert f"{file} is taken for the library {name}: rename it" in finding.found
    assert machine.run(["-m", "cartpole_lessons", "doctor"]).returncode == 1
    again = machine.doctor(finding.remedy)
    assert file.name not in again
    assert (machine.work / f"my_{file.name}").exists()


@pytest.mark.parametrize("name", ["random", "json", "inspect", "email"])
def test_a_students_file_named_like_a_module_of_pythons_own_is_named(machine, name):
    machine.course("gymnasium").install("gymnasium", "1.1", f"import {name}")
    (machine.work / f"{name}.py").write_text("raise SystemExit('my exercise')")
    finding = machine.doctor()[f"{name}.py"]
    assert finding.severity == "problem"
    assert f"is taken for Python's own module {name}" in finding.found


def test_names_that_nothing_of_the_course_loads_are_the_students(machine):
    machine.course("gymnasium").install("gymnasium", "1.1")
    for name in ("test", "utils", "agent", "statistics"):
        (machine.work / f"{name}.py").touch()
    (machine.work / "gymnasium").mkdir()  # holds films, say: without an __init__.py it hides nothing
    found = machine.doctor()
    assert not {"test.py", "utils.py", "agent.py", "statistics.py", "gymnasium"} & set(found)
    assert found["imports"].severity == "ok"


def test_a_students_file_on_pythonpath_is_named(machine, tmp_path):
    machine.course("gymnasium").install("gymnasium", "1.1")
    (tmp_path / "gymnasium.py").touch()
    finding = machine.doctor(PYTHONPATH=tmp_path)["gymnasium.py"]
    assert finding.severity == "problem"
    assert str(tmp_path / "gymnasium.py") in finding.found


def test_packages_that_pythonpath_brings_in_are_mended_by_taking_it_away(machine, tmp_path):
    machine.course("numpy>=1.26").install("numpy", "2.0").install("numpy", "1.20", "raise ImportError('torn')", site=tmp_path)
    shutil.copytree(Path(packaging.__file__).parent, machine.site / "packaging")
    found = machine.doctor(PYTHONPATH=tmp_path)
    assert (found["two copies"].severity, found["two copies"].remedy) == ("note", "unset PYTHONPATH")
    assert str(tmp_path) in found["two copies"].found
    for what in ("numpy", "import numpy"):
        assert (found[what].severity, found[what].remedy) == ("problem", "unset PYTHONPATH")
    again = machine.doctor("unset PYTHONPATH", PYTHONPATH=tmp_path)
    assert "two copies" not in again
    assert again["imports"].severity == "ok"


def test_packages_of_the_users_that_hide_those_of_the_environment_are_a_note(monkeypatch, tmp_path):
    (tmp_path / "tqdm.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("site.USER_SITE", str(tmp_path))
    monkeypatch.setattr(diagnosis, "load", lambda modules: {"broken": {}, "loaded": [], "backend_error": "", "gpu": ""})
    (finding,) = [finding for finding in diagnosis.libraries([]) if finding.what == "two copies"]
    assert (finding.severity, finding.remedy) == ("note", "export PYTHONNOUSERSITE=1")
    assert "tqdm" in finding.found


def test_a_backend_that_is_not_there_is_a_matter_of_mplbackend(machine):
    machine.course("matplotlib", real=True)
    for backend in ("no_such_backend", "module://does_not_exist"):
        finding = machine.doctor(MPLBACKEND=backend)["plots"]
        assert (finding.severity, finding.remedy) == ("problem", "unset MPLBACKEND")
        assert f"MPLBACKEND is {backend}" in finding.found
    again = machine.doctor(finding.remedy, MPLBACKEND=backend)
    assert "plots" not in again
    assert again["imports"].severity == "ok"


def test_a_backend_in_matplotlibrc_that_is_not_there_is_overruled(machine):
    machine.course("matplotlib", real=True)
    (machine.work / "matplotlibrc").write_text("backend: module://does_not_exist")
    finding = machine.doctor()["plots"]
    assert (finding.severity, finding.remedy) == ("problem", "export MPLBACKEND=agg")


def test_a_python_that_is_too_old_or_newer_than_any_that_was_tested(machine, monkeypatch):
    finding = machine.course("packaging", real=True, python=">=3.99").doctor()["Python"]
    assert (finding.severity, finding.remedy) == ("problem", "python3.13 -m venv .venv")
    assert ">=3.99" in finding.found
    monkeypatch.setattr(diagnosis, "NEWEST_TESTED", (3, 10))
    finding = next(diagnosis.packages())
    assert finding.severity == "note"
    assert "tested up to 3.10" in finding.found


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_it_runs_on_the_pythons_that_students_have(machine, version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} here")
    machine.python = python
    found = machine.doctor(PYTHONPATH=ROOT)
    assert found["Python"].severity == ("problem" if version == "3.10" else "ok")


def test_packages_that_are_missing_or_too_old_have_the_command_that_brings_them(machine):
    machine.course("numpy>=1.26", "torch>=2.6", 'moviepy>=1.0.3; extra == "video"').install("numpy", "1.20")
    shutil.copytree(Path(packaging.__file__).parent, machine.site / "packaging")
    found = machine.doctor()
    pip = f"{machine.python} -m ensurepip && {machine.python} -m pip install"
    assert found["numpy"] == Finding("numpy", "problem", "numpy is 1.20, but the course needs >=1.26", f'{pip} "numpy>=1.26"')
    assert found["torch"] == Finding("torch", "problem", "torch is not installed", f'{pip} "torch>=2.6"')
    video = found["films during a training"]
    assert (video.severity, video.remedy) == ("note", f'{pip} "moviepy>=1.0.3"')


def test_where_nothing_can_compare_versions_none_is_called_wrong(machine):
    machine.course("numpy>=1.26").install("numpy", "1.20")
    assert "numpy 1.20" in machine.doctor()["core packages"].found


def test_a_course_that_is_not_installed_is_installed_from_its_folder(machine):
    (machine.site / "course.pth").write_text(str(ROOT))
    finding = machine.doctor()["packages"]
    assert finding.severity == "problem"
    assert finding.remedy.endswith(f"{machine.python} -m pip install -e {shlex.quote(str(ROOT))}")


def test_libraries_that_do_not_load_or_crash_are_told_apart_and_take_nothing_down(machine):
    machine.course("numpy>=1", "tqdm", "torch>=2")
    machine.install("numpy", "1.26", "raise ImportError('libblas.so is missing')").install(
        "tqdm", "4", "import os; os.kill(os.getpid(), 9)"
    )
    machine.install("torch", "2.6", "class cuda: is_available, get_device_name = lambda: True, lambda: 'NVIDIA H200'")
    found = machine.doctor()
    assert {what for what in found if what.startswith("import")} == {"import numpy", "import tqdm"}
    assert "libblas.so is missing" in found["import numpy"].found
    assert "Python itself ended" in found["import tqdm"].found
    assert found["import numpy"].remedy.endswith('-m pip install --force-reinstall --no-deps "numpy>=1"')
    for name in ("numpy", "tqdm"):
        (machine.site / f"{name}.py").write_text("")
    assert "GPU: NVIDIA H200" in machine.doctor()["imports"].found


def test_pygame_is_there_once(machine):
    machine.course("pip", 'pygame-ce>=2; extra == "render"').install("pip", "24")
    assert machine.doctor()["pygame"].severity == "note"
    machine.install("pygame", "2.6.1")
    assert "pygame" not in machine.doctor()  # serves as well, as on Colab
    machine.install("pygame-ce", "2.5.8")
    finding = machine.doctor()["pygame"]
    assert finding.severity == "problem"
    assert finding.remedy == f"{machine.python} -m pip uninstall -y pygame pygame-ce && {machine.python} -m pip install pygame-ce"
    (machine.site / "pygame.py").write_text("raise ImportError('libSDL2 is missing')")
    shutil.rmtree(machine.site / "pygame-2.6.1.dist-info")
    finding = machine.doctor()["pygame"]
    assert finding.severity == "problem"
    assert "libSDL2 is missing" in finding.found


def test_old_gym_is_a_note_until_it_is_imported(machine):
    assert "old gym" not in machine.course().doctor()
    machine.install("gym", "0.26.2")
    finding = machine.doctor()["old gym"]
    assert finding.severity == "note"
    assert finding.remedy.endswith("-m pip uninstall -y gym")
    finding = machine.doctor(before="import gym")["old gym"]
    assert finding.severity == "problem"
    assert "`import gymnasium as gym`" in finding.found


def test_a_display_that_is_named_but_does_not_answer_is_no_display(machine):
    machine.course("pyvirtualdisplay").install("pyvirtualdisplay", "3")
    machine.program("Xvfb", "exit 0")
    path = f"{machine.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    finding = machine.doctor(DISPLAY=":987", PATH=path)["display"]
    assert (finding.severity, finding.remedy) == ("note", "unset DISPLAY")
    assert "DISPLAY is :987, but nothing answers there" in finding.found
    assert machine.doctor(finding.remedy, DISPLAY=":987", PATH=path)["display"].severity == "ok"


@pytest.mark.parametrize(
    ("manager", "command"),
    [("dnf", "dnf install -y xorg-x11-server-Xvfb"), ("pacman", "pacman -S xorg-server-xvfb"), ("apk", "apk add xvfb"), (None, "apt-get install -y xvfb")],
)  # fmt: skip
def test_each_system_gets_the_command_of_its_own_package_manager(machine, monkeypatch, manager, command):
    machine.course("pyvirtualdisplay").install("pyvirtualdisplay", "3")
    for name in filter(None, [manager, "env"]):
        machine.program(name, "exit 0")
    shell = f"export PATH={machine.folder / 'bin'}"
    assert machine.doctor(shell)["display"].remedy == command
    machine.program("sudo", "exit 0")
    assert machine.doctor(shell, before="import os; os.geteuid = lambda: 1000")["display"].remedy == f"sudo {command}"


def test_an_ffmpeg_that_is_missing_does_not_run_or_cannot_encode_is_told(machine):
    machine.course(real=True)
    assert machine.doctor()["ffmpeg"].severity == "ok"
    finding = machine.doctor(IMAGEIO_FFMPEG_EXE="/bin/false")["ffmpeg"]
    assert finding.severity == "problem"
    assert "/bin/false" in finding.found
    assert machine.doctor(finding.remedy, IMAGEIO_FFMPEG_EXE="/bin/false")["ffmpeg"].severity == "ok"
    poor = machine.program("ffmpeg", "echo 'ffmpeg version 6.0 Copyright'")
    finding = machine.doctor(IMAGEIO_FFMPEG_EXE=poor)["ffmpeg"]
    assert finding.severity == "problem"
    assert "cannot encode H.264" in finding.found
    (machine.site / "imageio_ffmpeg.py").write_text("raise ModuleNotFoundError(name='imageio_ffmpeg')")
    assert machine.doctor()["ffmpeg"].remedy.endswith("-m pip install imageio-ffmpeg")


@pytest.mark.parametrize(
    ("what", "shell"),
    [("home folder", "export HOME=/dev/null"), ("current folder", 'gone="$(mktemp -d)"; cd "$gone"; rmdir "$gone"')],
)
def test_a_folder_that_cannot_be_written_is_mended(machine, what, shell):
    finding = machine.course().doctor(shell)[what]
    assert finding.severity == "problem"
    assert machine.doctor(f"{shell}\n{finding.remedy}")[what].severity == "ok"


def test_folders_where_no_file_can_grow_are_told(machine):
    found = machine.course().doctor("ulimit -S -f 0")
    assert {found[f"{what} folder"].severity for what in ("current", "home", "temporary")} == {"problem"}


def test_a_disk_that_is_full_is_told(machine, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        machine.course().work = disk
        finding = machine.doctor()["current folder"]
        assert finding.severity == "problem"
        assert "1 MB free" in finding.found
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}"], capture_output=True)
        assert "No space left" in machine.doctor()["current folder"].found
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(("limit", "severity"), [(2**30, "problem"), (3 * 2**30, "note")])
def test_a_limit_on_addresses_is_lifted(machine, limit, severity):
    shell = f"ulimit -S -v {limit // 1024}"
    finding = machine.course().doctor(shell)["memory"]
    assert (finding.severity, finding.remedy) == (severity, "ulimit -v unlimited")
    assert "`ulimit -v`" not in machine.doctor(f"{shell}\n{finding.remedy}")["memory"].found


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limits", "left"),
    [({"": "max"}, None), ({"": 3 * 2**29}, 2**29), ({"/a/b": 2**31, "/a": 2**30}, 0), ({"/a/b": "max", "": 2**32}, 3 * 2**30), ({"/a/b": 2**63 - 4096}, None)],
)  # fmt: skip
def test_the_memory_that_a_container_leaves_counts(tmp_path, monkeypatch, version, limits, left):
    """A laid-out tree of files, because groups of our own can be made on few machines; 1 GB is in use everywhere."""
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for path, limit in limits.items():
        folder = (tmp_path if version == 2 else tmp_path / "memory") / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, amount in zip(names, (limit, 2**30), strict=True):
            (folder / name).write_text(f"{amount}\n")
    (tmp_path / "own").write_text("5:cpu,cpuacct:/\n" + ("0::/a/b\n" if version == 2 else "4:memory:/a/b\n"))
    monkeypatch.setattr(questions, "CGROUPS", tmp_path)
    monkeypatch.setattr(questions, "OWN_CGROUPS", tmp_path / "own")
    assert questions.memory_left().get("in this container") == left
    if left == 0:
        (finding,) = diagnosis.memory()
        assert (finding.severity, finding.found) == ("problem", "0 MB free in this container")


def test_a_terminal_in_another_environment_is_a_note(machine, tmp_path):
    machine.course().program("python", f'exec {sys.executable} "$@"')
    (machine.python.parent / "activate").write_text(f"export PATH={machine.python.parent}:$PATH")
    shell = f"export PATH={machine.folder / 'bin'}:$PATH"
    finding = machine.doctor(shell)["terminal"]
    assert finding.severity == "note"
    assert machine.doctor(f"{shell}\n{finding.remedy}")["terminal"].severity == "ok"


@pytest.mark.parametrize(("variable", "program"), [("JUPYTER_DATA_DIR", "/deleted/python"), ("JUPYTER_PATH", sys.executable)])
def test_a_kernel_in_another_environment_or_in_none_is_mended(machine, tmp_path, variable, program):
    """The user's own kernel python3 hides that of the environment, and what JUPYTER_PATH names hides both."""
    machine.course(real=True)
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": [program, "-m", "x"], "display_name": "x", "language": "python"}))
    variables = {"JUPYTER_PATH": None, "JUPYTER_PREFER_ENV_PATH": "0", variable: tmp_path}
    finding = machine.doctor(**variables)["kernel"]
    assert finding.severity == "problem"
    assert ("which does not run" if program.startswith("/deleted") else sys.prefix) in finding.found
    shell = f"export {variable}={tmp_path}\n{finding.remedy}"
    assert machine.doctor(shell, **variables)["kernel"].severity == "ok"


def test_jupyter_without_a_python_kernel_or_no_jupyter_is_a_note(machine, monkeypatch):
    assert machine.course().doctor()["kernel"].remedy.endswith("pip install jupyterlab ipykernel")
    from jupyter_client import kernelspec

    def none(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", none)
    finding = list(diagnosis.environments())[-1]
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install ipykernel")


def test_everything_broken_at_once_is_a_row_each_a_command_each_and_exit_code_1(machine):
    machine.course(*importlib.metadata.requires("cartpole-lessons"))
    (machine.folder / "file").touch()
    for name in ("gym", "pygame", "pygame-ce"):
        machine.install(name, "0.1")
    machine.install("numpy", "1.26", "raise ImportError('numpy.core.multiarray failed to import')")
    (machine.work / "tqdm.py").touch()
    shell = f"export HOME={machine.folder / 'file'} PATH={machine.folder / 'none'}"
    done = machine.run(["-m", "cartpole_lessons", "doctor"], shell)
    assert (done.returncode, done.stderr) == (1, "")
    rows = {what: mark for mark, what in re.findall(r"^([✓!✗]) (.+?)  ", done.stdout, re.MULTILINE)}
    assert {what for what, mark in rows.items() if mark == "✗"} >= {"torch", "import numpy", "tqdm.py", "pygame", "ffmpeg", "home folder"}
    assert {what for what, mark in rows.items() if mark == "!"} >= {"old gym", "display", "kernel"}
    commands = re.findall(r"^ +-> (.+)$", done.stdout, re.MULTILINE)
    assert len(commands) >= 15
    assert all(is_well_formed(command) for command in commands)
    assert re.search(r"^\d+ problems to mend; \d+ optional things could be better\.$", done.stdout, re.MULTILINE)


def test_in_a_notebook_commands_are_for_cells(machine):
    machine.course("numpy>=1.26").install("gym", "0.26.2").install("pygame", "2.6.1").install("pygame-ce", "2.5.8")
    (machine.work / "numpy.py").touch()
    machine.program("env", "exit 0")
    found = machine.doctor(f"export PATH={machine.folder / 'bin'}", before=NOTEBOOK, HOME="/dev/null", IMAGEIO_FFMPEG_EXE="/bin/false")
    assert found["old gym"].remedy == "%pip uninstall -y gym"
    assert found["pygame"].remedy == "%pip uninstall -y pygame pygame-ce\n%pip install pygame-ce"
    assert found["display"].remedy == "!apt-get install -y xvfb\n%pip install pyvirtualdisplay"
    assert found["home folder"].remedy == "%env HOME=/tmp"
    assert found["numpy.py"].remedy.startswith("!mv ")
    assert "restart the kernel" in found["numpy.py"].found
    assert "kernel" not in found
    commands = [command for finding in found.values() for command in finding.remedy.splitlines()]
    assert [command for command in commands if not command.startswith(("%", "!"))] == []
    assert all(is_well_formed(command) for command in commands)


def test_in_a_real_notebook_it_shows_the_table(kernel, tmp_path):
    code = f"""
import importlib, os, cartpole_lessons
importlib.import_module("cartpole_lessons.doctor.diagnosis").load = lambda modules: {{"broken": {{}}, "loaded": [], "backend_error": "", "gpu": ""}}
os.chdir({str(tmp_path)!r})
open("gymnasium.py", "w").close()
code = cartpole_lessons.doctor().exit_code
"""
    messages = kernel.run(code)
    shown = printed(messages) + "".join(m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "display_data")
    assert "✗ gymnasium.py" in shown
    assert f"!mv {tmp_path}/gymnasium.py {tmp_path}/my_gymnasium.py" in shown
    assert printed(kernel.run(f"print(code); os.chdir({str(ROOT)!r})")) == "1\n"


def table(*severities):
    """A diagnosis with a finding of each severity."""
    return Diagnosis(tuple(Finding(f"thing {i}", severity, "is so", "mend it\nand this") for i, severity in enumerate(severities)))


@pytest.mark.parametrize(
    ("severities", "code", "verdict"),
    [
        (["ok"], 0, "Ready for the course."),
        (["ok", "note"], 0, "Ready for the course; 1 optional thing could be better."),
        (["problem"], 1, "1 problem to mend."),
        (["problem", "ok", "problem", "note", "note"], 1, "2 problems to mend; 2 optional things could be better."),
    ],
)
def test_only_problems_change_the_exit_code(severities, code, verdict):
    assert (table(*severities).exit_code, table(*severities).verdict()) == (code, verdict)


@pytest.mark.parametrize("rich", [True, False])
def test_the_table_is_printed_with_every_command_on_a_line_of_its_own(capsys, monkeypatch, missing, rich):
    monkeypatch.setattr(diagnosis, "examine", lambda students: table("ok", "problem"))
    if not rich:
        missing("rich", "rich.console", "rich.text")
    cartpole_lessons.doctor()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["✓ thing 0  is so", "           -> mend it", "           -> and this"]
    assert lines[-1] == "1 problem to mend."


def test_the_marks_are_letters_where_the_terminal_has_no_others(monkeypatch):
    monkeypatch.setattr(diagnosis, "examine", lambda students: table("ok", "note", "problem"))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "ascii"))
    cartpole_lessons.doctor()
    sys.stdout.flush()
    assert re.findall(r"^(\S) thing", out.getvalue().decode("ascii"), re.MULTILINE) == ["+", "!", "X"]


def test_a_question_that_fails_is_a_note_and_the_others_are_asked(monkeypatch):
    def memory():
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(diagnosis, "memory", memory)
    monkeypatch.setattr(diagnosis, "libraries", lambda students: [])
    found = {finding.what: finding for finding in diagnosis.examine([]).findings}
    assert (found["memory"].severity, found["memory"].found) == ("note", "could not be examined (ZeroDivisionError: of ours)")
    assert "kernel" in found


def test_looking_at_a_machine_leaves_nothing_behind(machine):
    machine.course().doctor()
    assert list(machine.work.iterdir()) == []
