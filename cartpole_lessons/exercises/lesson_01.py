"""Lesson 01, Hand-made policies."""

import math

import numpy as np

from cartpole_lessons.exercises import Exercise


def _steps_until(start, limit, growth):
    """Steps after which a disturbance of size `start`, multiplied by `growth` > 1 in each, has reached `limit`: a whole number."""
    return math.ceil(math.log(limit / start) / math.log(growth))


steps_until = Exercise(
    "01.steps_until",
    _steps_until,
    inputs=[(0.001, 0.2, 1.079), (0.01, 0.2, 1.026), (0.05, 0.2, 2.5)],
    mistakes={
        "After that many steps it has not got there yet: round up.": lambda start, limit, growth: math.floor(
            math.log(limit / start) / math.log(growth)
        ),
        "The steps are right, but not whole: round up.": lambda start, limit, growth: math.log(limit / start) / math.log(growth),
        "It does not grow by the same amount in each step, but by the same factor.": lambda start, limit, growth: math.ceil(
            (limit - start) / (growth - 1)
        ),
        "The size at the start has to come in: how many times larger than `start` is the limit?": lambda start, limit, growth: math.ceil(
            abs(math.log(limit) / math.log(growth))
        ),
        "One step too many: after how many multiplications is it there?": lambda start, limit, growth: (
            math.ceil(math.log(limit / start) / math.log(growth)) + 1
        ),
    },
    hints=[
        "From 0.05 to 0.2 with a growth of 2.5: 0.05, 0.125, 0.3125. That took two steps.",
        "After n steps the disturbance is start * growth ** n. When is that as large as the limit?",
        "Take the logarithm on both sides, solve for n, and round up (math.ceil).",
    ],
    shows="So an eigenvalue is a clock: it says how soon a small mistake becomes a fall.",
)


# Two states are enough: one that turns and shrinks, one that turns and grows, and so on.
_SYSTEMS = [
    ([[1.0, 0.1], [-0.1, 0.9]], [0.0, 0.1], [0.0, 0.0]),
    ([[1.0, 0.1], [1.0, 1.0]], [0.0, 1.0], [-2.0, -1.0]),
    ([[1.0, 0.1], [1.0, 1.0]], [0.0, 1.0], [2.0, 1.0]),
    ([[1.0, 0.1], [1.0, 1.0]], [0.0, 1.0], [-12.0, -0.1]),
    ([[0.5, 0.0], [0.0, 1.2]], [1.0, 1.0], [0.0, 0.0]),
    ([[0.5, 0.0], [0.0, -1.2]], [1.0, 1.0], [0.0, 0.0]),
    ([[0.6, 0.9], [-0.9, 0.6]], [1.0, 0.0], [0.0, 0.0]),
    ([[0.6, 0.5], [-0.5, 0.6]], [1.0, 0.0], [0.0, 0.0]),
    ([[0.9, 0.0], [0.0, 0.8]], [1.0, 1.0], [0.2, 0.2]),
    ([[1.0, 0.0], [0.0, 0.5]], [1.0, 1.0], [0.0, 0.0]),
]


def _balances(A, B, gains):
    """A: (n, n), B, gains: (n,) -> bool: does a small disturbance die out when the push is gains @ state?"""
    return bool((np.abs(np.linalg.eigvals(A + np.outer(B, gains))) < 1).all())


balances = Exercise(
    "01.balances",
    _balances,
    inputs=[tuple(map(np.array, system)) for system in _SYSTEMS],
    mistakes={
        "You look at the world without the rule. What the push does is in there as well: A + B k.": (
            lambda A, B, gains: bool((np.abs(np.linalg.eigvals(A)) < 1).all())
        ),
        "The push is added to what the world does, not subtracted: A + B k.": (
            lambda A, B, gains: bool((np.abs(np.linalg.eigvals(A - np.outer(B, gains))) < 1).all())
        ),
        "Negative real parts mean stability in continuous time. Here time goes in steps: each multiplies by the eigenvalue.": (
            lambda A, B, gains: bool((np.linalg.eigvals(A + np.outer(B, gains)).real < 0).all())
        ),
        "One part that dies out is not enough: the others carry the pole away.": (
            lambda A, B, gains: bool((np.abs(np.linalg.eigvals(A + np.outer(B, gains))) < 1).any())
        ),
        "An eigenvalue may be complex, or below -1. What counts is its size, not its real part.": (
            lambda A, B, gains: bool((np.linalg.eigvals(A + np.outer(B, gains)).real < 1).all())
        ),
        "Those are the entries of the matrix. What a disturbance is multiplied by are its eigenvalues.": (
            lambda A, B, gains: bool((np.abs(A + np.outer(B, gains)) < 1).all())
        ),
    },
    hints=[
        "With A = [[0.5, 0], [0, 1.2]] and no push the second state grows by a fifth in every step: False.",
        "One step multiplies the state by A + np.outer(B, gains).",
        "np.linalg.eigvals gives the eigenvalues, np.abs their sizes. All of them have to be below 1.",
    ],
    shows="One line of linear algebra says what a film of the pole would: whether the rule balances.",
)
