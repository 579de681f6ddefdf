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
    shows="Draw new plans with the mean and the spread of the best, judge them by the model, and repeat: that is the cross-entropy method.",
)


def _doubt(predictions):
    """predictions: (members, n, 4) -> (n,), how far the members are apart: their deviation, averaged over the four numbers."""
    return predictions.std(0, correction=0).mean(1)


_PREDICTIONS = torch.tensor([[[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]], [[2.0, 1.0, 0.0, 3.0], [1.0, 5.0, 1.0, 1.0]]])

doubt = Exercise(
    "14.doubt",
    _doubt,
    inputs=[
        (_PREDICTIONS,),
        (torch.cat([_PREDICTIONS, torch.zeros(1, 2, 4)]),),
        (torch.tensor([[[0.1, 0.2, 0.3, 0.4]], [[0.1, 0.6, 0.3, 0.8]], [[0.4, 0.2, 0.0, 0.4]]]),),
    ],
    mistakes={
        "That is the deviation between states, and not between the members (axis 0).": (
            lambda predictions: predictions.std(1, correction=0).mean(-1)
        ),
        "One number is left. There should be one for each state: somewhere the members agree, elsewhere they do not.": (
            lambda predictions: predictions.std(0, correction=0).mean()
        ),
        "That is the variance: take its root before the average.": lambda predictions: predictions.var(0, correction=0).mean(-1),
        "Divided by members - 1. The exercise asks for a division by their number, as NumPy's std does it (correction=0).": (
            lambda predictions: predictions.std(0).mean(-1)
        ),
        "That is how different the four numbers of a state are from each other. Doubt is between the members.": (
            lambda predictions: predictions.std(-1, correction=0).mean(0)
        ),
        "That is what the members believe on average. How far are they apart?": lambda predictions: predictions.mean(0).mean(-1),
    },
    hints=[
        "Two members, one state: [0, 1, 2, 3] and [2, 1, 0, 3]. Deviations 1, 0, 1, 0, so the doubt is 0.5.",
        "Members are axis 0: there the deviation belongs. The four numbers are the last axis.",
        "predictions.std(0, correction=0) has shape (n, 4).",
    ],
    shows="No truth was needed for it: where there are no data, nothing makes members that began differently agree.",
)
