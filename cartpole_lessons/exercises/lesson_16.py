"""Lesson 16, From pixels."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction

_BEFORE = torch.arange(12.0).reshape(3, 2, 2)
_NOW = _BEFORE.flip(0) ** 2


def _difference(before, now, began):
    """before, now: pictures (n, rows, columns); began: bool (n,), where now is the first of an episode -> (n, rows, columns), what has moved."""
    return (now - before) * ~began[:, None, None]


difference = Exercise(
    "16.difference",
    _difference,
    inputs=[
        (_BEFORE, _NOW, torch.tensor([False, True, False])),
        (_NOW, _BEFORE, torch.tensor([True, False, False])),
        (_BEFORE[:1], _NOW[:1], torch.tensor([False])),
    ],
    mistakes={
        "The picture before belongs to another episode where one has begun: nothing has moved there.": lambda before, now, began: (
            now - before
        ),
        "Inverted: only beginnings seem to move.": lambda before, now, began: (now - before) * began[:, None, None],
        "The sign is the other way round: what has appeared is positive.": lambda before, now, began: (
            (before - now) * ~began[:, None, None]
        ),
        "Where an episode begins that is the whole picture, which says that everything has just appeared.": lambda before, now, began: (
            now - before * ~began[:, None, None]
        ),
        "Without its sign it says that something moves, and not which way.": lambda before, now, began: (
            (now - before).abs() * ~began[:, None, None]
        ),
    },
    hints=[
        "Before 0.2, now 0.7: 0.5 has been added. In the first picture of an episode: 0.",
        "Subtract, and make it zero where an episode has begun.",
        "~began[:, None, None] has a place for rows and columns.",
    ],
    shows="A picture says where things are, and this one says where they go.",
)

columns_left = Prediction(
    "16.columns_left",
    28,
    within=0.01,
    hints=["The window's left edge stands at 0, 2, 4, ... How far can it go, so that all five columns are in the picture?"],
    shows="(60 - 5) // 2 + 1 places. The rows go from 24 to 10 in the same way.",
)
