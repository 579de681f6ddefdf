"""The course as a site: `make site` writes its pages into build/site-source/, and Sphinx makes build/site/ of them.

Nothing is executed. Lessons come with the outputs that are committed; tables and figures are those of `make badges`, from the published results.
"""

import re
import shutil
import sys
from collections.abc import Iterable
from html import escape
from importlib import import_module
from pathlib import Path

import badges
import live_curves
import nbformat
import reference
from badges import ROOT, launch_links, table
from curves import drawn_rows
from sphinx.cmd.build import build_main

from cartpole_lessons.bugs import BUGS
from cartpole_lessons.display import RESULT_MIME
from cartpole_lessons.probes import PROBES
from cartpole_lessons.study import RESULTS, read_figures
from cartpole_lessons.widgets import PlayCartPole
from notebooks import text_of

SITE = ROOT / "site"  # settings, first page, style
SOURCE, BUILD = ROOT / "build" / "site-source", ROOT / "build" / "site"
#: The README's sections that are pages here.
FROM_README = {
    "results/algorithms": "Which algorithm for what",
    "results/figures": "How well they learn",
    "results/stable_baselines3": "Against Stable-Baselines3",
    "results/reliability": "Reliability",
}
PICTURES = ("docs/agent.gif", badges.PICTURE)
#: Files that keep their place on the site; lessons do, too.
KEPT = {badges.INSTRUCTORS, "notebooks/pcm/README.md", *PICTURES}
#: Pictures from elsewhere are no part of a page that needs no network.
BADGE = re.compile(r"\[!\[[^]]*\]\(https?://[^)]*\)\]\([^)]*\) ?")


def main() -> int:
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(BUILD, ignore_errors=True)
    for name, text in pages().items():
        (SOURCE / name).parent.mkdir(parents=True, exist_ok=True)
        (SOURCE / name).write_text(text, encoding="utf-8")
    for picture in PICTURES:
        shutil.copy(ROOT / picture, SOURCE / picture)
    # Every page anew and every warning an error: what is published is what a fresh checkout gives.
    return build_main(
        ["-q", "-W", "--keep-going", "-j", "2", "-c", str(SITE), "-d", str(ROOT / "build" / "site-trees"), str(SOURCE), str(BUILD)]
    )


def pages() -> dict[str, str]:
    """Every page's source by its name."""
    lessons = [*badges.lesson_paths(), *sorted((ROOT / "notebooks").glob("[a-z]*/[0-9]*.ipynb"))]
    readme = readme_sections()
    found = {path.relative_to(ROOT).as_posix(): lesson(path) for path in lessons}
    found |= {f"{name}.md": relinked(readme[section], name) for name, section in FROM_README.items()}
    found |= {
        "index.md": first_page(),
        "start.md": relinked("\n\n".join(["# Install and run", *(f"#{readme[each]}" for each in ("Start", "Where it runs"))]), "start"),
        "results/curves.md": curves_page(),
        "results/bugs.md": bugs_page(),
        "reference/python.md": reference.python_page(),
        "reference/algorithms.md": reference.algorithms_page(),
        "reference/command_line.md": reference.command_page(),
        "reference/glossary.md": reference.glossary_page(),
        badges.INSTRUCTORS: relinked(badges.instructors(), badges.INSTRUCTORS),
        "notebooks/pcm/README.md": pidgin_page(),
    }
    return found


# The first page


def first_page() -> str:
    """site/index.md with the replay, the game, the race and the path in their places."""
    replay, race = (
        at_once(saved_output(ROOT / "notebooks" / "05_ppo.ipynb", shown)) for shown in ("ReplayCartPole(", "PlayCartPole(opponent=")
    )
    steps = [
        f"1. [{title}](notebooks/{name})\n\n   {summary}\n\n   {minutes} minutes{f', builds on {needs}' if needs else ''}"
        for title, name, summary, minutes, needs in badges.path_rows()
    ]
    text = (SITE / "index.md").read_text(encoding="utf-8")
    frames = {"replay": replay, "game": at_once(PlayCartPole().to_html()), "race": race}
    for name, inside in {**{name: raw(html) for name, html in frames.items()}, "path": "\n".join(steps)}.items():
        text = badges.region(text, name, inside, "site/index.md")
    return text


def at_once(html: str) -> str:
    """A widget's frame, which on the first page does not wait until it is scrolled to."""
    return html.replace('loading="lazy"', "")


def saved_output(path: Path, source: str) -> str:
    """The HTML that the lesson's cell with this text in it has shown."""
    (html,) = (output.data["text/html"] for cell in badges.kept_notebook(path).cells if source in cell.source for output in cell.outputs)
    return html


def raw(html: str) -> str:
    """HTML in Markdown."""
    return f"```````{{raw}} html\n{html}\n```````"


# The lessons


def lesson(path: Path) -> str:
    """The notebook as a page: without badges and without the install cell, and its exercises with their hints."""
    notebook = nbformat.read(path, as_version=4)
    number = path.name[:2]
    del notebook.cells[1]  # it installs the course where it is missing
    notebook.cells[0].source = opening(notebook.cells[0].source, path)
    for cell in notebook.cells:
        cell.source = re.sub(r"^#\| .*\n", "", cell.source, flags=re.MULTILINE)  # what `make export` reads
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(RESULT_MIME, None)  # for programs; what a reader sees of a result stands beside it
            if "image/png" in output.get("data", {}):
                cell.metadata["mystnb"] = {"image": {"alt": text_of(output)}}  # where MyST-NB looks for it
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, path.relative_to(ROOT).as_posix())
        elif hints := hints_for(cell.source, number):
            html = exercise(hints, path)
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": html})]
        elif cell.source.startswith("# Only a drawing"):
            cell.metadata["tags"] = ["hide-input"]
    return nbformat.writes(notebook)


def opening(source: str, path: Path) -> str:
    """The first cell with what stands among its badges, and the way to the same lesson in another language."""
    said = re.search(r"<!-- badges -->(.*?)<!-- /badges -->", source, re.DOTALL)
    kept = [BADGE.sub("", said[1]).strip()]
    if path.parent.name == "notebooks":
        needs = [
            f"[{number}]({name})"
            for number in badges.builds_on(path)
            for name in [each.name for each in badges.lesson_paths() if each.name.startswith(number)]
        ]
        kept.insert(0, f"About {badges.minutes_of(path)} minutes{', builds on ' + ', '.join(needs) if needs else ''}.")
        others = sorted(path.parent.glob(f"*/{path.name}"))
        kept += [f"Also in [Nigerian Pidgin]({other.parent.name}/{other.name})." for other in others if other.parent.name == "pcm"]
    return source.replace(said[0], ":::{container} about\n" + " ".join(kept) + "\n:::")


def hints_for(source: str, number: str) -> list[str]:
    """The hints of the exercise that a cell checks; none where it checks none."""
    bug, asked = re.search(r"^find\((\d+), \.\.\.\)", source), re.search(r"exercise\.(\w+)\.check\(", source)
    if bug:
        return [[*BUGS.values()][int(bug[1]) - 1].hint]
    if not asked:
        return []
    task, hints = getattr(import_module(f"cartpole_lessons.exercises.lesson_{number}"), asked[1]), []
    while (hint := task.hint().text) not in hints:  # after the last one it begins again
        hints.append(hint)
    return hints


def exercise(hints: list[str], path: Path) -> str:
    """In place of what a check says where nobody has answered: where to answer, and the hints."""
    colab, binder = launch_links(path.relative_to(ROOT).as_posix())
    where = (
        f'Answer it where it is checked: in <a href="{colab}">Colab</a>, in <a href="{binder}">Binder</a>, or with <code>make lab</code>.'
    )
    told = "".join(
        f"<details><summary>Hint{f' {number}' if len(hints) > 1 else ''}</summary><p>{escape(hint).replace(chr(10), '<br>')}</p></details>"
        for number, hint in enumerate(hints, 1)
    )
    return f'<div class="exercise" lang="en"><p>{where}</p>{told}</div>'


# What is said elsewhere


def readme_sections() -> dict[str, str]:
    """The README's sections by their headings, from the published results."""
    parts = re.split(r"^## (.+)$", badges.readme(), flags=re.MULTILINE)
    return {
        name: f"# {name}\n{re.sub(r'^### ', '## ', text, flags=re.MULTILINE)}" for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def relinked(text: str, page: str) -> str:
    """Links to files of the repository that are no pages lead there; pictures from elsewhere are gone; paths are the page's own."""
    text = re.sub(r"<!-- /?\w+ -->\n?", "", BADGE.sub("", text))
    in_root = page.partition("/")[0] in ("start", "results")  # the README's words

    def target(found: re.Match) -> str:
        address, _, anchor = found[1].partition("#")
        if not address or address.startswith("http"):
            return found[0]
        file = (ROOT if in_root else (ROOT / page).parent) / address
        name = file.resolve().relative_to(ROOT.resolve()).as_posix()
        if name in ("README.md", "notebooks/index.ipynb"):
            name, anchor = "start.md" if anchor else "index.md", ""
        elif name not in KEPT and file.suffix != ".ipynb":
            return f"]({badges.REPOSITORY}/blob/main/{name})"
        up = "../" * page.count("/")
        return f"]({up}{name}{'#' + anchor if anchor else ''})"

    return re.sub(r"\]\(([^)\s]+)\)", target, text)


def pidgin_page() -> str:
    """The first page in Nigerian Pidgin; its table without the column of badges, which would be empty."""
    path = "notebooks/pcm/README.md"
    text = (ROOT / path).read_text(encoding="utf-8").replace("# cartpole-lessons", "# Naijá (Nigerian Pidgin)", 1)
    text = re.sub(r"^(\|[^|]*\|[^|]*\|)[^|]*\|$", r"\1", BADGE.sub("", text), flags=re.MULTILINE)
    return relinked(text, path)


# Results


def curves_page() -> str:
    """Learning curves to look into."""
    seeds, rows = badges.seeds_sentence(), drawn_rows()
    return f"""# Learning curves

Mean return of 100 greedy episodes while each algorithm learns. {seeds} Tick the algorithms that you want to compare: a line is the median of the seeds, its band holds the
middle 80 %, and the dashed line is the environment's threshold. A run holds its last value after its training has stopped. Steps are on a logarithmic scale.

{raw(live_curves.chart(rows))}

## Every seed

A line per seed, ending in a dot where the training stopped and was solved, in a cross where not. Rest on a line and it says which seed it is. One run in
twenty is longer than its picture.

{raw(live_curves.all_seeds(rows))}
"""


def bugs_page() -> str:
    """Lesson 12's bugs: what they cost, and which probe finds them."""
    cost = read_figures("bugs")
    matrix = read_figures("probes")
    sound = badges.published_runs(RESULTS)
    probes = [name for name in PROBES if any(name in matrix["passed"][bug] for bug in BUGS)]
    rows, passed = [], []
    for number, (name, bug) in enumerate(BUGS.items(), 1):
        runs = cost["runs"][name]
        seeds = {run["seed"] for run in runs}
        without = [run for run in sound[bug.lesson] if run["seed"] in seeds]
        solved = [solved_within(each, cost["max_steps"]) for each in (runs, without)]
        rows.append(
            [f"{number}", lesson_of(bug.lesson), bug.why, f"{solved[0]} of {len(runs)}", f"{solved[1]} of {len(without)}", bug.test]
        )
        passed.append([f"{number} `{name}`", *(str(matrix["passed"][name].get(probe, "-")) for probe in probes)])
    asked = "\n".join(f"* `{name}`: {PROBES[name].question}" for name in probes)
    return f"""# The bug matrix

:::{{admonition}} This page gives lesson 12 away
:class: warning
Do [Spot the bug](../notebooks/12_spot_the_bug.ipynb) first: here are its answers.
:::

Twelve bugs that raise no error, each trained on twenty seeds for {cost["max_steps"]:,} steps, beside the sound lesson on the same seeds.

{table(["bug", "in", "what it does", "solved with it", "without it", "what would have caught it"], rows)}

## Which probe finds which bug

Probes are tiny worlds whose answer is known. Each number says on how many of {matrix["seeds"]} seeds the learner with the bug *passed*: a low one has found it. A dash: the probe does not apply.

{table(["bug", *(f"`{name}`" for name in probes)], passed)}

{asked}
"""


def lesson_of(module: str) -> str:
    """The number of the lesson that exports a module, as a link."""
    (path,) = (path for path in badges.lesson_paths() if badges.exported_module(path) == module)
    return f"[{path.name[:2]}](../notebooks/{path.name})"


def solved_within(runs: Iterable[dict], steps: int) -> int:
    return sum(run["solved"] and run["env_steps"] <= steps for run in runs)


if __name__ == "__main__":
    sys.exit(main())
