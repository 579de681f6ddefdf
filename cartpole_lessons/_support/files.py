"""Write files whole or not at all, and a notebook that was only read as it was."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cartpole_lessons.errors import CourseError, RecordingError, in_short


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """`with atomic_write(path) as file:` fills a file beside `path`, which takes that name only when all of it is on disk.

    Missing folders are made. Raises `OSError` as any write does; whatever stood at `path` before is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files (0600): give this one the mode that any new file would have had.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(what: str, folder: object, error: OSError, kind: type[CourseError] = RecordingError) -> CourseError:
    """The sentence that says so; `what` begins it ("The table")."""
    reason = error.strerror or in_short(error)
    return kind(f"{what} cannot be written to {folder} ({reason}): free some space there, or choose a folder that you may write to.")


def write_file(path: str | os.PathLike, content: bytes, what: str) -> None:
    """Write all of the file or none of it; `RecordingError` where that fails, whose sentence begins with `what`."""
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise cannot_write(what, Path(path).parent, error) from None


def without_version(model: dict[str, Any], **_: Any) -> None:
    """What `make lab` has Jupyter do before it saves `model`: keep the number of the reader's Python out of the notebook."""
    if model["type"] == "notebook":
        model["content"]["metadata"].get("language_info", {}).pop("version", None)
