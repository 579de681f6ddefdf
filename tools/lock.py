"""Write constraints.txt: every version that pip chooses for requirements.txt and requirements-test.txt alone, in a fresh environment (`make lock`)."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every version that was tested, the transitive ones included. Written by `make lock` on Linux; requirements.txt and requirements-test.txt refer to it.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        files = [ROOT / name for name in ("requirements.txt", "requirements-test.txt")]
        wanted = [line for file in files for line in file.read_text().splitlines() if not line.startswith("-c")]
        alone = Path(folder) / "requirements.txt"
        alone.write_text("\n".join(wanted))
        subprocess.run([*pip, "install", "--quiet", "-r", str(alone)], check=True)
        frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout.splitlines()
    # A local version such as 2.13.0+cpu names one build of a release; GPU libraries come with some builds of torch and not with others.
    pins = [line.partition("+")[0] for line in frozen if "==" in line and not line.startswith(("nvidia-", "cuda-", "triton"))]
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(pins) + "\n")


if __name__ == "__main__":
    main()
