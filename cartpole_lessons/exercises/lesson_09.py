"""Lesson 09, Gaussian REINFORCE."""

import torch

from cartpole_lessons.exercises import Exercise, Prediction


def _score_of_mean(actions, means, deviations):
    """actions, means, deviations: (n,) -> (n,), the gradient of the log-density of each action with respect to its mean."""
    return (actions - means) / deviations**2


score_of_mean = Exercise(
    "09.score_of_mean",
    _score_of_mean,
    inputs=[
        (torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0.0, 0.0, 0.5]), torch.tensor([0.5, 1.0, 2.0])),
        (torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.1])),
        (torch.tensor([0.3, 0.3]), torch.tensor([0.3, 0.1]), torch.tensor([0.2, 0.4])),
    ],
    mistakes={
        "The sign is the other way round: it has to move the mean towards the action.": lambda actions, means, deviations: (
            (means - actions) / deviations**2
        ),
        "Divided by the deviation once only. The exponent of the density has its square.": lambda actions, means, deviations: (
            (actions - means) / deviations
        ),
        "Your answer ignores the deviation. The surer the policy, the more an action away from the mean says.": (
            lambda actions, means, deviations: actions - means
        ),
        "That is the log-density itself. Differentiate it with respect to the mean.": lambda actions, means, deviations: (
            torch.distributions.Normal(means, deviations).log_prob(actions)
        ),
        "A factor of two is left: the square in the exponent is halved, and its derivative brings a two.": (
            lambda actions, means, deviations: 2 * (actions - means) / deviations**2
        ),
    },
    hints=[
        "Action 1, mean 0, deviation 0.5: the score is 4.",
        "Write down the logarithm of the density. Only one term contains the mean.",
        "The derivative of -(a - m)**2 / (2 * s**2) with respect to m.",
    ],
    shows="The smaller the deviation, the larger the score: a policy that is sure of itself takes violent steps. One more reason to keep the deviation above a bound.",
)


cut_off = Prediction(
    "09.cut_off",
    42.1,
    within=0.05,
    hints=[
        "The bound is 0.1 above the mean. How many deviations is that?",
        "A share of 1 - Phi(0.2) of a normal distribution lies more than 0.2 deviations above its mean.",
    ],
    shows="All of them would be scored as 1.0, which is not what the policy drew: so the lesson scores what was drawn, and cuts on the way to the environment.",
)
