"""Lesson 02, Policy gradient."""

import torch

from cartpole_lessons.exercises import Exercise


def _score(logits, action):
    """logits: (A,), action: int -> (A,), the gradient of log pi(action) with respect to the logits."""
    one_hot = torch.zeros_like(logits)
    one_hot[action] = 1
    return one_hot - logits.softmax(0)


def _one_hot(logits, action):
    return torch.eye(len(logits))[action]


score = Exercise(
    "02.score",
    _score,
    inputs=[(torch.tensor([0.0, 0.0]), 0), (torch.tensor([0.0, 0.0]), 1), (torch.tensor([1.0, -1.0, 0.5]), 2)],
    mistakes={
        "The sign is the other way round: it has to make the action that was taken likelier.": lambda logits, action: (
            logits.softmax(0) - _one_hot(logits, action)
        ),
        "This is the gradient of the probability. The score is that of its logarithm.": lambda logits, action: (
            logits.softmax(0)[action] * (_one_hot(logits, action) - logits.softmax(0))
        ),
        "That pulls the action up and nothing down. Probabilities add up to one, so the others have to give way.": _one_hot,
        "These are the log-probabilities themselves, not their gradient.": lambda logits, action: logits.log_softmax(0),
        "This subtracts the logits. Subtract the probabilities.": lambda logits, action: _one_hot(logits, action) - logits,
    },
    hints=[
        "Two actions that are equally likely, and action 0 was taken: the score is 0.5 and -0.5.",
        "The logarithm of the softmax is the logit of the action minus the logarithm of a sum. Differentiate both parts.",
        "One-hot vector of the action, minus the probabilities.",
    ],
    shows="Times the advantage of the push, and passed back through the network, this is the policy gradient of one push. Its entries add up to zero: what one action gains, the others lose.",
)


def _leave_one_out(returns):
    """returns: (n,) of n episodes -> (n,), each minus the mean of the others."""
    others = (returns.sum() - returns) / (len(returns) - 1)
    return returns - others


leave_one_out = Exercise(
    "02.leave_one_out",
    _leave_one_out,
    inputs=[(torch.tensor([10.0, 20.0, 60.0]),), (torch.tensor([1.0, 3.0]),), (torch.tensor([5.0, 5.0, 5.0, 9.0]),)],
    mistakes={
        "Each is compared with a mean that it is part of itself. Leave it out.": lambda returns: returns - returns.mean(),
        "The sign is the other way round: better than the others is positive.": lambda returns: (
            (returns.sum() - returns) / (len(returns) - 1) - returns
        ),
        "This is the mean of the others alone. How much better was each?": lambda returns: (returns.sum() - returns) / (len(returns) - 1),
        "There are only n - 1 others: divide by n - 1: divide by n - 1.": lambda returns: (
            returns - (returns.sum() - returns) / len(returns)
        ),
        "This subtracts the sum of the others. Subtract their mean.": lambda returns: returns - (returns.sum() - returns),
    },
    hints=[
        "Returns 10, 20 and 60: the first is compared with 40, the second with 35, the third with 15.",
        "The sum of the others is the sum of all, minus this one.",
        "others = (returns.sum() - returns) / (len(returns) - 1)",
    ],
    shows="A baseline may depend on anything that the action has no influence on. The other episodes' returns are such a thing, so this one adds no bias at all.",
)
