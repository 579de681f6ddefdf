"""Install the course into the Python that runs this, as `make` does once: it says how much is coming, and shows it come.

On Linux pip's torch brings gigabytes of libraries for NVIDIA's GPUs. Where there is no such GPU the CPU build is taken instead, which uv
knows where to find; where that place cannot be reached, torch comes from the package index like everything else.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def wants_cpu_build() -> bool:
    """Whether pip alone would bring libraries for a GPU that is not there."""
    return sys.platform == "linux" and shutil.which("nvidia-smi") is None


def install_cpu_build() -> bool:
    """torch for the CPU, by uv; False where that cannot be had."""
    (torch,) = (
        line.split()[0] for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line.startswith("torch==")
    )
    if pip("uv==0.13.9"):
        return False
    uv = [Path(sys.executable).parent / "uv", "pip", "install", "--python", sys.executable, "--torch-backend=cpu", torch]
    # An address that cannot be reached is no reason to wait, nor to alarm anybody.
    return subprocess.run(uv, env=os.environ | {"UV_HTTP_RETRIES": "0"}, stderr=subprocess.DEVNULL).returncode == 0


def pip(*arguments: str) -> int:
    """pip's exit status; it shows what it fetches."""
    return subprocess.run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments], cwd=ROOT).returncode


def size_of(folder: Path) -> float:
    """Gigabytes of all files in it."""
    return sum(file.lstat().st_size for file in folder.rglob("*")) / 1e9


def main() -> int:
    print("Setting up .venv, once: about 2 GB on the disk, a few minutes.", flush=True)
    if wants_cpu_build() and not install_cpu_build():
        print("torch's CPU build cannot be reached: taking it from the package index, on Linux up to 4 GB more.", flush=True)
    failed = pip("-r", "requirements.txt") or pip("--no-deps", "--no-build-isolation", "-e", ".")
    if not failed:
        print(f"Done: {size_of(Path(sys.prefix)):.1f} GB in {Path(sys.prefix).name}.", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
