"""What a result depends on: a hash of the code that a training's numbers come from, and of no other."""

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Collection, Iterator
from importlib import util
from pathlib import Path

from cartpole_lessons.lessons import module_name

COURSE = "cartpole_lessons"
#: Modules that trainings use and whose every change leaves their numbers as they are: what is shown, said, written and kept.
WITHOUT_NUMBERS = {
    f"{COURSE}.{name}"
    for name in (
        "_support.files",
        "_support.interrupts",
        "_support.notebook",
        "checkpoints",
        "display",
        "errors",
        "history",
        "plots",
        "progress",
        "video",
    )
}


def lesson_code(lesson: str) -> str:
    """Hash of the code that the numbers of a lesson's training depend on: its own module and those of the course, and of its own package,
    that it imports, directly or not. Comments, docstrings, empty lines, and `WITHOUT_NUMBERS` are left out."""
    sources = sources_of(module_name(lesson))
    return hashlib.sha256("\n".join(line for name in sorted(sources) for line in [name, *sources[name]]).encode()).hexdigest()[:12]


#: The code that this process has loaded, which an edit of the files does not change any more.
loaded_code = functools.cache(lesson_code)


def sources_of(module: str) -> dict[str, list[str]]:
    """Name of every module that counts -> the lines of it that do."""
    packages = {COURSE, module.partition(".")[0]}
    sources: dict[str, list[str]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in sources or name in WITHOUT_NUMBERS:
            continue
        spec = util.find_spec(name)
        # A package's own `__init__` only says what is in it.
        if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
            continue
        text = Path(spec.origin).read_text(encoding="utf-8")
        tree = ast.parse(text)
        sources[name] = list(_lines_that_count(text, tree))
        waiting += imports(tree, name, packages)
    return sources


def _lines_that_count(text: str, tree: ast.Module) -> Iterator[str]:
    """The lines of a module without comments, docstrings and empty lines."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * (docstring.end_lineno - docstring.lineno + 1)
    return (line.rstrip() for line in lines if line.strip())


def imports(tree: ast.Module, importer: str, packages: Collection[str]) -> Iterator[str]:
    """Every module of these packages that the code of the module `importer` may import, those that only type checkers import included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in packages)
        elif isinstance(node, ast.ImportFrom):
            base = util.resolve_name("." * node.level + (node.module or ""), importer.rpartition(".")[0]) if node.level else node.module
            if base.partition(".")[0] in packages:
                # A name may be a module of the package `base`.
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names if _is_module(f"{base}.{alias.name}")))


def _is_module(name: str) -> bool:
    try:
        return util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
