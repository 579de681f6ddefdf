"""Lesson 15, Teach it."""

import torch

from cartpole_lessons.exercises import Exercise


def _prefers_first(first, second):
    """first, second: (T,), the reward of each step of two clips -> the probability that the first is preferred: a number."""
    return torch.sigmoid(first.sum() - second.sum())


_GOOD, _BAD = torch.tensor([0.5, 0.2, 0.1]), torch.tensor([-0.2, -0.5, 0.1])

prefers_first = Exercise(
    "15.prefers_first",
    _prefers_first,
    inputs=[(_GOOD, _BAD), (_BAD, _GOOD), (_GOOD, _GOOD)],
    mistakes={
        "The sign is the other way round: the clip with more reward is the likelier choice.": lambda first, second: torch.sigmoid(
            second.sum() - first.sum()
        ),
        "That compares mean rewards. Bradley and Terry compare what the whole clips are worth: sums.": lambda first, second: torch.sigmoid(
            first.mean() - second.mean()
        ),
        "Only the last steps are compared.": lambda first, second: torch.sigmoid(first[-1] - second[-1]),
        "The quotient of sums is no probability: rewards may be negative.": lambda first, second: (
            first.sum() / (first.sum() + second.sum())
        ),
        "That is the difference itself. A sigmoid makes a probability of it.": lambda first, second: first.sum() - second.sum(),
    },
    hints=[
        "Two clips that are worth the same: one half.",
        "Add up each clip's rewards, take the difference, and squash it into 0 to 1.",
        "torch.sigmoid(first.sum() - second.sum())",
    ],
    shows="Fit rewards so that the answers that you got are likely under this formula, and you have a reward model.",
)
