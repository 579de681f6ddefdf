"""Environments built from nothing for the launch tests, and lessons executed in them."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "launch"
#: Variables of the machine that a scratch environment keeps; whatever else a developer has set must not decide a test.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
KEPT_PREFIXES = ("PIP_", "UV_")


def need_program(package: str, *names: str) -> str:
    """The path of the first of these programs that there is; the test fails, with the command that installs one, where there is none."""
    paths = [path for path in map(shutil.which, names) if path]
    if not paths:
        pytest.fail(f"{package} is not installed: run `apt-get install -y {package}`.", pytrace=False)
    return paths[0]


def pip_install(python: Path, packages: list[str]) -> None:
    """Install packages; where that fails the test does too, in one sentence."""
    done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, env=variables())
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["no message"]
        pytest.fail(f"pip cannot install what this test needs; is a package index within reach? {lines[0].strip()}", pytrace=False)


def variables(**more: str) -> dict[str, str]:
    """The environment variables of a fresh machine, and `more`."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    return kept | {"PYTHONNOUSERSITE": "1"} | more


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, kept from one test run to the next while its list of packages is the same."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def pip(self, *arguments: str) -> str:
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=variables()).stdout

    def freeze(self) -> dict[str, str]:
        """{package: version, or the address it came from}."""
        lines = self.pip("freeze").splitlines()
        pairs = (line.split(" @ ") if " @ " in line else line.split("==") for line in lines)
        return {name.lower(): version for name, version in pairs}

    def restore(self, before: dict[str, str]) -> None:
        """Uninstall what has come since `before`."""
        added = sorted(set(self.freeze()) - set(before))
        if added:
            self.pip("uninstall", "--yes", *added)


def environment(name: str, *steps: list[str]) -> Environment:
    """An environment with just these packages, installed step by step: made on the first call, reused afterwards."""
    key = hashlib.sha256(repr([sys.version, steps]).encode()).hexdigest()[:12]
    made = Environment(BUILD / f"{name}-{key}")
    ready = made.folder / "ready"
    if not ready.exists():
        shutil.rmtree(made.folder, ignore_errors=True)
        venv.create(made.folder, with_pip=True)
        for packages in steps:
            pip_install(made.python, packages)
        ready.touch()
    return made


def committed(folder: Path) -> Path:
    """A bare clone of what is committed, as a server would hand it out."""
    clone = folder / "course.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(clone)], check=True, capture_output=True)
    return clone


def committed_lessons() -> list[str]:
    """Names of the lessons that are committed, in order."""
    listed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD", "notebooks/"], cwd=ROOT, capture_output=True, text=True)
    return [Path(name).name for name in listed.stdout.splitlines() if re.match(r"notebooks/\d.*\.ipynb$", name)]


@dataclass(frozen=True)
class Execution:
    """What became of one lesson."""

    notebook: nbformat.NotebookNode
    error: str | None
    seconds: float
    peak_megabytes: float | None  #: of the kernel's process, where Linux says it
    kernel_variables: dict[str, str]

    def printed(self, cell_id: str) -> str:
        """What the cell with this id printed."""
        (cell,) = (cell for cell in self.notebook.cells if cell.id == cell_id)
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")

    def keep(self, path: Path) -> None:
        """Write the executed notebook where it can be looked at afterwards."""
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(self.notebook, path)


def execute(notebook: Path, command: list[str], variables: dict[str, str], limit_seconds: int = 300) -> Execution:
    """Run every cell of the notebook file, unchanged and in its folder, in a kernel that `command` starts, as if somebody watched."""
    specs = notebook.parent / ".kernels"
    (specs / "python3").mkdir(parents=True)
    (specs / "python3" / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [*command, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"],
                "display_name": "scratch",
                "language": "python",
            }
        )
    )
    manager = AsyncKernelManager(
        kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)], ensure_native_kernel=False)
    )
    read = nbformat.read(notebook, as_version=4)
    client = NotebookClient(read, km=manager, timeout=limit_seconds, resources={"metadata": {"path": str(notebook.parent)}})
    seen = {"peak": None, "variables": {}}

    def look(**_: object) -> None:
        process = Path("/proc") / str(manager.provisioner.process.pid)
        if process.exists():
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            if "VmHWM" in status:
                seen["peak"] = int(status["VmHWM"].split()[0]) / 1024
            entries = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            seen["variables"] = dict(entry.split("=", 1) for entry in entries if "=" in entry)

    def watch(**_: object) -> None:
        client.kc.allow_stdin = True  # a person's front end says so, and the course then draws bars and live plots

    client.on_notebook_start = watch
    client.on_cell_executed = look
    started, error = time.perf_counter(), None
    try:
        client.execute(env=variables)
    except CellExecutionError as failed:
        error = f"{failed.ename}: {failed.evalue}"
    finally:
        seconds = time.perf_counter() - started
        # nbclient leaves a kernel alone whose manager it did not make.
        run_sync(manager.shutdown_kernel)(now=True)
    return Execution(read, error, seconds, seen["peak"], seen["variables"])
