"""Every finding of the doctor, on a machine that is really broken in that way; and where a command can be run here, that it mends it."""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

import pytest
from conftest import printed

import cartpole_lessons

doctor = importlib.import_module("cartpole_lessons.doctor")  # as an attribute of the package, the name is the function

ROOT = Path(__file__).resolve().parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="broken by means that Linux has")
needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")

# Asks the questions named in its arguments, after the code in its first one, and prints what is found.
ASK = """
import importlib, json, sys
doctor = importlib.import_module("cartpole_lessons.doctor")
exec(sys.argv[1])
print(json.dumps([vars(finding) for question in sys.argv[2:] for finding in getattr(doctor, question)()]))
"""


def surroundings(folder=None, **variables):
    """Environment variables for another process: those of this one, `folder` searched first by Python, a value of None taken away."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, [folder, ROOT])))}
    environment |= {name: str(value) for name, value in variables.items() if value is not None}
    return {name: value for name, value in environment.items() if variables.get(name, "") is not None}


def ask(*questions, python=None, folder=None, before="", cwd=None, **variables):
    """{what: Finding} of `questions`, asked in the surroundings described: in this process where that will do, else in a fresh one.

    folder: searched first by Python; before: code to run first; variables: of the environment, None to take one away.
    """
    if not (python or before or cwd):
        with these(folder, surroundings(folder, **variables)):
            return {finding.what: finding for question in questions for finding in getattr(doctor, question)()}
    command = [str(python or sys.executable), "-c", ASK, before, *questions]
    done = subprocess.run(command, env=surroundings(folder, **variables), cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {finding["what"]: doctor.Finding(**finding) for finding in json.loads(done.stdout.splitlines()[-1])}


@contextlib.contextmanager
def these(folder, environment):
    """This process in that environment, as if it had just started: modules that `folder` hides are forgotten."""
    kept, forgotten, path = dict(os.environ), {}, list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
        hidden = {file.stem for file in Path(folder).glob("*.py")}
        forgotten = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in hidden}
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    importlib.invalidate_caches()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
        sys.path[:] = path
        for name in list(sys.modules) if folder is not None else []:
            if name.partition(".")[0] in hidden:
                del sys.modules[name]
        sys.modules.update(forgotten)
        tempfile.tempdir = None
        importlib.invalidate_caches()


def is_well_formed(command):
    """`command` is something a shell can run, or a cell: its program exists, what it installs is a valid requirement, no host is named."""
    assert "//" not in command
    if command.startswith(("%", "!")):
        command = command[1:]
    else:
        assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0
    for part in command.split(" && "):
        words = shlex.split(part)
        assert shutil.which(words[0]) or words[0] in ("pip", "env", "cd", "unset", "export", "ulimit", "source", "sudo", "apt-get"), part
        if "install" in words and "apt-get" not in words and "ipykernel" not in words[:3]:
            from packaging.requirements import Requirement

            assert [Requirement(word) for word in words[words.index("install") + 1 :] if not word.startswith("-")], part
    return True


def mended(before, finding, question):
    """Whether a shell that breaks a thing by `before`, and then runs the remedy, finds the thing in order."""
    script = f"set -e\n{before}\n{finding.remedy}\nexec {shlex.quote(sys.executable)} -c {shlex.quote(ASK)} '' {question}"
    done = subprocess.run(["bash", "-c", script], env=surroundings(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (again,) = [found for found in json.loads(done.stdout.splitlines()[-1]) if found["what"] == finding.what]
    return again["severity"] == "ok"


def distribution(folder, name, version, **fields):
    """Metadata as if `name` were installed in `folder`, which Python searches first."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [
        f"{field.replace('_', '-')}: {value}"
        for field, value in {"Metadata_Version": "2.1", "Name": name, "Version": version, **fields}.items()
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


def program(folder, name, script):
    """A program called `name` in `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A Python that has nothing installed, not even pip; and the metadata of the course."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False)
    requirements = importlib.metadata.requires("cartpole-lessons")
    info = folder / "site" / "cartpole_lessons-0.1.0.dist-info"
    info.mkdir(parents=True)
    header = ["Metadata-Version: 2.1", "Name: cartpole-lessons", "Version: 0.1.0", "Requires-Python: >=3.11"]
    (info / "METADATA").write_text("\n".join(header + [f"Requires-Dist: {text}" for text in requirements]) + "\n")
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return {"python": python, "folder": folder / "site"}


# Python and packages ------------------------------------------------------------------------------------------------------------


def test_this_machine_runs_the_tests_so_nothing_is_missing_from_its_core():
    found = ask("_python", "_packages", "_pygame", "_old_gym", "_ffmpeg", "_folders", "_cores")
    assert {what: finding for what, finding in found.items() if finding.severity == "problem"} == {}
    core = {re.match(r"[\w-]+", text)[0] for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]}
    assert [name for name in core if f"{name} " not in found["core packages"].found] == []


def test_pyprojects_conditions_are_those_that_the_doctor_reads():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == doctor.OLDEST
    every = [*project["dependencies"], *(text for texts in project["optional-dependencies"].values() for text in texts)]
    assert [text for text in every if ";" in text] == []
    assert set(project["optional-dependencies"]) == {*doctor.EXTRAS, "dev", "compare", "all"}


def test_a_python_that_is_too_old_for_the_course(tmp_path):
    distribution(tmp_path, "cartpole-lessons", "0.1.0", Requires_Python=">=3.99")
    finding = ask("_python", folder=tmp_path)["Python"]
    assert finding.severity == "problem"
    assert ">=3.99" in finding.found
    assert finding.remedy == "python3.13 -m venv .venv"


def test_a_python_that_is_newer_than_any_that_was_tested(monkeypatch):
    monkeypatch.setattr(doctor, "NEWEST_TESTED", (3, 10))
    finding = ask("_python")["Python"]
    assert finding.severity == "note"
    assert "tested up to 3.10" in finding.found


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_it_runs_on_the_pythons_that_students_have(version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version} here")
    finding = ask("_python", python=python)["Python"]
    assert finding.severity == ("problem" if version == "3.10" else "ok")


def test_a_package_that_is_too_old(tmp_path):
    distribution(tmp_path, "numpy", "1.20.0")
    distribution(tmp_path, "moviepy", "0.2")
    found = ask("_packages", folder=tmp_path)
    assert found["numpy"].severity == "problem"
    assert "1.20.0, but the course needs >=1.26" in found["numpy"].found
    assert found["numpy"].remedy == f'{sys.executable} -m pip install "numpy>=1.26"'
    assert "numpy" not in found["core packages"].found
    optional = found["films during a training"]
    assert (optional.severity, optional.remedy) == ("note", f'{sys.executable} -m pip install "moviepy>=1.0.3"')


def test_an_environment_where_nothing_is_installed_not_even_pip(bare):
    found = ask("_packages", "_pygame", "_ffmpeg", "_kernel_spec", **bare)
    for name in ("torch", "gymnasium", "numpy"):
        assert found[name].severity == "problem"
        assert found[name].found == f"{name} is not installed"
        assert is_well_formed(found[name].remedy)
        assert found[name].remedy.startswith(f"{bare['python']} -m ensurepip && {bare['python']} -m pip install")
    assert found["ffmpeg"].severity == "problem"
    assert {found[what].severity for what in ("pygame", "kernel", "JupyterLab", "the command line")} == {"note"}


def test_a_course_that_is_not_installed(bare, monkeypatch):
    finding = ask("_packages", python=bare["python"])["packages"]
    assert finding.severity == "problem"
    assert finding.remedy.endswith(f"{bare['python']} -m pip install -e {shlex.quote(str(ROOT))}")
    monkeypatch.setattr(doctor, "PACKAGE", "no-such-course")
    found = ask("_python", "_packages", "_imports")
    assert (found["packages"].severity, found["Python"].severity) == ("problem", "ok")
    assert "imports" not in found


def test_a_package_that_is_missing_and_pip_too(tmp_path, missing):
    distribution(tmp_path, "cartpole-lessons", "0.1.0", Requires_Dist="no-such-package>=2")
    missing("pip")
    finding = ask("_packages", folder=tmp_path)["no-such-package"]
    assert (finding.severity, finding.found) == ("problem", "no-such-package is not installed")
    assert finding.remedy == f'{sys.executable} -m ensurepip && {sys.executable} -m pip install "no-such-package>=2"'
    assert is_well_formed(finding.remedy)


def test_where_nothing_can_compare_versions_none_is_called_wrong(tmp_path, missing):
    distribution(tmp_path, "numpy", "1.20.0")
    missing("packaging.specifiers")
    assert ask("_packages", folder=tmp_path)["numpy"].severity == "problem"  # pip brings its own
    missing("pip._vendor.packaging.specifiers")
    assert "numpy 1.20.0" in ask("_packages", folder=tmp_path)["core packages"].found


@linux
def test_packages_that_do_not_load_and_a_gpu_that_torch_does_not_see(tmp_path):
    for package, part in (("scipy", "linalg"), ("PIL", "Image")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / f"{part}.py").touch()
    (tmp_path / "scipy" / "linalg.py").write_text("raise ImportError('libblas.so is missing')")
    (tmp_path / "tqdm.py").write_text("import os; os.kill(os.getpid(), 9)")  # as a crash in a library would
    for module in ("torch", "gymnasium", "matplotlib", "IPython", "imageio_ffmpeg", "numpy"):  # quicker than the real ones
        (tmp_path / f"{module}.py").write_text("class cuda: is_available = staticmethod(bool)\nclass backends: mps = cuda\n")
    program(tmp_path / "bin", "nvidia-smi", "echo 'GPU 0: NVIDIA H200'")
    found = ask("_imports", folder=tmp_path, PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert found.keys() == {"import scipy.linalg", "import tqdm", "GPU"}
    assert found["import scipy.linalg"].severity == found["import tqdm"].severity == "problem"
    assert "libblas.so is missing" in found["import scipy.linalg"].found
    assert "Python itself ended" in found["import tqdm"].found
    assert found["import scipy.linalg"].remedy.endswith('-m pip install --force-reinstall --no-deps "scipy>=1.15"')
    assert found["GPU"].severity == "note"
    assert all(is_well_formed(finding.remedy) for finding in found.values())
    for file in ("scipy/linalg.py", "tqdm.py"):
        (tmp_path / file).write_text("")
    assert [ask("_imports", folder=tmp_path)[what].severity for what in ("imports", "GPU")] == ["ok", "ok"]
    (tmp_path / "torch.py").write_text(
        "class cuda:\n    is_available = staticmethod(lambda: True)\n    get_device_name = staticmethod(lambda: 'NVIDIA H200')\n"
    )
    assert ask("_imports", folder=tmp_path)["GPU"] == doctor.Finding("GPU", "ok", "NVIDIA H200; the lessons do not need it")


def test_pygame_over_pygame_ce(tmp_path, bare):
    distribution(tmp_path, "pygame", "2.6.1")
    finding = ask("_pygame", folder=tmp_path)["pygame"]
    assert finding.severity == "problem"
    assert "pygame 2.6.1 and pygame-ce" in finding.found
    assert finding.remedy == f"{sys.executable} -m pip uninstall -y pygame pygame-ce && {sys.executable} -m pip install pygame-ce"
    assert is_well_formed(finding.remedy)
    (tmp_path / "pygame.py").touch()
    alone = ask("_pygame", python=bare["python"], folder=tmp_path)["pygame"]
    assert (alone.severity, alone.remedy) == ("ok", "")  # as on Colab


def test_no_pygame_and_one_that_does_not_load(tmp_path, bare):
    finding = ask("_pygame", **bare)["pygame"]
    assert finding.severity == "note"
    assert finding.remedy.endswith("-m pip install pygame-ce")
    (tmp_path / "pygame.py").write_text("raise ImportError('libSDL2 is missing')")
    finding = ask("_pygame", folder=tmp_path)["pygame"]
    assert finding.severity == "problem"
    assert "libSDL2 is missing" in finding.found
    assert is_well_formed(finding.remedy)


def test_old_gym_installed_lying_around_and_imported(tmp_path):
    assert ask("_old_gym")["old gym"].severity == "ok"
    (tmp_path / "gym.py").touch()
    lying = ask("_old_gym", folder=tmp_path)["old gym"]
    assert (lying.severity, lying.remedy) == ("note", "")
    distribution(tmp_path, "gym", "0.26.2")
    installed = ask("_old_gym", folder=tmp_path)["old gym"]
    assert (installed.severity, installed.remedy) == ("note", f"{sys.executable} -m pip uninstall -y gym")
    imported = ask("_old_gym", folder=tmp_path, before="import gym")["old gym"]
    assert imported.severity == "problem"
    assert "gym 0.26.2" in imported.found
    assert "`import gymnasium as gym`" in imported.found


# What the machine offers --------------------------------------------------------------------------------------------------------


@linux
def test_no_display_and_no_virtual_one(tmp_path, missing):
    nothing = {"DISPLAY": None, "WAYLAND_DISPLAY": None}
    program(tmp_path / "bin", "apt-get", "exit 0")
    finding = ask("_display", PATH=tmp_path / "bin", **nothing)["display"]
    assert finding.severity == "note"
    assert finding.remedy.endswith("apt-get install -y xvfb")
    program(tmp_path / "bin", "Xvfb", "exit 0")
    assert ask("_display", PATH=tmp_path / "bin", **nothing)["display"].severity == "ok"
    missing("pyvirtualdisplay")
    finding = ask("_display", PATH=tmp_path / "bin", **nothing)["display"]
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install pyvirtualdisplay")
    (tmp_path / "bin" / "Xvfb").unlink()
    assert " && " in ask("_display", PATH=tmp_path / "bin", **nothing)["display"].remedy


@linux
@pytest.mark.parametrize(
    ("manager", "command"),
    [("dnf", "dnf install -y xorg-x11-server-Xvfb"), ("pacman", "pacman -S xorg-server-xvfb"), ("apk", "apk add xvfb"), (None, "apt-get install -y xvfb")],
)  # fmt: skip
def test_each_system_gets_the_command_of_its_own_package_manager(tmp_path, manager, command):
    (tmp_path / "bin").mkdir()
    if manager:
        program(tmp_path / "bin", manager, "exit 0")
    remedy = ask("_display", PATH=tmp_path / "bin", DISPLAY=None, WAYLAND_DISPLAY=None)["display"].remedy
    assert remedy == command
    program(tmp_path / "bin", "sudo", "exit 0")
    remedy = ask("_display", before="os = doctor.os; os.geteuid = lambda: 1000", PATH=tmp_path / "bin", DISPLAY=None, WAYLAND_DISPLAY=None)
    assert remedy["display"].remedy == f"sudo {command}"


@linux
@needs_xvfb
def test_a_display_that_answers_and_one_that_does_not():
    from cartpole_lessons.display import virtual_display

    with virtual_display():
        assert ask("_display")["display"] == doctor.Finding("display", "ok", os.environ["DISPLAY"])
    finding = ask("_display", DISPLAY=":987", WAYLAND_DISPLAY=None)["display"]
    assert finding.severity == "note"
    assert ":987" in finding.found
    assert mended("export DISPLAY=:987; unset WAYLAND_DISPLAY", finding, "_display")


@linux
def test_an_ffmpeg_that_does_not_run_is_missing_or_cannot_encode(tmp_path):
    finding = ask("_ffmpeg", IMAGEIO_FFMPEG_EXE="/bin/false")["ffmpeg"]
    assert finding.severity == "problem"
    assert "/bin/false" in finding.found
    assert mended("export IMAGEIO_FFMPEG_EXE=/bin/false", finding, "_ffmpeg")
    poor = program(tmp_path / "bin", "ffmpeg", "echo 'ffmpeg version 6.0 Copyright'")
    finding = ask("_ffmpeg", IMAGEIO_FFMPEG_EXE=poor)["ffmpeg"]
    assert finding.severity == "problem"
    assert "cannot encode H.264" in finding.found
    (tmp_path / "imageio_ffmpeg.py").write_text("def get_ffmpeg_exe(): raise RuntimeError('No ffmpeg exe could be found')")
    finding = ask("_ffmpeg", folder=tmp_path, IMAGEIO_FFMPEG_EXE=None)["ffmpeg"]
    assert finding.severity == "problem"
    assert is_well_formed(finding.remedy)
    (tmp_path / "imageio_ffmpeg.py").write_text("raise ModuleNotFoundError(name='imageio_ffmpeg')")
    finding = ask("_ffmpeg", folder=tmp_path)["ffmpeg"]
    assert (finding.severity, finding.remedy) == ("problem", f"{sys.executable} -m pip install imageio-ffmpeg")


@linux
def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    finding = ask("_folders", HOME=tmp_path / "file")["home folder"]
    assert finding.severity == "problem"
    assert f"{tmp_path}/file" in finding.found
    assert mended(f"export HOME={tmp_path}/file", finding, "_folders")

    gone = "import os, tempfile; folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)"
    finding = ask("_folders", before=gone)["current folder"]
    assert finding.severity == "problem"
    assert mended('gone="$(mktemp -d)"; cd "$gone"; rmdir "$gone"', finding, "_folders")

    finding = ask("_folders", TMPDIR=tmp_path / "file" / "deep")["temporary folder"]
    assert finding.severity == "note"
    assert mended(f"export TMPDIR={tmp_path}/file/deep", finding, "_folders")

    # No file may grow at all: as on a disk that is full, wherever one looks.
    full = ask("_folders", before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
    assert {finding.severity for finding in full.values()} == {"problem"}
    assert all(is_well_formed(finding.remedy) for finding in full.values())


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB that is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
        if shutil.which("mount")
        else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
            file.write(bytes(2 * 2**20))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@linux
def test_a_disk_that_is_full(small_disk):
    found = ask("_disk", "_folders", cwd=small_disk)
    assert found["free disk"].severity == "problem"
    assert found["free disk"].found == f"0 MB at {small_disk}"
    assert is_well_formed(found["free disk"].remedy)
    assert found["current folder"].severity == "problem"
    assert "No space left" in found["current folder"].found
    (small_disk / "filler").unlink()
    assert ask("_folders", cwd=small_disk)["current folder"].severity == "ok"


@linux
@pytest.mark.parametrize(("limit", "severity"), [(2**30, "problem"), (3 * 2**30, "note"), (2**40, "ok")])
def test_a_limit_on_addresses(limit, severity):
    finding = ask("_memory", before=f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, -1))")["memory"]
    assert finding.severity == severity
    if severity != "ok":
        assert "ulimit -v" in finding.found
        assert mended(f"ulimit -S -v {limit // 1024}", finding, "_memory")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limits", "left"),
    [({"": "max"}, None), ({"": 3 * 2**29}, 2**29), ({"/a/b": 2**31, "/a": 2**30}, 0), ({"/a/b": "max", "": 2**32}, 3 * 2**30), ({"/a/b": str(2**63 - 4096)}, None)],
)  # fmt: skip
def test_the_memory_that_a_control_group_leaves(tmp_path, monkeypatch, version, limits, left):
    """A laid-out tree of files, because groups of our own can be made on few machines; 1 GB is in use everywhere."""
    root, limit_file, used_file = (
        (tmp_path, "memory.max", "memory.current")
        if version == 2
        else (tmp_path / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    for path, limit in limits.items():
        folder = root / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit_file).write_text(f"{limit}\n")
        (folder / used_file).write_text(f"{2**30}\n")
    (tmp_path / "own").write_text("5:cpu,cpuacct:/\n" + ("0::/a/b\n" if version == 2 else "4:memory:/a/b\n"))
    monkeypatch.setattr(doctor, "CGROUPS", tmp_path)
    monkeypatch.setattr(doctor, "OWN_CGROUPS", tmp_path / "own")
    assert doctor._cgroup_remaining() == left
    (finding,) = doctor._memory()
    if left == 0:
        assert (finding.severity, finding.found) == ("problem", "0 MB left in this container")
        assert "docker run --memory" in finding.remedy
    monkeypatch.setattr(doctor, "OWN_CGROUPS", tmp_path / "none")
    assert doctor._cgroup_remaining() is None


def test_memory_is_measured_without_psutil_too(tmp_path, monkeypatch):
    (tmp_path / "psutil.py").write_text("raise ImportError")
    if Path("/proc/meminfo").exists():
        assert re.search(r"[\d.]+ [GM]B ", ask("_memory", folder=tmp_path)["memory"].found)
    monkeypatch.setattr(doctor, "_free_memory", lambda: None)
    monkeypatch.setattr(doctor, "_cgroup_remaining", lambda: None)
    (finding,) = doctor._memory()
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install psutil")


# Environments -------------------------------------------------------------------------------------------------------------------


@linux
def test_a_terminal_in_another_environment(bare):
    path = f"{bare['python'].parent}{os.pathsep}{os.environ['PATH']}"
    finding = ask("_environments", PATH=path)["terminal"]
    assert finding.severity == "note"
    assert str(bare["python"]) in finding.found
    if (Path(sys.prefix) / "bin" / "activate").exists():
        assert mended(f"export PATH={shlex.quote(path)}", finding, "_environments")
    assert ask("_environments", python=bare["python"], PATH=path)["terminal"].severity == "ok"


@pytest.fixture
def kernel_of(tmp_path):
    """`kernel_of(python, folder)`: Jupyter's kernel python3, said in `folder` to run `python`."""

    def write(python, folder):
        kernel = folder / "kernels" / "python3"
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text(
            json.dumps({"argv": [str(python), "-m", "ipykernel_launcher"], "display_name": "x", "language": "python"})
        )
        return folder

    return write


@linux
def test_a_kernel_in_another_environment_or_in_none(tmp_path, bare, kernel_of):
    """The user's own kernel python3 hides that of the environment."""
    users = {"JUPYTER_PREFER_ENV_PATH": "0", "JUPYTER_PATH": None}
    for python, said in ((bare["python"], str(bare["python"].parent.parent)), (tmp_path / "deleted" / "python", "which does not run")):
        folder = kernel_of(python, tmp_path / python.parent.name)
        finding = ask("_kernel_spec", JUPYTER_DATA_DIR=folder, **users)["kernel"]
        assert finding.severity == "problem"
        assert said in finding.found
        assert finding.remedy == f"{sys.executable} -m ipykernel install --user --name python3"
        assert mended(f"export JUPYTER_PREFER_ENV_PATH=0 JUPYTER_DATA_DIR={folder}; unset JUPYTER_PATH", finding, "_kernel_spec")
    folder = kernel_of(sys.executable, tmp_path / "same")
    assert ask("_kernel_spec", JUPYTER_DATA_DIR=folder, **users)["kernel"].severity == "ok"


@linux
def test_a_kernel_that_jupyter_path_brings_in(tmp_path, bare, kernel_of):
    folder = kernel_of(bare["python"], tmp_path / "shared")
    finding = ask("_kernel_spec", JUPYTER_PATH=folder)["kernel"]
    assert (finding.severity, finding.remedy) == ("problem", "unset JUPYTER_PATH")
    assert mended(f"export JUPYTER_PATH={folder}", finding, "_kernel_spec")


def test_jupyter_without_a_python_kernel_or_no_jupyter(monkeypatch, missing):
    from jupyter_client import kernelspec

    def none(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", none)
    finding = ask("_kernel_spec")["kernel"]
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install ipykernel")
    missing("jupyter_client.kernelspec")
    finding = ask("_kernel_spec")["kernel"]
    assert (finding.severity, finding.remedy) == ("note", f"{sys.executable} -m pip install jupyterlab ipykernel")


# The table ----------------------------------------------------------------------------------------------------------------------


def command_line(folder, *, python=sys.executable, cwd=None, **variables):
    """`cartpole-lessons doctor` as a process of its own."""
    command = [str(python), "-m", "cartpole_lessons", "doctor"]
    return subprocess.run(
        command, env=surroundings(folder, **variables), cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=120
    )


@linux
def test_everything_broken_at_once_is_a_row_each_a_command_each_and_exit_code_1(bare, tmp_path):
    """On bare Python, without rich and typer, without a home: the doctor still says all of it."""
    site = tmp_path / "site"
    shutil.copytree(bare["folder"], site)
    (tmp_path / "file").touch()
    (site / "gym.py").touch()
    for name, version in (("gym", "0.26.2"), ("pygame", "2.6.1"), ("pygame-ce", "2.5.8"), ("numpy", "1.20")):
        distribution(site, name, version)
    (site / "numpy.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    done = command_line(site, python=bare["python"], HOME=tmp_path / "file", DISPLAY=None, WAYLAND_DISPLAY=None, PATH=tmp_path / "none")
    assert (done.returncode, done.stderr) == (1, "")
    rows = {what: mark for mark, what in re.findall(r"^([✓!✗]) (.+?)  ", done.stdout, re.MULTILINE)}
    assert {what for what, mark in rows.items() if mark == "✗"} >= {"torch", "gymnasium", "import numpy", "pygame", "ffmpeg", "home folder"}
    assert {what for what, mark in rows.items() if mark == "!"} >= {"old gym", "display", "kernel"}
    commands = re.findall(r"^ +-> (.+)$", done.stdout, re.MULTILINE)
    assert len(commands) >= 15
    assert all(is_well_formed(command) for command in commands)
    assert re.search(r"^\d+ problems to mend; \d+ optional things could be better\.$", done.stdout, re.MULTILINE)


def test_a_machine_in_order_is_a_table_and_exit_code_0():
    done = command_line(None)
    assert done.returncode == (1 if "✗" in done.stdout else 0)
    assert done.stdout.count("✓") > 12
    assert "imports" in done.stdout


def test_the_marks_are_letters_where_the_terminal_has_no_others(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: findings("ok", "note", "problem"))
    printed_bytes = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed_bytes, "ascii"))
    cartpole_lessons.doctor()
    sys.stdout.flush()
    assert re.findall(r"^(\S) thing", printed_bytes.getvalue().decode("ascii"), re.MULTILINE) == ["+", "!", "X"]


def findings(*severities):
    """A diagnosis with a finding of each severity."""
    return doctor.Diagnosis(
        tuple(doctor.Finding(f"thing {i}", severity, "is <so>", "mend it\nand this") for i, severity in enumerate(severities))
    )


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
    diagnosis = findings(*severities)
    assert (diagnosis.exit_code, diagnosis.verdict(), repr(diagnosis)) == (code, verdict, f"<doctor: {verdict}>")
    assert [finding.severity for finding in diagnosis.problems] == ["problem"] * severities.count("problem")


def test_the_table_in_text_and_html_has_every_command_on_its_own():
    diagnosis = findings("ok", "problem")
    assert diagnosis.to_text().splitlines()[:3] == ["✓ thing 0  is <so>", "           -> mend it", "           -> and this"]
    html = diagnosis.to_html()
    assert html.count("<tr>") == 2
    assert "is &lt;so&gt;<br><code>mend it</code><br><code>and this</code>" in html


@pytest.mark.parametrize("rich", [True, False])
def test_the_function_prints_and_returns_what_it_found(capsys, monkeypatch, missing, rich):
    monkeypatch.setattr(doctor, "examine", lambda: findings("ok", "problem"))
    if not rich:
        missing("rich", "rich.console", "rich.text")
    diagnosis = cartpole_lessons.doctor()
    assert diagnosis.exit_code == 1
    assert capsys.readouterr().out == diagnosis.to_text() + "\n"


def test_a_question_that_fails_is_a_note_and_the_others_are_asked(monkeypatch):
    def broken():
        raise ZeroDivisionError("of ours")

    broken.__name__ = "_memory"
    for name in ("_imports", "_ffmpeg", "_environments", "_pygame"):  # those that take their time
        monkeypatch.setattr(doctor, name, lambda: [], raising=True)
    monkeypatch.setattr(doctor, "_memory", broken)
    found = {finding.what: finding for finding in doctor.examine().findings}
    assert found["memory"].severity == "note"
    assert "ZeroDivisionError: of ours" in found["memory"].found
    assert "CPU cores" in found


@linux
def test_in_a_notebook_commands_are_for_cells(tmp_path, monkeypatch, missing, bare):
    monkeypatch.setattr(doctor, "in_notebook", lambda: True)
    monkeypatch.setitem(sys.modules, "gym", None)
    for name, version in (("gym", "0.26.2"), ("pygame", "2.6.1"), ("numpy", "1.20")):
        distribution(tmp_path, name, version)
    missing("pyvirtualdisplay")
    (tmp_path / "file").touch()
    python = program(tmp_path / "bin", "python", f'exec {bare["python"]} "$@"')
    found = ask(
        "_packages", "_pygame", "_old_gym", "_display", "_ffmpeg", "_folders", "_environments", folder=tmp_path,
        DISPLAY=None, WAYLAND_DISPLAY=None, HOME=tmp_path / "file", IMAGEIO_FFMPEG_EXE="/bin/false", PATH=python.parent,
    )  # fmt: skip
    assert found["old gym"].remedy == "%pip uninstall -y gym"
    assert found["pygame"].remedy == "%pip uninstall -y pygame pygame-ce\n%pip install pygame-ce"
    assert found["display"].remedy == "!apt-get install -y xvfb\n%pip install pyvirtualdisplay"
    assert found["home folder"].remedy.startswith("%env HOME=")
    assert found["ffmpeg"].remedy == "%env IMAGEIO_FFMPEG_EXE="
    assert "not with !pip" in found["terminal"].found
    assert "kernel" not in found
    commands = [command for what, finding in found.items() if what != "terminal" for command in finding.remedy.splitlines()]
    assert [command for command in commands if not command.startswith(("%", "!"))] == []
    assert all(is_well_formed(command) for command in commands)


def test_in_a_real_notebook_it_is_a_table(kernel, tmp_path):
    (tmp_path / "gym.py").touch()
    distribution(tmp_path, "gym", "0.26.2")
    code = f"""
import sys, importlib, cartpole_lessons
sys.path.insert(0, {str(tmp_path)!r})
import gym
importlib.import_module("cartpole_lessons.doctor")._imports = lambda: []  # takes seconds, and has its own test
print(cartpole_lessons.doctor().exit_code)
sys.path.remove({str(tmp_path)!r})
del sys.modules["gym"]
"""
    messages = kernel.run(code)
    assert printed(messages) == "1\n"
    assert printed(messages, "stderr") == ""
    (shown,) = [message["content"]["data"] for message in messages if message["msg_type"] == "display_data"]
    assert "<code>%pip uninstall -y gym</code>" in shown["text/html"]
    assert "✗ old gym" in shown["text/plain"]


def test_looking_at_a_machine_leaves_nothing_behind(tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("cartpole*"))
    ask("_folders", "_disk", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert set(Path(tempfile.gettempdir()).glob("cartpole*")) - before == set()
