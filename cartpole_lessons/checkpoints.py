"""Save a policy and what it takes to rebuild it to one file, and load it without ever running what is in the file.

The format is NumPy's .npz (a zip archive, each entry with a checksum): one array per weight, and `metadata`, a JSON text. There is no
pickle in it, neither written nor accepted, so a downloaded checkpoint can be wrong but not dangerous.
"""

import inspect
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch

from cartpole_lessons._support.checks import check_seed
from cartpole_lessons._support.files import atomic_write, cannot_write
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.errors import CheckpointError, InvalidInput, in_short
from cartpole_lessons.hyperparameters import check_value
from cartpole_lessons.policy import Policy

FORMAT = "cartpole-lessons checkpoint 2"
#: No lesson's policy comes near this; a file that claims more would only fill the memory.
LARGEST_CHECKPOINT = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    path: Path
    lesson: str
    policy: str  #: module and class, "policy_gradient.PolicyNetwork": a name to compare with, never one to import
    env_id: str
    seed: int
    hyperparameters: dict[str, Any]
    mean_return: float | None  #: of the evaluation when it was saved
    weights: dict[str, torch.Tensor]


def save_checkpoint(
    path: str | os.PathLike,
    policy: Policy,
    *,
    lesson: str,
    env_id: str,
    seed: int,
    hyperparameters: dict[str, Any],
    mean_return: float | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write `policy` to `path`, whole or not at all: a file that was there stays until the new one is complete.

    weights: a `state_dict()` of the policy that is not its present one.
    """
    path = Path(path)
    unstorable = [f"{name}={value!r}" for name, value in hyperparameters.items() if not _is_json(value)]
    if unstorable:
        raise CheckpointError(
            f"Hyperparameters are stored as JSON, which cannot hold {', '.join(unstorable)}: pass plain numbers, texts or lists."
        )
    metadata = {
        "format": FORMAT,
        "lesson": lesson,
        "policy": policy_name(type(policy), lesson),
        "env_id": env_id,
        "seed": seed,
        "hyperparameters": hyperparameters,
        "mean_return": mean_return,
    }
    state = policy.state_dict() if weights is None else weights
    arrays = {f"weights/{name}": tensor.detach().cpu().numpy() for name, tensor in state.items()}
    # The zip format notices an altered entry, but not one that is gone.
    text = json.dumps(metadata | {"entries": sorted(arrays)})
    try:
        with atomic_write(path) as file:
            np.savez(file, metadata=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    except OSError as error:
        raise cannot_write("The checkpoint", path.parent, error, CheckpointError) from None
    return path


def policy_name(policy_class: type[Policy], lesson: str = "__main__") -> str:
    """Module and class, "policy_gradient.PolicyNetwork". What a notebook defines is named as its `lesson` exports it."""
    module = policy_class.__module__.rpartition(".")[2]
    return f"{lesson if module == '__main__' else module}.{policy_class.__name__}"


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint. `CheckpointError` on anything that is not exactly one: cut short, altered, a pickle, another program's."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}: check the name, or save one with result.save(...).")
    try:
        metadata, arrays = _read_archive(path)
        texts = [metadata[name] for name in ("lesson", "policy", "env_id")]
        if not isinstance(metadata["hyperparameters"], dict) or not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise ValueError("parts of it are missing or have unexpected names")
        mean_return = check_value("mean_return", metadata["mean_return"], float | None)
        weights = {name.removeprefix("weights/"): torch.from_numpy(array) for name, array in arrays.items()}
        return Checkpoint(path, *texts, check_seed(metadata["seed"]), metadata["hyperparameters"], mean_return, weights)
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): look at who may read it.") from None
    # A damaged archive fails in many ways, MemoryError and NotImplementedError among them.
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint of this version of the course ({in_short(error)}): it was cut short, altered, "
            "or made by another version or program; save it again."
        ) from None


def load_policy(path: str | os.PathLike, policy_class: type[Policy]) -> Policy:
    """Rebuild the policy that `path` holds. `policy_class` is the lesson's own, for example `policy_gradient.PolicyNetwork`.

    Of the stored hyperparameters those that the class's constructor names are passed to it. (`lessons.load_policy` finds the class.)
    """
    return policy_from(load_checkpoint(path), policy_class)


def policy_from(checkpoint: Checkpoint, policy_class: type[Policy]) -> Policy:
    """The policy of a checkpoint that has been read; see `load_policy`."""
    module = checkpoint.policy.rpartition(".")[0]
    if policy_name(policy_class, module) != checkpoint.policy:
        raise CheckpointError(f"{checkpoint.path} holds a {checkpoint.policy}, not a {policy_name(policy_class)}: pass that class.")
    named, kinds = inspect.signature(policy_class).parameters, get_type_hints(policy_class.__init__, include_extras=True)
    given = {name: value for name, value in checkpoint.hyperparameters.items() if name in named}
    try:
        keywords = {name: check_value(name, value, kinds.get(name, Any)) for name, value in given.items()}
        with seeded(0):  # a new network draws its first weights
            _check_shapes(policy_class, keywords, checkpoint.weights)
            policy = policy_class(**keywords)
        policy.load_state_dict(checkpoint.weights)
    except InvalidInput as error:
        raise CheckpointError(f"{checkpoint.path} cannot be used, because {error}") from None
    except (RuntimeError, TypeError, ValueError):
        raise CheckpointError(
            f"The weights in {checkpoint.path} (lesson {checkpoint.lesson!r}) do not fit {policy_class.__name__}: "
            "use the policy class that they were saved from."
        ) from None
    return policy.eval()


def _read_archive(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `save_checkpoint` wrote: metadata, and arrays by name; fails in as many ways as there are bytes in the file."""
    # Read in one piece: the archive's directory may claim any length, and zipfile would ask a file for as much.
    size = path.stat().st_size
    if size > LARGEST_CHECKPOINT:
        raise ValueError(f"it is larger than {LARGEST_CHECKPOINT // 2**20} MB")
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > size:
            raise ValueError("it would unpack to more than it is")
        arrays = {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in archive.infolist()}
    metadata = json.loads(arrays.pop("metadata").tobytes())
    if metadata["format"] != FORMAT:
        raise ValueError(f"its format is {metadata['format']!r}")
    if metadata["entries"] != sorted(arrays):
        raise ValueError("parts of it are missing or have unexpected names")
    return metadata, arrays


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
