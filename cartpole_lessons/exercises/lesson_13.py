"""Lesson 13, Scaling up."""

import torch

from cartpole_lessons.exercises import Exercise

_NORMS = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 12.0]])


def _clip_each(gradients, most):
    """gradients: (agents, weights); most: the longest that a gradient may be -> (agents, weights), each agent's scaled down to that length where it is longer."""
    lengths = gradients.norm(dim=1, keepdim=True)
    return gradients * (most / lengths.clamp(min=most))


clip_each = Exercise(
    "13.clip_each",
    _clip_each,
    inputs=[(_NORMS, 1.0), (_NORMS, 6.0), (_NORMS.flip(1), 0.5)],
    mistakes={
        "One length for all agents: an agent with a long gradient makes the steps of all others shorter.": lambda gradients, most: (
            gradients * (most / gradients.norm().clamp(min=most))
        ),
        "Gradients that are short enough stay as they are.": lambda gradients, most: gradients / gradients.norm(dim=1, keepdim=True) * most,
        "That cuts each number. Scale the whole gradient down, so that its direction stays.": lambda gradients, most: gradients.clamp(
            -most, most
        ),
        "The lengths are taken over the agents (dim 0). Each agent has a gradient of its own, along dim 1.": lambda gradients, most: (
            gradients * (most / gradients.norm(dim=0, keepdim=True).clamp(min=most))
        ),
        "That is the sum of squares. A length is its root.": lambda gradients, most: (
            gradients * (most / gradients.square().sum(1, keepdim=True).clamp(min=most))
        ),
    },
    hints=[
        "[3, 4] has length 5. At most 1: [0.6, 0.8]. [0.3, 0.4] stays.",
        "A length for each row, and a factor for each row that is at most 1.",
        "gradients.norm(dim=1, keepdim=True) has shape (agents, 1).",
    ],
    shows="torch.nn.utils.clip_grad_norm_ takes all weights of a stack together, so that seeds would leak into each other.",
)


def _normalise_each(advantages):
    """advantages: (seeds, steps) -> the same, every seed's with mean 0 and deviation 1 (correction=0) of its own."""
    mean, deviation = advantages.mean(1, keepdim=True), advantages.std(1, correction=0, keepdim=True)
    return (advantages - mean) / deviation


normalise_each = Exercise(
    "13.normalise_each",
    _normalise_each,
    inputs=[
        (torch.tensor([[1.0, 2.0, 6.0], [10.0, 20.0, 60.0]]),),
        (torch.tensor([[0.0, 4.0], [100.0, 50.0], [-1.0, 1.0]]),),
        (torch.tensor([[3.0, 1.0, 2.0, 2.0], [0.0, 1.0, 5.0, 0.5]]),),
    ],
    mistakes={
        "Mean and deviation are those of all seeds together: what one seed learns depends on who else is there.": (
            lambda advantages: (advantages - advantages.mean()) / advantages.std(correction=0)
        ),
        "The wrong axis: each step is compared with the same step of the other seeds.": (
            lambda advantages: (advantages - advantages.mean(0)) / advantages.std(0, correction=0)
        ),
        "Each seed has its own mean here, but they share the deviation.": (
            lambda advantages: (advantages - advantages.mean(1, keepdim=True)) / advantages.std(correction=0)
        ),
        "Each seed has its own deviation here, but they share the mean.": (
            lambda advantages: (advantages - advantages.mean()) / advantages.std(1, correction=0, keepdim=True)
        ),
        "torch's std divides by n - 1 unless you tell it otherwise. Here it is n: correction=0.": lambda advantages: (
            (advantages - advantages.mean(1, keepdim=True)) / advantages.std(1, keepdim=True)
        ),
        "That is centred, and not scaled.": lambda advantages: advantages - advantages.mean(1, keepdim=True),
        "Divided by the variance. Its root, the deviation, has the unit of the advantages.": (
            lambda advantages: (advantages - advantages.mean(1, keepdim=True)) / advantages.var(1, correction=0, keepdim=True)
        ),
        "The mean is still in there: subtract it.": lambda advantages: advantages / advantages.std(1, correction=0, keepdim=True),
    },
    hints=[
        "The rows [1, 2, 6] and [10, 20, 60] become the same row.",
        "Steps are axis 1. A mean over them leaves one number for each seed.",
        "keepdim=True leaves the shape (seeds, 1), which broadcasts over the steps.",
    ],
    shows="This is one of the four places where a seed can leak into another, and nothing would complain.",
)
