"""Save a policy and what it takes to rebuild it, or the state of a whole training, to one file, and load it without ever running what is in
the file.

The format is NumPy's .npz (a zip archive, each entry with a checksum): one array per weight, and `metadata`, a JSON text. There is no
pickle in it, neither written nor accepted, so a downloaded checkpoint can be wrong but not dangerous.
"""

import contextlib
import inspect
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cartpole_lessons.errors import CheckpointError, in_short
from cartpole_lessons.files import atomic_write
from cartpole_lessons.policy import Policy
from cartpole_lessons.seeding import seeded

FORMAT = "cartpole-lessons checkpoint 1"
#: No lesson's policy comes near this; a file that claims more would only fill the memory.
LARGEST_CHECKPOINT = 64 * 2**20  # bytes
STATE_FORMAT = "cartpole-lessons state 1"
#: Room for a replay memory of 20 million transitions.
LARGEST_STATE = 2**30  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    lesson: str
    env_id: str
    seed: int
    hyperparameters: dict[str, Any]
    mean_return: float | None  #: of the evaluation when it was saved
    weights: dict[str, torch.Tensor]


def save_checkpoint(
    path: str | os.PathLike,
    policy: Policy | Mapping[str, torch.Tensor],
    *,
    lesson: str,
    env_id: str,
    seed: int,
    hyperparameters: dict[str, Any],
    mean_return: float | None = None,
) -> Path:
    """Write `policy`, or its `state_dict()`, to `path`, whole or not at all: a file that was there stays until the new one is complete."""
    path = Path(path)
    state = policy if isinstance(policy, Mapping) else policy.state_dict()
    weights = {f"weights/{name}": tensor.detach().cpu().numpy() for name, tensor in state.items()}
    unstorable = [f"{name}={value!r}" for name, value in hyperparameters.items() if not _is_json(value)]
    if unstorable:
        raise CheckpointError(
            f"Hyperparameters are stored as JSON, which cannot hold {', '.join(unstorable)}: pass plain numbers, texts or lists."
        )
    metadata = {
        "format": FORMAT,
        "lesson": lesson,
        "env_id": env_id,
        "seed": seed,
        "hyperparameters": hyperparameters,
        "mean_return": mean_return,
    }
    _write_archive(path, metadata, weights, "checkpoint")
    return path


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint. `CheckpointError` on anything that is not exactly one: cut short, altered, a pickle, another program's."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}: check the name, or save one with result.save(...).")
    with _refusing(path, "checkpoint", "save it again"):
        metadata, arrays = _read_archive(path, FORMAT, LARGEST_CHECKPOINT)
        if not isinstance(metadata["hyperparameters"], dict):
            raise ValueError("parts of it are missing or have unexpected names")
        weights = {name.removeprefix("weights/"): torch.from_numpy(array) for name, array in arrays.items()}
        return Checkpoint(
            path,
            str(metadata["lesson"]),
            str(metadata["env_id"]),
            int(metadata["seed"]),
            metadata["hyperparameters"],
            metadata["mean_return"],
            weights,
        )


def load_policy(path: str | os.PathLike, policy_class: type[Policy]) -> Policy:
    """Rebuild the policy that `path` holds. `policy_class` is the lesson's own, for example `policy_gradient.PolicyNetwork`.

    Of the stored hyperparameters those that the class's constructor names are passed to it.
    """
    checkpoint = load_checkpoint(path)
    lesson = policy_class.__module__.rpartition(".")[2]
    # In a notebook the class lives in __main__: then only the weights can tell whether it fits.
    if lesson not in ("__main__", checkpoint.lesson):
        raise CheckpointError(
            f"{path} was saved by the lesson {checkpoint.lesson!r}, but {policy_class.__name__} is from {lesson!r}: use that lesson's policy class."
        )
    named = inspect.signature(policy_class).parameters
    keywords = {name: value for name, value in checkpoint.hyperparameters.items() if name in named}
    try:
        with seeded(0):  # a new network draws its first weights
            _check_shapes(policy_class, keywords, checkpoint.weights)
            policy = policy_class(**keywords)
        policy.load_state_dict(checkpoint.weights)
    except (RuntimeError, TypeError, ValueError):
        raise CheckpointError(
            f"The weights in {path} (lesson {checkpoint.lesson!r}) do not fit {policy_class.__name__}: use the policy class that they were saved from."
        ) from None
    return policy.eval()


def save_state(path: str | os.PathLike, state: Any) -> Path:
    """Write `state`, as `states.state_of` takes it, to `path`, whole or not at all."""
    path, arrays = Path(path), {}
    try:
        metadata = {"format": STATE_FORMAT, "state": _to_json(state, arrays)}
        size = sum(array.nbytes for array in arrays.values())
        if size > LARGEST_STATE:
            raise ValueError(f"it has {size / 2**20:,.0f} MB, and may have {LARGEST_STATE // 2**20:,}")
        _write_archive(path, metadata, arrays, "state of a training")
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The state of a training cannot be written ({in_short(error)}): keep less of it, and only numbers and texts."
        ) from None
    return path


def load_state(path: str | os.PathLike) -> Any:
    """Read back what `save_state` wrote; types, shapes and every bit are the same. `CheckpointError` on anything else."""
    path = Path(path)
    with _refusing(path, "state of a training", "delete it"):
        metadata, arrays = _read_archive(path, STATE_FORMAT, LARGEST_STATE)
        return _from_json(metadata["state"], arrays)


def _to_json(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON has it. What JSON has no word for is {kind: content}; arrays go into `arrays`, and their names stand for them."""
    for kind, of_kind in _ARRAYS.items():
        if isinstance(value, of_kind):
            name = f"{kind}{len(arrays)}"
            arrays[name] = value.detach().cpu().numpy() if kind == "tensor" else np.asarray(value)
            return {kind: name}
    if isinstance(value, dict):
        return {"dict": [[_to_json(key, arrays), _to_json(each, arrays)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_to_json(each, arrays) for each in value]}
    if isinstance(value, list):
        return [_to_json(each, arrays) for each in value]
    return value


def _from_json(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_from_json(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return torch.from_numpy(arrays[content])
        case "array":
            return arrays[content]
        case "number":
            return arrays[content][()]
        case "dict":
            return {_from_json(key, arrays): _from_json(each, arrays) for key, each in content}
        case "tuple":
            return tuple(_from_json(each, arrays) for each in content)
    raise ValueError(f"it holds a {kind!r}, which is unknown")


#: NumPy's numbers keep their type: a float64 of NumPy's and one of Python's do not always square to the same last bit.
_ARRAYS = {"tensor": torch.Tensor, "array": np.ndarray, "number": np.generic}


def _write_archive(path: Path, metadata: dict[str, Any], arrays: dict[str, np.ndarray], what: str) -> None:
    """Write both to one file; `CheckpointError` where the disk does not want it. what: "checkpoint", for its sentence."""
    # The zip format notices an altered entry, but not one that is gone.
    text = json.dumps(metadata | {"entries": sorted(arrays)})
    try:
        with atomic_write(path) as file:
            np.savez(file, metadata=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    except OSError as error:
        raise CheckpointError(
            f"The {what} cannot be written to {path.parent} ({error.strerror or error}): choose a folder with space that you may write to."
        ) from None


def _read_archive(path: Path, format: str, largest: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `_write_archive` wrote; fails in as many ways as there are bytes in the file (see `_refusing`)."""
    # Read in one piece: the archive's directory may claim any length, and zipfile would ask a file for as much.
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"it is larger than {largest // 2**20} MB")
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise ValueError("it would unpack to more than it is")
        arrays = {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in archive.infolist()}
    metadata = json.loads(arrays.pop("metadata").tobytes())
    if metadata["format"] != format:
        raise ValueError(f"its format is {metadata['format']!r}")
    if metadata["entries"] != sorted(arrays):
        raise ValueError("parts of it are missing or have unexpected names")
    return metadata, arrays


@contextlib.contextmanager
def _refusing(path: Path, what: str, advice: str) -> Iterator[None]:
    """Whatever goes wrong inside is the file's fault: `CheckpointError`, and what to do about it. what: "checkpoint", for its sentence."""
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): look at who may read it.") from None
    # A damaged archive fails in many ways, MemoryError and NotImplementedError among them.
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a whole {what} of this course ({in_short(error)}): it was cut short, altered, or made by another program; {advice}."
        ) from None


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """The array in an .npy entry of plain numbers. Unlike NumPy's own reader it takes memory for what is in the file, not for what a
    header claims."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        data = file.read()  # to the end, where the checksum is compared
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry.filename} has another size than it says")
    # A copy, because that buffer cannot be written to.
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C").copy()


def _check_shapes(policy_class: type[Policy], keywords: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """`ValueError` unless the policy would have weights of just these shapes; found out on torch's device without memory.

    A file may ask for a network of any size, and building that would be too late to notice.
    """
    try:
        with torch.device("meta"):
            expected = policy_class(**keywords).state_dict()
    except RuntimeError:  # a class of one's own may do what this device cannot, and if the size is at fault the next try says so
        return
    if {name: tensor.shape for name, tensor in expected.items()} != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("other shapes")


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
