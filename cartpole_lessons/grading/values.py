"""Values that cross the border between the grader and a student's process: as JSON, never as pickles, which could run code here."""

import itertools
import json
import math
from typing import Any

import numpy as np
import torch

#: A longer line is none of an answer to an exercise [bytes].
LONGEST_LINE = 1_000_000
TORCH_DTYPES = {
    str(kind): kind for kind in (torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64)
}


class Unknown:
    """Something that is no number, word, list, array or tensor; all that is known of it is how it looks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def encode(value: Any) -> Any:
    """`value` as JSON can hold it; `TypeError` for what has no such form."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if value is ...:
        return {"dots": True}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [encode(part) for part in itertools.islice(value, 10_000)]}
    if math.prod(getattr(value, "shape", ())) > LONGEST_LINE:  # a list of so many numbers takes minutes
        raise TypeError(f"{type(value).__name__} of this size cannot be sent")
    if isinstance(value, torch.Tensor) and str(value.dtype) in TORCH_DTYPES:
        return {"tensor": value.detach().cpu().tolist(), "dtype": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return {"array": value.tolist(), "dtype": value.dtype.str, "shape": list(value.shape)}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def decode(sent: Any) -> Any:
    """What `encode` made; `ValueError` or `TypeError` for anything that it could not have made."""
    if not isinstance(sent, dict):
        return sent
    match sent:
        case {"dots": _}:
            return ...
        case {"list": list(parts)}:
            return [decode(part) for part in parts]
        case {"tuple": list(parts)}:
            return tuple(decode(part) for part in parts)
        case {"tensor": data, "dtype": str(name), "shape": list(shape)} if name in TORCH_DTYPES:
            return torch.tensor(data, dtype=TORCH_DTYPES[name]).reshape(shape)
        case {"array": data, "dtype": str(name), "shape": list(shape)} if np.dtype(name).kind in "biuf":
            return np.array(data, dtype=name).reshape(shape)
        case {"unknown": str(text)}:
            return Unknown(text)
    raise ValueError("no value")


def encode_answer(value: Any) -> Any:
    """As `encode`, for whatever a student may have returned."""
    try:
        sent = encode(value)
        if len(json.dumps(sent)) < LONGEST_LINE // 2:
            return sent
    except Exception:
        pass
    try:
        shape = getattr(value, "shape", None)
        return {"unknown": f"something of shape {tuple(shape)}" if shape is not None else repr(value)[:100]}
    except Exception:
        return {"unknown": type(value).__name__}
