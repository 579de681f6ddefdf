"""The doctor's commands, run for real: an environment is broken as students break theirs, and what the doctor says mends it (`make test-doctor`).

`tests/test_doctor.py` has a case of everything that the doctor finds; here pip does the breaking and the mending. The number
of breakages goes into cartpole_lessons/results/reliability.json, once all of them are mended.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import write_reliability_figures
from scratch import BUILD, ROOT, Environment, environment, pip_install, variables

TORCH = re.search(r"^torch==\S+", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="environments are copied as Linux can")

ASK = """
import dataclasses, json
import cartpole_lessons
print(json.dumps([dataclasses.asdict(finding) for finding in cartpole_lessons.doctor().findings]))
"""
#: What a student wants of it all.
FILM = """
import numpy as np
from cartpole_lessons.video import record
assert len(record(lambda observations: np.zeros(len(observations), dtype=np.int64), max_steps=3).mp4) > 500
"""


@dataclass(frozen=True)
class Breakage:
    """What a student did, and how the finding begins."""

    pip: tuple[str, ...] = ()  #: arguments for pip
    torn: str = ""  #: a file in site-packages, as a pattern, that becomes garbage
    what: str = ""
    found: str = ""
    severity: str = "problem"
    films: bool = True  #: whether films work once it is mended; where they were never at stake, that is not asked again


BREAKAGES = {
    "a core package is gone": Breakage(("uninstall", "numpy"), what="numpy", found="numpy is not installed"),
    "a core package is too old": Breakage(
        ("install", "--no-deps", "gymnasium==1.0.0"), what="gymnasium", found="gymnasium is 1.0.0, but the course needs"
    ),
    "an optional package is gone": Breakage(
        ("uninstall", "moviepy"), what="films during a training", found="moviepy is not installed", severity="note", films=False
    ),
    "an optional package was never there": Breakage(
        what="the lesson on PyTorch-Ignite", found="pytorch-ignite is not installed", severity="note", films=False
    ),
    "pip is gone as well": Breakage(
        ("uninstall", "pyvirtualdisplay", "pip"), what="windows where there is no screen", found="pyvirtualdisplay is not", severity="note"
    ),
    "pygame over pygame-ce": Breakage(("install", "pygame==2.6.1"), what="pygame", found="pygame 2.6.1 and pygame-ce"),
    "no pygame": Breakage(("uninstall", "pygame-ce"), what="pygame", found="not installed", severity="note"),
    "a torn pygame": Breakage(torn="pygame/base.*.so", what="pygame", found="pygame-ce is installed, but it does not"),
    "old gym": Breakage(("install", "--no-deps", "gym==0.26.2"), what="old gym", found="gym 0.26.2 is there", severity="note"),
    "a torn numpy": Breakage(torn="numpy/_core/_multiarray_umath.*.so", what="import numpy", found="numpy is installed, but it"),
    "a torn pillow": Breakage(torn="PIL/_imaging.*.so", what="import PIL.Image", found="pillow is installed, but it"),
    "a torn scipy": Breakage(torn="scipy/linalg/_flapack.*.so", what="import scipy.linalg", found="scipy is installed, but it"),
    "no ffmpeg": Breakage(("uninstall", "imageio-ffmpeg"), what="ffmpeg", found="imageio-ffmpeg is not installed"),
    "a torn ffmpeg": Breakage(torn="imageio_ffmpeg/binaries/ffmpeg*", what="ffmpeg", found="imageio-ffmpeg's program"),
    "no kernel": Breakage(("uninstall", "ipykernel"), what="kernel", found="Jupyter has no Python kernel", severity="note"),
    "no Jupyter": Breakage(("uninstall", "jupyter_client"), what="kernel", found="Jupyter is not installed", severity="note"),
    "the course itself is gone": Breakage(("uninstall", "cartpole-lessons"), what="packages", found="the course is not installed here"),
}
mended = set()


@pytest.fixture(scope="module")
def whole():
    """An environment in order, with the course as it is now."""
    extras = "render,video,display,notebook"
    made = environment("doctor", [TORCH], [f"{ROOT}[{extras}]"])
    pip_install(made.python, ["--force-reinstall", "--no-deps", str(ROOT)])
    return made


@pytest.fixture
def broken(whole):
    """A copy of it that may be broken. Its files are the same ones on the disk, so none is changed: what is written takes a file's place."""
    folder = BUILD / "doctor-broken"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["cp", "-al", str(whole.folder), str(folder)], check=True)
    yield Environment(folder)
    shutil.rmtree(folder, ignore_errors=True)


def ask(environment, **more):
    """{what: finding} of the doctor in that environment, where a terminal is in it too."""
    more |= {"PATH": f"{environment.folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run([environment.python, "-c", ASK], cwd=BUILD, env=variables(**more), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {finding["what"]: finding for finding in json.loads(done.stdout.splitlines()[-1])}


def test_the_environment_is_in_order_before_it_is_broken(broken):
    found = ask(broken)
    assert {what for what, finding in found.items() if finding["severity"] != "ok"} <= {
        "the lesson on PyTorch-Ignite", "the command line", "studies on all cores", "studies on a cluster", "display",
    }  # fmt: skip
    subprocess.run([broken.python, "-c", FILM], cwd=BUILD, env=variables(), check=True)


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_the_doctor_says_mends_it(broken, name):
    breakage = BREAKAGES[name]
    if breakage.pip:
        command, *packages = breakage.pip
        broken.pip(command, *(["--yes"] if command == "uninstall" else ["--quiet"]), *packages)
    if breakage.torn:
        (file,) = broken.folder.glob(f"lib/python3*/site-packages/{breakage.torn}")
        mode = file.stat().st_mode
        file.unlink()
        file.write_bytes(b"torn")
        file.chmod(mode)
    # Where the course itself is gone, there is still the folder that it was cloned into.
    cloned = {"PYTHONPATH": str(ROOT)} if "cartpole-lessons" in breakage.pip else {}

    finding = ask(broken, **cloned)[breakage.what]
    assert finding["severity"] == breakage.severity
    assert finding["found"].startswith(breakage.found)
    done = subprocess.run(["bash", "-c", finding["remedy"]], cwd=BUILD, env=variables(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{finding['remedy']}\n{done.stdout}{done.stderr}"

    again = ask(broken)
    assert again.get(breakage.what, {"severity": "ok"})["severity"] == "ok", again
    assert [what for what, found in again.items() if found["severity"] == "problem"] == []
    if breakage.films:
        subprocess.run([broken.python, "-c", FILM], cwd=BUILD, env=variables(), check=True)
    mended.add(name)


def test_the_figures_are_written():
    if mended != set(BREAKAGES):
        pytest.skip("not every breakage was tried")
    write_reliability_figures({"doctor": {"breakages": len(mended)}})
