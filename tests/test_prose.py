"""What the lessons say: a claim stands only beside its proof, and a term only after the sentence that defines it."""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))

#: Words that compare, count or generalise: whoever uses one says that something is so, and could be wrong.
CLAIM = re.compile(
    r"\b(?:"
    r"faste[rs]t?|slowe[rs]t?|quicke[rs]t?|soone[rs]t?|earlier|fewe[rs]t?|cheape[rs]t?|bette[rs]|worse|worst|easie[rs]t?|harder|hardest"
    r"|stronge[rs]t?|noisier|best(?! policy| weights| evaluation|-known)|(?<!at )most|(?<!every so )often|rarely|seldom|mostly|usually"
    r"|typically|never|always|hardly|nearly|helps?|hurts?|harms?|wins?|beats?|improves|outperforms?|collapses?|collapsed|diverges?|forgets"
    r"|reliabl[ey]|(?:un)?stable|robust|in practice|every time"
    r")\b",
    re.IGNORECASE,
)
#: Functions whose intervals make a published figure more than a number.
INTERVALS = {"median_interval", "wilson_interval", "improvement_interval", "confidence_interval", "readable", "summarise"}

#: Cells of lesson 00 that name letters and terms, and say nothing about them.
TABLES = ("notation", "terms")


class Section(NamedTuple):
    """From one heading to the next: the words of its Markdown cells, and its code cells."""

    heading: str
    prose: str
    code: list[str]


def sections(notebook) -> list[Section]:
    """The sections of a lesson, in order."""
    found: list[Section] = []
    for cell in (cell for cell in notebook.cells if cell.id not in TABLES):
        if cell.cell_type == "code":
            found[-1].code.append(cell.source)
            continue
        for part in re.split(r"^(?=#+ )", without_code_blocks(cell.source), flags=re.MULTILINE):
            heading, _, rest = part.partition("\n") if part.startswith("#") else ("", "", part)
            if heading:
                found.append(Section(heading.lstrip("# "), rest, []))
            elif part.strip():
                found[-1] = found[-1]._replace(prose=f"{found[-1].prose}\n\n{part}")
    return found


def without_code_blocks(markdown: str) -> str:
    derived = re.sub(r"<!-- badges -->.*?<!-- /badges -->", "", markdown, flags=re.DOTALL)
    return re.sub(r"^```.*?^```$", "", derived, flags=re.DOTALL | re.MULTILINE)


def words(markdown: str) -> str:
    """What is read aloud: no code, no formulas, no addresses."""
    spoken = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", markdown, flags=re.DOTALL)
    return spoken.replace("[", "").replace("*", "")


def sentences(markdown: str) -> list[str]:
    """Sentences, items of lists and cells of tables, each as one line. Questions claim nothing, so they are left out."""
    parts = re.split(r"(?<=[.!?:])\s+|\n\n|\n(?=[*|\d>] ?)| \| ", words(markdown))
    return [line for part in parts if (line := " ".join(part.split())) and not line.endswith("?")]


def names_called(tree: ast.AST) -> set[str]:
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def proves(code: list[str]) -> bool:
    """Whether one of the cells asserts something, or works out an interval (from the published results, as a lesson's own trainings are few)."""
    for source in code:
        tree = ast.parse("\n".join(line for line in source.splitlines() if not line.lstrip().startswith("%")))
        called = names_called(tree)
        if called & INTERVALS or any(name.startswith("assert_") for name in called):
            return True
        if any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
            return True
    return False


def unproved_claims(name: str, notebook) -> list[str]:
    """`heading: sentence [word]` of each claim in a section that proves nothing. The opening and the summary speak for the whole lesson."""
    parts = sections(notebook)
    everything = [source for part in parts for source in part.code]
    found = []
    for number, part in enumerate(parts):
        if proves(everything if number in (0, len(parts) - 1) else part.code):
            continue
        for sentence in sentences(part.prose):
            claim = CLAIM.search(sentence)
            if claim:
                found.append(f"{name[:2]}, {part.heading}: {sentence} [{claim[0]}]")
    return found


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_claim_stands_in_a_section_that_asserts_or_shows_a_published_interval(path):
    found = unproved_claims(path.stem, nbformat.read(path, as_version=4))
    assert not found, "assert it, show the published interval, or say less:\n" + "\n".join(found)


def lesson_of(*cells: tuple[str, str]):
    """A lesson of these (kind, source) cells between its title and its summary, of which nothing is asserted."""
    make = {"text": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    whole = [("text", "# 99 Made up"), *cells, ("text", "## What to remember\nIt ends.")]
    return nbformat.v4.new_notebook(cells=[make[kind](source) for kind, source in whole])


@pytest.mark.parametrize(
    ("cells", "claims"),
    [
        ([("text", "## A\nIt is faster.")], ["faster"]),
        ([("text", "## A\nIt is faster."), ("code", "assert quick < slow")], []),
        ([("text", "## A\nIt is faster."), ("code", "torch.testing.assert_close(a, b)")], []),
        ([("text", "## A\nIt is faster."), ("code", "print(median_interval(steps))")], []),
        ([("text", "## A\nIt is faster."), ("code", "print(quick, slow)")], ["faster"]),
        ([("text", "## A\nIt is faster.\n\n### B\nLook:"), ("code", "assert quick < slow")], ["faster"]),
        ([("text", "## A\nIs it faster? `never` $best$ [x](most.ipynb)\n```\nalways\n```")], []),
        ([("text", "## A\n| it | helps |")], ["helps"]),
    ],
)
def test_the_search_for_claims_finds_what_it_looks_for(cells, claims):
    assert [line.rpartition("[")[2] for line in unproved_claims("99_made_up", lesson_of(*cells))] == [f"{claim}]" for claim in claims]


#: | [lesson](address) | term, term, ... |, in the last table of lesson 00.
TERMS = next(cell.source for cell in nbformat.read(LESSONS[0], as_version=4).cells if cell.id == "terms")
INDEX = [(term, row[1]) for row in re.finditer(r"^\| \[(\d\d)\]\(.+?\) \| (.+) \|$", TERMS, re.MULTILINE) for term in row[2].split(", ")]
#: Everyday words: in their everyday sense, they may come before the lesson that gives them another one.
EVERYDAY = {
    *("action", "actor", "baseline", "critic", "epoch", "gain", "level", "perfect", "power", "return", "reward", "solved", "state", "step"),
    *("test", "transition", "value"),
}  # fmt: skip


@functools.cache
def running_text(path: Path) -> str:
    """What a reader who goes from top to bottom has read: no title, no objectives, no headings, no outlook, no tables of letters and terms."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown" and cell.id not in TABLES]
    text = "\n\n".join(without_code_blocks(cell.source) for cell in cells)
    text = re.sub(r"^\*\*After this lesson you can\*\*\n+(?:\*.*\n(?:  .*\n)*)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(?:#|>|\[!).*|^\*\*Next:\*\*(?:.+\n?)*", "", text, flags=re.MULTILINE)
    return re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)


def test_the_index_lists_each_term_once():
    terms = [term for term, _ in INDEX]
    assert len(terms) == len(set(terms)) > 50


@pytest.mark.parametrize(("term", "number"), INDEX, ids=[term for term, _ in INDEX])
def test_a_term_is_bold_where_it_is_defined_and_comes_nowhere_before(term, number):
    texts = {path.stem[:2]: running_text(path) for path in LESSONS}
    bold = re.compile(rf"\*\*{re.escape(term)}(?:e?s)?\*\*", re.IGNORECASE)
    assert [lesson for lesson, text in texts.items() for _ in bold.findall(text)] == [number], "lessons in which it is bold"
    if term not in EVERYDAY:
        use = re.compile(rf"(?<![\w-]){re.escape(term)}(?:s|es)?\b", re.IGNORECASE)
        uses = [(lesson, match.start(), text) for lesson, text in texts.items() for match in use.finditer(text)]
        lesson, start, text = uses[0]
        around = " ".join(text[max(0, start - 60) : start + 60].split())
        assert (lesson, text[max(0, start - 2) : start]) == (number, "**"), (
            f"used in lesson {lesson} before it is defined: ... {around} ..."
        )
