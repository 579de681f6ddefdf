"""Train lessons x seeds (x hyperparameters), and keep one small file per training."""

import contextlib
import hashlib
import itertools
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cartpole_lessons._support.checks import check_choice, check_count, check_seed
from cartpole_lessons._support.files import write_file
from cartpole_lessons.display import bars_are_seen
from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import CourseError, InvalidInput, RecordingError
from cartpole_lessons.hyperparameters import check_known, check_value, kind_of, settings_of
from cartpole_lessons.lessons import lessons as lessons_of_the_course
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.study.backends import BACKENDS, obey, results_of
from cartpole_lessons.study.code import lesson_code, loaded_code
from cartpole_lessons.study.results import Study, StudyError, as_run, canonical, machine, read_run

Row = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Task:
    """One training: row of the table, lesson, keywords of its `train`, seed, and the code that the study's owner has of it."""

    row: str
    lesson: str
    keywords: dict[str, Any]
    seed: int
    code: str
    owner: int  #: process id of the study's owner

    @property
    def file_name(self) -> str:
        """Readable, and another one whenever lesson, hyperparameters or seed differ."""
        settings = hashlib.sha256(canonical([self.row, self.lesson, self.keywords])).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', self.row)[:80].lstrip('.')}-{settings}-seed{self.seed}.json"

    def made(self, run: Mapping[str, Any]) -> bool:
        """Whether `run` is of this training: a file can be copied over another's."""
        return (run["row"], run["lesson"], run["hyperparameters"], run["seed"]) == (self.row, self.lesson, self.keywords, self.seed)


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
    retry_failed: run those again that raised; otherwise they stay failed, and counted.

    Called again with the same folder, it runs what is missing; what is corrupt or was made by other code (`stale`) is named and runs again.
    Same results on every backend, byte for byte but for timings and machine. A training that raises is a result too, and is counted.

    `InvalidInput` on an unknown lesson, hyperparameter, environment or backend; `RecordingError` where a file cannot be written;
    `MissingDependency` where joblib or dask is not installed; `StudyError` where a scheduler cannot be reached or workers fail. Whatever
    happens, results that were finished stay.
    """
    folder = Path(folder)
    backend = check_choice("backend", "dask" if scheduler is not None else backend, BACKENDS)
    if backend == "dask" and scheduler is None:
        raise InvalidInput('backend="dask" needs the address of a running scheduler: pass for example scheduler="tcp://localhost:8786".')
    workers = None if workers is None else check_count("workers", workers, most=1_024)
    tasks = {task.file_name: task for task in _tasks(lessons, seeds, grid or {})}
    _check_writable(folder)

    found = {name: read_run(folder / name) for name in tasks if (folder / name).exists()}
    corrupt = [name for name, run in found.items() if run is None or not tasks[name].made(run)]
    stale = [name for name, run in found.items() if name not in corrupt and run["code"] != tasks[name].code]
    again = {*corrupt, *stale, *(name for name, run in found.items() if run and retry_failed and run["status"] == "failed")}
    runs = {name: run for name, run in found.items() if name not in again}
    _say(corrupt, "holds no complete result of its training and runs again", "hold no complete results of their trainings and run again")
    _say(stale, "was made by other code and runs again", "were made by other code and run again")

    missing = {name: task for name, task in tasks.items() if name not in runs}
    try:
        with (
            _bar(len(tasks), runs.values(), progress) as count,
            contextlib.closing(results_of(run_task, missing, backend, workers, scheduler)) as results,
        ):
            for name, record in results:
                if record["result"]["code"] != missing[name].code:
                    raise StudyError(
                        f"A process on {record['machine']['host']} has loaded other code of {missing[name].lesson} than what is on disk here: "
                        "install the same course there, restart the kernel or the worker, and make the same call again."
                    )
                write_file(folder / name, canonical(record) + b"\n", "The result")
                runs[name] = as_run(record)
                count(runs[name])
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
    return Study(folder, [runs[name] for name in sorted(tasks, key=lambda name: rows.index(tasks[name].row))], stale, corrupt)


def read_study(folder: str | os.PathLike) -> Study:
    """Every result in `folder`, whichever call made it; nothing is run. `StudyError` where there is none.

    Files that hold no result are named and left out. Results of other code than the lesson's present one are named and kept; of modules
    that are no lessons of the course nothing is known, because nothing is imported that only a file names.
    """
    folder = Path(folder)
    found = {path.name: read_run(path) for path in sorted(folder.glob("*.json"))}
    corrupt = [name for name, run in found.items() if run is None]
    runs = {name: run for name, run in found.items() if run is not None}
    if not runs:
        raise StudyError(f"There are no results of a study in {folder}: pass the folder that run_study was given.")
    known = {run["lesson"] for run in runs.values()} & set(lessons_of_the_course())
    code = {lesson: lesson_code(lesson) for lesson in known}
    stale = [name for name, run in runs.items() if run["code"] != code.get(run["lesson"], run["code"])]
    _say(corrupt, "holds no complete result and is left out", "hold no complete results and are left out")
    _say(stale, "was made by other code than the present one", "were made by other code than the present one")
    return Study(folder, sorted(runs.values(), key=lambda run: (run["row"], run["seed"])), stale, corrupt)


def run_task(task: Task) -> tuple[str, dict[str, Any]]:
    """Train as `task` says: the name of its file, and what belongs there. Whatever the training raises becomes part of that."""
    obey(task.owner)
    train = load_lesson(task.lesson).train
    outcome = {
        "row": task.row,
        "lesson": task.lesson,
        "hyperparameters": task.keywords,
        "seed": task.seed,
        "code": loaded_code(task.lesson),
        "env_id": task.keywords.get("env_id") or settings_of(train)["env_id"].default,
    }
    try:
        result = train(seed=task.seed, **task.keywords)
        if result.interrupted:  # `train` has turned Ctrl-C into the best policy so far; here it stops the study
            raise KeyboardInterrupt
        figures = result.summary()
        outcome |= {name: figures[name] for name in ("solved", "perfect", "mean_return", "env_steps")}
        outcome |= {"status": "ok", "error": None, "evaluations": [[step, mean] for step, mean in result.history.evaluations]}
        seconds = figures["seconds"]
    except Exception as error:
        # Without this module's frame and without where the course is installed: the same on every machine.
        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)
        text = "".join(lines).replace(f"{Path(__file__).parent.parent.parent}{os.sep}", "")
        outcome |= {"solved": False, "perfect": False, "mean_return": None, "env_steps": None}
        outcome |= {"status": "failed", "error": text, "evaluations": []}
        seconds = None
    return task.file_name, {"result": outcome, "timings": {"seconds": seconds}, "machine": machine()}


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
        train = load_lesson(lesson).train
        code = lesson_code(lesson)
        for chosen in combinations:
            settings = _checked(train, lesson, {**keywords, **chosen})
            label = " ".join([str(row), *(f"{name}={settings[name]}" for name in chosen)])
            plans.append((label, lesson, settings, code))
    return [Task(row, lesson, settings, seed, code, os.getpid()) for seed in seeds for row, lesson, settings, code in plans]


def _checked(train: Callable, lesson: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords as plain Python values that JSON can hold, checked as `train` would; `InvalidInput` on what it does not have or allow."""
    known = settings_of(train)
    for name in keywords:
        check_known(name, known, lesson)
    settings = {name: check_value(name, value, kind_of(train, name)) for name, value in keywords.items()}
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    if "env_id" in settings:
        env_spec(settings["env_id"])
    try:
        canonical(settings)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"The hyperparameters of a study are numbers, texts, truth values and lists of them, but got {dict(keywords)}."
        ) from None
    return settings


def _check_writable(folder: Path) -> None:
    """`RecordingError` before anything is trained, where its result could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise RecordingError(
            f"The results cannot be written to {folder} ({error.strerror or error}): choose a folder that you may write to."
        ) from None


def _say(names: Sequence[str], one: str, several: str) -> None:
    """Name the files that something is the matter with, in one sentence."""
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        print(f"{shown} {one if len(names) == 1 else several}.")


@contextlib.contextmanager
def _bar(total: int, done: Iterable[Mapping[str, Any]], progress: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar over the trainings with the time left, and how many failed; call what it yields with each new result."""
    if not progress or not bars_are_seen():
        yield lambda run: None
        return
    from tqdm.auto import tqdm

    failed = sum(run["status"] == "failed" for run in done)
    with tqdm(total=total, initial=len(done), desc="study", unit=" runs") as bar:

        def count(run: Mapping[str, Any]) -> None:
            nonlocal failed
            failed += run["status"] == "failed"
            if failed:
                bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update()

        yield count
