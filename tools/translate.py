"""Make the lessons in other languages: `notebooks/LANGUAGE/` from the English lessons and `translations/LANGUAGE.po` (`make translations`).

A catalogue holds no English. A message is named by its cell ("02/intro") and by a digest of its English text, so that a changed word leaves it
without a translation. Code is never translated: of a code cell only comments and displayed strings are messages. `translate.py sw 00 02` begins
the catalogue of a language, or renews it: it puts what is to be translated, with its English as a comment, where it belongs.
"""

import argparse
import ast
import hashlib
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
import polib
from badges import REPOSITORY, launch_badges, table

from cartpole_lessons._support.files import atomic_write
from notebooks import read_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS, CATALOGUES = ROOT / "notebooks", ROOT / "translations"
#: A translation that says: as in English. On the msgid ANY it says so of the whole cell, whatever is in it.
SAME, ANY = "=", "*"
#: What stands in a translation as it stands in the source: formulas, code, links, and what a code cell or a measurement fills in.
FORMULA, CODE, LINK = r"\$\$.*?\$\$|\$[^$]+\$", r"`[^`]+`", r"\]\([^)]*\)"
PLACEHOLDER, NUMBER = r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\\n", r"\d+(?:[.,]\d+)*"
BADGES = re.compile(r"(<!-- badges -->\n).*?\n\n?(All cells[^\n]*\n)?(<!-- /badges -->)", re.DOTALL)
#: Arguments and methods whose strings are seen on a plot or a page.
ARGUMENTS, METHODS = {"label", "title", "xlabel", "ylabel"}, {"print", "text", "set_title"}
NOTE = (
    "*Translated with machine help from [the English](SOURCE). Is a sentence wrong, or could it be plainer? [Tell us](REPOSITORY/issues/new), "
    "or correct `translations/LANGUAGE.po`.*"
)
HEADINGS = "lesson | what happens | open"
OTHERS = "The other lessons are in [English](../../README.md#the-lessons)."
Say = Callable[[str], str]


class Message(NamedTuple):
    """A text that is translated as one."""

    where: str  #: "02/intro": number of the lesson and id of the cell
    text: str

    @property
    def key(self) -> tuple[str, str]:
        return self.where, hashlib.sha256(self.text.encode()).hexdigest()[:6]

    def __str__(self) -> str:
        return f"{self.where}: {self.text[:60]!r}"


def has_words(text: str) -> bool:
    """Whether anything is left to translate beside formulas, code, addresses, and what is filled in."""
    return re.search(r"[^\W\d_]{2}", re.sub(rf"{FORMULA}|{CODE}|{LINK}|{PLACEHOLDER}|<!--.*?-->", "", text, flags=re.DOTALL)) is not None


def markdown(source: str, say: Say) -> str:
    """A Markdown text, block by block; a block's lines are joined but for those that begin something."""

    def block(text: str) -> str:
        if text.startswith("```"):
            return re.sub(r"(?<= # ).+|(?<=^# ).+", lambda comment: say(comment[0]), text, flags=re.MULTILINE)
        joined = re.sub(r"\n(?!(?:[*>]|#+) |\|)\s*", " ", text)
        return say(joined) if has_words(joined) else text

    return "\n\n".join(block(text) for text in re.split(r"\n\n+", source))


def first_cell(source: str, path: str, note: str, say: Say) -> str:
    """The cell with title and badges: its badges open `path`, and a note says where it comes from."""
    before, begin, measured, end, after = re.split(BADGES, source, maxsplit=1)
    opening = markdown(before.strip(), say)
    if measured:
        numbers = re.findall(NUMBER, measured)
        measured = f"\n{say(re.sub(NUMBER, '{}', measured.strip())).format(*numbers)}\n"
    badges = f"{begin}{launch_badges(path)}\n{measured or ''}{end}"
    return "\n\n".join([opening, badges, note, markdown(after.strip(), say)])


def code(source: str, say: Say) -> str:
    """A code cell with its comments and displayed strings translated, and everything else as it was."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    spans = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("#|") and has_words(token.string):
            start = starts[token.start[0] - 1] + token.start[1]
            spans.append((start + 2, start + len(token.string)))
    for node in displayed(ast.parse(re.sub(r"^( *)%.*", r"\1pass", source, flags=re.MULTILINE))):
        # ast counts bytes, not characters.
        start, end = (
            starts[line - 1] + len(lines[line - 1].encode()[:column].decode())
            for line, column in ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        )
        opening = re.match("[a-z]*(\"|')", source[start:end])
        if has_words(source[start + opening.end() : end - 1]):
            spans.append((start + opening.end(), end - 1))
    parts, done = [], 0
    for start, end in sorted(spans):
        parts += [source[done:start], say(source[start:end])]
        done = end
    return "".join([*parts, source[done:]])


def displayed(node: ast.AST, shown: bool = False) -> list[ast.expr]:
    """The strings of a program that its user sees: what is printed or written on a plot, and any other of two words or more."""
    if isinstance(node, ast.JoinedStr):
        return [node]
    if isinstance(node, ast.Constant):
        return [node] if isinstance(node.value, str) and (shown or re.search(r"[a-z] [a-z]", node.value)) else []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring: `help` shows it in English, too
        return []
    if isinstance(node, ast.Call):
        arguments = [(value, ast.unparse(node.func).rpartition(".")[2] in METHODS) for value in node.args]
        arguments += [(keyword.value, keyword.arg in ARGUMENTS) for keyword in node.keywords if keyword.arg != "loc"]
        children = [(node.func, False), *arguments]
    elif isinstance(node, ast.IfExp):
        children = [(node.test, False), (node.body, True), (node.orelse, True)]
    else:
        children = [(child, shown and isinstance(node, ast.List)) for child in ast.iter_child_nodes(node)]
    return [string for child, seen in children for string in displayed(child, seen)]


class Catalogue:
    """The messages of one language, and what is wrong with them."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.path = CATALOGUES / f"{language}.po"
        self.file = polib.pofile(str(self.path), wrapwidth=10_000) if self.path.exists() else polib.POFile(wrapwidth=10_000)
        self.entries = {(entry.msgctxt, entry.msgid): entry for entry in self.file}
        self.lessons = sorted({number for number, slash, _ in (str(where).partition("/") for where, _ in self.entries) if slash})
        self.asked: dict[tuple[str, str], Message] = {}

    def say(self, where: str) -> Say:
        """What translates the texts of one cell; an untranslated one stays English."""

        def translate(text: str) -> str:
            message = Message(where, text)
            self.asked[message.key] = message
            entry = self.entries.get(message.key)
            kept = (where, ANY) in self.entries or entry is None or not entry.msgstr or entry.msgstr == SAME
            return text if kept else entry.msgstr

        return translate

    def problems(self) -> list[str]:
        """A line for each message that is missing or stale, or says other than its source, once the edition has been made."""
        found = []
        old = {key: entry for key, entry in self.entries.items() if key not in self.asked and key[1] != ANY}
        for key, message in self.asked.items():
            entry = self.entries.get(key)
            if (message.where, ANY) in self.entries:
                continue
            if entry is None:
                was = next((other for other in old if other[0] == message.where), None)
                found.append(
                    f"{message} is not translated"
                    if was is None
                    else f"{message} has changed since it was translated: {old.pop(was).msgstr!r}"
                )
            elif not entry.msgstr or entry.fuzzy or entry.msgstr == message.text:
                found.append(f"{message} is not translated" + (" (flagged fuzzy)" if entry.fuzzy else ""))
            elif entry.msgstr != SAME:
                found += [f"{message}: {what}" for what in differences(message.text, entry.msgstr)]
        return found + [f"{where}: nothing is said in English any more of {entry.msgstr!r}" for (where, _), entry in old.items()]

    def renew(self, lessons: list[str]) -> None:
        """Write the catalogue in the order of the lessons; what needs a translator stands there with its English."""
        self.lessons = sorted({*self.lessons, *lessons})
        edition(self)
        old = {key: entry for key, entry in self.entries.items() if key not in self.asked and key[1] != ANY}
        kept = [entry for key, entry in self.entries.items() if key[1] == ANY]
        self.file.clear()
        self.file.header = "Each message is named by its cell and by a digest of its English text: see CONTRIBUTING.md."
        self.file.metadata = {"Language": self.language, "MIME-Version": "1.0", "Content-Type": "text/plain; charset=UTF-8"}
        for key, message in self.asked.items():
            entry = self.entries.get(key)
            if any(entry.msgctxt == message.where for entry in kept):
                continue
            if entry is None:
                was = next((other for other in old if other[0] == message.where), None)
                entry = polib.POEntry(msgctxt=key[0], msgid=key[1], msgstr=old.pop(was).msgstr if was else "")
                entry.flags = ["fuzzy"] if was else []
            entry.comment = "" if entry.msgstr and not entry.fuzzy else message.text
            self.file.append(entry)
        self.file.extend(kept)
        with atomic_write(self.path) as file:
            file.write(f"{self.file}\n".encode())


def differences(source: str, translation: str) -> list[str]:
    """What has to be the same in a translation, and is not."""
    found = []
    kinds = {"formula": FORMULA, "code": CODE, "link": LINK, "placeholder": PLACEHOLDER}
    left = [source, translation]
    for name, pattern in kinds.items():
        found += _differing(name, *(re.findall(pattern, text, re.DOTALL) for text in left))
        left = [re.sub(pattern, " ", text, flags=re.DOTALL) for text in left]
    found += _differing("number", *(re.findall(NUMBER, text) for text in left))
    # A bold line is a heading of its own; any other bold text is a term.
    headings, terms = zip(*((re.findall(r"^\*\*.+\*\*$", text, re.M), re.findall(r"\*\*[^*]+\*\*", text)) for text in left), strict=True)
    found += _differing("bold term", *([term for term in own if term not in lines] for own, lines in zip(terms, headings, strict=True)))
    found += _differing("mark", *(re.findall(r"^(?:#+|\*|>)(?= )|\||^\*\*(?=.+\*\*$)", text, re.MULTILINE) for text in left))
    if '"' in translation and '"' not in source:
        found.append("a quotation mark would end a string: write “...”")
    return found


def _differing(name: str, source: list[str], translation: list[str]) -> list[str]:
    missing, extra = Counter(source) - Counter(translation), Counter(translation) - Counter(source)
    return [
        f"the {name} {text!r} is {how}" for how, texts in (("missing", missing), ("not in the source", extra)) for text in texts.elements()
    ]


def edition(catalogue: Catalogue) -> dict[Path, nbformat.NotebookNode | str]:
    """{file: what belongs into it} of a language: its lessons, without outputs, and its README."""
    folder = NOTEBOOKS / catalogue.language
    english = {path.name: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if path.name[:2] in catalogue.lessons}
    files: dict[Path, nbformat.NotebookNode | str] = {}

    def linked(text: str) -> str:
        return re.sub(r"\]\((\w+\.ipynb)\)", lambda link: link[0] if link[1] in english else f"](../{link[1]})", text)

    for name, path in english.items():
        notebook = read_notebook(path)
        for number, cell in enumerate(notebook.cells):
            say = catalogue.say(f"{name[:2]}/{cell.id}")
            if cell.cell_type == "code":
                cell.source, cell.outputs, cell.execution_count = code(cell.source, say), [], None
            elif number == 0:
                cell.source = first_cell(linked(cell.source), _path(folder / name), _note(catalogue, f"../{name}"), say)
            else:
                cell.source = linked(markdown(cell.source, say))
        files[folder / name] = notebook
    if files:
        files[folder / "README.md"] = readme(catalogue, files)
    return files


def _path(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _note(catalogue: Catalogue, source: str) -> str:
    """What stands above everything that was translated: one message for all of it."""
    return (
        catalogue.say("edition")(NOTE).replace("SOURCE", source).replace("LANGUAGE", catalogue.language).replace("REPOSITORY", REPOSITORY)
    )


def readme(catalogue: Catalogue, lessons: dict[Path, nbformat.NotebookNode | str]) -> str:
    """What stands in the README above its list of lessons, and the lessons of this language."""
    opening, _, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The lessons")
    first = first_cell(opening, _path(next(iter(lessons))), _note(catalogue, "../../README.md"), catalogue.say("README"))
    first = first.replace("](#", "](README.md#")  # a part of the README that only the English one has
    first = re.sub(r"\]\((?!https?:|\.\./)", "](../../", first)  # from two folders further down
    say, rows = catalogue.say("edition"), []
    for path, notebook in lessons.items():
        title, summary = re.match(r"# (.+?)\n.*?^> (.+?)$", notebook.cells[0].source, re.DOTALL | re.MULTILINE).groups()
        rows.append([f"[{title}]({path.name})", summary, launch_badges(_path(path))])
    return f"{first}\n\n{table(say(HEADINGS).split(' | '), rows)}\n\n{say(OTHERS)}\n"


def outdated(path: Path, wanted: nbformat.NotebookNode | str) -> list[str]:
    """Where a file of an edition differs from what it should be; outputs and measured seconds are its own."""
    name = path.relative_to(NOTEBOOKS).with_suffix("").as_posix()
    if isinstance(wanted, str):
        return [] if path.exists() and path.read_text(encoding="utf-8") == wanted else [name]
    there = read_notebook(path).cells if path.exists() else []
    ids = [cell.id for cell in wanted.cells]
    if ids != [cell.id for cell in there]:
        return [f"{name}: its cells are not {ids}"]
    return [f"{name}/{cell.id}" for cell, other in zip(wanted.cells, there, strict=True) if _said(cell) != _said(other)]


def _said(cell: nbformat.NotebookNode) -> tuple:
    return cell.cell_type, cell.source, cell.metadata


def write(catalogue: Catalogue) -> list[str]:
    """Write what differs from what it should be; which notebooks have to be executed, because their code has changed."""
    to_execute = []
    for path, wanted in edition(catalogue).items():
        if not outdated(path, wanted):
            continue
        if not isinstance(wanted, str):
            there = [cell for cell in read_notebook(path).cells if cell.cell_type == "code"] if path.exists() else []
            cells = [cell for cell in wanted.cells if cell.cell_type == "code"]
            if [_said(cell) for cell in cells] == [_said(cell) for cell in there]:
                for cell, other in zip(cells, there, strict=True):
                    cell.outputs, cell.execution_count = other.outputs, other.execution_count
            else:
                to_execute.append(f"{catalogue.language}/{path.stem}")
            wanted = nbformat.writes(wanted) + "\n"
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            file.write(wanted.encode())
        print(f"wrote {_path(path)}")
    return to_execute


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", nargs="?", help="write the catalogue of this language anew, instead of making the editions")
    parser.add_argument("lessons", nargs="*", help="lessons to take into it, for example 00 02")
    arguments = parser.parse_args()
    if arguments.language:
        Catalogue(arguments.language).renew(arguments.lessons)
        return 0
    catalogues = [Catalogue(path.stem) for path in sorted(CATALOGUES.glob("*.po"))]
    to_execute = [lesson for catalogue in catalogues for lesson in write(catalogue)]
    problems = [f"{catalogue.path.name}, {problem}" for catalogue in catalogues for problem in catalogue.problems()]
    for problem in problems:
        print(problem)
    if to_execute:
        subprocess.run([sys.executable, str(ROOT / "tools" / "run_lessons.py"), "--in-place", *to_execute], check=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
