"""Lesson 08, Continuous CartPole."""

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
    shows="One line further up or down, and a swinging pole no longer gains energy. Gymnasium has it as kinematics_integrator.",
)
