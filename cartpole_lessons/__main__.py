"""`cartpole-lessons ...` and `python -m cartpole_lessons ...` begin here: errors become one sentence and an exit code."""

import sys
from collections.abc import Sequence

from cartpole_lessons.errors import CourseError, InvalidInput

OK, FAILED, WRONG_USE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (None: the process's own) and return its exit code: 0 ok, 1 not solved or failed, 2 wrong use."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        if arguments == ["doctor"]:  # needs neither, and is what helps now
            from cartpole_lessons.doctor import doctor

            return doctor().exit_code
        return _stop("The command line needs typer and rich, which are not installed: run `pip install typer rich`.", FAILED)
    from cartpole_lessons.cli import app

    try:
        app(arguments, prog_name="cartpole-lessons")
    except SystemExit as stop:  # how typer ends, with codes of its own for Ctrl-C
        return stop.code or OK if stop.code in (None, OK, FAILED, WRONG_USE) else FAILED
    except InvalidInput as error:
        return _stop(str(error), WRONG_USE)
    except CourseError as error:
        return _stop(str(error), FAILED)
    except ImportError as error:
        return _stop(f"{error.name or 'A package'} cannot be imported ({error}): `cartpole-lessons doctor` says how to mend that.", FAILED)
    return OK


def _stop(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
