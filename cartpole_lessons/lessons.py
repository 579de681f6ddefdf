"""The lessons by name: which there are, their algorithms, the policies in their checkpoints, and what one changed in the one before."""

import ast
import difflib
import inspect
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cartpole_lessons.algorithms
from cartpole_lessons.errors import CheckpointError, InvalidInput, MissingDependency

if TYPE_CHECKING:
    from cartpole_lessons.policy import Policy

ALGORITHMS = "cartpole_lessons.algorithms"
#: Packages whose module has another name.
PACKAGES = {"ignite": "pytorch-ignite"}


def lessons() -> dict[str, str]:
    """Name of every lesson that can be trained -> the sentence that says what it is; read without importing torch."""
    folder = Path(cartpole_lessons.algorithms.__path__[0])
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        tree = ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").split("\n")[0]
    return found


def module_name(lesson: str) -> str:
    """The module behind the name of a lesson. A name with a dot is a module of the caller's own."""
    return lesson if "." in lesson else f"{ALGORITHMS}.{lesson}"


def load_lesson(lesson: str) -> ModuleType:
    """The module of a lesson; `InvalidInput` where there is none with a `train`, `MissingDependency` where it needs a missing package."""
    known = lessons()
    try:
        found = isinstance(lesson, str) and util.find_spec(module_name(lesson)) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        close = difflib.get_close_matches(str(lesson), known, n=1)
        raise InvalidInput(
            f"There is no lesson {lesson!r}: " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}.")
        )
    try:
        module = import_module(module_name(lesson))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        package = PACKAGES.get(missing, missing)
        raise MissingDependency(f"The lesson {lesson} needs {package}, which is not installed: run `pip install {package}`.") from None
    if not callable(getattr(module, "train", None)):
        raise InvalidInput(f"The module {lesson} has no function train: a lesson is trained by train(seed=..., **hyperparameters).")
    return module


def load_policy(path: str | os.PathLike) -> "Policy":
    """Rebuild the policy of a lesson that the checkpoint at `path` holds. It names its class; only classes of the lessons are accepted."""
    from cartpole_lessons.checkpoints import load_checkpoint, policy_from
    from cartpole_lessons.policy import Policy

    checkpoint = load_checkpoint(path)
    lesson, _, name = checkpoint.policy.partition(".")
    # The file's word is only compared with what there is: nothing is imported because a file names it.
    policy_class = getattr(load_lesson(lesson), name, None) if lesson in lessons() else None
    if not (inspect.isclass(policy_class) and issubclass(policy_class, Policy)):
        raise CheckpointError(
            f"{path} holds a {checkpoint.policy!r}, which is no policy of the course's lessons: pass its class to checkpoints.load_policy."
        )
    return policy_from(checkpoint, policy_class)


@dataclass(frozen=True)
class Changes:
    """The lines in which one function differs from another."""

    lines: tuple[str, ...]  #: as `diff` writes them, with a little of what stayed the same around them

    @property
    def count(self) -> int:
        """How many lines went or came."""
        return sum(line[:1] in ("-", "+") for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _repr_markdown_(self) -> str:
        return f"```diff\n{self}\n```"


def what_changed(before: Callable, after: Callable) -> Changes:
    """How the function `after` differs from `before`: lines that went (-) and came (+)."""
    sources = [inspect.getsource(inspect.unwrap(function)).splitlines() for function in (before, after)]
    return Changes(tuple(line for line in difflib.unified_diff(*sources, n=1, lineterm="") if line[:3] not in ("---", "+++", "@@ ")))
