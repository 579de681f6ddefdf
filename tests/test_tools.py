"""What `make export` and `make run` leave on disk, also when they are killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import FULL, one_sentence
from export import export as make_export

ROOT = Path(__file__).resolve().parent.parent
KILLS = 100 if FULL else 1  # of each of the two
LESSON = "00_tiny.ipynb"


@pytest.fixture
def repository(tmp_path):
    """A repository with the course's tools and one tiny lesson, which exports `algorithms.tiny`."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    write_lesson(tmp_path)
    for name in ("notebooks/index.ipynb", "docs/agent.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def write_lesson(repository, name="algorithms.tiny", export="#| export"):
    cells = [
        nbformat.v4.new_markdown_cell("# 00 Tiny\n\n[next](01_next.ipynb)", id="intro"),
        nbformat.v4.new_code_cell(f"#| default_exp {name}\n{export}\nVALUE = 1", id="imports"),
        nbformat.v4.new_code_cell("import tempfile\ntempfile.mkdtemp()\nprint(*range(20_000), sep='\\n')", id="output"),
    ]
    (repository / "notebooks").mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), repository / "notebooks" / LESSON)


def command(repository, tool, *arguments):
    return [sys.executable, str(repository / "tools" / tool), *arguments]


def files(repository):
    """All files but the tools, as paths relative to the repository."""
    return {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file() and "tools" not in path.parts}


@pytest.mark.parametrize(
    ("name", "export"),
    [
        ("training", "#| export"),
        ("__init__", "#| export"),
        ("algorithms.__init__", "#| export"),
        ("../../elsewhere", "#| export"),
        ("/tmp/elsewhere", "#| export"),
        ("algorithms.tiny", "#| export training"),
        ("algorithms.tiny\n#| default_exp training", "#| export"),
    ],
)
def test_a_notebook_exports_to_algorithms_and_nowhere_else(repository, monkeypatch, name, export):
    monkeypatch.chdir(repository)
    write_lesson(repository, name, export)
    before = files(repository)
    with pytest.raises(SystemExit) as stopped:
        make_export(Path("notebooks") / LESSON)
    one_sentence(stopped.value, LESSON)
    assert files(repository) == before


def test_a_lesson_in_two_halves_exports_a_module_of_each(repository, monkeypatch):
    monkeypatch.chdir(repository)
    path = Path("notebooks") / LESSON
    halves = [
        [
            nbformat.v4.new_markdown_cell(f"# {name}\n\n> All about {name}.", id=f"{name}-title"),
            nbformat.v4.new_code_cell(f"#| default_exp algorithms.{name}\n#| export\nNAME = {name!r}", id=name),
        ]
        for name in ("first", "second")
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell for half in halves for cell in half]), path)
    assert make_export(path)
    folder = repository / "cartpole_lessons" / "algorithms"
    for name in ("first", "second"):
        module = (folder / f"{name}.py").read_text(encoding="utf-8")
        assert module.startswith(f'"""All about {name}."""')
        assert module.endswith(f"NAME = {name!r}\n")
        assert f"../../notebooks/{LESSON} #{name}" in module


def kill(arguments, cwd, begun, after):
    """Start a command, and kill it with all that it started so many seconds after `begun()` is true (unless it is done by then)."""
    process = subprocess.Popen(arguments, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not begun() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(after)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process group")
def test_an_export_that_is_killed_leaves_whole_modules_and_the_next_one_clears_up(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert make_export(Path("notebooks") / LESSON)
    export, draw = command(repository, "export.py"), random.Random(0)
    module = repository / "cartpole_lessons" / "algorithms" / "tiny.py"
    whole, all_files = module.read_bytes(), files(repository)
    for _ in range(KILLS):
        before = set(repository.glob(".export-*"))
        kill(export, repository, lambda before=before: set(repository.glob(".export-*")) - before, draw.uniform(0, 0.05))
        assert module.read_bytes() == whole
    subprocess.run(export, cwd=repository, check=True)
    assert files(repository) == all_files


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process group")
def test_a_run_that_is_killed_leaves_whole_pages_and_the_next_one_clears_up(repository):
    run, draw = command(repository, "run_lessons.py"), random.Random(1)
    page = repository / "build" / "lessons" / "00_tiny.html"
    executed = page.with_name(LESSON)
    page.parent.mkdir(parents=True)
    page.write_text("<html>of a run before</html>\n")
    shutil.copy(repository / "notebooks" / LESSON, executed)
    for number in range(KILLS):
        before = executed.read_bytes()
        # While it writes the page, or while the lesson runs.
        moments = [lambda before=before: executed.read_bytes() != before, lambda: list(repository.glob("build/running/*/*"))]
        kill(run, repository, moments[number % 2], draw.uniform(0, 0.5))
        assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
        nbformat.read(executed, as_version=4)
    subprocess.run(run, cwd=repository, check=True, stdout=subprocess.DEVNULL)
    assert 'href="01_next.html"' in page.read_text(encoding="utf-8")
    left = {path.name for path in page.parent.iterdir()} - {"mathjax"}
    assert left == {"00_tiny.html", LESSON, "index.html", "agent.gif"}
    assert not list((repository / "build" / "running").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="presses Ctrl-C in another process")
def test_ctrl_c_ends_a_run_at_once_in_one_sentence(repository):
    lesson = repository / "notebooks" / LESSON
    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("open('started', 'w').close()\nimport time\ntime.sleep(300)", id="sleep"))
    nbformat.write(notebook, lesson)
    process = subprocess.Popen(
        command(repository, "run_lessons.py"), cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list((repository / "build").glob("running/*/*/started")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    printed, errors = process.communicate(timeout=30)
    assert time.monotonic() - pressed < 10  # two seconds on a quiet machine
    assert process.returncode == 130
    assert "Stopped by you after 0 of 1 lessons" in printed
    assert "Traceback" not in errors
    assert not list((repository / "build" / "running").iterdir())
