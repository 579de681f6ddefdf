"""Execute lessons at their real settings: `make run`, or with --in-place to renew the outputs that are committed.

Without --in-place everything lands in build/lessons/: the executed notebook, an HTML page and the films of each lesson, each as soon as it
is done, an index page, and a table on screen. Exit status 1 when a lesson fails or leaves an agent unsolved, 130 after Ctrl-C.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from html import escape
from importlib.util import find_spec
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from cartpole_lessons._support.files import atomic_write
from cartpole_lessons.display import RESULT_MIME
from notebooks import read_notebook, text_of

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build" / "lessons"
INDEX = NOTEBOOKS / "index.ipynb"
#: Where lessons run, a folder for each of these processes. One whose process is gone was left by a run that was killed.
WORKSHOPS = ROOT / "build" / "running"
WORKSHOP = WORKSHOPS / str(os.getpid())
MATHJAX = "mathjax"  # folder beside the pages
#: What nbconvert's pages lack: on a narrow screen they would break the rows of a table and cut off a long formula, and `what_changed` has no colours in them.
#: DARK stands for its own dark theme.
OUR_STYLE = """<style>
.jp-RenderedMarkdown pre { font-family: var(--jp-code-font-family); }
.highlight .gd { color: #a61b1b; } .highlight .gi { color: #17692f; }
.jp-OutputArea pre { white-space: pre !important; overflow-x: auto !important; }
.MathJax_Display { overflow-x: auto; overflow-y: hidden; }
@media (max-width: 600px) { .jp-OutputArea pre, .highlight pre { font-size: 11px !important; } }
@media (prefers-color-scheme: dark) { DARK
:root { color-scheme: dark; } .jp-RenderedImage img { background: white; }
.highlight .gd { color: #ff9f94; } .highlight .gi { color: #90dba0; } }
</style>"""
#: What nbconvert says of every picture, although its output has a text.
NO_TEXT = 'alt="No description has been provided for this image"'
# The fonts that the package brings; MathJax looks for others first.
MATHJAX_FONTS = """MathJax.Hub.Config({"HTML-CSS": {availableFonts: [], webFont: "STIX-Web"}});
MathJax.Ajax.loadComplete("[MathJax]/config/local/fonts.js");
"""


def find_lessons(names: list[str]) -> list[Path]:
    """Notebooks whose name starts with one of `names` ("02" is enough, "pcm" takes a whole language), all of them without names."""
    lessons = [lesson for pattern in ("[0-9]*.ipynb", "[a-z]*/[0-9]*.ipynb") for lesson in sorted(NOTEBOOKS.glob(pattern))]
    chosen = [lesson for lesson in lessons if not names or name_of(lesson).startswith(tuple(names))]
    if not chosen:
        sys.exit(f"No lesson is called {' or '.join(names)}: there are {', '.join(name_of(lesson) for lesson in lessons)}.")
    return chosen


def name_of(lesson: Path) -> str:
    """`02_policy_gradient`; in another language `pcm/02_policy_gradient`."""
    return lesson.relative_to(NOTEBOOKS).with_suffix("").as_posix()


def execute(lesson: Path, clients: list[NotebookClient]) -> tuple[nbformat.NotebookNode, float, str | None]:
    """Run every cell in a fresh kernel and an empty folder; return the notebook, the seconds, and the first error's message.

    Its client joins `clients`, so that Ctrl-C finds its kernel.
    """
    notebook = read_notebook(lesson)
    folder = WORKSHOP / name_of(lesson)
    folder.mkdir(parents=True)
    client = NotebookClient(
        notebook,
        timeout=600,
        # The kernel otherwise greets the terminal with remarks on its transport.
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    clients.append(client)
    started = time.perf_counter()
    error = None
    try:
        # An event loop of its own, which is closed in the end. What a kernel leaves in TMPDIR when it is killed goes with the folder.
        asyncio.run(client.async_execute(env=os.environ | {"TMPDIR": str(folder)}))
    except CellExecutionError as failed:
        error = f"{failed.ename}: {failed.evalue}"
    except DeadKernelError:
        error = "its kernel died"
    seconds = time.perf_counter() - started
    clients.remove(client)
    shutil.rmtree(folder, ignore_errors=True)
    return notebook, seconds, error


def as_they_end(running: dict[Future, Path], clients: list[NotebookClient]) -> Iterator[Future]:
    """Lessons as they are done; until then a terminal has a line that says, every second, how far they are."""
    waiting, started = set(running), time.perf_counter()
    while waiting:
        done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
        if sys.stdout.isatty():
            far = [f"lesson {Path(each.resources['metadata']['path']).name[:2]}, cell {each.code_cells_executed + 1}" for each in clients]
            width = shutil.get_terminal_size().columns - 1
            line = "" if done else f"  {time.perf_counter() - started:.0f} s: {'; '.join(far)}"[:width]
            print(f"\r{line:<{width}}\r", end="", flush=True)
        yield from done


def kill_kernels(clients: list[NotebookClient]) -> None:
    """End every kernel at once: after Ctrl-C nobody wants to wait for their cells."""
    for client in list(clients):
        pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def clear_what_killed_runs_left() -> None:
    """Folders of runs whose process is gone, and files beside the lessons that such a run had not yet finished."""
    for folder in WORKSHOPS.glob("*"):
        if not psutil.pid_exists(int(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
    for half in [*NOTEBOOKS.rglob(".[0-9]*.ipynb.*"), *BUILD.rglob(".[0-9]*.*.*"), *BUILD.glob(".index.html.*")]:
        half.unlink(missing_ok=True)


def results_of(notebook: nbformat.NotebookNode) -> list[dict]:
    """The figures of every training result that the lesson shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[RESULT_MIME] for output in outputs if RESULT_MIME in output.get("data", {})]


def save_outputs(notebook: nbformat.NotebookNode, lesson: Path) -> Path:
    """Write executed notebook, HTML page and films, each whole or not at all; return the page."""
    name = name_of(lesson)
    language, up = (lesson.parent.name, "../") if "/" in name else ("en", "")
    _write(BUILD / f"{name}.ipynb", nbformat.writes(notebook).encode())
    # A page otherwise asks the network for MathJax, and for RequireJS, which nothing in it uses.
    exporter = HTMLExporter(mathjax_url=f"{up}{MATHJAX}/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe,local/fonts", require_js_url="")
    html = _page(exporter, notebook, lesson.stem)
    html = re.sub(r'href="((?:\.\./)?\d\d_\w+)\.ipynb"', r'href="\1.html"', html)
    page = BUILD / f"{name}.html"
    _write(page, html.replace('<html lang="en"', f'<html lang="{language}"', 1).encode())
    films = re.findall(r'aria-label="([^"]*)"><source src="data:video/mp4;base64,([^"]*)"', "".join(_html_outputs(notebook)))
    for number, (label, data) in enumerate(films, start=1):
        words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40]
        _write(BUILD / f"{name}-film{number}-{words}.mp4", base64.b64decode(data))
    return page


def _page(exporter: HTMLExporter, notebook: nbformat.NotebookNode, name: str) -> str:
    """The notebook as a page in our style, its pictures with the texts that their outputs have."""
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    texts = iter([text_of(output) for output in outputs if "text/html" not in output.data])
    html = re.sub(NO_TEXT, lambda _: f'alt="{escape(next(texts))}"', html)
    dark, *_ = exporter.environment.loader.get_source(exporter.environment, "static/theme-dark.css")
    return html.replace("</head>", f"{OUR_STYLE.replace('DARK', dark)}</head>", 1)


def save_index() -> Path:
    """The path through the lessons as a page, with a link to each page that is there."""
    source = re.sub(r"<!-- (badges|jupyter) -->.*?<!-- /\1 -->", "", nbformat.read(INDEX, as_version=4).cells[0].source, flags=re.DOTALL)
    source = source.replace("../docs/agent.gif", "agent.gif")
    others = [name for name in map(name_of, find_lessons([])) if "/" in name and (BUILD / f"{name}.html").exists()]
    source = source.replace(
        "[in Nigerian Pidgin](pcm/README.md)", " ".join(["in Nigerian Pidgin", *(f"[{name[4:6]}]({name}.html)" for name in others)])
    )
    source = re.sub(
        r"\[([^]]+)\]\((\d\w+)\.ipynb\)",
        lambda link: f"[{link[1]}]({link[2]}.html)" if (BUILD / f"{link[2]}.html").exists() else link[1],
        source,
    )
    path = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])
    page = _page(HTMLExporter(mathjax_url="", require_js_url=""), path, "CartPole lessons")
    shutil.copy(ROOT / "docs" / "agent.gif", BUILD)
    _write(BUILD / "index.html", page.encode())
    return BUILD / "index.html"


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def copy_mathjax() -> None:
    """Put what draws the formulas beside the pages."""
    static = Path(find_spec("jupyter_server_mathjax").origin).parent / "static"  # to import it would start half a Jupyter server
    shutil.copytree(static, BUILD / MATHJAX, ignore=shutil.ignore_patterns("a11y"), dirs_exist_ok=True)
    config = BUILD / MATHJAX / "config" / "local" / "fonts.js"
    config.parent.mkdir(exist_ok=True)
    config.write_text(MATHJAX_FONTS, encoding="utf-8")


def _html_outputs(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def clean(notebook: nbformat.NotebookNode, seconds: float) -> nbformat.NotebookNode:
    """Keep only what a reader needs: no widget state, no version of the machine that ran it; and how long it took, for `make badges`."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {name: value for name, value in notebook.metadata.language_info.items() if name != "version"},
            "cartpole_lessons": {"seconds": max(5, 5 * round(seconds / 5))},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def save(notebook: nbformat.NotebookNode, seconds: float, error: str | None, lesson: Path, in_place: bool) -> Path:
    """Put an executed lesson where it belongs; return the file to open."""
    if not in_place:
        return save_outputs(notebook, lesson)
    if error is None:
        _write(lesson, f"{nbformat.writes(clean(notebook, seconds))}\n".encode())
    return lesson


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="lessons to run, for example 02 (default: all)")
    parser.add_argument("--in-place", action="store_true", help="write the outputs into notebooks/ instead of build/lessons/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="lessons that run at the same time (default: one per core)")
    arguments = parser.parse_args()

    lessons = find_lessons(arguments.lessons)
    # Outputs that are committed hold measured seconds, so there one lesson has the machine to itself.
    jobs = 1 if arguments.in_place else min(arguments.jobs, len(lessons))
    clear_what_killed_runs_left()
    if not arguments.in_place:
        copy_mathjax()
    print(f"{len(lessons)} lessons, {jobs} at a time; Ctrl-C stops them:", flush=True)
    rows, good, clients = {}, True, []
    # Threads, not processes: within one process the kernels cannot be given the same ports.
    pool = ThreadPoolExecutor(jobs)
    try:
        # The first film of an agent that has learned comes from 02.
        first = sorted(lessons, key=lambda lesson: not name_of(lesson).startswith("02"))
        running = {pool.submit(execute, lesson, clients): lesson for lesson in first}
        for done in as_they_end(running, clients):
            lesson = running[done]
            try:
                notebook, seconds, error = done.result()
                page = save(notebook, seconds, error, lesson, arguments.in_place)
            except OSError as failed:  # a full disk, say: it costs this lesson, and not the others
                notebook, seconds, page = nbformat.v4.new_notebook(), 0.0, lesson
                error = f"cannot be written ({failed.strerror or failed})"
            results = results_of(notebook)
            good = good and error is None and all(result["solved"] for result in results)
            print(f"  {name_of(lesson):<32}{seconds:6.1f} s  {error or 'done'}  {page.relative_to(ROOT)}", flush=True)
            solved = "failed" if error else f"{sum(result['solved'] for result in results)} of {len(results)}" if results else "-"
            steps = f"{results[-1]['env_steps']:,}" if results else "-"
            mean = f"{results[-1]['mean_return']:.1f}" if results else "-"
            rows[lesson] = (name_of(lesson), f"{seconds:.1f}", solved, steps, mean, str(page.relative_to(ROOT)))
            if not arguments.in_place:
                save_index()
    except KeyboardInterrupt:
        kill_kernels(clients)
        shutil.rmtree(WORKSHOP, ignore_errors=True)
        print(f"\nStopped by you after {len(rows)} of {len(lessons)} lessons; their pages are in {BUILD.relative_to(ROOT)}.", flush=True)
        os._exit(130)  # the threads still wait for kernels that are gone
    shutil.rmtree(WORKSHOP, ignore_errors=True)

    header = ("lesson", "seconds", "solved", "env steps", "mean of 100", "page to open")
    widths = [max(len(row[column]) for row in [header, *rows.values()]) for column in range(len(header))]
    print()
    for row in [header, *(rows[lesson] for lesson in lessons)]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
