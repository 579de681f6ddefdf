"""Lesson 14, Learn a model."""

import torch

from cartpole_lessons.exercises import Exercise

_SCORES = torch.tensor([3.0, 9.0, 1.0, 8.0, 9.5])
_PLANS = torch.tensor([[0.0, 1.0], [1.0, -1.0], [4.0, 4.0], [2.0, 3.0], [3.0, 0.0]])


def _better_plan(plans, scores, keep):
    """plans: (n, steps); scores: (n,), what each is worth; keep: how many count -> (steps,), where the next plans are centred."""
    best = scores.topk(keep).indices
    return plans[best].mean(0)


better_plan = Exercise(
    "14.better_plan",
    _better_plan,
    inputs=[(_PLANS, _SCORES, 2), (_PLANS, -_SCORES, 3), (_PLANS, _SCORES, 1)],
    mistakes={
        "That is the mean of all plans. Only the best ones count.": lambda plans, scores, keep: plans.mean(0),
        "These are the worst plans.": lambda plans, scores, keep: plans[(-scores).topk(keep).indices].mean(0),
        "These are the first plans, whatever they are worth.": lambda plans, scores, keep: plans[:keep].mean(0),
        "That is the single best plan. The mean of the best ones is less of an accident.": lambda plans, scores, keep: plans[
            scores.argmax()
        ],
        "One number is left: take the mean over the plans (axis 0), for each step of its own.": lambda plans, scores, keep: plans[
            scores.topk(keep).indices
        ].mean(),
        "All plans come in, each weighted by its score. Cross-entropy planning keeps the best and weighs them alike.": (
            lambda plans, scores, keep: (scores[:, None] * plans).sum(0) / scores.sum()
        ),
    },
    hints=[
        "Plans [0, 1], [2, 3] and [4, 4] with scores 1, 8 and 9, the best two: [3, 3.5].",
        "Find the numbers of the best plans, take these rows, and their mean over the rows.",
        "scores.topk(keep).indices are the numbers of the best.",
    ],
    shows="Draw plans around that mean, judge them by the model, and do it again: that is the cross-entropy method.",
)
