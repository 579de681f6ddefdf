"""Lesson 03, REINFORCE with PyTorch-Ignite."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction

_HIDDEN = torch.tensor([1.0, -2.0, 0.5, 4.0, 3.0])
_KEPT = torch.tensor([True, False, True, True, False])


def _with_mask(hidden, kept, dropout):
    """hidden: (n,), kept: bool (n,), dropout: a share -> (n,), what nn.Dropout makes of it with this mask."""
    return hidden * kept / (1 - dropout)


with_mask = Exercise(
    "03.with_mask",
    _with_mask,
    inputs=[(_HIDDEN, _KEPT, 0.3), (_HIDDEN, ~_KEPT, 0.5), (_HIDDEN, torch.ones(5, dtype=torch.bool), 0.2)],
    mistakes={
        "What is left has to make up for what is missing: divide by the share that stays.": lambda hidden, kept, dropout: hidden * kept,
        "Inverted: the mask says which units stay.": lambda hidden, kept, dropout: hidden * ~kept / (1 - dropout),
        "Divided by the share that is left out. Divide by the one that stays.": lambda hidden, kept, dropout: hidden * kept / dropout,
        "Multiplied where you should divide: the units that stay have to become larger.": lambda hidden, kept, dropout: (
            hidden * kept * (1 - dropout)
        ),
        "You divide by the share that happened to stay this time. PyTorch divides by the one to be expected.": (
            lambda hidden, kept, dropout: hidden * kept / kept.float().mean()
        ),
        "The units that are left out are gone from your answer. They stay, as zeros.": (
            lambda hidden, kept, dropout: hidden[kept] / (1 - dropout)
        ),
    },
    hints=[
        "hidden [1, 2], kept [True, False], dropout 0.5: [2, 0].",
        "On average the sum of the units should be what it is without dropout.",
        "hidden * kept sets the others to zero; then divide by 1 - dropout.",
    ],
    shows="Keep the mask, and the log-probability can be that of the network which acted. nn.Dropout draws a new one at each pass and forgets it, hence the lesson's 'close to'.",
)

episodes_behind = Prediction(
    "03.episodes_behind",
    55,
    hints=[
        "The gap to 500 is 400 at first, and each episode leaves 95 % of it. When is it below 25?",
        "0.95 to the power of n has to be below 1/16.",
    ],
    shows="More than fifty perfect episodes pass before the running reward admits it: another reason not to stop a training by it.",
)
