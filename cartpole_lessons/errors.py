"""Errors that say, in one sentence, what was got and what to do next.

In a notebook they show that sentence alone: the student's next step is in it, and a page of frames would hide it.
The classes also derive from the built-in exception that a Python programmer would expect to catch.
"""


class CourseError(Exception):
    """Base of every error that the course raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the lines that it prints instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class InvalidInput(CourseError, ValueError):
    """An argument has the wrong type, shape or value."""


class InvalidAction(CourseError, ValueError):
    """A policy returned something that the environment cannot execute."""


class MissingDependency(CourseError, ImportError):
    """A package or program is not installed; the message holds the command that installs it."""


class NoDisplay(CourseError, RuntimeError):
    """A window was asked for where none can be shown."""


class RecordingError(CourseError, OSError):
    """A film or a history could not be written; the message names the folder."""


class CheckpointError(CourseError, ValueError):
    """A checkpoint cannot be written, read or used; the message names the file."""


def in_short(error: BaseException) -> str:
    """The first sentence of what any error says, at most 100 characters; its type where it says nothing."""
    try:
        said = str(error)
    except RecursionError:  # it quotes what is nested too deeply to be printed
        said = ""
    lines = said.strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".:")[:100]
