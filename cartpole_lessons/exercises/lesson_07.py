"""Lesson 07, Better DQN."""

import torch

from cartpole_lessons.exercises import Exercise

_NETWORK = torch.tensor([[3.0, 5.0], [7.0, 2.0], [1.0, 0.0]])
_TARGET = torch.tensor([[4.0, 2.0], [6.0, 8.0], [3.0, 9.0]])


def _double_targets(rewards, discounts, network, target):
    """rewards, discounts: (n,), discount 0 after a fall; network, target: (n, 2), Q-values of the next state by both -> (n,)."""
    chosen = network.argmax(1)
    return rewards + discounts * target[torch.arange(len(chosen)), chosen]


double_targets = Exercise(
    "07.double_targets",
    _double_targets,
    inputs=[
        (torch.ones(3), torch.tensor([0.5, 0.5, 0.5]), _NETWORK, _TARGET),
        (torch.ones(3), torch.tensor([0.9, 0.0, 0.9]), _TARGET, _NETWORK),
        (torch.zeros(2), torch.ones(2), _NETWORK[:2], _TARGET[1:]),
    ],
    mistakes={
        "That is the ordinary target: the copy chooses and judges by itself.": lambda rewards, discounts, network, target: (
            rewards + discounts * target.max(1).values
        ),
        "That leaves the target network out: it is to say what the chosen push is worth.": lambda rewards, discounts, network, target: (
            rewards + discounts * network.max(1).values
        ),
        "The roles are swapped: the network chooses, the target judges.": lambda rewards, discounts, network, target: (
            rewards + discounts * network.gather(1, target.argmax(1, keepdim=True))[:, 0]
        ),
        "That is the smaller of two maxima, another cure for the same illness. Here one chooses and the other judges.": (
            lambda rewards, discounts, network, target: rewards + discounts * torch.minimum(network.max(1).values, target.max(1).values)
        ),
        "The discount is missing, and with it the zero after a fall.": lambda rewards, discounts, network, target: (
            rewards + target.gather(1, network.argmax(1, keepdim=True))[:, 0]
        ),
    },
    hints=[
        "Network 3 and 5, target 4 and 2: the network chooses the second push, and the target says that it is worth 2.",
        "argmax of one, value of the other.",
        "target.gather(1, network.argmax(1, keepdim=True)) has shape (n, 1).",
    ],
    shows="Where the two err differently, the judge does not repeat the chooser's error; the errors that they share remain.",
)


def _n_step_target(rewards, value, discount):
    """rewards: (n,) of n steps in a row; value: of the state after them -> what the first state was worth: a number."""
    target = value
    for reward in reversed(rewards):
        target = reward + discount * target
    return target


n_step_target = Exercise(
    "07.n_step_target",
    _n_step_target,
    inputs=[(torch.ones(3), 8.0, 0.5), (torch.tensor([1.0, 2.0]), 10.0, 0.9), (torch.tensor([2.0]), 3.0, 0.5)],
    mistakes={
        "The state at the end is n steps away, one more than the last reward: discount it n times.": lambda rewards, value, discount: (
            sum(discount**k * reward for k, reward in enumerate(rewards)) + discount ** (len(rewards) - 1) * value
        ),
        "The rewards have to be discounted, too: the second one is a step away.": lambda rewards, value, discount: (
            rewards.sum() + discount ** len(rewards) * value
        ),
        "The value at the end is discounted once only. How far away is it?": lambda rewards, value, discount: (
            sum(discount**k * reward for k, reward in enumerate(rewards)) + discount * value
        ),
        "The first reward comes at once, and is not discounted.": lambda rewards, value, discount: (
            sum(discount ** (k + 1) * reward for k, reward in enumerate(rewards)) + discount ** (len(rewards) + 1) * value
        ),
        "What comes after these steps is missing: the episode goes on.": lambda rewards, value, discount: sum(
            discount**k * reward for k, reward in enumerate(rewards)
        ),
    },
    hints=[
        "Three rewards of 1, a value of 8 and a discount of 0.5: 1 + 0.5 + 0.25 + 1 = 2.75.",
        "Work backwards: what is the last state worth, then the one before it?",
        "Begin with value; for each reward from the last to the first: target = reward + discount * target.",
    ],
    shows="The more real rewards, the less the opinion at the end counts: with three steps and a discount of one half, an eighth of it.",
)
