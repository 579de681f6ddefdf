"""Grade a folder of students' notebooks: `grade(folder)` gives a row per notebook and exercise.

A student's code and what judges it never share a process. The notebook runs in a sandbox (see `sandbox`) with a copy of the course in which
exercises hold no solutions; each `check(answer)` there only says that something is handed in. The grader then calls the course's own
check, here, with a stand-in for the student's function: it sends its arguments across and returns what comes back, as JSON. So whatever a notebook
prints, patches, deletes or pretends, "right" means that the numbers that came back are right.

Answers are found by the name of what was checked. The last one that was an attempt counts.
"""

import csv
import functools
import hashlib
import html
import importlib.util
import io
import json
import os
import pkgutil
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from tqdm import tqdm

from cartpole_lessons import exercises
from cartpole_lessons._support.files import write_file
from cartpole_lessons.errors import InvalidInput, MissingDependency, in_short
from cartpole_lessons.exercises import Exercise, Prediction
from cartpole_lessons.grading.sandbox import Limits, Sandbox, has_walls
from cartpole_lessons.grading.values import decode, encode

__all__ = ["Limits", "Row", "grade", "has_walls"]

PACKAGE = Path(__file__).resolve().parent.parent
STATES = ("right", "wrong", "missing", "error", "time-out")
COLUMNS = ("notebook", "exercise", "points", "state", "seconds", "reason")
LARGEST = 500_000_000  # bytes of a notebook

STYLE = """
:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #8886; vertical-align: top; overflow-wrap: anywhere; }
th { position: sticky; top: 0; background: Canvas; white-space: nowrap; } td:nth-child(4) { border-left: 5px solid; white-space: nowrap; }
.right { border-color: #2a9d4a; } .wrong { border-color: #c8453b; } .missing { border-color: #888; } .error, .time-out { border-color: #d98c00; }
"""


@dataclass(frozen=True)
class Row:
    """What became of an exercise in a notebook."""

    notebook: str  #: its path in the folder
    exercise: str  #: "06.td_targets", or "" where a notebook belongs to no lesson
    state: str  #: one of STATES
    seconds: float  #: that the whole notebook took
    reason: str  #: one sentence

    @property
    def points(self) -> int:
        """1 for a right answer."""
        return int(self.state == "right")

    def cells(self) -> dict[str, Any]:
        """By column."""
        return {column: getattr(self, column) for column in COLUMNS}


@dataclass(frozen=True)
class Job:
    """What every notebook of a run is graded with; small, because each worker gets it."""

    package: Path  #: the copy of the course without solutions
    own: tuple[Path, ...]
    lessons: tuple[str, ...]  #: names of modules; () for those that a notebook mentions
    hidden: tuple[Path, ...]
    limits: Limits


def grade(
    folder: str | os.PathLike,
    *,
    lessons: Sequence[str] = (),
    own: Sequence[str | os.PathLike] = (),
    csv_file: str | os.PathLike = "grades.csv",
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    workers: int | None = None,
    progress: bool = False,
) -> list[Row]:
    """Grade every notebook below `folder`, and write `csv_file` and a page beside it.

    lessons: numbers ("06"), or names of files of your own; every notebook then has a row for each of their exercises. Without, a notebook is
    asked for those lessons that its code mentions. own: Python files with exercises of your own. workers: notebooks at a time, one per core by default.
    Killed, it goes on where it was, when it is called the same way; finished, it grades everything anew.
    `InvalidInput` for a folder without notebooks, an unknown lesson or a file that cannot be imported.
    """
    missing = [name for name in ("psutil", "nbclient", "ipykernel") if not importlib.util.find_spec(name)]
    if missing:
        raise MissingDependency(f"Grading needs {' and '.join(missing)}, which is not installed: run `pip install {' '.join(missing)}`.")
    folder, csv_file = Path(folder).resolve(), Path(csv_file).resolve()
    notebooks = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    if not notebooks:
        raise InvalidInput(f"There are no notebooks (*.ipynb) in {folder}: pass the folder that your students' notebooks are in.")
    own = tuple(Path(path).resolve() for path in own)
    known = modules_with_exercises(own)
    chosen = tuple(_module_named(lesson, known) for lesson in lessons)
    with TemporaryDirectory(prefix="cartpole-grade-") as scratch:
        package = copy_without_solutions(Path(scratch), known)
        # What a notebook must not see, unless Python itself lies there.
        needed = [package, Path(os.path.realpath(sys.prefix)), Path(os.path.realpath(sys.executable))]
        hidden = [PACKAGE / "exercises", *([] if any(path.is_relative_to(folder) for path in needed) else [folder])]
        job = Job(package, own, chosen, tuple(hidden), limits)
        rows = _grade_all(notebooks, folder, job, csv_file.with_suffix(".unfinished"), workers or os.cpu_count() or 1, progress)
    write_file(csv_file, _table(rows).encode(errors="replace"), "The table")
    write_file(csv_file.with_suffix(".html"), _page(rows, folder.name).encode(errors="replace"), "The page")
    csv_file.with_suffix(".unfinished").unlink(missing_ok=True)
    return rows


def modules_with_exercises(own: Iterable[Path] = ()) -> dict[str, ModuleType]:
    """Every module that holds exercises, by name: the course's, and the files `own`."""
    found = {
        module.name: import_module(f"{exercises.__name__}.{module.name}")
        for module in pkgutil.iter_modules(exercises.__path__)
        if module.name.startswith("lesson_")
    }
    for path in own:
        try:
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except Exception as error:
            raise InvalidInput(f"{path} cannot be imported as a file with exercises ({type(error).__name__}: {in_short(error)}).") from None
        found[path.stem] = module
    return found


def exercises_in(module: ModuleType) -> dict[str, Exercise | Prediction]:
    """Variable -> exercise."""
    return {name: thing for name, thing in vars(module).items() if isinstance(thing, (Exercise, Prediction))}


def _module_named(lesson: str, known: Mapping[str, ModuleType]) -> str:
    for name in (lesson, f"lesson_{lesson}", f"lesson_{lesson:0>2}"):
        if name in known:
            return name
    raise InvalidInput(f"There are no exercises of lesson {lesson}, only of these: {', '.join(n.removeprefix('lesson_') for n in known)}.")


def copy_without_solutions(folder: Path, known: Mapping[str, ModuleType]) -> Path:
    """The course once more below `folder`, where each module with exercises holds names alone."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("lesson_*"))
    for name, module in known.items():
        place = folder / PACKAGE.name / "exercises" if module.__name__.startswith(exercises.__name__) else folder
        asked = [f"{variable} = Asked({exercise.name!r})" for variable, exercise in exercises_in(module).items()]
        (place / f"{name}.py").write_text("\n".join(["from cartpole_lessons.grading.asked import Asked", *asked, ""]), encoding="utf-8")
    return folder


def _grade_all(notebooks: Sequence[Path], folder: Path, job: Job, unfinished: Path, workers: int, progress: bool) -> list[Row]:
    """Rows of all notebooks, in their order; those that `unfinished` holds already are not graded again."""
    how = repr((job.lessons, [_digest(path) for path in job.own], job.limits))
    done = _rows_in(unfinished, how)
    rows: dict[Path, list[Row]] = {}
    tries: Counter[Path] = Counter()
    context = get_context("spawn")
    with open(unfinished, "a", encoding="utf-8") as kept, tqdm(total=len(notebooks), unit="notebook", disable=not progress) as bar:

        def finish(path: Path, graded: list[Row]) -> None:
            rows[path] = graded
            bar.update()

        for path in notebooks:
            if (key := (str(path.relative_to(folder)), _digest(path))) in done:
                finish(path, done[key])
        while left := [path for path in notebooks if path not in rows]:
            with ProcessPoolExecutor(min(workers, len(left)), mp_context=context, initializer=_prepare, initargs=(job,)) as pool:
                tries.update(left)
                running = {pool.submit(_grade_one, path, str(path.relative_to(folder)), job): path for path in left}
                for future in as_completed(running):
                    path = running[future]
                    name = str(path.relative_to(folder))
                    try:
                        graded = future.result()
                    except BrokenProcessPool as error:
                        if tries[path] < 3:  # any notebook of those that ran may have been the one
                            continue
                        graded = [Row(name, "", "error", 0.0, f"The grader itself was stopped while it ran ({in_short(error)}).")]
                    json.dump({"how": how, "digest": _digest(path), "name": name, "rows": [asdict(row) for row in graded]}, kept)
                    kept.write("\n")
                    kept.flush()
                    finish(path, graded)
    return [row for path in notebooks for row in rows[path]]


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _rows_in(unfinished: Path, how: str) -> dict[tuple[str, str], list[Row]]:
    """(notebook, digest) -> its rows, from a run that was killed."""
    found = {}
    for line in unfinished.read_text(encoding="utf-8").splitlines() if unfinished.is_file() else []:
        try:
            kept = json.loads(line)
            if kept["how"] == how:
                found[kept["name"], kept["digest"]] = [Row(**row) for row in kept["rows"]]
        except (ValueError, TypeError, KeyError):  # the line at which it was killed
            continue
    return found


@functools.cache
def _known(own: tuple[Path, ...]) -> dict[str, ModuleType]:
    return modules_with_exercises(own)


def _prepare(job: Job) -> None:
    """In each worker: nothing that is judged here is the instructor's own progress, nor to be read by a notebook, and the sandbox has the clock."""
    exercises.PROGRESS = Path(__file__) / "nowhere"  # below a file nothing can be written
    exercises.TIME_LIMIT = job.limits.seconds + 60
    _known(job.own)


def _grade_one(path: Path, name: str, job: Job) -> list[Row]:
    """Rows of one notebook; never an exception."""
    known = _known(job.own)
    asked, verdicts = list(job.lessons), {}
    seconds = 0.0
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise OSError(f"it is no file, or larger than {LARGEST / 1e6:.0f} MB")
        if not asked:
            content = path.read_bytes()
            asked = [module for module in known if re.search(rb"\b%s\b" % re.escape(module.encode()), content)]
        with Sandbox(path, job.package, job.hidden, job.limits) as box:
            by_name = {each.name: each for module in known.values() for each in exercises_in(module).values()}
            over = _judge_all(box, by_name, verdicts)
            seconds = round(box.seconds, 1)
    except Exception as error:
        over = ("error", f"It could not be graded: {in_short(error)}.")
    wanted = [each.name for module in asked for each in exercises_in(known[module]).values()]
    if not job.lessons:
        wanted += [exercise for exercise in verdicts if exercise not in wanted]
    if over[0] == "missing":
        over = ("missing", "Nothing was handed in." if wanted else "It belongs to no lesson with exercises.")
    return [Row(name, each, state, seconds, _one_line(why)) for each in wanted or [""] for state, why in [verdicts.get(each, over)]]


def _judge_all(box: Sandbox, by_name: Mapping[str, Exercise | Prediction], verdicts: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Judge what is handed in, until the notebook is over: (state, sentence) of what was not."""
    while (message := box.receive()) is not None:
        match message:
            case {"name": str(name), **answer} if name in by_name:
                state, why = _judge(box, by_name[name], answer)
                if state != "missing" or name not in verdicts:
                    verdicts[name] = state, why
                box.send(None)
            case {"over": "missing" | "error" as state, **more}:
                return state, str(more.get("text", ""))
            case _:
                return "error", "It wrote nonsense to the grader."
    return box.trouble or ("error", "Its process ended before the notebook did.")


def _judge(box: Sandbox, exercise: Exercise | Prediction, answer: Mapping[str, Any]) -> tuple[str, str]:
    elsewhere = _Elsewhere(box, getattr(exercise, "arguments", []))
    try:
        card = exercise.check(elsewhere if "function" in answer else decode(answer.get("value")))
    except Exception as error:  # a number that no float can hold, half a message
        return "error", f"This cannot be judged: {in_short(error)}."
    state = {"not attempted": "missing"}.get(card.state, card.state)
    return elsewhere.trouble or (state, "It was not attempted." if state == "missing" else card.text)


class _Elsewhere:
    """A student's function, as this process sees it."""

    def __init__(self, box: Sandbox, arguments: Sequence[str]) -> None:
        self.box, self.arguments = box, arguments
        self.trouble: tuple[str, str] | None = None

    def __call__(self, *given: Any) -> Any:
        self.box.send(encode(given))
        match self.box.receive():
            case {"value": value, "changed": []}:
                return decode(value)
            case {"value": _, "changed": [int(number)]} if 0 <= number < len(given):
                self.trouble = "wrong", f"It changes its input {self.arguments[number]}."
            case {"trouble": "error" | "time-out" as state, "text": str(text)}:
                self.trouble = state, text
            case _:
                self.trouble = self.box.trouble or ("error", "Its process ended while the function ran.")
        raise RuntimeError(self.trouble[1])


def _one_line(text: str) -> str:
    """Printable, short, and without line breaks, whatever a student's process said."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= 300 else line[:297] + "..."


def _table(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        # A spreadsheet would run what begins like a formula.
        writer.writerow(f"'{cell}" if str(cell)[:1] in ("=", "+", "-", "@") else cell for cell in row.cells().values())
    return out.getvalue()


def summary(rows: Sequence[Row]) -> str:
    """Counts in one sentence."""
    states = Counter(row.state for row in rows)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    return f"{len({row.notebook for row in rows})} notebooks, {len(rows)} rows: {counts}."


def _page(rows: Sequence[Row], title: str) -> str:
    head = "".join(f"<th scope='col'>{column}</th>" for column in COLUMNS)
    body = "\n".join(
        "<tr>" + "".join(f"<td class='{row.state if column == 'state' else ''}'>{html.escape(str(cell))}</td>" for column, cell in row.cells().items())
        + "</tr>"
        for row in rows
    )  # fmt: skip
    title = html.escape(f"Grades: {title}")
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{title}</title>"
        f"<style>{STYLE}</style><h1>{title}</h1><p>{html.escape(summary(rows))}</p>"
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div></html>\n"
    )
