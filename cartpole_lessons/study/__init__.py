"""Studies: lessons x seeds (x hyperparameters) on every core or on a cluster, one small file per training, resumable at any moment.

    study = run_study(["ppo", "actor_critic"], range(20), folder="build/my_study")
    study.summary()["ppo"]["solved"]          # of 20, with its interval
    study.to_csv("my_study.csv")

Killed, interrupted or out of disk, a study goes on where it stopped when the same call is made again: a result that is there is read, not
repeated. A training that raises is a result too, and is counted.
"""

import ast
import contextlib
import csv
import difflib
import functools
import hashlib
import inspect
import io
import itertools
import json
import os
import pkgutil
import platform
import re
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole_lessons import __version__
from cartpole_lessons._support.checks import check_choice, check_count, check_seed, settings_of
from cartpole_lessons._support.files import write_file
from cartpole_lessons._support.threads import one_thread
from cartpole_lessons.display import bars_are_seen
from cartpole_lessons.environment import env_spec
from cartpole_lessons.errors import CourseError, InvalidInput, MissingDependency, RecordingError

if TYPE_CHECKING:
    import distributed
    import pandas as pd

    from cartpole_lessons.training import Result

ALGORITHMS = "cartpole_lessons.algorithms"
BACKENDS = ("loky", "sequential", "dask")
#: The published results: package data, so that they are there wherever the package is installed.
RESULTS = Path(__file__).parent / "results"
#: How many of a run's last evaluations `worst_of_last` looks at.
LAST = 10
CONFIDENCE = 0.95
RESAMPLES = 10_000
#: How long a scheduler or the first worker of a cluster may take to answer.
CONNECT_SECONDS = 10

Row = tuple[str, Mapping[str, Any]]


class StudyError(CourseError, RuntimeError):
    """A study cannot go on or be read: its workers failed, a scheduler cannot be reached, a folder holds no results."""


# Running ------------------------------------------------------------------------------------------------------------------------


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
        settings = hashlib.sha256(_canonical([self.row, self.lesson, self.keywords])).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', self.row)[:80].lstrip('.')}-{settings}-seed{self.seed}.json"


@dataclass(frozen=True)
class Study:
    """The results of a study. Each run is a dict; `run_study` describes it."""

    folder: Path
    runs: list[dict[str, Any]]  #: by row, then by seed
    stale: list[str]  #: files whose lesson has changed since: `run_study` ran them again, `read_study` only names them
    corrupt: list[str]  #: files that were no results: `run_study` ran them again, `read_study` left them out

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The runs whose training raised; `run["error"]` is the traceback."""
        return [run for run in self.runs if run["status"] == "failed"]

    def summary(self) -> dict[str, dict[str, Any]]:
        """`summarise` of the runs."""
        return summarise(self.runs)

    def table(self) -> list[dict[str, Any]]:
        """One flat dict per run: its figures, one entry per hyperparameter that any row sets, and the worst of its last evaluations."""
        names = sorted({name for run in self.runs for name in run["hyperparameters"]} - {"env_id"})
        kept = ("row", "lesson", "env_id", "seed", "status", "solved", "perfect", "mean_return", "env_steps", "seconds")
        return [
            {name: run[name] for name in kept}
            | {"worst_of_last": worst_of_last(run)}
            | {name: run["hyperparameters"].get(name) for name in names}
            for run in self.runs
        ]

    def to_csv(self, path: str | os.PathLike | None = None) -> str:
        """`table()` as CSV text with a header, also written to `path` where one is given; what a failed run lacks is empty."""
        table = self.table()
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        if path is not None:
            write_file(path, text.getvalue().encode(), "The table")
        return text.getvalue()

    def to_frame(self) -> "pd.DataFrame":
        """`table()` as a pandas DataFrame; its `to_parquet` writes a Parquet file."""
        pandas = _need("pandas", "to_frame()", "pandas")
        return pandas.DataFrame(self.table())

    def __str__(self) -> str:
        return f"{len(self.runs)} runs in {self.folder}, {len(self.failed)} of them failed"


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

    Called again with the same folder, it runs what is missing; what is corrupt or was made by other code of the lesson (`stale`) is named
    and runs again. Same results on every backend, byte for byte but for timings and machine.

    A run is a dict: row, lesson, env_id, hyperparameters (the keywords given), seed, code (hash of the lesson's exported code), status
    ("ok" or "failed"), error (None or the traceback), solved, perfect, mean_return, env_steps, evaluations (list of [env step, mean return]),
    seconds, machine (versions among it).

    `InvalidInput` on an unknown lesson, hyperparameter, environment or backend; `RecordingError` where a file cannot be written;
    `MissingDependency` where joblib or dask is not installed; `StudyError` where a scheduler cannot be reached or workers fail. Whatever
    happens, results that were finished stay.
    """
    folder = Path(folder)
    backend = check_choice("backend", "dask" if scheduler is not None else backend, BACKENDS)
    if backend == "dask" and scheduler is None:
        raise InvalidInput('backend="dask" needs the address of a running scheduler: pass for example scheduler="tcp://localhost:8786".')
    workers = None if workers is None else check_count("workers", workers)
    tasks = _tasks(lessons, seeds, grid or {})
    _check_writable(folder)

    runs: dict[str, dict[str, Any]] = {}
    stale, corrupt = [], []
    for task in tasks:
        path = folder / task.file_name
        if not path.exists():
            continue
        run = _read(path)
        if run is None:
            corrupt.append(path.name)
        elif run["code"] != task.code:
            stale.append(path.name)
        elif not (retry_failed and run["status"] == "failed"):
            runs[path.name] = run
    _say(corrupt, "holds no complete result and runs again", "hold no complete results and run again")
    _say(stale, "was made by other code of its lesson and runs again", "were made by other code of their lessons and run again")

    missing = {task.file_name: task for task in tasks if task.file_name not in runs}
    try:
        with (
            _bar(len(tasks), runs.values(), progress) as count,
            contextlib.closing(_results(missing, backend, workers, scheduler)) as results,
        ):
            for name, record in results:
                if record["result"]["code"] != missing[name].code:
                    raise StudyError(
                        f"A process on {record['machine']['host']} has loaded other code of {missing[name].lesson} than what is on disk here: "
                        "install the same course there, restart the kernel or the worker, and make the same call again."
                    )
                write_file(folder / name, _canonical(record) + b"\n", "The result")
                runs[name] = _run(record)
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
    rows = list(dict.fromkeys(task.row for task in tasks))
    return Study(folder, [runs[task.file_name] for task in sorted(tasks, key=lambda task: rows.index(task.row))], stale, corrupt)


def read_study(folder: str | os.PathLike) -> Study:
    """Every result in `folder`, whichever call made it; nothing is run. `StudyError` where there is none.

    Files that hold no result are named and left out. Results of other code than the lesson's present one are named and kept.
    """
    folder = Path(folder)
    found = {path.name: _read(path) for path in sorted(folder.glob("*.json"))}
    corrupt = [name for name, run in found.items() if run is None]
    runs = {name: run for name, run in found.items() if run is not None}
    if not runs:
        raise StudyError(f"There are no results of a study in {folder}: pass the folder that run_study was given.")
    code = functools.cache(_code_if_there)
    stale = [name for name, run in runs.items() if run["code"] != code(run["lesson"])]
    _say(corrupt, "holds no complete result and is left out", "hold no complete results and are left out")
    _say(
        stale, "was made by other code of its lesson than the present one", "were made by other code of their lessons than the present one"
    )
    return Study(folder, sorted(runs.values(), key=lambda run: (run["row"], run["seed"])), stale, corrupt)


def lesson_code(lesson: str) -> str:
    """Hash of the code of a lesson: its exported module and those beside it that it imports, comments and empty lines left out."""
    return _code_of(_module_name(lesson))


def run_task(task: Task) -> tuple[str, dict[str, Any]]:
    """Train as `task` says: the name of its file, and what belongs there. Whatever the training raises becomes part of that."""
    _obey(task.owner)
    # A cluster's worker may have several threads, but the global random generators that a training seeds are there only once.
    with _one_at_a_time, one_thread():
        error = None
        try:
            train = load_lesson(task.lesson).train
            _warm_up(task, train)
            result = _whole(train(seed=task.seed, **task.keywords))
        except Exception as raised:
            error = _traceback_text(raised)
    figures = {"env_id": _environment(task), "solved": False, "perfect": False, "mean_return": None, "env_steps": None, "seconds": None}
    evaluations = []
    if error is None:
        figures |= {name: value for name, value in result.summary().items() if name in figures}
        evaluations = [[step, mean] for step, mean in result.history.evaluations]
    timings = {"seconds": figures.pop("seconds")}
    outcome = {
        "row": task.row,
        "lesson": task.lesson,
        "hyperparameters": task.keywords,
        "seed": task.seed,
        "code": _loaded_code(task.lesson),
        "status": "ok" if error is None else "failed",
        "error": error,
        "evaluations": evaluations,
    }
    return task.file_name, {"result": outcome | figures, "timings": timings, "machine": machine()}


def machine() -> dict[str, str]:
    """What a result depends on besides the code: versions, system, processor, and the host's name."""
    versions = {name: metadata.version(name) for name in ("torch", "gymnasium", "numpy")}
    return {
        "host": platform.node(),
        "system": platform.system(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "cartpole_lessons": __version__,
        **versions,
    }


def nameless(machine: Mapping[str, str]) -> dict[str, str]:
    """What `machine` says, without the host's name: nobody else's business."""
    return {name: value for name, value in machine.items() if name != "host"}


# Figures ------------------------------------------------------------------------------------------------------------------------


def read_results(folder: str | os.PathLike = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """The published results, {row: runs}: seeds 0-99 of every lesson, measured by `make study`. Runs are those of `run_study`."""
    rows = {}
    for path in sorted(Path(folder).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "row" in content:
            shared = {name: value for name, value in content.items() if name != "runs"}
            rows[content["row"]] = [shared | run for run in content["runs"]]
    return rows


def write_results(runs: Sequence[Mapping[str, Any]], folder: str | os.PathLike = RESULTS) -> Path:
    """Publish the runs of one row as one compact file, ROW.json, from which `read_results` has them back.

    Of more than 60 evaluations of a run, an even choice is kept, and all of the last ones. The machine's name is not.
    """
    first = runs[0]
    shared = {name: first[name] for name in ("row", "lesson", "env_id", "hyperparameters", "code")}
    shared["machine"] = nameless(first["machine"])
    kept = ("seed", "status", "solved", "perfect", "mean_return", "env_steps", "seconds", "evaluations")
    lines = [
        json.dumps({name: _thinned(run[name]) if name == "evaluations" else run[name] for name in kept}, separators=(",", ":"))
        for run in runs
    ]
    path = Path(folder) / f"{first['row']}.json"
    text = json.dumps(shared, indent=1).removesuffix("\n}") + ',\n "runs": [\n' + ",\n".join(lines) + "\n]}\n"
    write_file(path, text.encode(), "The results")
    return path


def by_row(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """{row: its runs}, both in the order in which they come."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        rows.setdefault(run["row"], []).append(run)
    return rows


def trains_on(row: Mapping[str, Any]) -> bool:
    """True for a run, or a summary of runs, that was told not to stop when it is perfect: how long it takes to learn, it does not say."""
    return row["hyperparameters"].get("stop_when_perfect") is False


def worst_of_last(run: Mapping[str, Any]) -> float | None:
    """The lowest of the run's last ten evaluations: what it is worth once it has learned. None where there is no evaluation."""
    means = [mean for _, mean in run["evaluations"][-LAST:]]
    return min(means) if means else None


def summarise(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per row, in the order in which they come: how many runs there are and failed, and what they reached.

        {"row", "lesson", "env_id", "hyperparameters", "runs", "failed",
         "solved", "perfect", "stable":  {"count", "of", "share", "low", "high"},     # 95 % Wilson interval of the share
         "env_steps", "seconds":         {"median", "low", "high"},                   # until solved; 95 % bootstrap interval of the median
         "worst_of_last":                [one per run]}

    A run that was not solved, or failed, took longer than every one that was: it counts as infinity in the medians, so a median of
    infinity says that half of the runs never got there. `stable` counts the runs whose last ten evaluations all reach the environment's
    reward threshold; it is None where there are no evaluations.
    """
    return {row: _summary(group) for row, group in by_row(runs).items()}


def wilson_interval(successes: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, from `successes` of `of` runs. Source: Wilson (1927)."""
    from scipy.stats import binomtest  # half a second that no worker needs

    interval = binomtest(successes, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median of `values` and its 95 % percentile bootstrap interval. Values may be infinite; same values, same interval."""
    values = np.sort(np.asarray(values, dtype=float))
    resamples = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    # No interpolation between two medians: one of them may be infinite.
    low, high = np.quantile(np.median(resamples, axis=1), tails, method="inverted_cdf")
    return float(np.median(values)), float(low), float(high)


def readable(summary: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a table, from one of `summarise`'s entries: solved, perfect, stable, env_steps, seconds, each with its interval.

    Steps and seconds are "-" where the trainings went on when they were perfect.
    """

    def share(part: Mapping[str, Any] | None) -> str:
        return "-" if part is None else f"{part['count']} of {part['of']} ({100 * part['low']:.0f}-{100 * part['high']:.0f} %)"

    def middle(part: Mapping[str, float], digits: int) -> str:
        shown = ["not reached" if np.isinf(part[name]) else f"{part[name]:,.{digits}f}" for name in ("median", "low", "high")]
        return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]}-{shown[2]})"

    cells = {name: share(summary[name]) for name in ("solved", "perfect", "stable")}
    if trains_on(summary):
        return cells | {"env_steps": "-", "seconds": "-"}
    return cells | {"env_steps": middle(summary["env_steps"], 0), "seconds": middle(summary["seconds"], 2)}


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`summarise` for the runs of one row."""
    first, worst = runs[0], [worst_of_last(run) for run in runs]
    threshold = env_spec(first["env_id"]).reward_threshold
    counts = {"solved": sum(run["solved"] for run in runs), "perfect": sum(run["perfect"] for run in runs)}
    counts["stable"] = None if worst.count(None) == len(runs) else sum(value is not None and value >= threshold for value in worst)
    summary = {name: first[name] for name in ("row", "lesson", "env_id", "hyperparameters")}
    summary |= {"runs": len(runs), "failed": sum(run["status"] == "failed" for run in runs), "worst_of_last": worst}
    for name, count in counts.items():
        summary[name] = None
        if count is not None:
            low, high = wilson_interval(count, len(runs))
            summary[name] = {"count": count, "of": len(runs), "share": count / len(runs), "low": low, "high": high}
    for name in ("env_steps", "seconds"):
        values = [run[name] if run["solved"] else np.inf for run in runs]
        summary[name] = dict(zip(("median", "low", "high"), median_interval(values), strict=True))
    return summary


# What a study is made of --------------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()
_warm: set[str] = set()  # lessons that have trained once in this process
_following: list[threading.Thread] = []  # what watches this process's owner


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
        code = lesson_code(_check_lesson(lesson))
        for chosen in combinations:
            # Through JSON and back, so that a training gets the same on every backend, and what its file will say.
            settings = _checked_keywords(lesson, {**keywords, **chosen})
            label = " ".join([str(row), *(f"{name}={settings[name]}" for name in chosen)])
            plans.append((label, lesson, settings, code))
    return [Task(row, lesson, settings, seed, code, os.getpid()) for seed in seeds for row, lesson, settings, code in plans]


def _module_name(lesson: str) -> str:
    return lesson if "." in lesson else f"{ALGORITHMS}.{lesson}"


def _check_lesson(lesson: object) -> str:
    """`lesson` itself; `InvalidInput` where there is no such module."""
    try:
        found = isinstance(lesson, str) and util.find_spec(_module_name(lesson)) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        known = sorted(module.name for module in pkgutil.iter_modules(import_module(ALGORITHMS).__path__))
        close = difflib.get_close_matches(str(lesson), known, n=1)
        raise InvalidInput(
            f"There is no lesson {lesson!r}: " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}.")
        )
    return lesson


def load_lesson(lesson: str) -> ModuleType:
    """The module of a lesson; `MissingDependency` where it needs a package that is not installed."""
    try:
        return import_module(_module_name(lesson))
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"The lesson {lesson} needs the package {error.name}, which is not installed: run `pip install -r requirements.txt`."
        ) from None


def _checked_keywords(lesson: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords as JSON would have them; `InvalidInput` unless the lesson's `train` has all of them."""
    train = getattr(load_lesson(lesson), "train", None)
    if train is None:
        raise InvalidInput(f"The module {lesson} has no function train: a study calls train(seed=..., **hyperparameters) of it.")
    known = sorted(settings_of(train))
    for name in keywords:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}."
            raise InvalidInput(f"The lesson {lesson} has no hyperparameter {name!r}: {hint}")
    try:
        settings = json.loads(json.dumps(dict(keywords), allow_nan=False, default=lambda value: value.tolist()))
    except (TypeError, ValueError, AttributeError):
        raise InvalidInput(
            f"The hyperparameters of a study are numbers, texts, truth values and lists of them, but got {dict(keywords)}."
        ) from None
    if "env_id" in settings:
        env_spec(settings["env_id"])
    return settings


def _environment(task: Task) -> str:
    """The environment that the task trains in, which a training that failed does not tell."""
    return task.keywords.get("env_id") or inspect.signature(load_lesson(task.lesson).train).parameters["env_id"].default


def _obey(owner: int) -> None:
    """Make a process that joblib started for this study stop when its owner says so or is no more. Elsewhere it does nothing."""
    if _following and os.getppid() != owner:
        os._exit(1)
    if _following or os.getppid() != owner or threading.current_thread() is not threading.main_thread():
        return
    # Ctrl-C in a terminal reaches every process. Only the owner decides: a training that stops by itself looks like a result.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        while os.getppid() == owner:
            time.sleep(0.5)
        os._exit(1)

    _following.append(threading.Thread(target=follow, daemon=True))
    _following[0].start()


def _warm_up(task: Task, train: Callable) -> None:
    """Once per lesson and process: the first use of an optimizer imports a second's worth of torch, which is no part of any training."""
    if task.lesson not in _warm:
        _warm.add(task.lesson)
        # What it raises, the training itself will raise again.
        with contextlib.suppress(Exception):
            _whole(train(**{**task.keywords, "seed": task.seed, "max_steps": 1}))


def _whole(result: "Result") -> "Result":
    """The result of a training; Ctrl-C, which `train` turns into the best policy so far, goes on to stop the study."""
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def _traceback_text(error: Exception) -> str:
    """The traceback of a training, without this module's frame and without where the course is installed: the same on every machine."""
    lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)
    return "".join(lines).replace(f"{Path(__file__).parent.parent}{os.sep}", "")


def _code_of(module: str) -> str:
    """Hash of the source of `module` and of the modules of its package that it imports, directly or not."""
    package = module.rpartition(".")[0]
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        spec = None if name in sources or name == package else util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        sources[name] = Path(spec.origin).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(sources[name])):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.startswith(f"{package}.")]
            elif isinstance(node, ast.ImportFrom):
                base = util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
                if base == package:
                    waiting += [f"{package}.{alias.name}" for alias in node.names]
                elif base.startswith(f"{package}."):
                    waiting.append(base)
    code = [line.rstrip() for name in sorted(sources) for line in [name, *sources[name].splitlines()]]
    return hashlib.sha256("\n".join(line for line in code if line and not line.lstrip().startswith("#")).encode()).hexdigest()[:12]


#: The code that this process has loaded, which an edit of the files does not change any more.
_loaded_code = functools.cache(lesson_code)


def _code_if_there(lesson: str) -> str | None:
    """The lesson's code, None where it is not installed here."""
    try:
        return lesson_code(lesson)
    except (ImportError, OSError):
        return None


def _results(tasks: Mapping[str, Task], backend: str, workers: int | None, scheduler: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `run_task` returns for each of the tasks, as they finish. Closing it stops those that run."""
    if not tasks:
        return
    if backend == "sequential":
        yield from map(run_task, tasks.values())
        return
    joblib = _need("joblib", f'backend="{backend}"', "joblib")
    with contextlib.ExitStack() as around:
        if backend == "dask":
            client = around.enter_context(_client(scheduler))
            # All of them at once: the scheduler deals them out to the workers that come and go.
            settings = {"pre_dispatch": "all"}
            with joblib.parallel_config("dask", client=client):
                parallel = joblib.Parallel(batch_size=1, return_as="generator_unordered", **settings)
        else:
            parallel = joblib.Parallel(n_jobs=workers or -1, backend="loky", batch_size=1, return_as="generator_unordered")
        results = parallel(joblib.delayed(run_task)(task) for task in tasks.values())
        around.callback(_close_quietly, results)
        # Not `yield from`, which would close the results itself.
        for result in results:  # noqa: UP028
            yield result


def _close_quietly(results: Iterator) -> None:
    """Stop what still runs, without joblib's advice on how there could have been less of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results.close()


@contextlib.contextmanager
def _client(scheduler: str) -> "Iterator[distributed.Client]":
    """A connection to the cluster's scheduler; `StudyError` where there is no scheduler, or no worker."""
    distributed = _need("distributed", 'backend="dask"', "dask distributed")
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError):
        raise StudyError(
            f"No scheduler answers at {scheduler}: start one with `dask scheduler`, and pass the address that it prints."
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise StudyError(
                f"The scheduler at {scheduler} has no workers: start some with `dask worker {scheduler} --nthreads 1`."
            ) from None
        yield client


def _read(path: Path) -> dict[str, Any] | None:
    """The run in the file at `path`, None where it holds none."""
    try:
        record = json.loads(path.read_bytes())
        run = _run(record)
        return (
            run
            if {"row", "lesson", "seed", "code", "status", "hyperparameters", "evaluations", "env_steps", "seconds"} <= set(run)
            else None
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _run(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run as `run_study` returns it, from what stands in its file."""
    return {**record["result"], **record["timings"], "machine": record["machine"]}


def _canonical(content: object) -> bytes:
    """JSON of which there is only one for the same content."""
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


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


def _need(module: str, what: str, packages: str) -> ModuleType:
    """An optional package; `MissingDependency` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependency(f"{what} needs {module}, which is not installed: run `pip install {packages}`.") from None


def _thinned(evaluations: list[list[float]], most: int = 60) -> list[list[float]]:
    """At most `most` of the evaluations: the last ones all, those before evenly chosen. 500.0 is written as 500."""
    if len(evaluations) > most:
        earlier = evaluations[:-LAST]
        evaluations = [earlier[i] for i in np.linspace(0, len(earlier) - 1, most - LAST).round().astype(int)] + evaluations[-LAST:]
    return [[step, int(mean) if mean == int(mean) else mean] for step, mean in evaluations]
