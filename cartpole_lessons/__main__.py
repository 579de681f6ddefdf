"""`cartpole-lessons ...` and `python -m cartpole_lessons ...` begin here: errors become one sentence and an exit code."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any

from cartpole_lessons.errors import CourseError, InvalidInput

OK, FAILED, WRONG_USE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: the process's own) and return its exit code: 0 ok, 1 not solved or failed, 2 wrong use.

    Who reads the output may go away (`| head`), or never have been there (`>&-`): the command does its work, and its exit code, all the
    same. Where output that somebody wants cannot be written, as on a full disk, an exit code of 0 becomes 1.
    """
    for number in range(3):  # a file that is opened later would get the number of a stream that was closed, and what is meant for it
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    out, err = Output(sys.stdout), Output(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        out.flush()
        if out.error is not None and out.error.errno not in (errno.EPIPE, errno.EINVAL):  # Windows' word for a closed pipe
            code = _stop(f"What this command prints cannot be written ({out.error.strerror}): free some space there.", code or FAILED)
        err.flush()
    return code


def _run(arguments: list[str]) -> int:
    if arguments == ["doctor"]:  # before anything is loaded that may be what is broken
        from cartpole_lessons.doctor import doctor

        return doctor().exit_code
    try:
        from cartpole_lessons.cli import app

        app(arguments, prog_name="cartpole-lessons")
    except SystemExit as stop:  # how typer ends, with codes of its own for Ctrl-C
        return stop.code or OK if stop.code in (None, OK, FAILED, WRONG_USE) else FAILED
    except CourseError as error:
        return _stop(str(error), WRONG_USE if isinstance(error, InvalidInput) else FAILED)
    except ImportError as error:
        if error.name in ("typer", "rich"):
            return _stop("The command line needs typer and rich, which are not installed: run `pip install typer rich`.", FAILED)
        return _stop(f"{error.name or 'A package'} cannot be imported ({error}): `cartpole-lessons doctor` says how to mend that.", FAILED)
    except KeyboardInterrupt:
        return FAILED
    return OK


def _stop(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


class Output:
    """A stream that may fail for good: what is printed from then on is lost, and nothing else. `error` is what happened to it."""

    def __init__(self, stream: IO[str] | None) -> None:
        self.stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
        self.error: OSError | None = None
        with contextlib.suppress(AttributeError):  # what stands in for a stream, in a test, takes any text
            self.stream.reconfigure(errors="replace")  # a ? for what a code page does not have

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write `text`."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what waits to be written."""
        self._try(self.stream.flush)

    def _try(self, action: Callable, *arguments: str) -> None:
        try:
            action(*arguments)
        except OSError as error:
            self.error = self.error or error
            with contextlib.suppress(OSError):  # Python tries again when it ends; that shall go well
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
