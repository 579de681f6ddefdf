"""Lesson 00, Meet CartPole."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction

ends_how = Prediction(
    "00.ends_how",
    "truncated",
    choices={
        "terminated": "Terminated means that something happened in the world: a fall, or the end of the track. What happened here?",
        "both": "Only one of the two is set. Did anything happen in the world?",
    },
    hints=["Who or what stopped the episode: the physics, or a clock?"],
    shows="The pole still stands. Only the clock has stopped the episode, and that is called truncated.",
)


def _real_steps(done):
    """done: bool (T,) -> bool (T,), False where a step only reset the environment."""
    after_the_end = torch.cat([torch.tensor([False]), done[:-1]])
    return ~after_the_end


real_steps = Exercise(
    "00.real_steps",
    _real_steps,
    inputs=[
        (torch.tensor([False, False, True, False, False, True, False]),),
        (torch.tensor([True, False, True, False]),),
        (torch.tensor([False, False, False]),),
    ],
    mistakes={
        "The step at which an episode ends is real: it has a reward and a true last observation. It is the one after it that only resets.": lambda done: (
            ~done
        ),
        "You left out the step before the end. Count again: the reset comes one step after `done`.": lambda done: (
            ~torch.cat([done[1:], torch.tensor([False])])
        ),
        "Inverted: these are the steps that do not count.": lambda done: torch.cat([torch.tensor([False]), done[:-1]]),
        "You left out two steps per episode. Only one of them resets.": lambda done: (
            ~(done | torch.cat([torch.tensor([False]), done[:-1]]))
        ),
        "All steps are kept, also those that only reset an environment.": lambda done: torch.ones_like(done),
    },
    hints=[
        "For done = [F, F, T, F, F, T, F] two steps drop out, one after each True: the fourth and the seventh.",
        "A step resets if the step before it was the last of an episode.",
        "Shift `done` by one place, with False in front, and invert it.",
    ],
    shows="Every batch of this course leaves these steps out.",
)
