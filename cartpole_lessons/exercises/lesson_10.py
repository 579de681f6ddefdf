"""Lesson 10, Augmented random search."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction

_DIRECTIONS = torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]])
_PLUS, _MINUS = torch.tensor([30.0, 10.0]), torch.tensor([10.0, 20.0])


def _slope(directions, plus, minus, noise):
    """directions: (N, P); plus, minus: (N,), returns at w + noise * d and w - noise * d -> (P,), the gradient that they suggest."""
    slopes = (plus - minus) / (2 * noise)
    return (slopes[:, None] * directions).mean(0)


slope = Exercise(
    "10.slope",
    _slope,
    inputs=[
        (_DIRECTIONS, _PLUS, _MINUS, 0.5),
        (_DIRECTIONS, _MINUS, _PLUS, 0.1),
        (torch.eye(4), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4), 1.0),
    ],
    mistakes={
        "The two points are 2 * noise * direction apart: divide by 2 * noise, not by noise.": lambda directions, plus, minus, noise: (
            (plus - minus)[:, None] / noise * directions
        ).mean(0),
        "The mean is over everything: one number is left, and every weight would get the same.": lambda directions, plus, minus, noise: (
            (plus - minus)[:, None] / (2 * noise) * directions
        ).mean(),
        "The sum over the directions grows with their number. Take the mean.": lambda directions, plus, minus, noise: (
            (plus - minus)[:, None] / (2 * noise) * directions
        ).sum(0),
        "Your answer ignores the size of the noise: a difference is a slope only after division by the distance.": (
            lambda directions, plus, minus, noise: ((plus - minus)[:, None] * directions).mean(0)
        ),
        "The sign is the other way round: it leads downhill.": lambda directions, plus, minus, noise: (
            (minus - plus)[:, None] / (2 * noise) * directions
        ).mean(0),
        "That is the mean over each direction's entries (axis 1). The mean is over the directions (axis 0).": (
            lambda directions, plus, minus, noise: ((plus - minus)[:, None] / (2 * noise) * directions).mean(1)
        ),
    },
    hints=[
        "One direction [1, 0], returns 30 and 10, noise 0.5: the slope is 20, so the answer is [20, 0].",
        "Slope along a direction: the difference of the returns, divided by 2 * noise. Then times the direction.",
        "(plus - minus)[:, None] has shape (N, 1), and multiplies each row of directions.",
    ],
    shows="That is a finite difference in random directions, and its expectation is the gradient of a smoothed return.",
)

times_hundred = Prediction(
    "10.times_hundred",
    1.0,
    within=0.01,
    hints=["What is the augmented update divided by, and how does that change?"],
    shows="It is divided by the deviation of the returns, which is a hundred times as large as well.",
)
