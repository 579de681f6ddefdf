"""Lesson 11, Comparing algorithms."""

import numpy as np

from cartpole_lessons.exercises import Exercise


def _median_steps(steps, solved):
    """steps: (n,) at which training ended; solved: bool (n,) -> the median of the steps until solved: a number, or infinity."""
    return np.median([step if done else np.inf for step, done in zip(steps, solved, strict=True)])


median_steps = Exercise(
    "11.median_steps",
    _median_steps,
    inputs=[
        (np.array([4_000.0, 30_000, 6_000, 30_000, 9_000]), np.array([True, False, True, False, True])),
        (np.array([4_000.0, 30_000, 30_000]), np.array([True, False, False])),
        (np.array([1_000.0, 3_000, 2_000]), np.array([True, True, True])),
    ],
    mistakes={
        "The seeds that failed are left out, so an algorithm is rewarded for failing on its hard ones.": lambda steps, solved: np.median(
            steps[solved]
        ),
        "A seed that failed counts as if it had been solved at the cut-off. It would have taken longer than that, nobody knows how long.": (
            lambda steps, solved: np.median(steps)
        ),
        "That is the mean, which is infinite as soon as one seed fails.": lambda steps, solved: np.mean(np.where(solved, steps, np.inf)),
        "The failed seeds are counted as zero steps: nobody would be quicker.": lambda steps, solved: np.median(np.where(solved, steps, 0)),
        "That is the mean of the seeds that were solved.": lambda steps, solved: np.mean(steps[solved]),
    },
    hints=[
        "Three of five seeds solved, after 4,000, 6,000 and 9,000 steps: the median of all five is 9,000.",
        "A seed that is not solved needs more steps than any that is.",
        "Put np.inf in its place, and take the median of all.",
    ],
    shows="A median can cope with infinities, as long as fewer than half of the seeds fail. A mean cannot.",
)


def _best_of(chance, tries):
    """The probability that at least one of `tries` independent seeds succeeds, if each does with probability `chance`."""
    return 1 - (1 - chance) ** tries


best_of = Exercise(
    "11.best_of",
    _best_of,
    inputs=[(0.2, 5), (0.5, 2), (0.05, 20)],
    mistakes={
        "Chances do not add up like that: with 0.5 and three tries this would be above one.": lambda chance, tries: chance * tries,
        "That is the probability that all of them succeed.": lambda chance, tries: chance**tries,
        "That is the probability that none of them succeeds.": lambda chance, tries: (1 - chance) ** tries,
        "That is one minus the probability that all succeed: at least one fails.": lambda chance, tries: 1 - chance**tries,
        "That is the chance of exactly one success.": lambda chance, tries: tries * chance * (1 - chance) ** (tries - 1),
    },
    hints=[
        "Two tries with a chance of one half: three of the four outcomes have a success.",
        "Ask for the opposite: that all of them fail.",
        "1 - (1 - chance) ** tries",
    ],
    shows="Anyone who tries twenty seeds will find something that works on one in twenty, in about two cases out of three. Choose seeds before looking.",
)
