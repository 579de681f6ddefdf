"""Write what can be derived: badges and install cells from the repository's address, the README's table from the measured results.

`make badges`; the tests call `derived_files` and fail on any file that differs from what stands there.
"""

import json
import re
import statistics
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
SLUG = REPOSITORY.removeprefix("https://github.com/")
INSTALL = f'"cartpole-lessons @ git+{REPOSITORY}"'


def launch_badges(path: str) -> str:
    """Colab and Binder badges that open the notebook at `path`."""
    colab = f"https://colab.research.google.com/github/{SLUG}/blob/main/{path}"
    binder = f"https://mybinder.org/v2/gh/{SLUG}/main?urlpath=lab/tree/{path}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def region(text: str, name: str, content: str) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced by `content`."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"A file has lost its region {start} ... {end}: put the two lines back.")
    return f"{before}{start}\n{content}\n{end}{after}"


def lesson_paths() -> list[Path]:
    """The lessons in order."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def lesson_notebook(path: Path) -> str:
    """The notebook's text with its badges, its measured duration and its install command renewed."""
    notebook = nbformat.read(path, as_version=4)
    badges = launch_badges(path.relative_to(ROOT).as_posix())
    seconds = notebook.metadata.get("cartpole_lessons", {}).get("seconds")
    if seconds is not None:
        badges += f"\n\nAll cells together take about {seconds} seconds on two CPU cores (measured)."
    notebook.cells[0].source = region(notebook.cells[0].source, "badges", badges)
    notebook.cells[1].source = re.sub(r'"cartpole-lessons @ git\+[^"]*"', INSTALL, notebook.cells[1].source)
    return nbformat.writes(notebook) + "\n"


def title_and_summary(path: Path) -> tuple[str, str]:
    """The lesson's heading and the one sentence under it."""
    lines = nbformat.read(path, as_version=4).cells[0].source.splitlines()
    summaries = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
    if len(summaries) != 1:
        raise SystemExit(f"{path.name} needs one line `> ...` in its first cell that says in a sentence what happens in the lesson.")
    return lines[0].removeprefix("# "), summaries[0]


def lesson_table() -> str:
    """One row per lesson; where its algorithm was measured, on how many seeds it is solved, and the median steps and seconds."""
    rows = [
        "| lesson | what happens | solved | perfect | env steps | seconds | open |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in lesson_paths():
        title, summary = title_and_summary(path)
        where = path.relative_to(ROOT).as_posix()
        exported = re.search(r"#\| default_exp algorithms\.(\w+)", path.read_text(encoding="utf-8"))
        measured = ROOT / "cartpole_lessons" / "results" / f"{exported[1] if exported else path.stem}.json"
        figures = ["-"] * 4
        if measured.exists():
            runs = json.loads(measured.read_text())["runs"]
            figures = [
                f"{sum(run['solved'] for run in runs)} of {len(runs)}",
                f"{sum(run['perfect'] for run in runs)} of {len(runs)}",
                f"{statistics.median(run['env_steps'] for run in runs):,.0f}",
                f"{statistics.median(run['seconds'] for run in runs):.2f}",
            ]
        rows.append(f"| [{title}]({where}) | {summary} | {' | '.join(figures)} | {launch_badges(where)} |")
    return "\n".join(rows)


def readme() -> str:
    """The README with its badges and its lesson table renewed."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = f"[![Tests]({REPOSITORY}/actions/workflows/ci.yml/badge.svg)]({REPOSITORY}/actions/workflows/ci.yml)"
    first = lesson_paths()[0].relative_to(ROOT).as_posix()
    return region(region(text, "badges", f"{ci} {launch_badges(first)}"), "lessons", lesson_table())


def derived_files() -> dict[Path, str]:
    """Every file that this tool writes, with the text it should have."""
    return {ROOT / "README.md": readme()} | {path: lesson_notebook(path) for path in lesson_paths()}


if __name__ == "__main__":
    for path, text in derived_files().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
