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
    """Examine this machine and print what was found, as a table in which every command stands on a line of its own."""
    path, students = list(sys.path), _students_folders()
    # Only without them here: a student's random.py or numpy.py would take the doctor down with the rest.
    sys.path[:] = [entry for entry in path if entry not in students]
    try:
        from cartpole_lessons.doctor.diagnosis import examine

        diagnosis = examine(list(students.values()))
    finally:
        sys.path[:] = path
    table = str(diagnosis)
    try:
        table.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        table = table.replace("✓", "+").replace("✗", "X").encode("ascii", "replace").decode()
    print(table)
    return diagnosis


def _students_folders() -> dict[str, str]:
    """{entry of sys.path: folder} where Python looks before its own library, or that of a notebook here would, and nothing is installed."""
    found = {}
    for entry in ["", *sys.path]:
        if entry == os.path.dirname(os.__file__) or entry.endswith(".zip"):  # python311.zip, which is seldom there, stands before the rest
            break
        try:
            folder = os.path.abspath(entry)
            if not any(name.endswith(".dist-info") for name in os.listdir(folder)):
                found[entry] = folder
        except OSError:  # Python finds nothing there either
            continue
    return found
