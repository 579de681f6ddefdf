"""What a student sees: lessons in JupyterLab, in Notebook 7 and as pages of `make run`, in a real browser (`make test-browser`).

Screenshots stay in build/browser/. The browser reaches nothing but this machine.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from chromium import PLAY, barriers, chromium  # first: it says so where Playwright is missing
from playwright.sync_api import TimeoutError
from scratch import ROOT, committed_lessons

from cartpole_lessons.algorithms import better_dqn
from cartpole_lessons.algorithms.hand_made import LinearPolicy
from cartpole_lessons.bugs import BUGS
from cartpole_lessons.environment import make_envs
from cartpole_lessons.exercises import COLOURS, Exercise
from cartpole_lessons.grading import exercises_in, modules_with_exercises
from cartpole_lessons.rollout import collect_episodes
from cartpole_lessons.widgets import ComparePair, CountSeeds, ExploreCartPole, PlayCartPole, ReplayCartPole, TuneCartPole

PICTURES = ROOT / "build" / "browser"
LESSONS = [name.removesuffix(".ipynb") for name in committed_lessons()]
#: Every lesson in JupyterLab; in Notebook 7, which shows cells as JupyterLab does, those with a bar, a live plot, films and a window's picture.
IN_FRONT_ENDS = [("lab", lesson) for lesson in LESSONS]
IN_FRONT_ENDS += [("notebook", lesson) for lesson in ("00_meet_cartpole", "02_policy_gradient", "08_continuous_cartpole")]
FLAGS = [
    "--disable-quic",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
LIMIT_SECONDS = 240

# Looks at the page twenty times a second while cells run: for every cell, which pictures its output has shown, and how many at once.
WATCH = """() => {
    window.seen = {};
    window.watching = setInterval(() => document.querySelectorAll('.jp-CodeCell').forEach((cell, index) => {
        const pictures = [...cell.querySelectorAll('.jp-OutputArea-output img')].map(picture => picture.src);
        const bars = [...cell.querySelectorAll('.jp-OutputArea-output .progress-bar, .jp-OutputArea-output [role=progressbar]')];
        const widths = bars.map(bar => bar.getBoundingClientRect().width);
        const seen = window.seen[index] ??= {pictures: [], together: 0, widths: []};
        seen.together = Math.max(seen.together, pictures.length);
        for (const picture of pictures) if (!seen.pictures.includes(picture)) seen.pictures.push(picture);
        for (const width of widths) if (!seen.widths.includes(width)) seen.widths.push(width);
    }), 50);
}"""
SEEN = """() => {
    clearInterval(window.watching);
    return Object.values(window.seen).map(({pictures, together, widths}) => ({pictures: pictures.length, together, widths}));
}"""


@pytest.fixture(scope="module")
def browser():
    with chromium(PICTURES, *FLAGS) as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    yield page
    page.screenshot(path=PICTURES / "last.png")  # where a test has failed, this is why
    page.close()


# In the front ends


class Server:
    """A Jupyter server with a token on the loopback interface, and a folder with the lessons, whose outputs have been cleared."""

    def __init__(self, front_end, folder):
        self.folder = folder / "course"
        self.folder.mkdir()
        for lesson in LESSONS:
            notebook = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            nbformat.write(notebook, self.folder / f"{lesson}.ipynb")
        shutil.copy(ROOT / "notebooks" / f"{LESSONS[0]}.ipynb", self.folder / "committed.ipynb")
        cells = [
            "from cartpole_lessons.widgets import PlayCartPole\ngame = PlayCartPole()\ngame",
            "print(game.episodes().lengths.tolist())",
            "from cartpole_lessons.widgets import ComparePair\npair = ComparePair([[0.0] * 4] * 9, [[1.0] * 4] * 9)\npair",
            "print(pair.answer)",
        ]
        game = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=notebook.metadata)
        nbformat.write(game, self.folder / "game.ipynb")
        settings = folder / "settings" / "@jupyterlab"
        for name, values in {
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            # Cells out of sight would not be in the page otherwise.
            "notebook-extension/tracker": {"windowingMode": "none", "recordTiming": True},
            "apputils-extension/themes": {"adaptive-theme": True},  # dark where the reader's system is
        }.items():
            (settings / name).parent.mkdir(parents=True, exist_ok=True)
            (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
        own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
        own |= {"JUPYTER_DATA_DIR": "data", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
        command = [
            sys.executable,
            "-m",
            "jupyter",
            front_end,
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--ContentsManager.pre_save_hook=cartpole_lessons._support.files.without_version",  # as `make lab` does
        ]
        surroundings = os.environ | {name: str(folder / place) for name, place in own.items()} | {"JUPYTER_TOKEN": self.token}
        # As `make lab` and Binder do.
        trust = [sys.executable, "-m", "jupyter", "trust", "committed.ipynb"]
        subprocess.run(trust, cwd=self.folder, env=surroundings, check=True, capture_output=True)
        self.log = folder / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *(["--allow-root"] if os.getuid() == 0 else [])],
                cwd=self.folder,
                env=surroundings,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.get("api/status")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, self.log.read_text()[-2000:]
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.3)

    def get(self, path):
        """What the server's interface answers."""
        request = urllib.request.Request(f"{self.address}/{path}", headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wait_until_idle(self):
        """Until every kernel has been idle for three looks in a row."""
        deadline, idle = time.monotonic() + LIMIT_SECONDS, 0
        while idle < 3:
            assert time.monotonic() < deadline, "the kernel is still busy"
            time.sleep(1)
            kernels = self.get("api/kernels")
            idle = idle + 1 if kernels and all(kernel["execution_state"] == "idle" for kernel in kernels) else 0

    def close(self):
        for kernel in self.get("api/kernels"):
            request = urllib.request.Request(
                f"{self.address}/api/kernels/{kernel['id']}", method="DELETE", headers={"Authorization": f"token {self.token}"}
            )
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(request, timeout=30)
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:  # it waits for a kernel that is gone
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    server = Server(request.param, tmp_path_factory.mktemp(request.param))
    server.front_end = request.param
    yield server
    server.close()


@pytest.mark.parametrize(("server", "lesson"), IN_FRONT_ENDS, indirect=["server"], scope="module")
def test_a_lesson_runs_and_shows_what_it_should(server, page, lesson):
    _open(server, page, lesson)
    page.evaluate(WATCH)
    _run_all(server, page)
    file = server.folder / f"{lesson}.ipynb"
    notebook = _finished(server, page, file)

    # No cell errored, none was left out, and the course knew that somebody watched.
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    errors = [f"{output.ename}: {output.evalue}" for cell in code for output in cell.outputs if output.output_type == "error"]
    assert errors == []
    assert [cell.id for cell in code if cell.execution_count is None] == []
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0

    films = page.locator("video")
    assert films.count() == sum(output.data["text/html"].count("<video") for output in _html(notebook))
    for number in range(films.count()):
        films.nth(number).scroll_into_view_if_needed()
        assert_plays(films.nth(number))
        page.screenshot(path=PICTURES / f"{server.front_end}-{lesson}-film{number}.png")

    seen = page.evaluate(SEEN)
    assert len(seen) == len(code)
    for cell, shown in zip(code, seen, strict=True):
        if "progress=True" in cell.source and "record(" not in cell.source:
            # One live picture, replaced in place; and a bar that has been drawn.
            assert shown["together"] == 1, cell.id
            # Two or three pictures a second are drawn: of a training that is over at once there is only the last one. (Many seeds at
            # once have a bar alone, and their picture comes after it.)
            if _seconds(cell) > 3 and "13" not in lesson:
                assert shown["pictures"] > 1, cell.id
            # A bar that counts towards nothing is 20 pixels wide.
            assert max(shown["widths"]) > (50 if "13" in lesson else 19), cell.id
            page.locator(".jp-CodeCell").nth(code.index(cell)).scroll_into_view_if_needed()
            page.screenshot(path=PICTURES / f"{server.front_end}-{lesson}-{cell.id}.png")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True, scope="module")
def test_committed_films_play_before_a_cell_has_run(server, page):
    _open(server, page, "committed")
    films = page.locator("video")
    films.first.wait_for(state="attached")
    for number in range(films.count()):
        films.nth(number).scroll_into_view_if_needed()
        assert_plays(films.nth(number))


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True, scope="module")
def test_a_lesson_that_was_only_read_is_saved_as_it_was(server, page):
    file = server.folder / "committed.ipynb"
    _open(server, page, "committed")
    server.wait_until_idle()  # by now the front end has written the kernel's language into the notebook
    os.utime(file, ns=(0, 0))
    page.locator(".jp-Notebook").first.click()
    page.keyboard.press("Control+s")
    deadline = time.monotonic() + 30
    while not file.stat().st_mtime_ns:
        assert time.monotonic() < deadline, "nothing is saved"
        page.wait_for_timeout(200)
    assert file.read_bytes() == (ROOT / "notebooks" / f"{LESSONS[0]}.ipynb").read_bytes()


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True, scope="module")
def test_python_has_the_episodes_that_were_played_and_the_answer_that_was_clicked(server, page):
    _open(server, page, "game")
    server.wait_until_idle()

    _run(page, 0)
    game, durations = page.frame_locator("iframe[srcdoc]").first, []
    for key in ("ArrowRight", "ArrowLeft"):
        game.locator("main").press(key)
        game.get_by_text("It fell.").wait_for(timeout=30_000)
        durations.append(round(float(game.locator(".score").inner_text().split()[0]) / 0.02))
        page.wait_for_timeout(1_000)
        game.locator(".again").click()
    _run(page, 1)
    said = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output")
    said.wait_for()
    heard = json.loads(said.inner_text())
    assert [abs(steps - shown) <= 3 for steps, shown in zip(heard, durations, strict=True)] == [True, True]  # the score has one digit
    page.screenshot(path=PICTURES / f"{server.front_end}-game.png")
    _run(page, 2)
    page.frame_locator("iframe[srcdoc]").last.get_by_role("button", name="The right one").click()
    page.wait_for_timeout(1_000)
    _run(page, 3)
    page.locator(".jp-CodeCell").nth(3).get_by_text("right", exact=True).wait_for()


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True, scope="module")
def test_an_episode_waits_for_a_kernel_that_has_died_while_it_was_played(server, page):
    notebook = nbformat.read(server.folder / "game.ipynb", as_version=4)
    notebook.cells[2].source = "import os\n\nprint(os.getpid())"
    nbformat.write(notebook, server.folder / "dying.ipynb")
    _open(server, page, "dying")
    server.wait_until_idle()
    _run(page, 2)
    pid = page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-output")
    pid.wait_for()
    _run(page, 0)
    game = page.frame_locator("iframe[srcdoc]").first
    game.locator("main").press("ArrowRight")
    os.kill(int(pid.inner_text()), signal.SIGKILL)
    game.get_by_text("It fell.").wait_for(timeout=30_000)
    steps = round(float(game.locator(".score").inner_text().split()[0]) / 0.02)
    game.get_by_text("Python has not heard of your episode").wait_for(timeout=30_000)
    page.get_by_role("dialog").get_by_role("button", name="Ok").click(timeout=60_000)  # the kernel has died, it says
    page.screenshot(path=PICTURES / f"{server.front_end}-dying.png")
    game.locator(".again").click()
    game.get_by_text("Press an arrow").wait_for()
    server.wait_until_idle()
    _run(page, 0)
    page.frame_locator("iframe[srcdoc]").first.get_by_text("Python has heard of your episode now.").wait_for()
    _run(page, 1)
    said = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output")
    said.wait_for()
    (heard,) = json.loads(said.inner_text())
    assert abs(heard - steps) <= 3
    page.screenshot(path=PICTURES / f"{server.front_end}-back.png")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True, scope="module")
def test_no_key_in_the_game_reaches_the_notebook_and_none_outside_the_game(server, page):
    shutil.copy(server.folder / "game.ipynb", server.folder / "keys.ipynb")
    _open(server, page, "keys")
    server.wait_until_idle()
    _run(page, 0)
    game = page.frame_locator("iframe[srcdoc]").first
    game.locator(".again").click()
    cells = "() => [...document.querySelectorAll('.jp-Cell')].map(cell => [cell.querySelector('.jp-InputArea').innerText, cell.className])"
    before = page.evaluate(cells)
    for key in ("a", "b", "m", "d", "d", "x", "z", "Enter", "Shift+Enter", "Control+Enter", "ArrowDown", "ArrowUp", "j", "k", "0", "0"):
        page.keyboard.press(key)
    page.wait_for_timeout(1_000)
    assert page.evaluate(cells) == before
    # In a cell, and on it.
    page.locator(".jp-CodeCell .jp-InputArea-editor").nth(1).click()
    for key in ("ArrowRight", "ArrowLeft", "Escape", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    game.get_by_text("Press an arrow").wait_for()
    assert game.locator(".score").inner_text() == "0.0 s"
    # So the same keys do something, where they are meant.
    game.locator("main").press("ArrowRight")
    game.get_by_text("It fell.").wait_for(timeout=30_000)


@pytest.mark.parametrize("server", ["lab"], indirect=True, scope="module")
def test_a_picture_stands_where_a_notebook_is_not_trusted(server, page):
    notebook = nbformat.read(server.folder / "game.ipynb", as_version=4)
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", PlayCartPole()._repr_mimebundle_())]
    nbformat.write(notebook, server.folder / "untrusted.ipynb")
    _open(server, page, "untrusted")
    output = page.locator(".jp-OutputArea-output")
    output.locator("img").wait_for()
    page.wait_for_timeout(1_000)
    assert output.locator("iframe").count() == 0
    assert output.inner_text().strip() == repr(PlayCartPole())
    assert output.locator("img").evaluate("picture => picture.naturalWidth") == 640
    page.screenshot(path=PICTURES / "lab-untrusted.png")


def answers_to(exercise):
    """A right and a wrong answer, as Python that reads them from `exercise`; tests/test_exercises.py tries all that there are."""
    if isinstance(exercise, Exercise):
        return {"right": "exercise._solution", "wrong": "next(iter(exercise.mistakes.values()))"}
    return {"right": "exercise._answer", "wrong": repr(next(iter(exercise._choices), "many"))}


def checks_of(module):
    """Python that imports what a lesson asks, and the lines that check a right and a wrong answer to each of it."""
    if module == "lesson_12":  # it asks in which line a bug is
        return "from cartpole_lessons.bugs import BUGS", [
            (state, f"BUGS[{name!r}].find({line})")
            for name, bug in BUGS.items()
            for state, line in {"right": min(bug.lines), "wrong": max(bug.lines) + 1}.items()
        ]
    exercises = exercises_in(modules_with_exercises()[module])
    return f"from cartpole_lessons.exercises import {module} as lesson", [
        (state, f"exercise = lesson.{name}\nexercise.check({answer})")
        for name, exercise in exercises.items()
        for state, answer in answers_to(exercise).items()
    ]


@pytest.mark.parametrize("module", sorted([*modules_with_exercises(), "lesson_12"]))
@pytest.mark.parametrize("server", ["lab"], indirect=True, scope="module")
def test_each_exercise_answers_a_right_and_a_wrong_answer_with_its_card(server, page, module):
    own = 'from pathlib import Path\n\nimport cartpole_lessons.exercises as exercises\n\nexercises.PROGRESS = Path("progress.json")'
    imports, checks = checks_of(module)
    states, sources = zip(*checks, strict=True)
    notebook = nbformat.read(server.folder / "game.ipynb", as_version=4)
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (f"{own}\n{imports}", *sources)]
    nbformat.write(notebook, server.folder / f"{module}.ipynb")
    _open(server, page, module)
    _run_all(server, page)
    page.set_viewport_size({"width": 1280, "height": 2_000})  # all of them in one picture
    cards = page.locator(".jp-OutputArea-output [role=status]")
    cards.nth(len(states) - 1).wait_for()
    assert [card.split(".")[0].lower() for card in cards.all_inner_texts()] == list(states)
    colours = [f"rgb({', '.join(str(int(COLOURS[state][at : at + 2], 16)) for at in (1, 3, 5))})" for state in states]
    assert cards.evaluate_all("cards => cards.map(card => getComputedStyle(card).borderLeftColor)") == colours
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.locator(f"body[data-jp-theme-light={'true' if scheme == 'light' else 'false'}]").wait_for(state="attached")
        page.wait_for_timeout(500)  # for the theme's colours
        assert barriers(page, ".jp-OutputArea-output [role=status]") == []
        page.screenshot(path=PICTURES / f"{module}-{scheme}.png")


def _open(server, page, name):
    # A workspace of its own, or JupyterLab would open the lessons of the tests before beside it.
    where = {"lab": f"lab/workspaces/{name}/tree/{name}.ipynb", "notebook": f"notebooks/{name}.ipynb"}[server.front_end]
    page.goto(f"{server.address}/{where}?token={server.token}")
    page.locator(".jp-CodeCell").first.wait_for()


def _run(page, number):
    page.locator(".jp-CodeCell .jp-InputArea-editor").nth(number).click()
    page.keyboard.press("Shift+Enter")


def _run_all(server, page):
    """Choose Run All Cells from the menu, as soon as there is a kernel; a front end that is still busy starting does not hear it."""
    server.wait_until_idle()
    for _ in range(5):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with contextlib.suppress(TimeoutError):
            started = "/[0-9*]/.test(document.querySelector('.jp-CodeCell .jp-InputPrompt').textContent)"
            page.wait_for_function(started, timeout=10_000)
            return
    pytest.fail("Run All Cells runs nothing")


def _finished(server, page, file):
    """The notebook file once every cell has run and it has been saved."""
    # The kernel may call itself idle while a long cell runs, because it has answered something else meanwhile: the prompts know better.
    over = "![...document.querySelectorAll('.jp-InputPrompt')].some(prompt => prompt.textContent.includes('*'))"
    page.wait_for_function(over, timeout=1_000 * LIMIT_SECONDS)
    server.wait_until_idle()
    saved = file.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    deadline = time.monotonic() + 30
    while file.stat().st_mtime_ns == saved:
        assert time.monotonic() < deadline, "the notebook was not saved"
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)
    return nbformat.read(file, as_version=4)


def _seconds(cell):
    """How long the cell took, as JupyterLab has noted it."""
    started, ended = (datetime.fromisoformat(cell.metadata.execution[name]) for name in ("iopub.status.busy", "iopub.status.idle"))
    return (ended - started).total_seconds()


def _html(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "text/html" in output.get("data", {})]


def assert_plays(film):
    """The film has a picture, a text for screen readers, and a clock that moves."""
    played = film.evaluate(PLAY)
    assert played["error"] is None
    assert played["advanced"] > 0
    assert played["width"] > 0
    assert played["shown"] > 100
    assert played["label"]


# As pages


@pytest.fixture(scope="module")
def pages():
    """The folder with the pages of all lessons, as `make run` has just made them."""
    made = subprocess.run([sys.executable, "tools/run_lessons.py"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / "build" / "lessons"


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_film_plays_while_it_is_in_sight_and_waits_for_a_reader_who_wants_less_motion(browser, pages, motion):
    context = browser.new_context(reduced_motion=motion, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto((pages / "02_policy_gradient.html").as_uri())
    first, last = page.locator("video").first, page.locator("video").last
    for film in (first, last):
        page.mouse.move(0, 0)  # or the next film may come to lie under it
        film.scroll_into_view_if_needed()
        page.wait_for_timeout(1000)
        assert film.evaluate("film => [film.paused, film.controls]") == [motion == "reduce"] * 2
        assert film.evaluate("film => film.getBoundingClientRect().right <= innerWidth")
        film.hover()
        assert film.evaluate("film => film.controls")
    assert first.evaluate("film => film.paused")  # out of sight by now
    context.close()


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_page_of_make_run_plays_its_films_and_draws_its_formulas(page, pages, lesson):
    file = pages / f"{lesson}.html"
    notebook = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
    page.goto(file.as_uri())
    films = page.locator("video")
    assert films.count() == sum(output.data["text/html"].count("<video") for output in _html(notebook))
    for number in range(films.count()):
        films.nth(number).scroll_into_view_if_needed()
        assert_plays(films.nth(number))
        page.screenshot(path=PICTURES / f"page-{lesson}-film{number}.png")
    # Formulas are drawn, although nothing comes from the network.
    if any(cell.cell_type == "markdown" and "$" in cell.source for cell in notebook.cells):
        page.locator(".MathJax, .MathJax_SVG, .MathJax_CHTML").first.wait_for(timeout=60_000)
    # Every picture of the page's own has loaded, and nothing is wider than the page. (The badges come from the network.)
    broken = "[...document.images].filter(picture => picture.src.startsWith('data:') && !picture.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.get_by_alt_text("No description").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    page.screenshot(path=PICTURES / f"page-{lesson}.png", full_page=True)


@pytest.fixture
def saved(browser, tmp_path):
    """`saved(widgets, width=...)`: a saved page with these, without kernel and network, and a frame of each. No script on it may fail."""
    opened, errors = [], []

    def open_page(widgets, name, width=1_400, **context):
        file = tmp_path / "page.html"
        frames = "".join(each.to_html() for each in widgets)
        file.write_text(f'<!doctype html><html lang="en"><title>Games</title><main>{frames}</main>', encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, **context)
        opened.append((page, f"widgets-{name}-{width}.png"))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        assert barriers(page) == []
        return page, [page.frame_locator("iframe").nth(number) for number in range(len(widgets))]

    yield open_page
    for page, picture in opened:
        page.screenshot(path=PICTURES / picture, full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()
    assert errors == []


AGENT = LinearPolicy([1.0, 2.0, 30.0, 8.0])


@pytest.mark.parametrize("width", [1_400, 390])
def test_the_game_and_the_map_are_played_from_a_saved_page(saved, width):
    """Keys, clicks and buttons, with no kernel: the score runs, the agent stands, a cart that is dropped on the map is judged."""
    _, (alone, race, inside) = saved([PlayCartPole(), PlayCartPole(AGENT, name="LQR"), ExploreCartPole(AGENT, name="LQR")], "games", width)
    alone.locator("main").press("ArrowRight")
    alone.get_by_text("It fell.").wait_for(timeout=30_000)
    assert float(alone.locator(".score").inner_text().split()[0]) > 0
    race.locator(".left").click()
    race.get_by_text("LQR still stands.").wait_for(timeout=30_000)
    inside.locator(".map").click(position={"x": 130, "y": 130})
    inside.locator(".right").click()
    inside.get_by_text("Saved: it stands after ten seconds, in spite of 1 nudge.").wait_for(timeout=30_000)


def cpu_seconds():
    """Of a browser's processes that draw pages, of those below this process."""
    processes = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            draws = b"--type=renderer" in file.with_name("cmdline").read_bytes()
            processes[int(file.parent.name)] = int(fields[1]), draws, int(fields[11]) + int(fields[12])
    below = {os.getpid()}
    while more := {pid for pid, (parent, *_) in processes.items() if parent in below} - below:
        below |= more
    return sum(processes[pid][2] for pid in below & processes.keys() if processes[pid][1]) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_minute_of_play_keeps_time_and_leaves_the_processor_alone(saved):
    page, (race,) = saved([PlayCartPole(AGENT, name="LQR")], "pace")
    race.locator("main").evaluate("""() => {
        window.moved = 0;
        const move = Cart.prototype.move;
        Cart.prototype.move = function (push, ...rest) {  // a good hand on both carts, and no time limit
            moved += 1; this.steps %= 400;
            const [x, v, angle, turn] = this.state;
            move.call(this, x + 2 * v + 30 * angle + 8 * turn > 0 ? 1 : -1, ...rest);
        };
    }""")
    race.locator(".speed").fill("1")
    race.locator("main").press("ArrowRight")
    page.wait_for_timeout(1_000)
    look = "() => [moved, performance.now() / 1000]"
    frame = page.frames[1]
    (moved, began), used = frame.evaluate(look), cpu_seconds()
    for second in range(60):
        page.keyboard.press(("ArrowLeft", "ArrowRight")[second % 2])
        page.wait_for_timeout(1_000)
    (moved_then, ended), used_then = frame.evaluate(look), cpu_seconds()
    seconds = ended - began
    rate, share = (moved_then - moved) / 2 / seconds, (used_then - used) / seconds
    print(f"{seconds:.1f} s: {rate:.2f} steps a second, {share:.1%} of a core")
    assert rate == pytest.approx(50, rel=0.01)
    assert 0 < share < 0.3


def test_two_games_on_a_page_do_not_disturb_each_other(saved):
    _, (first, second) = saved([PlayCartPole(), PlayCartPole()], "two")
    first.locator("main").press("ArrowRight")
    first.get_by_text("It fell.").wait_for(timeout=30_000)
    second.get_by_text("Press an arrow").wait_for()
    assert second.locator(".score").inner_text() == "0.0 s"
    second.locator("main").press("ArrowLeft")
    second.locator(".pause").click()
    first.locator(".again").click()
    first.locator("main").press("ArrowRight")
    first.get_by_text("It fell.").wait_for(timeout=30_000)
    second.get_by_role("button", name="Go on").wait_for()


def test_a_game_that_is_closed_asks_for_no_more_frames(saved):
    page, (game,) = saved([PlayCartPole()], "closed")
    game.locator("main").evaluate("""() => {
        const ask = window.requestAnimationFrame;
        window.asked = 0; window.requestAnimationFrame = (then) => { asked += 1; return ask(then); };
        Cart.prototype.move = () => {};  // it stands for ever
    }""")
    game.locator("main").press("ArrowRight")
    page.wait_for_timeout(500)
    frame = page.frames[1]
    running = frame.evaluate("asked")
    assert running > 5
    frame.evaluate("document.getElementById('game').remove()")
    page.wait_for_timeout(200)
    closed = frame.evaluate("asked")
    page.wait_for_timeout(500)
    assert frame.evaluate("asked") == closed


def test_a_slider_goes_through_the_stages_of_a_training(saved):
    torch.manual_seed(0)
    first, then = better_dqn.QNetwork(), better_dqn.QNetwork()
    clumsy = LinearPolicy([-1.0, -2.0, -30.0, -8.0])
    stages = {"at first": clumsy, "in between": LinearPolicy([0.0, 0.0, 1.0, 0.0]), "trained": AGENT}
    values = {"at first": first, "in between": first, "trained": then}
    page, (inside, alone) = saved([ExploreCartPole(stages, value=values), ExploreCartPole(AGENT)], "stages")
    slider, said = inside.locator(".when"), inside.locator(".when + output")
    picture = "() => document.querySelector('iframe').contentDocument.querySelector('.map').toDataURL()"
    assert said.inner_text() == slider.get_attribute("aria-valuetext") == "trained"
    inside.locator(".drop").click()
    inside.get_by_text("Saved: it stands after ten seconds.").wait_for(timeout=30_000)
    trained = page.evaluate(picture)
    inside.locator("select").select_option("value")
    worth = page.evaluate(picture)
    slider.press("Home")
    assert said.inner_text() == "at first"
    assert page.evaluate(picture) != worth
    inside.locator("select").select_option("")
    assert page.evaluate(picture) != trained
    inside.locator(".map").press("ArrowRight")
    inside.get_by_text("Lost after").wait_for(timeout=30_000)
    slider.press("ArrowRight")
    assert said.inner_text() == "in between"
    assert not alone.locator(".when").is_visible()


@pytest.mark.parametrize("width", [1_400, 390])
def test_the_map_shows_how_hard_a_policy_pushes_where_actions_are_real_valued(saved, width):
    rules = [LinearPolicy([9.0, 20.0, 300.0, 80.0], continuous=True), LinearPolicy([0.9, 2.0, 30.0, 8.0], continuous=True)]
    _, (hard, soft) = saved([ExploreCartPole(rule) for rule in rules], "force", width)
    soft.get_by_text("the more colour, the harder").wait_for()
    pale = """map => {
        const { data } = map.getContext("2d").getImageData(0, 0, map.width, map.height);
        let count = 0;
        for (let k = 0; k < data.length; k += 4) count += data[k + 3] < 128;  // how opaque it is, of 255
        return count / (data.length / 4);
    }"""
    shares = [each.locator(".map").evaluate(pale) for each in (hard, soft)]
    assert 0 < shares[0] < 0.2 < shares[1] < 0.9
    soft.locator(".drop").click()
    soft.locator(".right").click()
    soft.get_by_text("Saved: it stands after ten seconds, in spite of 1 nudge.").wait_for(timeout=30_000)


def test_a_picture_stands_where_frames_and_style_sheets_are_taken_out(browser, tmp_path):
    """As GitHub does. Elsewhere it is not seen, and not read out."""
    shown = "".join(widget._repr_mimebundle_()["text/html"] for widget in (PlayCartPole(), ExploreCartPole(AGENT)))
    taken_out = re.sub(r"<style>.*?</style>|<iframe.*?</iframe>|class=\"[^\"]*\"", "", shown, flags=re.DOTALL)
    page = browser.new_page()
    for name, inside, seen in (("whole", shown, False), ("bare", taken_out, True)):
        file = tmp_path / f"{name}.html"
        file.write_text(f'<!doctype html><html lang="en"><title>Games</title><main>{inside}</main>', encoding="utf-8")
        page.goto(file.as_uri())
        assert barriers(page) == []
        page.screenshot(path=PICTURES / f"widgets-picture-{name}.png", full_page=True)
        assert [picture.is_visible() for picture in page.locator("img").all()] == [seen] * 2
        assert page.evaluate("[...document.images].every(picture => picture.naturalWidth)")
        assert page.get_by_text("it needs a notebook that shows HTML").first.is_visible() == seen
        assert page.locator("iframe").count() == (0 if seen else 2)
    page.close()


def test_the_wind_blows_at_both_carts_alike(saved):
    page, (race,) = saved([PlayCartPole(AGENT, name="LQR")], "wind")
    race.get_by_role("button", name="Gust of wind").click()
    race.get_by_text("The wind waits").wait_for()
    # Both start alike and are pushed alike here, so they have to look alike after the gust, too.
    race.locator("main").evaluate("main => { Math.random = () => 0.5; window.pushOf = () => 1; }")
    race.locator(".again").click()
    race.locator("main").press("ArrowRight")
    race.get_by_role("button", name="Gust of wind").click()
    race.get_by_text("A gust to the right, at both poles alike.").wait_for()
    pictures = "() => [...document.querySelector('iframe').contentDocument.querySelectorAll('canvas')].map(each => each.toDataURL())"
    mine, its = page.evaluate(pictures)
    assert mine == its
    race.get_by_text("You beat LQR").wait_for()  # at the same step, and that is not before
    (alone,) = saved([PlayCartPole()], "alone")[1]
    alone.locator(".again").wait_for()
    assert not alone.locator(".gust").is_visible()


@pytest.mark.parametrize(("height", "what"), [(0.9, "cart"), (0.4, "pole")])
def test_a_hand_pulls_at_the_cart_and_at_its_pole_and_the_agent_recovers_or_not(saved, height, what):
    page, (inside,) = saved([ExploreCartPole(AGENT, name="LQR")], f"hand-{what}")
    box = inside.locator(".cart").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * height
    for far, end in ((12, "Saved: it stands after ten seconds, in spite of 1 nudge."), (120, "Lost after")):
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + far, y)
        if end.startswith("Saved"):
            page.wait_for_timeout(300)
            page.screenshot(path=PICTURES / f"widgets-pull-{what}.png")
            page.mouse.up()
        inside.get_by_text(end).wait_for(timeout=30_000)
        page.mouse.up()


def test_the_map_is_used_by_keyboard_alone(saved):
    _, (inside,) = saved([ExploreCartPole(AGENT, name="LQR")], "keys")
    inside.locator(".map").press("ArrowLeft")
    inside.locator(".map").press("ArrowUp")
    inside.get_by_text("Saved: it stands after ten seconds.").wait_for(timeout=30_000)
    for _ in range(10):
        inside.locator(".map").press("ArrowUp")
    for _ in range(10):
        inside.locator(".map").press("ArrowRight")
    inside.get_by_text("Lost after").wait_for(timeout=30_000)


@pytest.mark.parametrize("width", [1_400, 390])
def test_gains_are_turned_by_keys_and_by_hand(saved, width):
    _, (rule,) = saved([TuneCartPole((5, 10, 100, 50))], "gains", width)
    rule.get_by_text("multiplied by 0.989: it dies out.").wait_for()
    rule.locator(".x").press("Home")
    rule.get_by_text("it grows.").wait_for()
    map_ = rule.locator(".gains")
    box = map_.bounding_box()
    map_.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert [abs(float(rule.locator(f".{gain} + output").inner_text())) <= 2 for gain in ("theta", "turn")] == [True, True]
    map_.click(position={"x": box["width"] - 2, "y": 2})
    assert [float(rule.locator(f".{gain} + output").inner_text()) >= most for gain, most in (("theta", 190), ("turn", 76))] == [True, True]


def replayed(seed, **keywords):
    return ReplayCartPole(collect_episodes(make_envs("CartPole-v1", 1, seed=seed), AGENT.act), **keywords)


def seconds_of(replay):
    return float(replay.locator(".clock").inner_text().split()[0])


@pytest.mark.parametrize("width", [1_400, 390])
def test_a_replay_plays_while_it_is_in_sight_and_stops_at_any_moment(saved, width):
    page, (replay, below) = saved([replayed(0, label="first"), replayed(1)], "replay", width)
    page.locator("iframe").first.evaluate("frame => frame.style.marginBottom = '3000px'")
    page.wait_for_timeout(1_500)
    assert replay.locator(".name").inner_text() == "first"
    assert 0.5 < seconds_of(replay) < 5
    # Out of sight nothing moves; what is there is not built before (lazily), and starts once it is seen.
    page.locator("iframe").last.scroll_into_view_if_needed()
    page.wait_for_timeout(1_000)
    waited = seconds_of(replay)
    page.wait_for_timeout(500)
    assert seconds_of(replay) == waited
    assert seconds_of(below) > 0
    page.locator("iframe").first.scroll_into_view_if_needed()
    # The slider goes to a moment, by keys alone, and the numbers are those of that moment.
    slider, numbers = replay.locator(".at"), replay.locator(".curve output")
    slider.press("Home")
    rows = collect_episodes(make_envs("CartPole-v1", 1, seed=0), AGENT.act)
    for step in range(3):
        said = [number.replace("\u2212", "-") for number in numbers.all_inner_texts()]
        for text, value in zip(said[:4], rows.observations[step, 0].tolist(), strict=True):
            assert abs(float(text.split()[0]) - value) < 0.002
        assert ("right" in said[4]) == bool(rows.actions[step, 0])
        assert slider.get_attribute("aria-valuetext") == f"{step * 0.02:.2f} s"
        slider.press("ArrowRight")
    waited = seconds_of(replay)
    page.wait_for_timeout(500)
    assert seconds_of(replay) == waited == 0.06
    # A curve that is pulled to the left shows what comes later.
    box = replay.locator(".curve canvas").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 10)
    page.mouse.up()
    assert 0.5 < seconds_of(replay) < 2
    replay.get_by_role("button", name="Play").press("Enter")
    page.wait_for_timeout(500)
    assert seconds_of(replay) > 1.2
    replay.get_by_role("button", name="Pause").wait_for()


def test_a_replay_waits_for_a_reader_who_wants_less_motion(saved):
    page, (replay,) = saved([replayed(0)], "still", reduced_motion="reduce")
    page.wait_for_timeout(700)
    assert seconds_of(replay) == 0
    replay.get_by_role("button", name="Play").click()
    page.wait_for_timeout(700)
    assert seconds_of(replay) > 0


@pytest.mark.parametrize("width", [1_400, 390])
def test_two_episodes_are_compared_by_keys_alone(saved, width):
    _, (pair,) = saved([ComparePair([[0.0, 0.0, 0.1, 0.0]] * 20, [[1.0, 0.0, -0.1, 0.0]] * 9)], "pair", width)
    left, right = (pair.get_by_role("button", name=f"The {side} one") for side in ("left", "right"))
    assert left.bounding_box()["y"] == right.bounding_box()["y"], "left is left on a narrow screen, too"
    right.press("Enter")
    pair.get_by_text("You find the right one better.").wait_for()
    left.press("Space")
    pair.get_by_text("You find the left one better.").wait_for()
    assert [each.get_attribute("aria-pressed") for each in (left, right)] == ["true", "false"]
    assert pair.locator(".at").get_attribute("max") == "19"


def test_an_answer_that_nobody_hears_is_not_passed_over_in_silence(saved):
    asked = ComparePair([[0.0, 0.0, 0.1, 0.0]] * 20, [[1.0, 0.0, -0.1, 0.0]] * 9)
    asked.options["game"] = "of a kernel that is gone"
    _, (pair,) = saved([asked], "unheard")
    pair.get_by_role("button", name="The right one").click()
    pair.get_by_text("Python has not heard of your answer").wait_for()


def test_the_map_shows_what_states_are_worth_where_a_network_knows(saved):
    torch.manual_seed(0)
    network = better_dqn.QNetwork()
    page, (values, pushes) = saved([ExploreCartPole(network, value=network), ExploreCartPole(network)], "values")
    assert pushes.locator(".map").is_visible()
    assert not pushes.locator("select").is_visible()
    picture = "() => document.querySelector('iframe').contentDocument.querySelector('.map').toDataURL()"
    before = page.evaluate(picture)
    values.locator("select").select_option("value")
    assert page.evaluate(picture) != before
    least, most = (float(number) for number in re.findall(r"[\d.]+", values.locator(".legend").inner_text()))
    angle, speed = np.meshgrid(*((np.arange(40) + 0.5) / 20 - 1,) * 2)
    grid = np.stack([0 * angle, 0 * angle, angle * np.radians(12), 3 * speed], -1).astype("f4")
    with torch.no_grad():
        worth = network(torch.from_numpy(grid)).amax(-1)
    np.testing.assert_allclose([least, most], [worth.min(), worth.max()], atol=0.051)


@pytest.mark.parametrize("width", [1_400, 390])
def test_more_seeds_tell_more_studies_apart(saved, width):
    rng = np.random.default_rng(0)
    one, other = rng.gamma(4, 1_000, 100), np.append(rng.gamma(4, 1_500, 99), np.inf)
    _, (seeds,) = saved([CountSeeds({"two algorithms": (one, other), "the same twice": (one, one)})], "seeds", width)
    told, slider = seeds.locator("i.on"), seeds.locator("input")
    counts = []
    for key in ("Home", "End"):
        slider.press(key)
        counts.append(told.count())
        n = {"Home": 2, "End": 50}[key]
        seeds.get_by_text(f"{counts[-1]} of 100 studies with {n} seeds of each tell the two apart.").wait_for()
    assert counts[0] == 0  # two against two never do
    assert counts[1] > 60
    seeds.locator("select").select_option("the same twice")
    assert told.count() < 25  # false alarms, of which 5 are to be expected
    before = seeds.locator(".studies").inner_html()
    for _ in range(5):  # two hundreds may look alike, if nothing is found in either
        seeds.get_by_role("button", name="Another hundred").click()
    assert seeds.locator(".studies").inner_html() != before
    assert seeds.locator("main").evaluate("main => document.documentElement.scrollWidth <= innerWidth")


def test_the_colours_are_those_that_the_page_around_asks_for(saved):
    page, (game,) = saved([PlayCartPole()], "colours", color_scheme="light")
    ground = "() => getComputedStyle(document.querySelector('iframe').contentDocument.body).backgroundColor"
    game.locator("main").wait_for()
    found = []
    for theme in ("", "dark", "light"):
        page.evaluate("theme => document.querySelector('iframe').contentDocument.documentElement.dataset.theme = theme", theme)
        found.append(page.evaluate(ground))
    assert found[0] == found[2] == "rgb(255, 255, 255)"
    assert found[1] == "rgb(18, 18, 18)"
