"""Floors: with the oldest versions that pyproject.toml allows, the course works (`make test-floors`).

torch alone is the course's own: an older one brings gigabytes for GPUs.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterable

import pytest
from scratch import BUILD, ROOT, environment, execute, variables

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: What students use; `dev` is for who works on the course.
EXTRAS = ("render", "video", "display", "ignite", "study", "cluster", "cli", "notebook")
LESSONS = ("00_meet_cartpole", "03_reinforce_with_ignite", "08_continuous_cartpole", "10_augmented_random_search")


def floors(requirements: Iterable[str]) -> list[str]:
    """`["typer>=0.12.4"]` -> `["typer==0.12.4"]`."""
    pinned = (re.sub(r">=([\d.]+).*", r"==\1", each) for each in requirements if not each.startswith("torch"))
    return sorted(set(pinned))


@pytest.fixture(scope="module")
def floor():
    """An environment with every floor, and the course in it."""
    torch = re.search(r"^torch==\S+", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)[0]
    declared = [*PROJECT["dependencies"], *(each for extra in EXTRAS for each in PROJECT["optional-dependencies"][extra])]
    made = environment("floors", [torch, *floors(declared)])
    made.pip("install", "--no-deps", str(ROOT))
    return made


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["list", "ppo"],
        ["doctor"],
        ["train", "ppo", "--save", "policy.npz"],
        ["study", "hand_made", "--seeds", "0-1", "--folder", "study"],
    ],
    ids=" ".join,
)
def test_the_command_line_works(floor, tmp_path, command):
    done = subprocess.run(
        [floor.python, "-m", "cartpole_lessons", *command], cwd=tmp_path, env=variables(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_lesson_runs(floor, tmp_path, lesson):
    notebook = tmp_path / f"{lesson}.ipynb"
    notebook.write_bytes((ROOT / "notebooks" / notebook.name).read_bytes())
    done = execute(notebook, [str(floor.python)], variables(PATH=f"{floor.python.parent}:{variables()['PATH']}"))
    done.keep(BUILD / "floors-lessons" / notebook.name)
    assert done.error is None
