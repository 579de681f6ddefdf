"""Lesson 08, Continuous CartPole."""

import numpy as np

from cartpole_lessons.exercises import Exercise


def _semi_implicit(position, velocity, acceleration, tau):
    """A step of tau seconds in which the position already moves with the new velocity -> (position, velocity)."""
    velocity = velocity + tau * acceleration
    return position + tau * velocity, velocity


semi_implicit = Exercise(
    "08.semi_implicit",
    _semi_implicit,
    inputs=[(0.0, 1.0, 10.0, 0.02), (2.0, 0.0, -5.0, 0.1), (-1.0, 3.0, 0.0, 0.5)],
    mistakes={
        "That is Euler's step: the position moves with the old velocity. Let it move with the new one.": lambda x, v, a, tau: (
            x + tau * v,
            v + tau * a,
        ),
        "The order of the answer is position, then velocity.": lambda x, v, a, tau: (v + tau * a, x + tau * (v + tau * a)),
        "Where is the time step in the position? Metres per second have to be multiplied by seconds.": lambda x, v, a, tau: (
            x + v + tau * a,
            v + tau * a,
        ),
        "That is the mean of the old and the new velocity, which is right for a constant acceleration, but it is another method.": (
            lambda x, v, a, tau: (x + tau * (v + tau * a / 2), v + tau * a)
        ),
        "The acceleration changes the velocity by tau * acceleration, not by all of it.": lambda x, v, a, tau: (x + tau * (v + a), v + a),
    },
    hints=[
        "From rest at 2 m with an acceleration of -5 for 0.1 s: the velocity is then -0.5, and the position 1.95.",
        "Which of the two has to be computed first?",
        "New velocity first; then position + tau * (new velocity).",
    ],
    shows="Swap two lines, and a swinging pole no longer swings higher and higher. Gymnasium's CartPole offers the choice as kinematics_integrator.",
)


def _with_friction(force, velocity, friction):
    """force [N], velocity [m/s]: (n,); friction [N s/m] -> (n,), all that pushes the cart [N]."""
    return force - friction * velocity


with_friction = Exercise(
    "08.with_friction",
    _with_friction,
    inputs=[
        (np.array([10.0, 10.0, -10.0, 0.0]), np.array([2.0, -2.0, 0.5, 1.0]), 0.5),
        (np.array([5.0, -5.0]), np.array([0.0, -1.5]), 2.0),
        (np.array([1.0]), np.array([3.0]), 0.0),
    ],
    mistakes={
        "The sign is the other way round: this friction drives the cart on, and its energy grows.": (
            lambda force, velocity, friction: force + friction * velocity
        ),
        "It always points to the left. Friction points against the motion, whichever way that goes.": (
            lambda force, velocity, friction: force - friction * np.abs(velocity)
        ),
        "This friction is equally strong at any speed. The one that was asked for grows with the velocity.": (
            lambda force, velocity, friction: force - friction * np.sign(velocity)
        ),
        "The push is gone: friction is added to it, and does not replace it.": lambda force, velocity, friction: -friction * velocity,
        "Friction weakens your push here. It acts on the cart, also where nobody pushes.": (
            lambda force, velocity, friction: force * (1 - friction)
        ),
        "That grows with the square of the velocity, as the air's resistance does.": (
            lambda force, velocity, friction: force - friction * velocity * np.abs(velocity)
        ),
    },
    hints=[
        "A push of 10 N, 2 m/s to the right, friction 0.5 N s/m: 9 N are left. At 2 m/s to the left they become 11 N.",
        "Force times velocity is power. That of friction is never positive.",
        "friction * velocity has the right size. Which sign?",
    ],
    shows="The power of friction, its force times the velocity, is never above zero. So the energy is its test, with a small enough step: with friction and without a push it falls. (A large Euler step has a gain of its own.)",
)
