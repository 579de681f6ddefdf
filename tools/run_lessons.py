"""Execute lessons at their real settings: `make run`, or with --in-place to renew the outputs that are committed.

Without --in-place everything lands in build/lessons/: the executed notebook, an HTML page and the films of each lesson, and a table on
screen. Exit status 1 when a lesson fails or leaves an agent unsolved.
"""

import argparse
import base64
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import jupyter_server_mathjax
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from cartpole_lessons._support.files import atomic_write
from cartpole_lessons.training import RESULT_MIME
from notebooks import read_notebook

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "lessons"
MATHJAX = "mathjax"  # folder beside the pages
# The fonts that the package brings; MathJax looks for others first.
MATHJAX_FONTS = """MathJax.Hub.Config({"HTML-CSS": {availableFonts: [], webFont: "STIX-Web"}});
MathJax.Ajax.loadComplete("[MathJax]/config/local/fonts.js");
"""


def find_lessons(names: list[str]) -> list[Path]:
    """Notebooks whose name starts with one of `names` ("02" is enough), all of them without names."""
    lessons = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    chosen = [lesson for lesson in lessons if not names or any(lesson.stem.startswith(name) for name in names)]
    if not chosen:
        sys.exit(f"No lesson is called {' or '.join(names)}: there are {', '.join(lesson.stem for lesson in lessons)}.")
    return chosen


def execute(lesson: Path) -> tuple[nbformat.NotebookNode, float, str | None]:
    """Run every cell in a fresh kernel and an empty folder; return the notebook, the seconds, and the first error's message."""
    notebook = read_notebook(lesson)
    with tempfile.TemporaryDirectory(prefix="lesson-") as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            # The kernel otherwise greets the terminal with remarks on its transport.
            extra_arguments=["--log-level=ERROR"],
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        started = time.perf_counter()
        try:
            client.execute()
        except CellExecutionError as error:
            return notebook, time.perf_counter() - started, f"{error.ename}: {error.evalue}"
    return notebook, time.perf_counter() - started, None


def results_of(notebook: nbformat.NotebookNode) -> list[dict]:
    """The figures of every training result that the lesson shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[RESULT_MIME] for output in outputs if RESULT_MIME in output.get("data", {})]


def save_outputs(notebook: nbformat.NotebookNode, lesson: Path) -> Path:
    """Write executed notebook, HTML page and films; return the page."""
    BUILD.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, BUILD / lesson.name)
    page = BUILD / f"{lesson.stem}.html"
    # A page otherwise asks the network for MathJax, and for RequireJS, which nothing in it uses.
    exporter = HTMLExporter(mathjax_url=f"{MATHJAX}/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe,local/fonts", require_js_url="")
    html, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": lesson.stem}})
    page.write_text(html, encoding="utf-8")
    films = re.findall(r'aria-label="([^"]*)"><source src="data:video/mp4;base64,([^"]*)"', "".join(_html_outputs(notebook)))
    for number, (label, data) in enumerate(films, start=1):
        words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40]
        (BUILD / f"{lesson.stem}-film{number}-{words}.mp4").write_bytes(base64.b64decode(data))
    return page


def copy_mathjax() -> None:
    """Put what draws the formulas beside the pages."""
    static = Path(jupyter_server_mathjax.__file__).parent / "static"
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
            "language_info": {"name": "python"},
            "cartpole_lessons": {"seconds": max(5, 5 * round(seconds / 5))},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="lessons to run, for example 02 (default: all)")
    parser.add_argument("--in-place", action="store_true", help="write the outputs into notebooks/ instead of build/lessons/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="lessons that run at the same time (default: one per core)")
    arguments = parser.parse_args()

    lessons = find_lessons(arguments.lessons)
    # Outputs that are committed hold measured seconds, so there one lesson has the machine to itself.
    jobs = 1 if arguments.in_place else min(arguments.jobs, len(lessons))
    if not arguments.in_place:
        copy_mathjax()
    print(f"{len(lessons)} lessons, {jobs} at a time:", flush=True)
    rows, good = {}, True
    # Threads, not processes: within one process the kernels cannot be given the same ports.
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(execute, lesson): lesson for lesson in lessons}
        for done in as_completed(running):
            lesson = running[done]
            notebook, seconds, error = done.result()
            results = results_of(notebook)
            good = good and error is None and all(result["solved"] for result in results)
            print(f"  {lesson.stem:<28}{seconds:6.1f} s  {error or 'done'}", flush=True)
            if arguments.in_place and error is None:
                with atomic_write(lesson) as file:
                    file.write(f"{nbformat.writes(clean(notebook, seconds))}\n".encode())
            page = lesson if arguments.in_place else save_outputs(notebook, lesson)
            solved = "failed" if error else f"{sum(result['solved'] for result in results)} of {len(results)}" if results else "-"
            steps = f"{results[-1]['env_steps']:,}" if results else "-"
            mean = f"{results[-1]['mean_return']:.1f}" if results else "-"
            rows[lesson] = (lesson.stem, f"{seconds:.1f}", solved, steps, mean, str(page.relative_to(ROOT)))

    header = ("lesson", "seconds", "solved", "env steps", "mean of 100", "page to open")
    widths = [max(len(row[column]) for row in [header, *rows.values()]) for column in range(len(header))]
    print()
    for row in [header, *(rows[lesson] for lesson in lessons)]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
