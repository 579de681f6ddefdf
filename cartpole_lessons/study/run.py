"""Run a study, and read it again: lessons x seeds (x hyperparameters), one small file per training."""

import contextlib
import csv
import functools
import io
import itertools
import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cartpole_lessons
from cartpole_lessons._support.checks import check_choice, check_count, check_seed, shown
from cartpole_lessons._support.files import cannot_write, write_file
from cartpole_lessons.display import bars_are_seen
from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import CourseError, InvalidInput, RecordingError
from cartpole_lessons.hyperparameters import check_known, check_value, kind_of, settings_of
from cartpole_lessons.lessons import lessons as lessons_of_the_course
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.study.backends import BACKENDS, needed, results_of
from cartpole_lessons.study.code import lesson_code, loaded_code
from cartpole_lessons.study.results import (
    FIGURES,
    TIMINGS,
    Line,
    StudyError,
    as_run,
    canonical,
    check_settings_of_file,
    file_name,
    machine,
    read_run,
)
from cartpole_lessons.study.statistics import summarise, worst_of_last

if TYPE_CHECKING:
    import pandas as pd

Row = tuple[str, Mapping[str, Any]]

#: The end of a traceback says what went wrong; the text of an error may be of any length.
LONGEST_ERROR = 20_000  # characters
#: What every run has in a table, before its hyperparameters.
COLUMNS = ("row", "lesson", "env_id", "seed", "status", "solved", "perfect", "mean_return", *FIGURES, *TIMINGS)


@dataclass(frozen=True)
class Task:
    """One training, and the code that the study's owner has of its lesson."""

    row: str
    lesson: str
    env_id: str
    hyperparameters: dict[str, Any]  #: the keywords of its `train`
    seed: int
    code: str

    @property
    def file_name(self) -> str:
        """Where its result goes."""
        return file_name(vars(self))


@dataclass(frozen=True)
class Study:
    """The results of a study. Each run is a dict; `cartpole_lessons.study.results` says what is in it."""

    folder: Path
    runs: list[dict[str, Any]]  #: by row, then by seed
    stale: list[str]  #: files whose lesson has changed since: `run_study` ran them again, `read_study` only names them
    corrupt: list[str]  #: files that were no results: `run_study` ran them again, `read_study` left them out
    unknown: list[str]  #: files that name a lesson which is not the course's: `read_study` does not look for its code

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The runs whose training raised; `run["error"]` is the traceback."""
        return [run for run in self.runs if run["status"] == "failed"]

    def summary(self) -> dict[str, dict[str, Any]]:
        """`summarise` of the runs."""
        return summarise(self.runs)

    def table(self) -> list[dict[str, Any]]:
        """One flat dict per run: its figures, one entry per hyperparameter that any row sets, and the worst of its last evaluations."""
        names = sorted({name for run in self.runs for name in run["hyperparameters"]} - {*COLUMNS, "worst_of_last"})
        return [
            {name: run[name] for name in COLUMNS}
            | {"worst_of_last": worst_of_last(run)}
            | {name: run["hyperparameters"].get(name) for name in names}
            for run in self.runs
        ]

    def to_csv(self, path: str | os.PathLike | None = None) -> str:
        """`table()` as CSV text with a header, also written to `path` where one is given; what a failed run lacks is empty."""
        table = [{name: _plain_cell(value) for name, value in row.items()} for row in self.table()]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        if path is not None:
            write_file(path, text.getvalue().encode(), "The table")
        return text.getvalue()

    def to_frame(self) -> "pd.DataFrame":
        """`table()` as a pandas DataFrame; its `to_parquet` writes a Parquet file."""
        return needed("pandas", "to_frame()", "pandas").DataFrame(self.table())

    def __str__(self) -> str:
        return f"{len(self.runs)} run{'s' * (len(self.runs) != 1)} in {self.folder}, {len(self.failed)} of them failed"


def run_study(
    lessons: str | Iterable[str] | Mapping[str, Row],
    seeds: Iterable[int],
    *,
    folder: str | os.PathLike,
    grid: Mapping[str, Sequence[Any]] | None = None,
    backend: str = "loky",
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
) -> Study:
    """Train every lesson on every seed, each with every combination of `grid`, and keep one file per training in `folder`.

    lessons: the name of a lesson's algorithm ("ppo"), several of them, or a mapping {row: (name, keywords of its `train`)}. A name with a
    dot is a module of your own with a `train` that keeps the lessons' contract ("my_package.my_agent").
    grid: {hyperparameter: values to try}; each combination becomes a row of its own, "ppo hidden=64".
    backend: "loky" (one process per core, or `workers` of them), "sequential" (in this process), or "dask": on the cluster whose scheduler
    listens at `scheduler` ("tcp://host:8786"; giving it is enough). A cluster needs the same course installed, and no shared disk: files
    are written here, as results arrive. `dask worker --nworkers auto --nthreads 1` starts workers that use all of a machine.
    "stacked": all seeds of a row side by side in this process, in a fraction of the time, for the lessons in `stacked.STACKED`.
    retry_failed: run those again that raised; otherwise they stay failed, and counted.

    Called again with the same folder, it runs what is missing; what is corrupt or was made by other code (`stale`) is named and runs again.
    Same results on every backend, byte for byte but for timings and machine; only stacked seeds draw numbers of their own, and a run's
    machine says so. A training that raises is a result too, and is counted.

    A run is a dict; `cartpole_lessons.study.results` says what is in it.

    `InvalidInput` on an unknown lesson, hyperparameter, environment or backend, and on a value that the lesson does not allow;
    `RecordingError` where a file cannot be written; `MissingDependency` where joblib or dask is not installed; `StudyError` where a
    scheduler cannot be reached or workers fail. Whatever happens, results that were finished stay.
    """
    folder = Path(folder)
    backend = check_choice("backend", "dask" if scheduler is not None else backend, BACKENDS)
    if backend == "dask" and scheduler is None:
        raise InvalidInput('backend="dask" needs the address of a running scheduler: pass for example scheduler="tcp://localhost:8786".')
    workers = None if workers is None else check_count("workers", workers, most=1_024)
    tasks = {task.file_name: task for task in _tasks(lessons, seeds, grid or {})}
    _check_writable(folder, tasks)

    found = {name: read_run(folder / name) for name in tasks if (folder / name).exists()}
    corrupt = [name for name, run in found.items() if run is None]
    stale = [name for name, run in found.items() if run and run["code"] != tasks[name].code]
    again = {*corrupt, *stale, *(name for name, run in found.items() if run and retry_failed and run["status"] == "failed")}
    runs = {name: run for name, run in found.items() if name not in again}
    _say("Run again, because they hold no complete result of their training", corrupt)
    _say("Run again, because they were made by other code", stale)

    from tqdm.auto import tqdm

    failed = sum(run["status"] == "failed" for run in runs.values())
    missing = [task for name, task in tasks.items() if name not in runs]
    try:
        with (
            tqdm(total=len(tasks), initial=len(runs), desc="study", unit=" runs", disable=not (progress and bars_are_seen())) as bar,
            contextlib.closing(
                stacked_results(missing) if backend == "stacked" else results_of(run_task, missing, backend, workers, scheduler)
            ) as results,
        ):
            for name, record in results:
                run = as_run(record)
                if run["code"] != tasks[name].code:
                    raise StudyError(
                        f"A process on {run['machine']['host']} has loaded other code of {run['lesson']} than what is on disk here: "
                        "install the same course there, restart the kernel or the worker, and make the same call again."
                    )
                write_file(folder / name, canonical(record) + b"\n", "The result")
                runs[name] = run
                failed += run["status"] == "failed"
                bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
                bar.update()
    except CourseError:
        raise
    except KeyboardInterrupt:
        print(f"Stopped by you with {len(runs)} of {len(tasks)} results in {folder}: the same call goes on from there.")
        raise
    except Exception as error:
        raise StudyError(
            f"The workers of the study failed ({type(error).__name__}) with {len(runs)} of {len(tasks)} results in {folder}: "
            "see that every worker has the course installed and memory enough, and make the same call to go on from there."
        ) from error
    rows = list(dict.fromkeys(task.row for task in tasks.values()))
    return Study(folder, [runs[name] for name in sorted(tasks, key=lambda name: rows.index(tasks[name].row))], stale, corrupt, [])


def read_study(folder: str | os.PathLike) -> Study:
    """Every result in `folder`, whichever call made it; nothing is run or imported. `StudyError` where there is none.

    Files that hold no result are named and left out. Named and kept are results of other code than the lesson's present one, and those of
    lessons that are not the course's: their code is not looked for, because a file's word is no reason to import anything.
    """
    folder = Path(folder)
    found = {path.name: read_run(path) for path in sorted(folder.glob("*.json"))}
    corrupt = [name for name, run in found.items() if run is None]
    runs = {name: run for name, run in found.items() if run is not None}
    if not runs:
        raise StudyError(f"There are no results of a study in {folder}: pass the folder that run_study was given.")
    known, code = lessons_of_the_course(), functools.cache(lesson_code)
    unknown = [name for name, run in runs.items() if run["lesson"] not in known]
    stale = [name for name, run in runs.items() if run["lesson"] in known and run["code"] != code(run["lesson"])]
    _say("Left out, because they hold no complete result", corrupt)
    _say("Made by other code than the present one", stale)
    _say("Not of the course's own lessons, so that their code is not compared", unknown)
    return Study(folder, sorted(runs.values(), key=lambda run: (run["row"], run["seed"])), stale, corrupt, unknown)


def stacked_results(tasks: Sequence[Task]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `run_task` returns for each of the tasks, with all seeds of a row, or a hundred of more, side by side in this process."""
    from cartpole_lessons.study.stacked import train_stacked

    rows = {(task.row, task.lesson): [] for task in tasks}
    for task in tasks:
        rows[task.row, task.lesson].append(task)
    stacks = [{task.seed: task for task in row[start : start + 100]} for row in rows.values() for start in range(0, len(row), 100)]
    # All of them before the first learns, so that what cannot be stacked is refused before.
    outcomes = []
    for stack in stacks:
        first = next(iter(stack.values()))
        outcomes.append(train_stacked(first.lesson, list(stack), **first.hyperparameters))
    for stack, outcomes_of_stack in zip(stacks, outcomes, strict=True):
        for seed, outcome in outcomes_of_stack:
            name, record = run_task(stack[seed], functools.partial(_handed_over, outcome))
            record["machine"]["backend"] = "stacked"
            yield name, record


def _handed_over(outcome: Any, **_: Any) -> Any:
    """Stands in for a `train` whose outcome is there."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_task(task: Task, train: Callable | None = None) -> tuple[str, dict[str, Any]]:
    """Train as `task` says: the name of its file, and what belongs there. Whatever the training raises becomes part of that."""
    result = {**vars(task), "status": "ok", "error": None}
    try:
        trained = (train or load_lesson(task.lesson).train)(seed=task.seed, **task.hyperparameters)
        if trained.interrupted:  # `train` has turned Ctrl-C into the best policy so far; here it stops the study
            raise KeyboardInterrupt
        figures = trained.summary()
        result |= {name: figures.get(name) for name in ("solved", "perfect", "mean_return", *FIGURES)}
        result["evaluations"] = [[step, mean] for step, mean in trained.history.evaluations]
        record = {"result": result, "timings": {name: figures.get(name) for name in TIMINGS}, "machine": machine()}
        as_run(record)  # what a `train` of somebody's own returns may be no result
    except Exception as error:
        # Without this module's frame and without where the course is installed: the same on every machine.
        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)
        text = "".join(lines)[-LONGEST_ERROR:].replace(f"{Path(cartpole_lessons.__file__).parent.parent}{os.sep}", "")
        result |= {"status": "failed", "error": _printable(text), "solved": False, "perfect": False, "mean_return": None}
        result |= dict.fromkeys(FIGURES) | {"evaluations": []}
        record = {"result": result, "timings": dict.fromkeys(TIMINGS), "machine": machine()}
    record["result"]["code"] = loaded_code(task.lesson)
    return task.file_name, record


def _tasks(lessons: object, seeds: object, grid: Mapping[str, Sequence[Any]]) -> list[Task]:
    """Every training of the study, seed by seed, so that the bar's time left is that of all rows; `InvalidInput` on what cannot be run."""
    if isinstance(lessons, str):
        lessons = [lessons]
    rows = dict(lessons) if isinstance(lessons, Mapping) else {name: (name, {}) for name in lessons}
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise InvalidInput(f"seeds are several whole numbers, but got {seeds!r}: pass for example range(20).")
    seeds = list(dict.fromkeys(check_seed(seed) for seed in seeds))
    if not rows or not seeds:
        raise InvalidInput("A study needs at least one lesson and one seed.")
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable) or not list(values):
            raise InvalidInput(f"The grid has lists of values, but {name} has {values!r}: pass for example grid={{'hidden': [32, 64]}}.")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    plans = []
    for row, (lesson, keywords) in rows.items():
        for chosen in combinations:
            settings = check_settings(lesson, {**keywords, **chosen})
            label = check_value("The name of a row", " ".join([str(row), *(f"{name}={settings[name]}" for name in chosen)]), Line)
            env_id = settings.get("env_id", settings_of(load_lesson(lesson).train)["env_id"].default)
            plans.append((label, lesson, env_id, settings, lesson_code(lesson)))
    return [Task(row, lesson, env_id, settings, seed, code) for seed in seeds for row, lesson, env_id, settings, code in plans]


def check_settings(lesson: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords as JSON has them, so that a training gets the same on every backend, and what its file will say.

    `InvalidInput` unless the lesson's `train` has all of them and allows their values.
    """
    train = load_lesson(lesson).train
    for name in ("env_id", *keywords):
        check_known(name, settings_of(train), f"The lesson {lesson}")
    settings = {name: check_value(name, value, kind_of(train, name)) for name, value in keywords.items()}
    if "env_id" in settings:
        env_spec(settings["env_id"])
    try:
        settings = json.loads(json.dumps(settings, allow_nan=False, default=lambda value: value.tolist()))
        check_settings_of_file(settings)
    except (TypeError, ValueError, AttributeError):
        said = f"The hyperparameters of a study are numbers, texts, truth values and lists of them, but got {shown(dict(keywords))}."
        raise InvalidInput(said) from None
    return settings


def _check_writable(folder: Path, names: Iterable[str]) -> None:
    """`RecordingError` before anything is trained, where its result could not be kept."""
    for path in (folder / name for name in names):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise RecordingError(f"{path} is no plain file, and a result belongs there: take it away.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise cannot_write("The results", folder, error) from None


def _say(what: str, names: Sequence[str]) -> None:
    """Name the files that something is the matter with, in one sentence."""
    if names:
        print(f"{what}: {_printable(', '.join(names[:3]))}{f' and {len(names) - 3} more' if len(names) > 3 else ''}.")


def _printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def _plain_cell(value: object) -> object:
    """A spreadsheet takes a text that begins like a formula for one, and a file's word for it is not enough."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
