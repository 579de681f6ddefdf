"""Grade a folder of students' notebooks: `grade(folder)` gives a row per notebook and exercise.

A student's code and what judges it never share a process. The notebook runs in a sandbox (see `sandbox`) with a copy of the course in which
exercises hold no solutions; each `check(answer)` there only hands something in: a value, or what a function returns for the arguments that the
grader sends it, as JSON. When the notebook is over, the grader calls the course's own check, here, with a stand-in for the student's function that
returns what came back. So whatever a notebook prints, patches, deletes or pretends, "right" means that the numbers that came back are right; and
while it runs, nothing, not even how long a reply takes, tells it which are.

Answers are found by the name of what was checked. The last one that was an attempt counts.
"""

import contextlib
import csv
import functools
import hashlib
import html
import importlib.util
import io
import itertools
import json
import os
import pkgutil
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import ModuleType
from typing import Any

from tqdm import tqdm

from cartpole_lessons import __version__, exercises
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
DOTS = encode(...)

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
    with _scratch() as scratch:
        package = copy_without_solutions(Path(scratch), known)
        written = [csv_file, csv_file.with_suffix(".html"), unfinished := csv_file.with_suffix(".unfinished")]
        job = Job(package, own, chosen, _hidden(package, [folder, *own, *written]), limits)
        rows = _grade_all(notebooks, folder, job, unfinished, workers or os.cpu_count() or 1, progress)
    write_file(csv_file, _table(rows).encode(errors="replace"), "The table")
    write_file(csv_file.with_suffix(".html"), _page(rows, folder.name).encode(errors="replace"), "The page")
    unfinished.unlink(missing_ok=True)
    return rows


def _scratch() -> TemporaryDirectory:
    """A folder for this run, named after its process; those whose process was killed and could not tidy up are removed."""
    import psutil

    running = {str(pid) for pid in psutil.pids()}
    for left in Path(gettempdir()).glob("cartpole-grade-*-*"):
        if left.name.split("-")[2] not in running:
            shutil.rmtree(left, ignore_errors=True)
    return TemporaryDirectory(prefix=f"cartpole-grade-{os.getpid()}-")


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


def _asked(lessons: Iterable[str], known: Mapping[str, ModuleType]) -> list[str]:
    """Names of these lessons' exercises."""
    return [each.name for lesson in lessons for each in exercises_in(known[lesson]).values()]


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


def _hidden(package: Path, more: Sequence[Path]) -> tuple[Path, ...]:
    """What a notebook must not see, unless Python itself lies there: what is right, what others handed in, and sockets of the machine's services."""
    places = [PACKAGE, Path("/run"), *more]
    if (PACKAGE.parent / "pyproject.toml").is_file():  # a checkout, whose tests and history hold solutions too
        places += PACKAGE.parent.iterdir()
    if screen := shutil.which("Xvfb"):  # where it cannot write to /tmp, it and who started it wait for ever; lessons go on without
        places.append(Path(screen))
    needed = [package, *(Path(os.path.realpath(path)) for path in (sys.prefix, sys.base_prefix, sys.executable))]
    return tuple(place for place in map(Path.resolve, places) if not any(path.is_relative_to(place) for path in needed))


def _grade_all(notebooks: Sequence[Path], folder: Path, job: Job, unfinished: Path, workers: int, progress: bool) -> list[Row]:
    """Rows of all notebooks, in their order; those that `unfinished` holds already are not graded again."""
    names = {path: str(path.relative_to(folder)) for path in notebooks}
    digests = {path: _digest(path) for path in notebooks}
    # Another course, or other exercises, may judge differently.
    settings = repr((__version__, [_digest(path) for path in (*sorted(PACKAGE.rglob("*.py")), *job.own)], job.lessons, job.limits))
    how = hashlib.sha256(settings.encode()).hexdigest()
    done = _rows_in(unfinished, how)
    rows: dict[Path, list[Row]] = {path: done[key] for path in notebooks if (key := (names[path], digests[path])) in done}
    deaths: Counter[Path] = Counter()
    with (
        open(unfinished, "a", encoding="utf-8") as kept,
        tqdm(total=len(notebooks), initial=len(rows), unit="notebook", disable=not progress) as bar,
    ):

        def finish(path: Path, graded: list[Row]) -> None:
            rows[path] = graded
            json.dump({"how": how, "digest": digests[path], "name": names[path], "rows": [asdict(row) for row in graded]}, kept)
            kept.write("\n")
            kept.flush()
            bar.update()

        while left := [path for path in notebooks if path not in rows]:
            # When a worker dies, so does the pool, with all that ran in it. Each of those then runs alone: it has to answer for itself only.
            alone = [path for path in left if deaths[path]][:1]
            for path, graded in _graded(alone or left, names, job, 1 if alone else workers):
                if isinstance(graded, BrokenProcessPool):
                    deaths[path] += 1
                    if deaths[path] < 3:
                        continue
                    why = f"The grader itself was stopped while it ran: {in_short(graded)}."
                    graded = [
                        Row(names[path], each, "error", 0.0, why) for each in _asked(job.lessons, modules_with_exercises(job.own)) or [""]
                    ]
                finish(path, graded)
    return [row for path in notebooks for row in rows[path]]


def _graded(
    notebooks: Sequence[Path], names: Mapping[Path, str], job: Job, workers: int
) -> Iterator[tuple[Path, list[Row] | BrokenProcessPool]]:
    """Each notebook with its rows, as they come. When a worker dies, the last are those that had begun, each with the error; others are left out."""
    waiting, running = iter(notebooks), {}
    with ProcessPoolExecutor(min(workers, len(notebooks)), mp_context=get_context("spawn"), initializer=_prepare, initargs=(job,)) as pool:
        while True:
            # No more than there are workers: what waits in a pool could not be told from what runs.
            with contextlib.suppress(BrokenProcessPool):
                for path in itertools.islice(waiting, workers - len(running)):
                    running[pool.submit(_grade_one, path, names[path], job)] = path
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                path = running.pop(future)
                error = future.exception()
                if error is not None and not isinstance(error, BrokenProcessPool):
                    raise error
                yield path, error or future.result()


def _digest(path: Path) -> str:
    try:
        if not _is_file(path):  # a pipe or a device might never end
            return ""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _is_file(path: Path) -> bool:
    """Whether it is a file of its own. A link may lead to another student's notebook."""
    return path.is_file() and not path.is_symlink()


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
    # A grader that is killed cannot end its workers; and where a worker ends, so does its notebook (see `runner`).
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    _known(job.own)


def _grade_one(path: Path, name: str, job: Job) -> list[Row]:
    """Rows of one notebook; never an exception."""
    known = _known(job.own)
    by_name = {each.name: each for module in known.values() for each in exercises_in(module).values()}
    asked, handed_in = list(job.lessons), {}
    seconds = 0.0
    try:
        if not _is_file(path) or path.stat().st_size > LARGEST:
            raise OSError(f"it is a folder or a link, or larger than {LARGEST / 1e6:.0f} MB")
        if not asked:
            content = path.read_bytes()
            asked = [module for module in known if re.search(rb"\b%s\b" % re.escape(module.encode()), content)]
        with Sandbox(path, job.package, job.hidden, job.limits) as box:
            over = _listen(box, by_name, handed_in)
            seconds = round(box.seconds, 1)
    except Exception as error:
        over = ("error", f"It could not be graded: {in_short(error)}.")
    verdicts = {exercise: _judge(by_name[exercise], answer) for exercise, answer in handed_in.items()}
    wanted = _asked(asked, known)
    if not job.lessons:
        wanted += [exercise for exercise in verdicts if exercise not in wanted]
    if over[0] == "missing":
        over = ("missing", "Nothing was handed in." if wanted else "It belongs to no lesson with exercises.")
    return [Row(name, each, state, seconds, _sentence(why)) for each in wanted or [""] for state, why in [verdicts.get(each, over)]]


def _listen(box: Sandbox, by_name: Mapping[str, Exercise | Prediction], handed_in: dict[str, Any]) -> tuple[str, str]:
    """Fill `handed_in`, not judged, until the notebook is over: (state, sentence) of what was not handed in."""
    while (message := box.receive()) is not None:
        match message:
            case {"name": str(name), **given} if name in by_name:
                answer = _Function(box, by_name[name]) if "function" in given else _Value(given.get("value"))
                if answer.is_attempt or name not in handed_in:
                    handed_in[name] = answer
                box.send(None)
            case {"over": "missing" | "error" as state, **more}:
                return state, str(more.get("text", ""))
            case _:
                return "error", "It wrote nonsense to the grader."
    return box.trouble or ("error", "Its process ended before the notebook did.")


def _judge(exercise: Exercise | Prediction, answer: "_Value | _Function") -> tuple[str, str]:
    """(state, sentence); never an exception."""
    if answer.trouble:
        return answer.trouble
    try:
        card = exercise.check(answer if isinstance(answer, _Function) else decode(answer.sent))
    except Exception as error:  # a number that no float can hold, half a message
        return "error", f"This cannot be judged: {in_short(error)}."
    if card.state == "not attempted":
        return "missing", "It was not attempted."
    # Of a wrong function, what is wrong with it; that stands below what it returned.
    return card.state, card.text.splitlines()[-1]


def _is_attempt(sent: Any) -> bool:
    """Neither nothing nor the dots that stand there at first."""
    return sent is not None and sent != DOTS


class _Value:
    """A value that a notebook handed in."""

    trouble = None

    def __init__(self, sent: Any) -> None:
        self.sent = sent
        self.is_attempt = _is_attempt(sent)


class _Function:
    """A function that a notebook handed in: what it returned for each of the exercise's inputs, once more."""

    def __init__(self, box: Sandbox, exercise: Exercise | Prediction) -> None:
        self.trouble: tuple[str, str] | None = None
        said = []
        for given in getattr(exercise, "inputs", []):
            try:
                question = encode(given)
            except TypeError as error:
                self.trouble = "error", f"This cannot be judged: {in_short(error)}."
                break
            box.send(question)
            match box.receive():
                case {"value": value, "changed": []}:
                    said.append(value)
                    continue
                case {"value": _, "changed": [int(number)]} if 0 <= number < len(given):
                    self.trouble = "wrong", f"It changes its input {exercise.arguments[number]}."
                case {"trouble": "error" | "time-out" as state, "text": str(text)}:
                    self.trouble = state, text
                case _:
                    self.trouble = box.trouble or ("error", "Its process ended while the function ran.")
            break
        self.is_attempt = self.trouble is not None or not said or _is_attempt(said[0])
        self._said = iter(said)

    def __call__(self, *given: Any) -> Any:
        return decode(next(self._said))

    def __repr__(self) -> str:
        return "a function"


def _sentence(text: str) -> str:
    """The first sentence: printable, short, and on one line, whatever a student's process said."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    line = re.sub(r" at 0x[0-9a-f]+", "", line)  # an address is another each time
    line = re.split(r"(?<=[.!?])\)? (?=[A-Z])", line, maxsplit=1)[0]
    line = line if len(line) <= 300 else line[:297] + "..."
    return line if line.endswith((".", "!", "?")) else f"{line}."


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
