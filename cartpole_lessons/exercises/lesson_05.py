"""Lesson 05, PPO."""

import torch

from cartpole_lessons.exercises import Exercise

_RATIOS = torch.tensor([0.5, 1.0, 1.5, 0.5, 1.0, 1.5])
_ADVANTAGES = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])


def _has_gradient(ratios, advantages, clip):
    """ratios, advantages: (n,) -> bool (n,), whether the clipped objective still moves this ratio."""
    gone_too_far = torch.where(advantages > 0, ratios > 1 + clip, ratios < 1 - clip)
    return ~gone_too_far


has_gradient = Exercise(
    "05.has_gradient",
    _has_gradient,
    inputs=[
        (_RATIOS, _ADVANTAGES, 0.2),
        (_RATIOS, _ADVANTAGES, 0.6),
        (torch.tensor([1.25, 0.75, 1.25, 0.75]), torch.tensor([2.0, 2.0, -2.0, -2.0]), 0.2),
    ],
    mistakes={
        "A ratio beyond the clip still gets a gradient on one side: a good push that has become unlikely is to be pulled back.": (
            lambda ratios, advantages, clip: (ratios - 1).abs() <= clip
        ),
        "Inverted: these are the ratios that get none.": lambda ratios, advantages, clip: torch.where(
            advantages > 0, ratios > 1 + clip, ratios < 1 - clip
        ),
        "The sides are swapped: a good push stops at the top, a bad one at the bottom.": lambda ratios, advantages, clip: (
            ~torch.where(advantages > 0, ratios < 1 - clip, ratios > 1 + clip)
        ),
        "Only the upper end is clipped here. What about a bad push that has become very unlikely?": lambda ratios, advantages, clip: (
            ~((advantages > 0) & (ratios > 1 + clip))
        ),
        "Your answer ignores the sign of the advantage, which decides which end matters.": lambda ratios, advantages, clip: (
            ratios <= 1 + clip
        ),
    },
    hints=[
        "With clip 0.2 and a positive advantage: ratios 0.5 and 1.0 get a gradient, 1.5 gets none.",
        "The minimum of the two terms is flat only where the clipped term is the smaller one.",
        "A good push (advantage above 0) stops above 1 + clip, a bad one below 1 - clip.",
    ],
    shows="So the clip is no wall around 1. It stops what has been rewarded enough, and lets every mistake be undone.",
)


def _approximate_kl(old_log_probs, new_log_probs):
    """Log-probabilities (n,) of the actions taken, under both policies -> the mean of (ratio - 1) - log ratio: a number."""
    log_ratio = new_log_probs - old_log_probs
    return (log_ratio.exp() - 1 - log_ratio).mean()


_OLD = torch.tensor([0.5, 0.6, 0.9]).log()
_NEW = torch.tensor([0.6, 0.5, 0.95]).log()

approximate_kl = Exercise(
    "05.approximate_kl",
    _approximate_kl,
    inputs=[(_OLD, _NEW), (_NEW, _OLD), (_OLD, _OLD)],
    mistakes={
        "The ratio is upside down: it is new divided by old.": lambda old, new: ((old - new).exp() - 1 - (old - new)).mean(),
        "This is the sum. Take the mean: a batch's size should not matter.": lambda old, new: ((new - old).exp() - 1 - (new - old)).sum(),
        "This is only minus the mean log-ratio, which can be negative for single batches. Add ratio - 1, whose mean is zero over many.": (
            lambda old, new: (old - new).mean()
        ),
        "The logarithm of the ratio is missing.": lambda old, new: ((new - old).exp() - 1).mean(),
        "The two parts have the wrong sign: a distance is never negative.": lambda old, new: (1 + (new - old) - (new - old).exp()).mean(),
    },
    hints=[
        "Where both policies are the same it is 0, everywhere else it is positive.",
        "The log-ratio is a difference of log-probabilities; the ratio is its exponential.",
        "(log_ratio.exp() - 1 - log_ratio).mean()",
    ],
    shows="Many implementations log this number, and some can stop an update early when it grows: a second brake beside the clip.",
)
