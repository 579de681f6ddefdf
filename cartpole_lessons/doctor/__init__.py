"""Is this machine ready for the course? One row per question, and where the answer is no, the command that mends it.

`questions` find out facts, `diagnosis` says what they mean, `remedies` are the commands. All of it has to work where little else does:
it needs the standard library alone, and loads that from where it belongs, whatever a student's own files are called.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole_lessons.doctor.diagnosis import Diagnosis


def doctor() -> "Diagnosis":
    """Examine this machine and show what was found, as a table in which every command stands on a line of its own."""
    path, students = list(sys.path), _students_folders()
    # Only without them here: a student's random.py or numpy.py would take the doctor down with the rest.
    sys.path[:] = [entry for entry in path if entry not in students]
    try:
        from cartpole_lessons.doctor.diagnosis import examine

        diagnosis = examine(list(students.values()))
        _show(diagnosis)
    finally:
        sys.path[:] = path
    return diagnosis


def _students_folders() -> dict[str, str]:
    """{entry of sys.path: folder} where Python looks before its own library, or that of a notebook here would, and nothing is installed."""
    library = os.path.dirname(os.__file__)
    archive = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"  # stands before the library, and is seldom there
    found = {}
    for entry in ["", *sys.path]:
        if entry == library or os.path.basename(entry) == archive:
            break
        try:
            folder = os.path.abspath(entry)
            if not any(name.endswith(".dist-info") for name in os.listdir(folder)):
                found[entry] = folder
        except OSError:  # Python finds nothing there either
            continue
    return found


def _show(diagnosis: "Diagnosis") -> None:
    text = str(diagnosis)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = text.replace("✓", "+").replace("✗", "X")
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(text)
        return
    colours, shown = {"✓": "green", "+": "green", "!": "yellow", "✗": "bold red", "X": "bold red"}, Text()
    for line in text.splitlines(keepends=True):
        shown.append(line, style="bold" if line.lstrip().startswith("->") else colours.get(line[:1], ""))
    Console(highlight=False).print(shown, soft_wrap=True)  # half of a command, on a line of its own, could not be copied
