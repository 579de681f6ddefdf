"""Lesson 01, Hand-made policies."""

import math

from cartpole_lessons.exercises import Exercise


def _steps_until(start, limit, growth):
    """Steps after which a disturbance of size `start`, multiplied by `growth` > 1 in each, has reached `limit`: a whole number."""
    return math.ceil(math.log(limit / start) / math.log(growth))


steps_until = Exercise(
    "01.steps_until",
    _steps_until,
    inputs=[(0.001, 0.2, 1.079), (0.01, 0.2, 1.026), (0.05, 0.2, 2.5)],
    mistakes={
        "A step earlier it has not got there yet: round up.": lambda start, limit, growth: math.floor(
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
