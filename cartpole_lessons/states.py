"""The state of whatever a training changes, taken as plain data and put back: networks, optimizers, environments, generators, memories.

A *part* is something that stays what it is while its state changes: a network, a generator, an environment, an object with attributes. Its
state is `{"part": its type, "state": data}`. *Data* are numbers, texts, arrays and tensors, in lists, tuples and dicts, and states of parts.
"""

import random
import sys
import types
from collections import OrderedDict, deque
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from cartpole_lessons.errors import CheckpointError, InvalidInput
from cartpole_lessons.seeding import check_position

_DATA = (type(None), bool, int, float, str, np.generic, np.ndarray, torch.Tensor)
#: Attributes that a training does not change: they are left as they are.
_UNCHANGING = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, Enum, np.dtype, torch.dtype, torch.device, EnvSpec,
)  # fmt: skip


def check_part(part: Any) -> Any:
    """`part` itself; `InvalidInput` where no state could be put back into it, since a number or a text is no thing that changes."""
    if isinstance(part, torch.Tensor | np.ndarray | list | dict | deque) or _is_part(part):
        return part
    raise InvalidInput(
        f"What is kept has to be a thing that changes, but {part!r} is a {type(part).__name__}: "
        "pass a number as torch.tensor(0.0), and change it in place."
    )


def state_of(part: Any) -> Any:
    """What `part` is made of at this moment, as data.

    It is what `part.state_dict()` says where there is one (networks, optimizers, Ignite's engines). Of environments it is what their
    wrappers and themselves know (state, steps so far, generators), of a random generator where it stands, of any other object its
    attributes. Tensors and arrays are those of `part`, not copies. `CheckpointError` names an attribute that cannot be kept.
    """
    try:
        return _state(check_part(part))
    except (TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{type(part).__name__} cannot be kept ({str(error)[:150]}): give its class state_dict() and load_state_dict(state), as torch's own have."
        ) from None


def restore(part: Any, state: Any) -> None:
    """Give `part` the state that `state_of` took of one that had been made in the same way. `ValueError` and others where it does not fit."""
    if _put_back(part, state, in_place=True) is not part:
        raise ValueError(f"a {type(part).__name__} was kept in another shape or type")


def _is_part(value: Any) -> bool:
    if isinstance(value, type):
        return False
    return (
        hasattr(value, "state_dict")
        or isinstance(
            value, np.random.Generator | random.Random | torch.Generator | gym.Space | gym.Env | VectorEnv | types.SimpleNamespace
        )
        # What the standard library has open or running (files, processes, locks) is more than its attributes.
        or (hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in sys.stdlib_module_names)
    )


def _state(value: Any) -> Any:
    """`TypeError` where `value` is neither data nor a part."""
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise TypeError("an array of Python objects")
    if isinstance(value, _DATA):
        return value
    if type(value) in (list, tuple, deque):
        return (tuple if type(value) is tuple else list)(_state(each) for each in value)
    if type(value) in (dict, OrderedDict):
        return {key: _state(each) for key, each in value.items() if not _is_unchanging(each)}
    if not _is_part(value):
        raise TypeError(f"{type(value).__name__} is neither number, text, array or tensor, nor made of these")
    return {"part": type(value).__name__, "state": _state_of_part(value)}


def _state_of_part(part: Any) -> Any:
    if hasattr(part, "state_dict"):
        return _state(part.state_dict())
    if isinstance(part, np.random.Generator):
        return _state(part.bit_generator.state)
    if isinstance(part, random.Random):
        return part.getstate()
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, gym.Space):  # all that changes in a space is the generator that samples it
        return _state(part.np_random)
    attributes = {}
    for name, value in vars(part).items():
        if _is_unchanging(value):
            continue
        try:
            attributes[name] = _state(value)
        except TypeError as error:
            raise TypeError(f"{type(part).__name__}.{name}: {error}") from None
    return attributes


def _is_unchanging(value: Any) -> bool:
    """Whether an attribute is left as it is: a function, a specification, a window of pygame's, or a list of such things."""
    if isinstance(value, list | tuple) and len(value) > 0:
        return all(map(_is_unchanging, value))
    return isinstance(value, _UNCHANGING) or type(value).__module__.startswith("pygame")


def _put_back(current: Any, state: Any, in_place: bool = False) -> Any:
    """`current` itself with its state put back, where it is something that can take it; otherwise the data that `state` is.

    in_place: arrays take the values as well, where they can. Otherwise only weights do, which an optimizer holds too: of other arrays one
    may stand in many places at first (a queue filled with zeros), and in each of them for itself later.
    """
    if isinstance(state, dict) and state.keys() == {"part", "state"}:
        if not _is_part(current) or type(current).__name__ != state["part"]:
            raise ValueError(f"a {state['part']} was kept where there is a {type(current).__name__}")
        _put_back_part(current, state["state"])
        return current
    if isinstance(current, torch.Tensor) and isinstance(state, torch.Tensor):
        if not (in_place or current.requires_grad) or current.shape != state.shape or current.dtype != state.dtype:
            return state.to(current.device)
        current.data.copy_(state)
        return current
    if in_place and isinstance(current, np.ndarray) and isinstance(state, np.ndarray) and current.shape == state.shape:
        current[...] = state
        return current
    if isinstance(current, list | tuple | deque) and isinstance(state, list | tuple):
        back = [_put_back(*pair) for pair in zip(current, state, strict=True)] if len(current) == len(state) else _all_data(state)
        if isinstance(current, tuple):
            return tuple(back)
        current.clear()
        current.extend(back)
        return current
    if isinstance(current, dict) and isinstance(state, dict):
        back = {key: _put_back(current.get(key), each) for key, each in state.items()}
        for key in [key for key, value in current.items() if key not in back and not _is_unchanging(value)]:
            del current[key]
        current.update(back)
        return current
    return _all_data(state)


def _all_data(state: Any) -> Any:
    """`state` itself; `ValueError` where it holds that of a part, which only that part could take."""
    if isinstance(state, dict) and state.keys() == {"part", "state"}:
        raise ValueError(f"a {state['part']} was kept that is not there")
    if isinstance(state, dict | list | tuple):
        for each in state.values() if isinstance(state, dict) else state:
            _all_data(each)
    return state


def _put_back_part(part: Any, state: Any) -> None:
    if hasattr(part, "state_dict"):
        settings = [_types(group) for group in part.param_groups] if isinstance(part, torch.optim.Optimizer) else None
        part.load_state_dict(_all_data(state))
        if settings is not None:
            if settings != [_types(group) for group in part.param_groups]:
                raise ValueError("the optimizer's settings are of other types")
            _check_fused(part)
    elif isinstance(part, np.random.Generator):
        check_position(state["state"].get("pos", 0))
        part.bit_generator.state = state
    elif isinstance(part, random.Random):
        part.setstate(state)
    elif isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(part, gym.Space):
        _put_back(part.np_random, state)
    else:
        if isinstance(part, gym.Env | VectorEnv) and state.get("_np_random") is not None:
            _ = part.np_random  # an environment that was never seeded makes its generator when it is asked for it
        own = vars(part)
        for name, value in state.items():
            # Neither a method nor a property is an attribute that can be given a state.
            if name not in own and getattr(type(part), name, None) is not None:
                raise ValueError(f"{type(part).__name__}.{name} is not an attribute")
            setattr(part, name, _put_back(own.get(name), value))


def _types(settings: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in settings.items()}


def _check_fused(optimizer: torch.optim.Optimizer) -> None:
    """`ValueError` where the state of a fused optimizer has other shapes than its parameters: it computes without asking."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("fused") else ():
            for name, value in optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape != parameter.shape:
                    raise ValueError(f"the optimizer's {name} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
