"""Install the course into the Python that runs this, as `make` does once: it says how much is coming, and shows it come.

uv does it where pip can fetch uv, because it is quicker and shows more. On Linux pip's torch brings gigabytes of libraries for NVIDIA's GPUs. Where
there is no such GPU the CPU build is taken instead, which uv knows where to find; where that place cannot be reached, torch comes from wherever
pip takes its packages.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def wants_cpu_build() -> bool:
    """Whether pip alone would bring libraries for a GPU that is not there."""
    return sys.platform == "linux" and shutil.which("nvidia-smi") is None


def uv(*arguments: str, **how: Any) -> bool:
    """Whether uv has installed it; it shows what it fetches."""
    program = Path(sys.executable).with_name("uv")
    try:
        return subprocess.run([program, "pip", "install", "--python", sys.executable, *arguments], cwd=ROOT, **how).returncode == 0
    except OSError:  # there is no uv
        return False


def pip(*arguments: str) -> int:
    """pip's exit status. It shows what it fetches, but unpacks without a word, for up to a minute: so this says how far it is."""
    before = shutil.disk_usage(ROOT).used
    # It need not compile everything now: Python compiles what it imports, a module of torch in three.
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", *arguments]
    with subprocess.Popen(command, cwd=ROOT) as process:
        while True:
            try:
                return process.wait(timeout=4)
            except subprocess.TimeoutExpired:
                print(f"  {max(0, shutil.disk_usage(ROOT).used - before) / 1e9:.1f} GB written", flush=True)


def size_of(folder: Path) -> float:
    """Gigabytes of all files in it."""
    return sum(file.lstat().st_size for file in folder.rglob("*")) / 1e9


def main() -> int:
    print("Setting up .venv, once: about 1.6 GB on the disk, a minute or a few: it depends on your network.", flush=True)
    pip("uv==0.13.9")
    if wants_cpu_build():
        (torch,) = re.findall(r"^torch==\S+", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
        cpu_build = ("--torch-backend=cpu", torch)
        # Asked first, once and without a word: an address that cannot be reached is no reason to alarm anybody, or to keep them waiting.
        once = os.environ | {"UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "4"}
        if not (uv("--dry-run", *cpu_build, stderr=subprocess.DEVNULL, env=once) and uv(*cpu_build)):
            print("torch's CPU build cannot be reached: taking it from the package index, on Linux up to 4 GB more.", flush=True)
            pip(torch)  # which may know of places that uv does not
    failed = (not uv("-r", "requirements.txt") and pip("-r", "requirements.txt")) or pip("--no-deps", "--no-build-isolation", "-e", ".")
    if not failed:
        print(f"Done: {size_of(Path(sys.prefix)):.1f} GB in {Path(sys.prefix).name}.", flush=True)
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nStopped. The next `make` sets up the rest.")
