"""Colab: every lesson, unchanged, in an empty folder and on an image that has much but not the course (`make test-colab`).

The image is imitated with the versions that Colab has preinstalled, for the Python that runs this test; torch is the course's own. The
first cell really installs the core, from a clone of what is committed, which git serves in place of the repository's address.
"""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from scratch import BUILD, ROOT, committed, committed_lessons, environment, execute, need_program, variables

ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
TORCH = re.search(r"^torch==\S+", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]
# Colab's image of August 2026.
PREINSTALLED = [
    TORCH,
    "gymnasium==1.3.0",
    "numpy==2.1.3",
    "matplotlib==3.10.0",
    "scipy==1.16.3",
    "pandas==2.2.2",
    "pillow==11.3.0",
    "tqdm==4.67.1",
    "pygame==2.6.1",
    "moviepy==1.0.3",
    "decorator==4.4.2",
    "imageio-ffmpeg==0.6.0",
    "ipykernel==6.17.1",
    "ipython==7.34.0",
    "ipywidgets==7.7.1",
    # There in versions that change often.
    "joblib",
    "dask",
    "distributed",
]
#: What a lesson may add to the image; nothing else may come, and nothing that is there may change.
OURS = {"cartpole-lessons"}
EXTRAS = {"03_reinforce_with_ignite.ipynb": {"pytorch-ignite"}}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Colab is Linux")


@pytest.fixture(scope="module")
def image():
    """The preinstalled packages, and a stand-in for Colab's own module."""
    need_program("git", "git")
    image = environment("colab", PREINSTALLED)
    image.restore(json.loads(_first_freeze(image).read_text()))
    (site_packages,) = image.folder.glob("lib/python3*/site-packages")
    (site_packages / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (site_packages / "google" / "colab" / "__init__.py").touch()
    return image


def _first_freeze(image):
    """The file with what the image holds before any lesson ran, so that a test that was stopped spoils nothing for the next one."""
    file = image.folder / "freeze.json"
    if not file.exists():
        file.write_text(json.dumps(image.freeze()))
    return file


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository as a server holds it: what was committed when the tests began."""
    return committed(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def colab(clone, tmp_path_factory):
    """The environment variables of a Colab kernel whose git knows where the repository is."""
    folder = tmp_path_factory.mktemp("colab")
    # Colab has no Xvfb, whatever this machine has.
    programs = folder / "bin"
    programs.mkdir()
    for directory in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in os.scandir(directory) if os.path.isdir(directory) else ():
            if program.name not in ("Xvfb", "python", "python3", "pip"):
                (programs / program.name).unlink(missing_ok=True)
                (programs / program.name).symlink_to(program.path)
    return variables(
        PATH=str(programs),
        COLAB_RELEASE_TAG="release-colab_20260801",
        COLAB_GPU="",
        MPLBACKEND="module://matplotlib_inline.backend_inline",
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.{clone.as_uri()}.insteadOf",
        GIT_CONFIG_VALUE_0=ADDRESS,
        # A prompt for a password would be the sign that git asks the real server.
        GIT_TERMINAL_PROMPT="0",
    )


def test_the_course_is_not_there_before_its_first_cell(image, colab, tmp_path):
    found = subprocess.run([image.python, "-c", "import cartpole_lessons"], env=colab, cwd=tmp_path, capture_output=True, text=True)
    assert "ModuleNotFoundError" in found.stderr


@pytest.mark.parametrize("lesson", committed_lessons())
def test_the_lesson_runs_unchanged_and_replaces_nothing(image, clone, colab, lesson, tmp_path):
    before = json.loads(_first_freeze(image).read_text())
    assert image.freeze() == before
    notebook = tmp_path / lesson
    notebook.write_bytes(subprocess.run(["git", "show", f"HEAD:notebooks/{lesson}"], cwd=clone, capture_output=True, check=True).stdout)
    try:
        done = execute(notebook, [str(image.python)], colab | {"PATH": f"{image.python.parent}{os.pathsep}{colab['PATH']}"})
        done.keep(BUILD / "colab-lessons" / lesson)
        # Every cell of this very kernel passed: so no restart was needed after the installation.
        assert done.error is None
        assert "Colab: " in done.printed("setup")
        after = image.freeze()
        assert {name: after.get(name) for name in before} == before, "a preinstalled package was replaced"
        assert set(after) - set(before) == OURS | EXTRAS.get(lesson, set())
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True).stdout.strip()
        assert head in after["cartpole-lessons"], "the core did not come from what is committed"
        # One pygame over another would break here.
        subprocess.run([image.python, "-c", "import pygame; pygame.display"], env=colab, cwd=tmp_path, check=True, capture_output=True)
    finally:
        image.restore(before)
