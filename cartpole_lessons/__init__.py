"""Reinforcement learning on CartPole with PyTorch: what the lessons share, and the algorithms that they export."""

from cartpole_lessons.display import setup
from cartpole_lessons.doctor import doctor

__version__ = "0.1.0"
__all__ = ["doctor", "setup"]
