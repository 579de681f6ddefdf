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


def _loss(differences, answers):
    """differences: (pairs,), reward of the first clip minus that of the second; answers: 1 where the first is better, else 0."""
    return -(answers * torch.nn.functional.logsigmoid(differences) + (1 - answers) * torch.nn.functional.logsigmoid(-differences)).mean()


loss = Exercise(
    "15.loss",
    _loss,
    inputs=[
        (torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])),
        (torch.tensor([0.0]), torch.tensor([1.0])),
        (torch.tensor([-3.0, 4.0]), torch.tensor([1.0, 1.0])),
    ],
    mistakes={
        "The answers are the other way round: 1 means that the first clip is better.": (
            lambda differences, answers: (
                -(
                    (1 - answers) * torch.nn.functional.logsigmoid(differences) + answers * torch.nn.functional.logsigmoid(-differences)
                ).mean()
            )
        ),
        "The sign: a loss is small where the answers are likely.": lambda differences, answers: (
            answers * torch.nn.functional.logsigmoid(differences) + (1 - answers) * torch.nn.functional.logsigmoid(-differences)
        ).mean(),
        "The sum grows with the number of pairs. Take the mean.": lambda differences, answers: (
            -(answers * torch.nn.functional.logsigmoid(differences) + (1 - answers) * torch.nn.functional.logsigmoid(-differences)).sum()
        ),
        "The pairs in which the second clip won say as much as the others, and they are left out here.": (
            lambda differences, answers: -(answers * torch.nn.functional.logsigmoid(differences)).mean()
        ),
        "That is one minus the mean probability of the answers. Their likelihood is a product, so take logarithms first.": (
            lambda differences, answers: (answers * (-differences).sigmoid() + (1 - answers) * differences.sigmoid()).mean()
        ),
        "That is the squared error of the probabilities. Cross-entropy takes their logarithms.": (
            lambda differences, answers: (differences.sigmoid() - answers).square().mean()
        ),
    },
    hints=[
        "A difference of 0 says one half, so either answer costs ln 2 = 0.693.",
        "The probability that the first wins is sigmoid(difference), and that of the second sigmoid(-difference).",
        "Minus the mean of the logarithm of the probability of what was answered.",
    ],
    shows="It is binary cross-entropy with logits. A reward model is a classifier that is never told a reward.",
)
