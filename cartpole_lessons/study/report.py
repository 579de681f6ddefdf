"""One HTML page about a study, whole in itself: what was reached, how it was learned, and what it looks like."""

import base64
import html
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cartpole_lessons._support.files import write_file
from cartpole_lessons.lessons import lessons, load_lesson
from cartpole_lessons.plots import Curve, course_style, plot_learning_curves
from cartpole_lessons.study import HEADINGS, RESULTS, StudyError, by_row, nameless, ranges, read_results, read_study, readable, summarise
from cartpole_lessons.study.run import check_settings
from cartpole_lessons.video import record

Run = Mapping[str, Any]

#: The columns of the page's first table; the second has the others.
REACHED = ("solved", "perfect", "stable", "first_reached", "env_steps", "seconds")
#: A training that takes longer is filmed as far as it has come by then.
LONGEST_FILMED = 200_000  # environment steps

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; padding-bottom: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid #8886; vertical-align: top; }
th { background: #8882; } td small { opacity: 0.75; display: block; }
td + td small, th { white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
.grid figure { margin: 0 !important; } .grid img, .grid video { width: 100%; height: auto; }
figcaption { font-size: .9rem; opacity: 0.75; }
code, pre { font-family: ui-monospace, monospace; font-size: .85rem; } pre { overflow-x: auto; background: #8882; padding: .7rem; }
"""


def write_report(path: str | os.PathLike, folder: str | os.PathLike | None = None, *, films: bool = True, progress: bool = False) -> Path:
    """Write the page about the study in `folder`, or about the published results (None), to `path`: whole or not at all.

    films: train one seed of each row once more and film what it learned, because results hold figures and no policies. Only lessons of
    the course are: a file's word is no reason to run anything else. Ctrl-C while one trains stops the report.
    `StudyError` where there are no results; `RecordingError` where the page cannot be written.
    """
    path = Path(path)
    rows = _rows(folder)
    title = "CartPole: the published results" if folder is None else f"CartPole: the study in {Path(folder).resolve().name}"
    page = _page(title, rows, _films(rows, progress) if films else [])
    write_file(path, page.encode(), "The report")
    return path


def _rows(folder: str | os.PathLike | None) -> dict[str, list[Run]]:
    """Row -> its runs, by seed."""
    rows = read_results(RESULTS) if folder is None else by_row(read_study(folder).runs)
    if not rows:
        raise StudyError("This installation holds no published results: pass the folder of a study of your own.")
    return rows


def _page(title: str, rows: Mapping[str, Sequence[Run]], films: Sequence[str]) -> str:
    runs = [run for group in rows.values() for run in group]
    about = f"{len(runs)} trainings: {len(rows)} row{'s' * (len(rows) != 1)}, seeds {ranges(run['seed'] for run in runs)}."
    summaries = summarise(runs)
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>",
        f"<h2>What was reached</h2>{_table(summaries, REACHED)}",
        "<p><b>Solved</b>: the mean return of 100 fresh episodes, played without exploration, reaches the environment's own threshold. "
        "<b>Perfect</b>: every one of them reaches the time limit. In brackets: 95 % intervals. <b>First reached</b>: the environment step of "
        "the first evaluation at or above the threshold; <b>stopped</b>: the step at which the training ended by itself, as late as the "
        "<b>seconds</b>, evaluations included. These are medians; a run that was not solved counts as one that never stopped.</p>",
        f"<h2>How long it took</h2>{_table(summaries, [name for name in HEADINGS if name not in REACHED])}",
        "<p>Until the training ended by itself. A tenth of the runs take as long as the <b>slowest tenth</b>, or longer.</p>",
        f"<h2>How it was learned</h2>{_curves(rows)}",
    ]
    if films:
        parts.append(f'<h2>What it looks like</h2><div class="grid">{"".join(films)}</div>')
    parts += [_failures(runs), f"<h2>How it was measured</h2>{_machines(runs)}"]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{chr(10).join(parts)}\n</body></html>\n'


def _table(summaries: Mapping[str, Mapping[str, Any]], columns: Collection[str]) -> str:
    """One line per row, with the settings in small print; columns: keys of `HEADINGS`."""
    lines = ["<tr><th>row</th>" + "".join(f"<th>{html.escape(HEADINGS[name])}</th>" for name in columns) + "</tr>"]
    for row, summary in summaries.items():
        settings = {"env_id": summary["env_id"]} | summary["hyperparameters"]
        cells = readable(summary)
        named = ", ".join(str(value) if name == "env_id" else f"{name}={value}" for name, value in settings.items())
        first = f"<td>{html.escape(row)}<small>{html.escape(named)}</small></td>"
        lines.append(f"<tr>{first}{''.join(f'<td>{_with_small_interval(cells[name])}</td>' for name in columns)}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _with_small_interval(cell: str) -> str:
    figure, opened, interval = html.escape(cell).partition(" (")
    return f"{figure}<small>({interval}</small>" if opened else figure


def _curves(rows: Mapping[str, Sequence[Run]]) -> str:
    figures = []
    for row, runs in rows.items():
        # A rule that needs no training has been evaluated, but there is nothing to draw.
        drawn = [Curve(run["evaluations"], run["solved"]) for run in runs if run["evaluations"] and run["env_steps"]]
        if drawn:
            label = html.escape(f"{row}: learning curves of {len(drawn)} seed{'s' * (len(drawn) != 1)}")
            figures.append(f'<figure><img src="data:image/png;base64,{_picture(row, drawn)}" alt="{label}"></figure>')
    if not figures:
        return "<p>These results hold no evaluations from during the training.</p>"
    legend = "<p>A thin line per seed, ending in a dot where it was solved and in a cross where not.</p>"
    return f'{legend}<div class="grid">{"".join(figures)}</div>'


def _picture(title: str, curves: Sequence[Curve]) -> str:
    """A PNG of the curves, in base64."""
    from matplotlib.figure import Figure

    with course_style():
        figure = Figure(figsize=(5, 3.2))
        axes = plot_learning_curves(curves, ax=figure.add_subplot())
        axes.set_title(title, parse_math=False)  # a file's word for it may be no formula
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
    return base64.b64encode(file.getvalue()).decode()


def typical(runs: Sequence[Run]) -> Run | None:
    """Of the solved runs the one in the middle by its steps; of runs that are all unsolved, the middle by what they reached."""
    finished = [run for run in runs if run["status"] == "ok"]
    solved = [run for run in finished if run["solved"]]
    ordered = sorted(solved, key=lambda run: run["env_steps"]) or sorted(finished, key=lambda run: run["mean_return"])
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def _films(rows: Mapping[str, Sequence[Run]], progress: bool) -> list[str]:
    """A film per row, as HTML. Where one cannot be made, its reason stands in its place: the page is worth more than a film."""
    from tqdm.auto import tqdm

    films = []
    for row, runs in tqdm(rows.items(), desc="films", disable=not progress):
        run = typical(runs)
        if run is None:
            continue
        try:
            films.append(_film(row, run))
        except Exception as error:  # settings that somebody chose can fail in any way
            films.append(f"<figure><figcaption>{html.escape(row)}: no film. {html.escape(str(error))}</figcaption></figure>")
    return films


def _film(row: str, run: Run) -> str:
    if run["lesson"] not in lessons():
        raise StudyError(f"Only the course's own lessons are trained again, and {run['lesson']} is none of them.")
    settings = check_settings(run["lesson"], run["hyperparameters"])
    # A file may say anything; a page is worth minutes.
    settings["max_steps"] = min(settings.get("max_steps", LONGEST_FILMED), LONGEST_FILMED)
    result = load_lesson(run["lesson"]).train(seed=run["seed"], **settings)
    if result.interrupted:  # half a training, filmed, would look like what the row learned
        raise KeyboardInterrupt
    label = f"{row}, seed {run['seed']}: mean return {result.evaluation.mean:.0f} of {result.evaluation.max_episode_steps}"
    return record(result.policy, result.env_id, label=label).to_html()


def _failures(runs: Iterable[Run]) -> str:
    failed = [run for run in runs if run["status"] == "failed"]
    if not failed:
        return ""
    details = "".join(
        f"<details><summary>{html.escape(run['row'])}, seed {run['seed']}</summary><pre>{html.escape(run.get('error') or '')}</pre></details>"
        for run in failed
    )
    return f"<h2>What failed</h2><p>These trainings raised an error; they count as not solved.</p>{details}"


def _machines(runs: Iterable[Run]) -> str:
    """The machines, without their names, and on how many trainings each was used."""
    used: dict[str, int] = {}
    for run in runs:
        text = ", ".join(f"{name} {value}" for name, value in nameless(run["machine"]).items())
        used[text] = used.get(text, 0) + 1
    lines = "".join(f"<li>{count} trainings: {html.escape(text)}</li>" for text, count in used.items())
    return f"<ul>{lines}</ul><p>Films are of trainings made again, with the same seed, when this page was written.</p>"
