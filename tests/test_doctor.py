"""The doctor on machines that are really broken: environments made for a test, where it says what is wrong and its commands mend it."""

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
from types import SimpleNamespace

import packaging
import pytest
from conftest import full_disk
from packaging.requirements import Requirement

import cartpole_lessons
from cartpole_lessons.doctor import diagnosis, questions
from cartpole_lessons.doctor.diagnosis import Diagnosis, Finding

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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

    def course(self, *requirements, real=False):
        """The course is installed and has these requirements; real: after its own, it has the packages of the Python that runs the tests."""
        places = [str(ROOT), *[sysconfig.get_path("purelib")] * real]
        (self.site / "course.pth").write_text("\n".join(places))
        return self.install("cartpole-lessons", "0.1.0", requirements=requirements)

    def install(self, name, version, source="", *, site=None, requirements=()):
        """A package of one module, which holds `source`."""
        site = site or self.site
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        fields = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
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
    assert [
        name for name in (Requirement(text).name for text in PROJECT["dependencies"]) if f"{name} " not in found["core packages"].found
    ] == []
    assert found["imports"].found == "the core packages load"


def test_pyprojects_conditions_are_those_that_the_doctor_reads():
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, diagnosis.OLDEST))
    assert {"", *PROJECT["optional-dependencies"]} == {*diagnosis.EXTRAS, "dev", "compare", "site", "all"}
    assert ";" not in str([PROJECT["dependencies"], PROJECT["optional-dependencies"]])


@pytest.mark.parametrize(("name", "is_folder"), [("gymnasium", False), ("matplotlib", True), ("random", False), ("email", False)])
def test_a_students_file_named_like_a_module_is_named_never_run_and_can_be_renamed(machine, name, is_folder):
    library = "gymnasium" if name in sys.stdlib_module_names else name
    machine.course(library).install(library, "1.0", "" if library == name else f"import {name}")
    file = machine.work / (name if is_folder else f"{name}.py")
    if is_folder:
        file.mkdir()
    (file / "__init__.py" if is_folder else file).write_text("raise SystemExit('my exercise')")
    finding = machine.doctor()[file.name]
    assert finding.severity == "problem"
    assert f"{file} is taken for the module {name}: rename it" in finding.found
    assert file.name not in machine.doctor(finding.remedy)
    assert (machine.work / f"my_{file.name}").exists()


def test_names_that_nothing_of_the_course_loads_are_the_students_and_looking_leaves_nothing_behind(machine):
    machine.course("gymnasium").install("gymnasium", "1.1")
    names = {"test.py", "utils.py", "agent.py", "statistics.py"}
    for name in names:
        (machine.work / name).touch()
    (machine.work / "gymnasium").mkdir()  # holds films, say: without an __init__.py it hides nothing
    found = machine.doctor()
    assert not {"gymnasium", *names} & set(found)
    assert found["imports"].severity == "ok"
    assert {path.name for path in machine.work.iterdir()} == {"gymnasium", *names}


def test_what_pythonpath_puts_before_a_library_is_named(machine, tmp_path):
    machine.course("gymnasium", "numpy>=1.26").install("gymnasium", "1.1").install("numpy", "2.0")
    machine.install("numpy", "1.20", "raise ImportError('torn')", site=tmp_path)
    other = tmp_path / "exercises"
    other.mkdir()
    (other / "gymnasium.py").touch()
    found = machine.doctor(PYTHONPATH=f"{tmp_path}{os.pathsep}{other}")
    assert found["gymnasium.py"].severity == "problem"
    assert str(other / "gymnasium.py") in found["gymnasium.py"].found
    assert found["two copies"].severity == "note"
    assert found["two copies"].remedy == found["import numpy"].remedy == "unset PYTHONPATH"
    assert str(tmp_path) in found["two copies"].found
    again = machine.doctor(found["two copies"].remedy, PYTHONPATH=tmp_path)
    assert "two copies" not in again
    assert again["imports"].severity == "ok"


def test_packages_of_the_users_that_hide_those_of_the_environment_are_a_note(monkeypatch, tmp_path):
    (tmp_path / "tqdm.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("site.USER_SITE", str(tmp_path))
    monkeypatch.setattr(diagnosis, "load", lambda modules: {"broken": {}, "loaded": [], "backend_error": ""})
    (finding,) = [finding for finding in diagnosis.libraries([]) if finding.what == "two copies"]
    assert (finding.severity, finding.remedy) == ("note", "export PYTHONNOUSERSITE=1")
    assert "tqdm" in finding.found


def test_a_backend_that_is_not_there_is_overruled(machine):
    machine.course("matplotlib", real=True)
    finding = machine.doctor(MPLBACKEND="no_such_backend")["plots"]
    assert (finding.severity, finding.remedy) == ("problem", "unset MPLBACKEND")
    assert "no_such_backend" in finding.found
    (machine.work / "matplotlibrc").write_text("backend: module://does_not_exist")
    assert machine.doctor()["plots"].remedy == "export MPLBACKEND=agg"


def test_a_python_that_is_too_old_or_newer_than_any_that_was_tested(monkeypatch):
    monkeypatch.setattr(diagnosis, "NEWEST_TESTED", (3, 10))
    newer = next(diagnosis.packages())
    monkeypatch.setattr(diagnosis, "OLDEST", (3, 99))
    older = next(diagnosis.packages())
    assert (newer.severity, older.severity) == ("note", "problem")
    assert older.remedy == "python3.10 -m venv .venv"
    assert "tested on 3.99 to 3.10" in older.found


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_it_runs_on_the_pythons_that_students_have(machine, version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} here")
    machine.python = python
    assert machine.doctor(PYTHONPATH=ROOT)["Python"].severity == ("problem" if version == "3.10" else "ok")


def test_packages_that_are_missing_or_too_old_have_the_command_that_brings_them(machine):
    machine.course("numpy>=1.26", "torch>=2.6", 'moviepy>=1.0.3; extra == "video"').install("numpy", "1.20")
    assert "numpy 1.20" in machine.doctor()["core packages"].found  # without `packaging` nothing can tell
    shutil.copytree(Path(packaging.__file__).parent, machine.site / "packaging")
    found = machine.doctor()
    pip = f"{machine.python} -m ensurepip && {machine.python} -m pip install"
    assert found["numpy"] == Finding("numpy", "problem", "numpy is 1.20, but the course needs >=1.26", f'{pip} "numpy>=1.26"')
    assert found["torch"] == Finding("torch", "problem", "torch is not installed", f'{pip} "torch>=2.6"')
    video = found["films during a training"]
    assert (video.severity, video.remedy) == ("note", f'{pip} "moviepy>=1.0.3"')


def test_a_course_that_is_not_installed_is_installed_from_its_folder(machine):
    (machine.site / "course.pth").write_text(str(ROOT))
    assert machine.doctor()["packages"].remedy.endswith(f"{machine.python} -m pip install -e {shlex.quote(str(ROOT))}")


def test_libraries_that_do_not_load_or_crash_are_told_apart_and_take_nothing_down(machine):
    machine.course("numpy>=1", "tqdm").install("numpy", "1.26", "raise ImportError('libblas.so is missing')")
    machine.install("tqdm", "4", "import os; os.kill(os.getpid(), 9)")
    found = machine.doctor()
    assert {what for what in found if what.startswith("import")} == {"import numpy", "import tqdm"}
    assert "libblas.so is missing" in found["import numpy"].found
    assert "Python itself ended" in found["import tqdm"].found
    assert found["import numpy"].remedy.endswith('-m pip install --force-reinstall --no-deps "numpy>=1"')


def test_pygame_is_there_once_and_gym_beside_gymnasium_is_a_note(machine):
    machine.course("pip", 'pygame-ce>=2; extra == "render"').install("pip", "24").install("gym", "0.26.2")
    found = machine.doctor()
    assert (found["pygame"].severity, found["old gym"].severity) == ("note", "note")
    assert found["old gym"].remedy.endswith("-m pip uninstall -y gym")
    machine.install("pygame", "2.6.1")
    assert "pygame" not in machine.doctor()  # serves as well, as on Colab
    machine.install("pygame-ce", "2.5.8", "raise ImportError('libSDL2 is missing')")
    finding = machine.doctor()["pygame"]
    assert finding.severity == "problem"
    assert finding.remedy == f"{machine.python} -m pip uninstall -y pygame pygame-ce && {machine.python} -m pip install pygame-ce"
    shutil.rmtree(machine.site / "pygame-2.6.1.dist-info")
    assert "libSDL2 is missing" in machine.doctor()["pygame"].found


def test_a_display_that_is_named_but_does_not_answer_is_no_display_and_xvfb_makes_one(machine, no_screen):
    machine.course()
    path = f"{machine.folder / 'bin'}{os.pathsep}/usr/nowhere"
    finding = machine.doctor(DISPLAY=":987")["display"]
    assert (finding.severity, finding.remedy) == ("note", "unset DISPLAY")
    assert "DISPLAY is :987, but nothing answers there" in finding.found
    machine.program("env", "exit 0")
    finding = machine.doctor(f"export PATH={path}")["display"]
    assert (finding.severity, finding.remedy) == ("note", "apt-get install -y xvfb")
    machine.program("sudo", "exit 0")
    assert machine.doctor(f"export PATH={path}")["display"].remedy == "sudo apt-get install -y xvfb"
    machine.program("Xvfb", "exit 0")
    assert machine.doctor(f"export PATH={path}")["display"].severity == "ok"


def test_an_ffmpeg_that_is_missing_does_not_run_or_cannot_encode_is_told(monkeypatch, missing):
    def found():
        (finding,) = diagnosis.films()
        return finding

    assert found().severity == "ok"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    assert (found().severity, found().remedy) == ("problem", "unset IMAGEIO_FFMPEG_EXE")
    assert "/nowhere/ffmpeg does not run" in found().found
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/true")
    assert "/bin/true cannot encode H.264" in found().found
    missing("imageio_ffmpeg")
    assert found().remedy.endswith("-m pip install imageio-ffmpeg")


@pytest.mark.parametrize(
    ("what", "shell"),
    [("home folder", "export HOME=/dev/null"), ("current folder", 'gone="$(mktemp -d)"; cd "$gone"; rmdir "$gone"')],
)
def test_a_folder_that_cannot_be_written_is_mended(machine, what, shell):
    finding = machine.course().doctor(shell)[what]
    assert finding.severity == "problem"
    assert machine.doctor(f"{shell}\n{finding.remedy}")[what].severity == "ok"


def test_a_disk_that_is_full_or_nearly_is_told(monkeypatch):
    with full_disk(0):
        assert {finding.severity for finding in diagnosis.folders()} == {"problem"}
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**20))
    for finding in diagnosis.folders():
        assert finding.severity == "problem"
        assert "1 MB free" in finding.found


@pytest.mark.parametrize(("limit", "severity"), [("max", "ok"), (2**30, "problem"), (2**30 + 3 * 2**28, "note")])
def test_the_memory_that_a_container_leaves_counts(tmp_path, monkeypatch, limit, severity):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{2**30}\n")
    monkeypatch.setattr(questions, "CGROUP", tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**32))
    (finding,) = diagnosis.memory()
    assert finding.severity == severity


def test_a_terminal_in_another_environment_is_a_note(machine):
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
    assert machine.doctor(finding.remedy, **variables)["kernel"].severity == "ok"


def test_jupyter_without_a_python_kernel_or_no_jupyter_is_a_note(monkeypatch, missing):
    def none(self, name):
        raise KeyError(name)

    monkeypatch.setattr("jupyter_client.kernelspec.KernelSpecManager.get_kernel_spec", none)
    finding = list(diagnosis.environments())[-1]
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install ipykernel")
    missing("jupyter_client", "jupyter_client.kernelspec")
    finding = list(diagnosis.environments())[-1]
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install jupyterlab ipykernel")


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


def test_in_a_notebook_commands_are_for_cells(machine):
    machine.course("numpy>=1.26").install("gym", "0.26.2").install("pygame", "2.6.1").install("pygame-ce", "2.5.8")
    (machine.work / "numpy.py").touch()
    machine.program("env", "exit 0")
    found = machine.doctor(f"export PATH={machine.folder / 'bin'}", before=NOTEBOOK, HOME="/dev/null", IMAGEIO_FFMPEG_EXE="/bin/false")
    assert found["old gym"].remedy == "%pip uninstall -y gym"
    assert found["pygame"].remedy == "%pip uninstall -y pygame pygame-ce\n%pip install pygame-ce"
    assert found["display"].remedy == "!apt-get install -y xvfb"
    assert found["home folder"].remedy == "%env HOME=/tmp"
    assert found["numpy.py"].remedy.startswith("!mv ")
    assert "restart the kernel" in found["numpy.py"].found
    assert "kernel" not in found
    commands = [command for finding in found.values() for command in finding.remedy.splitlines()]
    assert [command for command in commands if not command.startswith(("%", "!"))] == []
    assert all(is_well_formed(command) for command in commands)


def table(*severities):
    """A diagnosis with a finding of each severity."""
    return Diagnosis(tuple(Finding(f"thing {i}", severity, "is so", "mend it\nand this") for i, severity in enumerate(severities)))


def test_only_problems_change_the_exit_code():
    ready, broken = table("ok", "note"), table("problem", "ok", "problem", "note", "note")
    assert (ready.exit_code, ready.verdict()) == (0, "Ready for the course; 1 optional thing could be better.")
    assert (broken.exit_code, broken.verdict()) == (1, "2 problems to mend; 2 optional things could be better.")


def test_the_table_has_every_command_on_a_line_of_its_own_and_letters_where_the_terminal_has_no_marks(monkeypatch):
    monkeypatch.setattr(diagnosis, "examine", lambda students: table("ok", "note", "problem"))
    shown = {}
    for encoding in ("utf-8", "ascii"):
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
        cartpole_lessons.doctor()
        sys.stdout.flush()
        shown[encoding] = out.getvalue().decode(encoding).splitlines()
    assert shown["utf-8"][:3] == ["✓ thing 0  is so", "           -> mend it", "           -> and this"]
    assert [line[0] for line in shown["ascii"] if "thing" in line[:8]] == ["+", "!", "X"]
    assert shown["ascii"][-1] == "1 problem to mend; 1 optional thing could be better."


def test_a_question_that_fails_is_a_note_and_the_others_are_asked(monkeypatch):
    def memory():
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(diagnosis, "memory", memory)
    monkeypatch.setattr(diagnosis, "libraries", lambda students: [])
    found = {finding.what: finding for finding in diagnosis.examine([]).findings}
    assert (found["memory"].severity, found["memory"].found) == ("note", "could not be examined (ZeroDivisionError: of ours)")
    assert "kernel" in found
