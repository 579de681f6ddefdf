"""Results in files: one small JSON file for each training of a study, and the published ones. Reading them never runs anything.

A run is a dict: row, lesson, env_id, hyperparameters (the keywords given), seed, code (hash of the code that its numbers depend on), status
("ok" or "failed"), error (None or the traceback), solved, perfect, mean_return, env_steps (when training stopped), first_reached (env step of the
first evaluation at or above the threshold, or None), evaluation_steps (played by evaluations), evaluations (list of [env step, mean return]),
seconds, cpu_seconds, evaluation_seconds (of the seconds, what evaluations took), machine (versions among it).
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cartpole_lessons._support.checks import check_seed
from cartpole_lessons._support.files import write_file
from cartpole_lessons.errors import CourseError, InvalidInput, in_short
from cartpole_lessons.hyperparameters import Between, check_value
from cartpole_lessons.study.statistics import LAST, is_ablation

#: The published results: package data, so that they are there wherever the package is installed.
RESULTS = Path(__file__).parent.parent / "results"
#: No file of results comes near this.
LARGEST_FILE = 8 * 2**20  # bytes
#: What a file can have in it that is no result.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
#: What a row has in common, what every run has of its own that depends on the code and the seed alone, and what the machine has a part in.
SHARED = ("row", "lesson", "env_id", "hyperparameters", "code")
FIGURES = ("env_steps", "first_reached", "evaluation_steps")
TIMINGS = ("seconds", "cpu_seconds", "evaluation_seconds")
#: What a published run keeps beside what its row has in common.
PUBLISHED = ("seed", "status", "solved", "perfect", "mean_return", *FIGURES, *TIMINGS, "evaluations")


class Printable:
    """Texts that do no harm where they are printed: one line, and no control characters."""

    def __contains__(self, text: str) -> bool:
        return text.isprintable()

    def __str__(self) -> str:
        return "in one line, without control characters"


Line = Annotated[str, Printable()]
Steps = Annotated[int, Between(0, 10**12)]
Return = Annotated[float, Between(-(10**12), 10**12)]
Seconds = Annotated[float, Between(0, 10**9)]
#: A hyperparameter, or each of a list of them.
Setting = Line | bool | Annotated[float, Between(-(10**18), 10**18)] | None
KINDS = {
    **dict.fromkeys(("row", "lesson", "env_id", "code"), Line),
    "status": Literal["ok", "failed"],
    "error": str | None,
    "solved": bool,
    "perfect": bool,
    "mean_return": Return | None,
    **dict.fromkeys(FIGURES, Steps | None),
    **dict.fromkeys(TIMINGS, Seconds | None),
}


class StudyError(CourseError, RuntimeError):
    """A study cannot go on or be read: its workers failed, a scheduler cannot be reached, a folder holds no results."""


def file_name(run: Mapping[str, Any]) -> str:
    """Readable, and another one whenever row, lesson, hyperparameters or seed differ."""
    settings = hashlib.sha256(canonical([run["row"], run["lesson"], run["hyperparameters"]])).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', run['row'])[:80].lstrip('.')}-{settings}-seed{run['seed']}.json"


def read_run(path: Path) -> dict[str, Any] | None:
    """The run in the file at `path`; None where it holds none, or another one than its name says."""
    try:
        run = as_run(_read_json(path))
        return run if file_name(run) == path.name else None
    except UNREADABLE:
        return None


def as_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """The run in what stands in a file. `InvalidInput` (or `KeyError`, ...) where that is not what a training leaves there."""
    run = check_run({**record["result"], **record["timings"], "machine": record["machine"]})
    if (run["error"] is None) == (run["status"] == "failed"):
        raise InvalidInput("A run that failed has an error, and only such a one.")
    return run


def check_run(run: dict[str, Any]) -> dict[str, Any]:
    """The run itself; see `as_run`."""
    for name, kind in KINDS.items():
        check_value(name, run[name], kind)
    check_seed(run["seed"])
    for line in (run["error"] or "").split("\n"):
        check_value("error", line, Line)
    if not isinstance(run["evaluations"], list) or not all(_is_evaluation(*pair) for pair in run["evaluations"]):
        raise InvalidInput("Evaluations are a list of pairs: an environment step, and a mean return.")
    check_settings_of_file(run["hyperparameters"])
    for name, value in run["machine"].items():
        check_value("machine", name, Line), check_value("machine", value, Line)
    figures = [run[name] is not None for name in ("mean_return", "env_steps", "seconds")]
    if not all(figures) if run["status"] == "ok" else run["solved"] or run["perfect"]:
        raise InvalidInput("A run that ended has all its figures, and one that failed has solved nothing.")
    return run


def _is_evaluation(step: object, mean: object) -> bool:
    """The same as `Steps` and `Return` ask for, at a fraction of the time: there are thousands of them."""
    return type(step) is int and 0 <= step <= 10**12 and type(mean) in (int, float) and abs(mean) <= 10**12


def check_settings_of_file(hyperparameters: Mapping[str, Any]) -> None:
    """`InvalidInput` unless these are names, and texts, numbers, truth values, None, or lists of them."""
    for name, value in hyperparameters.items():
        if not name.isidentifier():
            raise InvalidInput("A hyperparameter has a name.")
        for part in value if isinstance(value, list) else [value]:
            check_value(name, part, Setting)


def _read_json(path: Path) -> Any:
    """What stands in a file: no pipe, which would be waited for, nothing endless, and nothing that JSON has no word for."""
    if not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise ValueError("it is too large")
    content = json.loads(text)
    json.dumps(content, allow_nan=False, ensure_ascii=False).encode()  # neither infinite numbers nor halves of characters
    return content


def read_results(folder: str | os.PathLike = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """The published results, {row: runs}: a hundred seeds of every lesson, measured by `make study`. Runs are those of `run_study`.

    A figure that was not recorded is None. `StudyError` where a file is not what `write_results` writes.
    """
    rows = {}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            content = _read_json(path)
            if "row" in content:  # not so in what else is published
                shared = dict.fromkeys((*PUBLISHED, "error")) | {
                    name: value for name, value in content.items() if name not in ("columns", "runs")
                }
                runs = [check_run(shared | dict(zip(content["columns"], run, strict=True))) for run in content["runs"]]
                if not runs or content["row"] != path.stem or len({run["seed"] for run in runs}) < len(runs):
                    raise ValueError("it belongs to another row, or holds a seed twice")
                rows[content["row"]] = runs
        except UNREADABLE as error:
            said = f"{path} holds no published results ({in_short(error)}): take it out of the folder, or publish that row again."
            raise StudyError(said) from None
    return rows


def write_results(runs: Sequence[Mapping[str, Any]], folder: str | os.PathLike = RESULTS) -> Path:
    """Publish the runs of one row as one compact file, ROW.json, from which `read_results` has them back.

    Of more than 60 evaluations of a run, an even choice is kept, and all of the last ten; of an ablation none, because nobody draws
    them. The machine's name is not kept.
    """
    first = runs[0]
    shared = {name: first[name] for name in SHARED} | {"machine": nameless(first["machine"])}
    shared |= {name: first[name] for name in ("settings_chosen_with", "verified") if name in first}  # what benchmarks/measure.py says
    lines = [
        json.dumps([run[name] for name in PUBLISHED], separators=(",", ":"))
        for run in ({**run, "evaluations": [] if is_ablation(run) else _thinned(run["evaluations"])} for run in runs)
    ]
    shared["columns"] = PUBLISHED  # of the runs, each of which is a list
    path = Path(folder) / f"{first['row']}.json"
    text = json.dumps(shared, indent=1).removesuffix("\n}") + ',\n "runs": [\n' + ",\n".join(lines) + "\n]}\n"
    write_file(path, text.encode(), "The results")
    return path


def read_figures(name: str) -> dict[str, Any]:
    """What else is published, beside the rows of `read_results`: the content of NAME.json, which a program in benchmarks/ has written; {} where there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_figures(name: str, content: Mapping[str, Any]) -> None:
    """Publish figures as NAME.json, from which `read_figures` has them back."""
    write_file(RESULTS / f"{name}.json", json.dumps(content, separators=(",", ":")).encode() + b"\n", "The result")


def canonical(content: object) -> bytes:
    """JSON of which there is only one for the same content."""
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def machine() -> dict[str, str]:
    """What a result depends on besides the code: versions, system, processor, and the host's name."""
    versions = {name.replace("-", "_"): metadata.version(name) for name in ("torch", "gymnasium", "numpy", "cartpole-lessons")}
    about = {"host": platform.node(), "system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
    return about | versions


def nameless(machine: Mapping[str, str]) -> dict[str, str]:
    """What `machine` says, without the host's name: nobody else's business."""
    return {name: value for name, value in machine.items() if name != "host"}


def _thinned(evaluations: list[list[float]], most: int = 40) -> list[list[float]]:
    """At most `most` of the evaluations: the last ones all, those before evenly chosen. 500.0 is written as 500."""
    if len(evaluations) > most:
        earlier = evaluations[:-LAST]
        evaluations = [earlier[i] for i in np.linspace(0, len(earlier) - 1, most - LAST).round().astype(int)] + evaluations[-LAST:]
    return [[step, int(mean) if mean == int(mean) else mean] for step, mean in evaluations]
