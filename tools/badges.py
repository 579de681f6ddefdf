"""Write what can be derived: badges and install cells from the repository's address; tables and sentences from the measured results.

`make badges`; the tests call `derived_files` and fail on any file that differs from what stands there.
"""

import functools
import json
import math
import re
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from cartpole_lessons._support.files import atomic_write
from cartpole_lessons.bugs import BUGS
from cartpole_lessons.grading import exercises_in, modules_with_exercises
from cartpole_lessons.study import RESULTS, is_ablation, overview, ranges, read_figures, read_results, readable, summarise, trains_on
from cartpole_lessons.training import SECONDS_BETWEEN_SAVES
from notebooks import read_notebook

ROOT = Path(__file__).resolve().parent.parent
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
REPOSITORY = URLS["Repository"]
SLUG = REPOSITORY.removeprefix("https://github.com/")
PICTURE = "docs/learning_curves.png"
INDEX = ROOT / "notebooks" / "index.ipynb"
INSTRUCTORS = "docs/instructors.md"
#: Many tables and sentences are made of the same few files.
published_runs, kept_notebook = functools.cache(read_results), functools.cache(read_notebook)
EXPORTED = re.compile(r"#\| default_exp algorithms\.(\w+)")
INSTALL = f'"cartpole-lessons @ git+{REPOSITORY}"'


def launch_links(path: str) -> tuple[str, str]:
    """Where Colab and Binder open the notebook at `path`; Binder without its list of files, which leaves a phone no room."""
    return (
        f"https://colab.research.google.com/github/{SLUG}/blob/main/{path}",
        f"https://mybinder.org/v2/gh/{SLUG}/main?urlpath=doc/tree/{path}",
    )


def launch_badges(path: str) -> str:
    """Colab and Binder badges that open the notebook at `path`."""
    colab, binder = launch_links(path)
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def region(text: str, name: str, content: str, file: str) -> str:
    """`text` of `file` with what stands between `<!-- name -->` and `<!-- /name -->` replaced by `content`."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{file} has lost its region {start} ... {end}: put the two lines back.")
    return f"{before}{start}\n{content}\n{end}{after}"


def lesson_paths() -> list[Path]:
    """The lessons in order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def exported_module(path: Path) -> str | None:
    """The module that the lesson exports."""
    found = [EXPORTED.search(cell.source) for cell in kept_notebook(path).cells]
    return next((exported[1] for exported in found if exported), None)


def published(path: Path) -> dict[str, Any] | None:
    """The summary of the lesson's own row in the published results: the one that has its module's name."""
    runs = published_runs(RESULTS).get(exported_module(path))
    return summarise(runs)[runs[0]["row"]] if runs else None


def you_will_see(summary: dict[str, Any]) -> str:
    """What happens in the lesson, in one sentence, for its first cell."""
    seeds = f"solved on {summary['solved']['count']} of {summary['solved']['of']} seeds"
    steps, seconds = summary["env_steps"]["median"], summary["seconds"]["median"]
    if math.isinf(steps):
        return f"You will see: {seeds} (measured)."
    after = f"after {steps:,.0f} environment steps and {seconds:.2f} seconds" if steps else f"in {seconds:.2f} seconds without training"
    return f"You will see: {seeds}, typically {after} (measured; medians)."


def lesson_notebook(path: Path) -> str:
    """The notebook's text with its badges, its measured duration and results, and its install command renewed."""
    notebook = read_notebook(path)
    badges = launch_badges(path.relative_to(ROOT).as_posix())
    seconds = notebook.metadata.get("cartpole_lessons", {}).get("seconds")
    if seconds is not None:
        badges += f"\n\nAll cells together take about {seconds} seconds on two CPU cores (measured)."
        summary = published(path)
        badges += f" {you_will_see(summary)}" if summary else ""
    notebook.cells[0].source = region(notebook.cells[0].source, "badges", badges, path.name)
    notebook.cells[1].source = re.sub(r'"cartpole-lessons @ git\+[^"]*"', INSTALL, notebook.cells[1].source)
    return nbformat.writes(notebook) + "\n"


def title_and_summary(path: Path) -> tuple[str, str]:
    """The lesson's heading and the one sentence under it."""
    lines = kept_notebook(path).cells[0].source.splitlines()
    summaries = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
    if len(summaries) != 1:
        raise SystemExit(f"{path.name} needs one line `> ...` in its first cell that says in a sentence what happens in the lesson.")
    return lines[0].removeprefix("# "), summaries[0]


@functools.cache
def lesson_titles() -> dict[str, str]:
    """{exported module: the lesson's number and heading, or that of the half that exports it}."""
    titles = {}
    for path in lesson_paths():
        heading = ""
        for cell in kept_notebook(path).cells:
            if cell.cell_type == "markdown" and cell.source.startswith("# "):
                heading = cell.source.splitlines()[0].removeprefix("# ")
            exported = EXPORTED.search(cell.source)
            if exported:
                number = path.name[:2]
                titles[exported[1]] = heading if heading.startswith(number) else f"{number} {heading}"
    return titles


def lesson_table() -> str:
    """One row per lesson: its name, what happens in it, and where it opens."""
    rows = []
    for path in lesson_paths():
        title, summary = title_and_summary(path)
        where = path.relative_to(ROOT).as_posix()
        rows.append([f"[{title}]({where})", summary, launch_badges(where)])
    return table(["lesson", "what happens", "open"], rows)


def minutes_of(path: Path) -> int:
    """How long the lesson takes: its words at 150 a minute, its code at 15 lines a minute, and its cells as they run."""
    notebook = kept_notebook(path)
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(len(cell.source.splitlines()) for cell in notebook.cells if cell.cell_type == "code")
    seconds = notebook.metadata.get("cartpole_lessons", {}).get("seconds", 0)
    return max(5, 5 * round((words / 150 + lines / 15 + seconds / 60) / 5))


def builds_on(path: Path) -> list[str]:
    """Numbers of the lessons whose algorithms this one imports, or whose code its bugs are in."""
    code = "\n".join(cell.source for cell in kept_notebook(path).cells if cell.cell_type == "code")
    used = set(re.findall(r"cartpole_lessons\.algorithms(?:\.| import )(\w+)", code))
    if "cartpole_lessons.bugs" in code:
        used |= {bug.lesson for bug in BUGS.values()}
    numbers = {title.split()[0] for module, title in lesson_titles().items() if module in used}
    return sorted(numbers - {path.name[:2]})


def path_rows() -> Iterator[tuple[str, str, str, int, str]]:
    """The path through the lessons: of each its title, its file, what happens in it, its minutes, and the numbers of those that it builds on."""
    for path in lesson_paths():
        title, summary = title_and_summary(path)
        yield title, path.name, summary, minutes_of(path), ", ".join(builds_on(path))


def index_notebook() -> str:
    """The page that JupyterLab opens first: the path through the lessons."""
    rows = [[f"[{title}]({name})", summary, str(minutes), needs or "-"] for title, name, summary, minutes, needs in path_rows()]
    source = f"""# CartPole lessons

<!-- badges -->
{launch_badges("notebooks/index.ipynb")}
<!-- /badges -->

![The same pole in three hands: an untrained agent drops it at once, a half-trained one later, a trained one not at all](../docs/agent.gif)

<!-- jupyter -->
Click a lesson, then *Run > Run All Cells*, or step through it with Shift-Enter.
<!-- /jupyter -->
Follow the order, or jump: the last column says what a lesson builds on.

{table(["lesson", "what happens", "minutes", "builds on"], rows)}

Minutes are an estimate: one for every 150 words, one for every 15 lines of code, and the time that the cells take to run. Lessons 00, 02 and 04 are also available [in Nigerian Pidgin](pcm/README.md)."""
    cell = nbformat.v4.new_markdown_cell(source, id="path")
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=kept_notebook(lesson_paths()[0]).metadata)
    notebook.metadata = {name: value for name, value in notebook.metadata.items() if name in ("kernelspec", "language_info")}
    return nbformat.writes(notebook) + "\n"


def instructors() -> str:
    """The instructors' page with its hours, its exercises and the machine of the published results renewed."""
    text = (ROOT / INSTRUCTORS).read_text(encoding="utf-8")
    minutes = [minutes_of(path) for path in lesson_paths()]
    asked, modules = [], modules_with_exercises()
    for path in lesson_paths():
        if module := modules.get(f"lesson_{path.name[:2]}"):
            names = ", ".join(f"`{each.name.partition('.')[2]}`" for each in exercises_in(module).values())
            asked.append([f"[{title_and_summary(path)[0]}](../notebooks/{path.name})", names])
    machines = {json.dumps(run["machine"], sort_keys=True) for runs in published_runs(RESULTS).values() for run in runs}
    versions = [", ".join(f"{name} {value}" for name, value in json.loads(each).items()) for each in sorted(machines)]
    content = {
        "hours": f"All {len(minutes)} lessons take about {sum(minutes) / 60:.0f} hours of reading and running, between {min(minutes)} and {max(minutes)} "
        "minutes each; exercises come on top.",
        "exercises": table(["lesson", "exercises"], asked),
        "machine": f"Published times were measured on: {'; '.join(versions)}.",
    }
    for name, inside in content.items():
        text = region(text, name, inside, INSTRUCTORS)
    return text


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def figures_table(columns: dict[str, str], *, trained_on: bool = False) -> str:
    """One line per published row, in the order of the lessons: these of its figures, {name in `readable`: heading}.

    trained_on: the rows that were trained on after they were perfect; otherwise the others, but for those of a lesson with one thing changed.
    """
    titles, rows = lesson_titles(), {}
    for row, runs in published_runs(RESULTS).items():
        summary = summarise(runs)[row]
        if trains_on(summary) == trained_on and not is_ablation(summary):
            title = titles.get(summary["lesson"], summary["lesson"])
            elsewhere = f" on {summary['env_id'].split('/')[-1]}" if row != summary["lesson"] and not trained_on else ""
            cells = readable(summary)
            rows[title + elsewhere] = [cells[name] for name in columns]
    return table(["lesson", *columns.values()], [[title, *cells] for title, cells in sorted(rows.items())])


def seeds_sentence() -> str:
    """Which seeds the rows were measured on, and which their settings were chosen with."""
    runs = [run for group in published_runs(RESULTS).values() for run in group]
    chosen = {run["settings_chosen_with"] for run in runs if "settings_chosen_with" in run}
    return f"Seeds {ranges(run['seed'] for run in runs)}." + "".join(f" Settings were chosen with {seeds}." for seeds in sorted(chosen))


def learning_curves() -> str:
    """The picture of the published learning curves, and what it shows."""
    titles = lesson_titles()
    shown = {row: runs for row, runs in published_runs(RESULTS).items() if row in titles and any(run["evaluations"] for run in runs)}
    seeds = ranges(run["seed"] for runs in shown.values() for run in runs)
    return (
        f"![Learning curves of {', '.join(sorted(titles[row] for row in shown))}: mean return against environment steps]({PICTURE})\n\n"
        f"*Mean return of 100 greedy episodes while each algorithm learns, on seeds {seeds}: the line is the median, the band holds the middle "
        "80 %, the dashed line is the environment's threshold. A run holds its last value after its training has stopped.*"
    )


def comparison_table() -> str:
    """The course's learners against Stable-Baselines3's."""
    titles, rows, pairs = lesson_titles(), [], read_figures("against_stable_baselines3")["pairs"]
    for pair in pairs:
        sides = {"ours": f"**{titles.get(pair['lesson'], pair['lesson'])}**"}
        sides |= {"theirs": f"{pair['theirs']}, the Zoo's settings", "same": f"{pair['theirs']}, the course's settings"}
        for side, label in sides.items():
            cells = [label, f"{sum(run[side]['solved'] for run in pair['runs'])} of {len(pair['runs'])}"]
            for figure, digits in (("env_steps", 0), ("cpu_seconds", 2), ("training_seconds", 2)):
                median = statistics.median(run[side][figure] for run in pair["runs"])
                ratio = statistics.median(run[side][figure] / run["ours"][figure] for run in pair["runs"])
                cells.append(f"{median:,.{digits}f}" + ("" if side == "ours" else f" ({ratio:.1f} x)"))
            rows.append(cells)
    seeds = ranges(run["seed"] for pair in pairs for run in pair["runs"])
    return (
        table(["learner", "solved", "steps", "CPU seconds", "without evaluations"], rows)
        + f"\n\nMedians over seeds {seeds}; in brackets, the median of the ratio to the course's own run of the seed."
    )


def peers_table() -> str:
    """PPO in several libraries; from how many trainings in a process on the quickest of the others needs less than the course; a hundred."""
    peers = read_figures("peers")["peers"]
    names = {"course": "**05 PPO**", "stable_baselines3": "Stable-Baselines3", "sbx": "sbx (JAX)", "rejax": "rejax (JAX, compiled whole)"}
    short = {peer: "the course" if peer == "course" else names[peer].split(" (")[0] for peer in peers}
    rows, begun, each, hundred = [], {}, {}, []
    for peer, measured in peers.items():
        runs = measured["runs"]
        middle = {figure: statistics.median(run[figure] for run in runs) for figure in ("env_steps", "cpu_seconds", "training_seconds")}
        begun[peer], each[peer] = measured["importing"] + measured["compiling"], middle["cpu_seconds"]
        rows.append(
            [
                names[peer] + ("" if peer == "course" else f" {measured['version']}"),
                f"{sum(run['stopped'] for run in runs)} of {len(runs)}",
                f"{middle['env_steps']:,.0f}",
                f"{measured['importing']:.1f}",
                f"{measured['compiling']:.1f}",
                f"{middle['cpu_seconds']:.2f}",
                f"{middle['training_seconds']:.2f}",
            ]
        )
        if stack := measured.get("together"):
            alone = stack["seeds"] * statistics.mean(run["cpu_seconds"] for run in runs)
            compiling = f" and {stack['compiling']:.0f} for compiling them" if stack["compiling"] >= 1 else ""
            hundred.append(
                f"{short[peer]} {stack['cpu_seconds']:.0f}{compiling} ({stack['training_seconds']:.0f} without evaluations, "
                f"{stack['stopped']} of {stack['seeds']} stopped; one after the other they would take {alone:.0f})"
            )
    headings = ["PPO", "stopped", "steps", "importing", "compiling", "a training", "without evaluations"]
    rivals = ", ".join(f"{short[peer]} {begun[peer] + each[peer]:.1f}" for peer in peers if peer != "course")
    said = f"Seeds {ranges(run['seed'] for run in peers['course']['runs'])}; medians. From its first line to the end of one training the course takes {begun['course'] + each['course']:.1f} CPU seconds ({rivals})."
    quickest = min(each.keys() - {"course"}, key=each.get)
    if each[quickest] < each["course"]:
        from_here = math.floor((begun[quickest] - begun["course"]) / (each["course"] - each[quickest])) + 1
        said += f" One after the other, {short[quickest]} needs less from {max(1, from_here)} trainings in a process on."
    return f"{table(headings, rows)}\n\n{said} A hundred seeds side by side take {', '.join(hundred)}."


def memory_sentence() -> str:
    """The range of the lessons' peaks of memory, as `make test-binder` measured them."""
    measured = read_figures("memory")
    peaks = measured["peak_megabytes"].values()
    return (
        f"At its peak a lesson takes {min(peaks)} to {max(peaks)} MB of memory "
        f"(measured for {len(peaks)} of the {len(lesson_paths())} lessons by `make test-binder`)."
    )


def reliability_table() -> str:
    """What breaks, what is left afterwards, and how often that was tried, as `make test-faults` counted it."""
    measured = read_figures("reliability")["figures"]
    killed, stopped, disk, exports = measured["killed"], measured["ctrl_c"], measured["full_disk"], measured["exports"]
    checkpoints, crafted = measured["checkpoints"], measured["crafted"]
    rows = [
        (
            "the process or kernel is killed while it trains",
            f"history (`.csv`) and best policy (`.npz`, for `load_policy`) of a training of more than {SECONDS_BETWEEN_SAVES:.0f} s are in the "
            "folder `unfinished`, beside your notebook; the same call repeats it to the identical result",
            f"{killed['trainings']} processes killed: what was left was at most {killed['oldest_seconds']} s old; each training was repeated, "
            "and ended as the one that nobody had killed",
        ),
        (
            "Ctrl-C or *interrupt*, at any moment",
            "the best policy so far, or a stop before there is one; random generators, threads, plots and the next training are as ever",
            f"{stopped['moments']} random moments in trainings of {stopped['learners']} kinds: {stopped['results']} results, "
            f"{stopped['nothing_begun']} stops before the training had begun; and in the first second or so of {measured['first_second']['processes']} "
            "new processes",
        ),
        (
            "the process is killed while it writes a file, or a film",
            "the old file or the new one, whole",
            f"{measured['writes']['kills']} and {measured['films']['kills']} kills",
        ),
        (
            "the disk is full, or nearly",
            "one sentence that names the folder, and the old file whole; a training goes on",
            f"{disk['writes']} writes of 3 kinds to a disk with less and more space than they need: {disk['told']} refused and told, {disk['whole']} whole",
        ),
        (
            "home and current folder cannot be written",
            "the same training, plots and films; one warning that nothing is kept",
            "a read-only disk" if measured["unwritable"]["folder_too"] else "a read-only home",
        ),
        ("ffmpeg is killed", "one sentence, no half a film", f"{measured['ffmpeg']['kills']} kills"),
        (
            "a checkpoint is altered, cut short, or made to do harm",
            "one sentence, or the very same weights; nothing in it is ever run, and no memory is taken for what it only claims",
            f"{checkpoints['corruptions']:,} corruptions: {checkpoints['refused']} refused, {checkpoints['unchanged']} without effect",
        ),
        (
            "a study's file, a published result or a checkpoint was made up",
            "it is left out by name, or refused in one sentence; nothing that a file names is imported or run, and no formula, markup or control "
            "character passes into a table, a page or a terminal",
            f"{crafted['files']} files for 4 readers: {crafted['left_out']} left out, {crafted['refused']} refused, {crafted['harmless']} harmless, "
            f"within {crafted['peak_megabytes']} MB",
        ),
        (
            "a training gets a wrong argument",
            "one sentence, before anything runs",
            f"{measured['arguments']['wrong']:,} wrong arguments, each refused with at most {measured['arguments']['megabytes']} MB taken",
        ),
        (
            "a long episode is filmed",
            "frames go to ffmpeg as they come",
            f"{measured['film']['steps']:,} steps: {measured['film']['peak_megabytes']} MB at the peak of the whole process",
        ),
        (
            "a notebook's file is altered",
            "`make export` names it in one sentence, or exports it",
            f"{exports['alterations']:,} alterations: {exports['refused']} refused",
        ),
        (
            "evaluations, one after the other",
            "memory stays flat",
            f"{measured['memory']['evaluations']} evaluations: {measured['memory']['grown_megabytes']} MB more",
        ),
        ("the clock jumps by years, both ways", "the same training", f"{measured['clock']['jumps']} jumps during a training"),
        ("the process forks after torch has started threads", "the same training", f"{measured['forks']['forks']} forks"),
        ("two notebooks film into the same folder", "whole films", f"{measured['notebooks']['films']} films"),
        (
            "a package is missing, too old, overwritten or torn",
            "`cartpole-lessons doctor` names it, and the command that it gives mends it",
            f"{measured['doctor']['breakages']} environments broken and mended (`make test-doctor`)",
        ),
    ]
    return "\n".join(["| what happens | what is left | tried |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def readme() -> str:
    """The README with its badges, its tables and its picture renewed."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = f"[![Tests]({REPOSITORY}/actions/workflows/ci.yml/badge.svg)]({REPOSITORY}/actions/workflows/ci.yml)"
    first = lesson_paths()[0].relative_to(ROOT).as_posix()
    content = {
        "badges": f"{ci} {launch_badges(first)} **[Look and play first]({URLS['Site']})**, with nothing to install.",
        "commands": f"""```
git clone {REPOSITORY} && cd {SLUG.split("/")[1]}
make lab     # opens the lessons in JupyterLab; its first call sets up .venv
make run     # executes every lesson, leaves pages and films in build/lessons/, prints a table
make test    # lint, the package's tests, the export check, and every notebook as a test
```""",
        "lessons": lesson_table(),
        "overview": overview.markdown(),
        "figures": figures_table(
            {"solved": "solved", "perfect": "perfect", "first_reached": "first reached", "env_steps": "stopped", "seconds": "seconds"}
        ),
        "spread": figures_table(
            {
                "env_steps_mean": "steps: mean",
                "env_steps_slowest_tenth": "one in ten",
                "env_steps_longest": "longest",
                "seconds_mean": "seconds: mean",
                "seconds_slowest_tenth": "one in ten",
                "seconds_longest": "longest",
            }
        ),
        "cost": figures_table(
            {"cpu_seconds": "CPU seconds", "evaluation_steps": "steps of evaluations", "evaluation_share": "share of the seconds"}
        ),
        "seeds": seeds_sentence(),
        "stays": figures_table({"stable": "stays", "solved": "solved", "perfect": "perfect"}, trained_on=True),
        "curves": learning_curves(),
        "comparison": comparison_table(),
        "peers": peers_table(),
        "memory": memory_sentence(),
        "reliability": reliability_table(),
    }
    for name, inside in content.items():
        text = region(text, name, inside, "README.md")
    return text


def derived_files() -> dict[Path, str]:
    """Every file that this tool writes, with the text it should have."""
    return {ROOT / "README.md": readme(), INDEX: index_notebook(), ROOT / INSTRUCTORS: instructors()} | {
        path: lesson_notebook(path) for path in lesson_paths()
    }


def write() -> list[Path]:
    """Write every file that differs from what it should be; which ones they were."""
    changed = {path: text for path, text in derived_files().items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    for path, text in changed.items():
        with atomic_write(path) as file:
            file.write(text.encode())
    return list(changed)


if __name__ == "__main__":
    for written in write():
        print(f"wrote {written.relative_to(ROOT)}")
