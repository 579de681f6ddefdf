"""Lesson 13, Scaling up."""

import torch

from cartpole_lessons.exercises import Exercise

_NORMS = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 12.0]])


def _clip_each(gradients, most):
    """gradients: (agents, weights); most: the longest that a gradient may be -> (agents, weights), each agent's cut to that length."""
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
        "That cuts each number. The length is to be cut, and the direction to stay.": lambda gradients, most: gradients.clamp(-most, most),
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
