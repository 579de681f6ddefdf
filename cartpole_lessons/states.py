"""The state of whatever a training changes, taken as plain data and put back: networks, optimizers, environments, generators, memories."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from cartpole_lessons.errors import CheckpointError

_DATA = (type(None), bool, int, float, str, np.generic, np.ndarray, torch.Tensor)


def state_of(part: Any) -> Any:
    """What `part` is made of at this moment: numbers, texts, arrays and tensors, in lists, tuples and dicts.

    It is what `part.state_dict()` says where there is one (networks, optimizers, Ignite's engines). Of environments it is what their
    wrappers and themselves know (state, steps so far, generators), of a random generator where it stands, of any other object its
    attributes. Tensors and arrays are those of `part`, not copies. `CheckpointError` names an attribute that is none of these.
    """
    if _has_a_state(part) or isinstance(part, _DATA):
        return _state(part)
    attributes = {}
    for name, value in vars(part).items():
        try:
            attributes[name] = _state(value)
        except TypeError:
            raise CheckpointError(
                f"{type(part).__name__}.{name} cannot be kept, because {type(value).__name__} is neither a number, text, array or tensor, "
                "nor made of these: give the class state_dict() and load_state_dict(state), as torch's own have."
            ) from None
    return attributes


def restore(part: Any, state: Any) -> None:
    """Give `part` the state that `state_of` took of one that had been made in the same way."""
    if isinstance(part, torch.Tensor):
        if part.shape != state.shape:
            raise ValueError(f"a tensor has shape {tuple(part.shape)}, but its state {tuple(state.shape)}")
        part.data.copy_(state)
    elif hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    elif isinstance(part, gym.Space):
        restore(part.np_random, state)
    else:
        for name, value in state.items():
            setattr(part, name, _put_back(getattr(part, name, None), value))


def _has_a_state(value: Any) -> bool:
    """Whether `value` is one of those things that stay what they are while their state changes."""
    return hasattr(value, "state_dict") or isinstance(value, np.random.Generator | gym.Space | gym.Env | VectorEnv)


def _state(value: Any) -> Any:
    """`TypeError` where `value` is neither data nor made of data and of things that have a state."""
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise TypeError
    if isinstance(value, _DATA):
        return value
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(_state(each) for each in value)
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, Mapping):
        return {key: _state(each) for key, each in value.items()}
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, gym.Space):  # all that changes in a space is the generator that samples it
        return _state(value.np_random)
    if isinstance(value, gym.Env | VectorEnv):
        attributes = {}
        for name, each in vars(value).items():
            try:
                attributes[name] = _state(each)
            except TypeError:
                continue  # a window, a specification: nothing that an episode changes
        return attributes
    raise TypeError


def _put_back(current: Any, state: Any) -> Any:
    """The value of an attribute: `current` itself with its state put back, or the data that `state` is."""
    if _has_a_state(current):
        restore(current, state)
        return current
    if isinstance(current, torch.Tensor) and isinstance(state, torch.Tensor):
        return state.to(current.device)
    if isinstance(current, list | tuple) and isinstance(state, list | tuple) and len(current) == len(state):
        return type(state)([_put_back(*pair) for pair in zip(current, state, strict=True)])
    return state
