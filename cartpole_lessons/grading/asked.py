"""What stands in an exercise's place while a student's notebook is graded: it passes on what was handed in, and knows no solution.

Everything here runs in the student's process, so nothing here decides anything.
"""

import copy
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from cartpole_lessons import exercises
from cartpole_lessons.grading.values import decode, encode_answer

#: A function is given up after so long [s]. More than a student has: many notebooks share a machine here.
exercises.TIME_LIMIT = 5.0
_TURN = threading.RLock()


class Asked:
    """An exercise without its solution."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, answer: Any) -> exercises.Card:
        """Hand in an answer. A function is called with what the grader asks, here and now: later cells may change what it depends on."""
        with _TURN:
            _say({"name": self.name, "function": True} if callable(answer) else {"name": self.name, "value": encode_answer(answer)})
            while (asked := _hear()) is not None:
                _say(_outcome(answer, decode(asked)))
        return exercises.Card("hint", "This is handed in.")

    def hint(self) -> exercises.Card:
        """Nothing: no one is there to read it."""
        return exercises.Card("hint", "There are no hints while notebooks are graded.")

    def solution(self, sure: bool = False) -> exercises.Card:
        """Nothing."""
        return self.hint()


def _outcome(answer: Callable, given: tuple) -> dict[str, Any]:
    mine = copy.deepcopy(given)
    try:
        value = exercises._within_limits(answer, mine)
    except exercises._TooLong:
        return {"trouble": "time-out", "text": f"It is not done after {exercises.TIME_LIMIT:.0f} s. Does a loop end?"}
    except BaseException as error:
        return {"trouble": "error", "text": exercises._where(error, answer)}
    changed = [number for number, pair in enumerate(zip(given, mine, strict=True)) if not exercises._same(*pair)]
    return {"value": encode_answer(value), "changed": changed[:1]}


def _hear() -> Any:
    # Opened anew each time: this module may be loaded twice, and one line is answered before the next is sent.
    with open(int(os.environ["GRADER_ASKS"]), encoding="utf-8", closefd=False, buffering=1) as pipe:
        return json.loads(pipe.readline() or "null")


def _say(message: dict[str, Any]) -> None:
    with open(int(os.environ["GRADER_HEARS"]), "w", encoding="utf-8", closefd=False) as pipe:
        pipe.write(json.dumps(message) + "\n")
