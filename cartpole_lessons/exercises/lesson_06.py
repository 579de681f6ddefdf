"""Lesson 06, DQN."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction

_Q = torch.tensor([[3.0, 5.0], [7.0, 2.0], [4.0, 4.5], [-1.0, -2.0]])


def _td_targets(rewards, terminated, next_values, discount):
    """rewards: (n,); terminated: bool (n,); next_values: (n, 2), Q of the next state's pushes -> targets (n,)."""
    return rewards + discount * next_values.max(1).values * ~terminated


td_targets = Exercise(
    "06.td_targets",
    _td_targets,
    inputs=[
        (torch.ones(4), torch.tensor([False, False, True, False]), _Q, 0.5),
        (torch.tensor([1.0, 0.0, 2.0, 1.0]), torch.tensor([True, False, False, False]), _Q, 0.9),
        (torch.ones(2), torch.tensor([False, True]), _Q[:2], 1.0),
    ],
    mistakes={
        "That is the mean over the pushes. The agent will take the better one.": lambda rewards, terminated, values, discount: (
            rewards + discount * values.mean(1) * ~terminated
        ),
        "After a fall nothing follows: the value of that state must not be counted.": lambda rewards, terminated, values, discount: (
            rewards + discount * values.max(1).values
        ),
        "The discount is missing.": lambda rewards, terminated, values, discount: rewards + values.max(1).values * ~terminated,
        "That is which push is better (argmax), not what it is worth (max).": lambda rewards, terminated, values, discount: (
            rewards + discount * values.argmax(1) * ~terminated
        ),
        "The step that fell has earned its reward. Only what follows is zero.": lambda rewards, terminated, values, discount: (
            (rewards + discount * values.max(1).values) * ~terminated
        ),
        "This is the largest value of the whole batch. Each state has its own: take the maximum along axis 1.": (
            lambda rewards, terminated, values, discount: rewards + discount * values.max() * ~terminated
        ),
        "Inverted: only the fallen have a future here.": lambda rewards, terminated, values, discount: (
            rewards + discount * values.max(1).values * terminated
        ),
    },
    hints=[
        "Reward 1, Q-values 3 and 5, discount 0.5: the target is 3.5. If the pole fell: 1.",
        "The best push in the next state, one step away, and nothing at all after a fall.",
        "next_values.max(1).values, times the discount, times zero where terminated.",
    ],
    shows="These few symbols are the target of Q-learning (Watkins, 1989). Much of the rest of the lesson is there to make it stable.",
)

ceiling = Prediction(
    "06.ceiling",
    100.0,
    within=0.001,
    hints=["One point per step for ever: 1 + g + g * g + ... has a closed form.", "1 / (1 - discount)"],
    shows="No state can be worth more than 100: any larger value is an error, and a target that is computed from it hands the error on.",
)
