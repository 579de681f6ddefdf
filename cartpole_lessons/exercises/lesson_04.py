"""Lesson 04, Actor-critic."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction

_REWARDS, _VALUES = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([8.0, 6.0, 4.0])
_FELL, _OUT_OF_TIME = torch.tensor([False, True, False]), torch.tensor([False, False, True])


def _td_targets(rewards, next_values, terminated, truncated, discount):
    """rewards, next_values: (n,); terminated, truncated: bool (n,) -> (n,), what each state was worth, one step ahead."""
    return rewards + discount * next_values * ~terminated


td_targets = Exercise(
    "04.td_targets",
    _td_targets,
    inputs=[
        (_REWARDS, _VALUES, _FELL, _OUT_OF_TIME, 0.5),
        (_REWARDS, _VALUES, _OUT_OF_TIME, _FELL, 0.9),
        (2 * _REWARDS, _VALUES, torch.tensor([True, True, False]), torch.tensor([False, False, False]), 1.0),
    ],
    mistakes={
        "You treat running out of time as a fall. The pole still stands there: its future is worth what the critic says.": (
            lambda rewards, values, terminated, truncated, discount: rewards + discount * values * ~(terminated | truncated)
        ),
        "Swapped: you zero the future of the episodes that ran out of time, and keep that of the fallen.": (
            lambda rewards, values, terminated, truncated, discount: rewards + discount * values * ~truncated
        ),
        "After a fall nothing comes any more: the value of that state must not be counted.": (
            lambda rewards, values, terminated, truncated, discount: rewards + discount * values
        ),
        "The discount is missing: the next state is one step away.": lambda rewards, values, terminated, truncated, discount: (
            rewards + values * ~terminated
        ),
        "The step that fell has earned its reward. Only what follows is zero.": lambda rewards, values, terminated, truncated, discount: (
            (rewards + discount * values) * ~terminated
        ),
        "Inverted: only the fallen have a future here.": lambda rewards, values, terminated, truncated, discount: (
            rewards + discount * values * terminated
        ),
    },
    hints=[
        "Reward 1, the next state is worth 8, discount 0.5: the target is 5. If the pole fell in this step: 1.",
        "Which of the two flags says that there is no future?",
        "rewards + discount * next_values, with the second term zero where terminated is True.",
    ],
    shows="One flag decides, and it is not `done`. Gymnasium split that in two for this very line.",
)

forgotten_detach = Prediction(
    "04.forgotten_detach",
    "critic",
    choices={
        "actor": "The actor is meant to get a gradient from its own loss. Who gets one in addition?",
        "both": "One of the two gets the gradient that it should, as before. Who gets one in addition?",
        "neither": "The advantage is computed from the critic's values. What does backward() do with them?",
    },
    hints=["The actor's loss is log-probability times advantage. What was the advantage computed from?"],
    shows="The critic would be pulled towards making the actor's loss small, and away from predicting well. No error is raised.",
)
