"""Results in files: one small JSON file for each training of a study, and the published ones. Reading them never runs anything.

A run is a dict: row, lesson, env_id, hyperparameters (the keywords given), seed, code (hash of the code that its numbers depend on), status
("ok" or "failed"), error (None or the traceback), solved, perfect, mean_return, env_steps, evaluations (list of [env step, mean return]),
seconds, machine (versions among it).
"""

import csv
import io
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole_lessons._support.files import write_file
from cartpole_lessons.errors import CourseError, MissingDependency
from cartpole_lessons.study.statistics import LAST, summarise, worst_of_last

if TYPE_CHECKING:
    import pandas as pd

#: The published results: package data, so that they are there wherever the package is installed.
RESULTS = Path(__file__).parent.parent / "results"
#: No training's result comes near this.
LARGEST_RESULT = 8 * 2**20  # bytes
#: What a published run keeps beside what its row has in common.
PUBLISHED = ("seed", "status", "solved", "perfect", "mean_return", "env_steps", "seconds", "evaluations")


class StudyError(CourseError, RuntimeError):
    """A study cannot go on or be read: its workers failed, a scheduler cannot be reached, a folder holds no results."""


@dataclass(frozen=True)
class Study:
    """The results of a study. Each run is a dict; the module's text describes it."""

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
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependency("to_frame() needs pandas, which is not installed: run `pip install pandas`.") from None
        return pd.DataFrame(self.table())

    def __str__(self) -> str:
        return f"{counted(len(self.runs), 'run')} in {self.folder}, {len(self.failed)} of them failed"


def counted(number: int, thing: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def read_run(path: Path) -> dict[str, Any] | None:
    """The run in the file at `path`; None where it holds none, or not what a training can have left there."""
    try:
        # A pipe would wait for ever, and a sparse file can be of any size.
        if not path.is_file() or path.stat().st_size > LARGEST_RESULT:
            return None
        run = as_run(json.loads(path.read_bytes(), parse_constant=_refuse))
        return run if _is_run(run) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def as_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run, from what stands in its file."""
    return {**record["result"], **record["timings"], "machine": record["machine"]}


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
    lines = [
        json.dumps({name: _thinned(run[name]) if name == "evaluations" else run[name] for name in PUBLISHED}, separators=(",", ":"))
        for run in runs
    ]
    path = Path(folder) / f"{first['row']}.json"
    text = json.dumps(shared, indent=1).removesuffix("\n}") + ',\n "runs": [\n' + ",\n".join(lines) + "\n]}\n"
    write_file(path, text.encode(), "The results")
    return path


def canonical(content: object) -> bytes:
    """JSON of which there is only one for the same content."""
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def machine() -> dict[str, str]:
    """What a result depends on besides the code: versions, system, processor, and the host's name."""
    versions = {name: metadata.version(name) for name in ("cartpole-lessons", "torch", "gymnasium", "numpy")}
    versions["cartpole_lessons"] = versions.pop("cartpole-lessons")
    about = {"host": platform.node(), "system": platform.system(), "processor": platform.machine(), "python": platform.python_version()}
    return about | versions


def nameless(machine: Mapping[str, str]) -> dict[str, str]:
    """What `machine` says, without the host's name: nobody else's business."""
    return {name: value for name, value in machine.items() if name != "host"}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no result")


def _is_run(run: Mapping[str, Any]) -> bool:
    """Whether everything in it has the type that `run_task` gives it."""
    number = (int, float)
    types = {name: str for name in ("row", "lesson", "env_id", "code")}
    types |= {"solved": bool, "perfect": bool, "seed": int, "hyperparameters": dict, "evaluations": list, "machine": dict}
    figures = {"mean_return": number, "env_steps": int, "seconds": number}
    types |= figures if run["status"] == "ok" else dict.fromkeys(figures, type(None)) | {"error": str}
    return (
        run["status"] in ("ok", "failed")
        and all(isinstance(run[name], kind) and (kind is bool or not isinstance(run[name], bool)) for name, kind in types.items())
        and all(isinstance(step, int) and isinstance(mean, number) and math.isfinite(mean) for step, mean in run["evaluations"])
    )


def _plain_cell(value: object) -> object:
    """A spreadsheet takes a text that begins like a formula for one, and a file's word for it is not enough."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _thinned(evaluations: list[list[float]], most: int = 60) -> list[list[float]]:
    """At most `most` of the evaluations: the last ones all, those before evenly chosen. 500.0 is written as 500."""
    if len(evaluations) > most:
        earlier = evaluations[:-LAST]
        evaluations = [earlier[i] for i in np.linspace(0, len(earlier) - 1, most - LAST).round().astype(int)] + evaluations[-LAST:]
    return [[step, int(mean) if mean == int(mean) else mean] for step, mean in evaluations]
