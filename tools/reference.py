"""The site's pages to look things up in: the package's functions and classes, the command line's help, and the glossary.

Nothing is imported for the first: what stands in the source, with its comments, is what is shown.
"""

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator

from badges import ROOT, kept_notebook, lesson_paths
from typer.main import get_command
from typer.testing import CliRunner

from cartpole_lessons.cli import app

PACKAGE = ROOT / "cartpole_lessons"
#: What a student or instructor calls, from what they meet first on. (What is generated from the lessons has a page of its own.)
MODULES = (
    *("environment", "continuous", "swing_up", "policy", "rollout", "evaluation", "training", "history", "hyperparameters", "checkpoints"),
    *("lessons", "video", "plots", "widgets", "exercises", "bugs", "probes", "diagnostics", "study", "grading", "display", "errors"),
)

#: How a sentence begins that says little without the one before it.
POINTING_BACK = ("This ", "That ", "It ", "Such ", "So ", "A learner of this kind", "Engineers ", "We have no such", "From here")


def python_page() -> str:
    """What the lessons share, module by module."""
    parts = [module_part(name) for name in MODULES]
    return (
        "# Python\n\nWhat a lesson develops in its notebook can be imported, and so can what the lessons share. This page is about the latter; "
        "for the former see [algorithms](algorithms.md). A comment that begins with `#:` belongs to the line that it stands in.\n\n"
        + "\n\n".join(parts)
    )


def algorithms_page() -> str:
    """What the lessons export, in their order."""
    names = [path.stem for path in (PACKAGE / "algorithms").glob("[a-z]*.py")]
    number = {name: re.search(r"notebooks/(\d\d_\w+)\.ipynb", source_of(f"algorithms.{name}"))[1] for name in names}
    parts = [
        module_part(f"algorithms.{name}", f"From lesson [{number[name][:2]}](../notebooks/{number[name]}.ipynb).")
        for name in sorted(names, key=lambda name: (number[name], name))
    ]
    return (
        "# Algorithms\n\nEach `train` takes, besides what stands here, `seed`, `env_id`, `max_steps`, `progress` and `stop_when_perfect`, and returns a "
        "[`Result`](python.md#history).\n\n" + "\n\n".join(parts)
    )


def module_part(name: str, more: str = "") -> str:
    """A module: what it is for, and everything in it whose name does not begin with an underscore."""
    nodes = [*public_nodes(name)]
    opening = prose(ast.get_docstring(ast.parse(source_of(name))) or "")
    members = [f"### {node.name}\n\n{described(node, lines)}" for node, lines in nodes]
    return "\n\n".join([f"## {name.removeprefix('algorithms.')}", f"`cartpole_lessons.{name}`", *filter(None, [more]), opening, *members])


def source_of(name: str) -> str:
    """The text of a module, of a package that of its `__init__`."""
    path = PACKAGE.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def public_nodes(name: str) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef, list[str]]]:
    """Definitions with the lines of the file they stand in; a package's are those that its `__init__` holds, or takes from its modules."""
    source = source_of(name)
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node, source.splitlines()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"cartpole_lessons.{name}."):
            taken = {alias.name for alias in node.names}
            yield from (pair for pair in public_nodes(node.module.removeprefix("cartpole_lessons.")) if pair[0].name in taken)


def described(node: ast.ClassDef | ast.FunctionDef, lines: list[str]) -> str:
    """A definition as it is written, without what it does inside; then what is said of it."""
    parts = [f"```python\n{heading(node, lines)}\n```", prose(ast.get_docstring(node) or "")]
    if isinstance(node, ast.ClassDef):
        methods = [
            each for each in node.body if isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and ast.get_docstring(each)
        ]
        parts += [f"```python\n{heading(each, lines)}\n```\n\n{prose(ast.get_docstring(each))}" for each in methods]
    return "\n\n".join(filter(None, parts))


def heading(node: ast.ClassDef | ast.FunctionDef, lines: list[str]) -> str:
    """The lines before a function's body; of a class its name, its fields and how it is made."""
    names = [ast.unparse(each) for each in node.decorator_list if ast.unparse(each) in ("property", "classmethod", "staticmethod")]
    before = node.body[0].lineno - 1 if isinstance(node, ast.FunctionDef) else node.lineno
    if before < node.lineno:  # all of it in one line
        before = node.lineno
    found = [f"@{name}" for name in names] + [textwrap.dedent("\n".join(lines[node.lineno - 1 : before]))]
    for each in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(each, ast.AnnAssign) and not each.target.id.startswith("_"):
            found.append("\n".join(lines[each.lineno - 1 : each.end_lineno]))
        elif isinstance(each, ast.FunctionDef) and each.name == "__init__":
            found.append("\n".join(lines[each.lineno - 1 : each.body[0].lineno - 1]))
    return "\n".join(found).rstrip(":") if len(found) == 1 + len(names) else "\n".join(found)


def prose(docstring: str) -> str:
    """A docstring as Markdown: its code in blocks, what it says of its arguments as a list, and the rest as paragraphs."""
    parts = []
    for part in docstring.split("\n\n"):
        lines = part.splitlines()
        if part.startswith("    ") or any(re.search(r"\S  +(#|->)|^\w+\(|^\w+ = ", line) for line in lines):
            parts.append(f"```python\n{textwrap.dedent(part)}\n```")
            continue
        items: list[str] = []
        for line in lines:
            begins = not items or items[-1].endswith((".", ";"))
            argument = begins and re.match(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)", line)
            if argument or not items:
                items.append(f"* `{argument[1]}`: {escaped(argument[2])}" if argument else escaped(line))
            else:
                items[-1] += " " + escaped(line.strip())
        parts.append(
            "\n".join(
                "\n" + item if number and item.startswith("*") and not items[number - 1].startswith("*") else item
                for number, item in enumerate(items)
            )
        )
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Text in which Markdown finds no markup but `code`."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_\[\]<>${}|~^])", r"\\\1", part) for part in re.split(r"(`[^`]*`)", text)
    )


def command_page() -> str:
    """What `--help` says, of the program and of each of its commands."""
    commands = get_command(app).commands
    parts = [f"## {name}\n\n{asked(name)}" for name in commands]
    return f"# Command line\n\n{asked()}\n\n" + "\n\n".join(parts)


def asked(*command: str) -> str:
    """A command, and what it answers to `--help`."""
    said = CliRunner(env={"COLUMNS": "86", "TERMINAL_WIDTH": "86", "TERM": "dumb", "NO_COLOR": "1"}).invoke(
        app, [*command, "--help"], prog_name="cartpole-lessons"
    )
    text = "\n".join(line.rstrip() for line in said.output.strip("\n").splitlines())
    return f"```text\n$ {' '.join(['cartpole-lessons', *command, '--help'])}\n{text}\n```"


def glossary_page() -> str:
    """Every term of lesson 00's index with the sentence that explains it, in the words of its lesson."""
    terms = next(cell.source for cell in kept_notebook(lesson_paths()[0]).cells if cell.id == "terms")
    entries = []
    for row in re.finditer(r"^\| \[(\d\d)\]\((.+?)\) \| (.+) \|$", terms, re.MULTILINE):
        cells = [cell.source for cell in kept_notebook(ROOT / "notebooks" / row[2]).cells if cell.cell_type == "markdown"]
        for term in row[3].split(", "):
            sentence = explanation(term, cells).replace("](", "](../notebooks/")
            entries.append(f"{term}\n  {sentence} [Lesson {row[1]}](../notebooks/{row[2]})")
    listed = "\n\n".join(sorted(entries, key=str.casefold))
    return f"# Glossary\n\nEach term in the sentence that explains it, where the course first uses it.\n\n:::{{glossary}}\n{listed}\n:::"


def explanation(term: str, cells: Iterable[str]) -> str:
    """The sentence in which the term is bold, with the one before it where it points back, and with the formula that it leads to."""
    bold = re.compile(rf"\*\*{re.escape(term)}(?:e?s)?\*\*", re.IGNORECASE)
    said = re.sub(r"<!--.*?-->|^\*\*After this lesson.*?(?=\n\n\S|\Z)", "", "\n\n".join(cells), flags=re.DOTALL | re.MULTILINE)
    parts = [" ".join(part.split()) for part in re.split(r"\n\n|\n(?=(?:[*|>]|\d\.) )|(?<=\$\$)\n|\n(?=\$\$)", said)]
    for at, part in enumerate(parts):
        sentences = re.split(r"(?<=[.!?])(?<!et al\.)\s+", re.sub(r"^(?:[*|>]|\d\.)\s+", "", part))
        for number, sentence in enumerate(sentences):
            if not bold.search(sentence):
                continue
            if sentence.startswith(POINTING_BACK) and number:
                sentence = f"{sentences[number - 1]} {sentence}"
            if "formula above" in sentence:
                above = [each for each in parts[:at] if each.startswith("$$")][-1]
                sentence = f"{above.replace('$$', '$')} {sentence}"
            if not sentence.endswith((".", "!", "?", ")")):
                below = "".join(parts[at + 1 : at + 2])
                sentence = f"{sentence} {below.replace('$$', '$')}" if below.startswith("$$") else sentence.rstrip(":;,") + "."
            return sentence
    raise SystemExit(f"Lesson 00 lists the term {term}, but no sentence explains it.")
