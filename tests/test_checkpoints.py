"""Checkpoints: what is saved comes back, and nothing else gets in."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from conftest import LinearPolicy, global_state_untouched, one_sentence
from torch import nn

from cartpole_lessons import checkpoints
from cartpole_lessons.checkpoints import FORMAT, LARGEST_CHECKPOINT, load_checkpoint, load_policy, save_checkpoint
from cartpole_lessons.errors import CheckpointError
from cartpole_lessons.policy import Policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
#: The lesson that the classes of this module belong to, as `load_policy` sees it.
LESSON = __name__
ABOUT = {"lesson": LESSON, "env_id": "CartPole-v1", "seed": 7}
METADATA = ABOUT | {"format": FORMAT, "policy": f"{LESSON}.Network", "hyperparameters": {"hidden": 8}, "mean_return": 12.5}


class Network(Policy):
    """A policy whose size is a hyperparameter, and that acts differently while dropout is on."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Dropout(0.5), nn.Linear(hidden, 2))

    def actions(self, observations, deterministic):
        return self.layers(observations).argmax(-1)


@pytest.fixture
def policy():
    return Network(hidden=8).eval()


@pytest.fixture
def path(tmp_path, policy):
    return save_checkpoint(tmp_path / "policy.npz", policy, hyperparameters={"hidden": 8, "learning_rate": 0.1}, mean_return=12.5, **ABOUT)


def write_archive(path, metadata=None, **arrays):
    """An .npz file as somebody else might make it."""
    text = json.dumps(METADATA | {"entries": sorted(arrays)} | (metadata or {})).encode()
    np.savez(path, metadata=np.frombuffer(text, dtype=np.uint8), **arrays)
    return path


def refused(path, *named, policy_class=Network):
    with pytest.raises(CheckpointError) as caught:
        load_policy(path, policy_class)
    sentence = one_sentence(caught.value, str(path), *named)
    assert "allow_pickle=True" not in sentence
    assert "unsafe" not in sentence


# What is saved comes back


def test_a_loaded_policy_acts_as_the_saved_one_and_loading_leaves_no_traces(path, policy):
    with global_state_untouched():
        loaded = load_policy(path, Network)
    np.testing.assert_array_equal(loaded.act(OBSERVATIONS), policy.act(OBSERVATIONS))
    assert not loaded.training


def test_a_checkpoint_holds_what_rebuilds_the_policy_under_the_very_name_that_was_given(tmp_path, policy):
    path = save_checkpoint(tmp_path / "best", policy, hyperparameters={"hidden": 8, "learning_rate": 0.1}, mean_return=12.5, **ABOUT)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["best"]
    checkpoint = load_checkpoint(str(path))
    assert (checkpoint.path, checkpoint.lesson, checkpoint.env_id, checkpoint.seed) == (path, LESSON, "CartPole-v1", 7)
    assert (checkpoint.policy, checkpoint.mean_return) == (f"{LESSON}.Network", 12.5)
    assert checkpoint.hyperparameters == {"hidden": 8, "learning_rate": 0.1}
    assert checkpoint.weights.keys() == policy.state_dict().keys()
    assert all(torch.equal(checkpoint.weights[name], tensor) for name, tensor in policy.state_dict().items())


def test_buffers_and_scalars_come_back_too_and_weights_of_an_earlier_moment(tmp_path):
    policy = LinearPolicy(angle_scale=3.0)
    policy.register_buffer("updates", torch.tensor(5))
    earlier = policy.state_dict() | {"updates": torch.tensor(4)}
    for weights, expected in ((None, 5), (earlier, 4)):
        checkpoint = load_checkpoint(save_checkpoint(tmp_path / "p", policy, hyperparameters={}, weights=weights, **ABOUT))
        assert checkpoint.weights["updates"].item() == expected
        assert checkpoint.weights["scale"].tolist() == [1, 1, 3, 1]
        assert checkpoint.mean_return is None


class WithItem(LinearPolicy):
    """A policy that looks at its weights while it is made, which torch's device without memory does not allow."""

    def __init__(self):
        super().__init__()
        self.largest = self.layer.weight.detach().max().item()


def test_a_class_from_a_notebook_and_one_that_needs_real_weights_to_be_made_can_be_loaded(tmp_path, path, policy, monkeypatch):
    saved = WithItem()
    loaded = load_policy(save_checkpoint(tmp_path / "p.npz", saved, hyperparameters={}, **ABOUT), WithItem)
    assert torch.equal(loaded.layer.weight, saved.layer.weight)
    monkeypatch.setattr(Network, "__module__", "__main__")
    np.testing.assert_array_equal(load_policy(path, Network).act(OBSERVATIONS), policy.act(OBSERVATIONS))


# Saving that fails


@pytest.mark.parametrize("value", [torch.device("cpu"), float("nan"), {8}, np.int64(8)])
def test_hyperparameters_that_cannot_be_stored_are_named(tmp_path, policy, value):
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(tmp_path / "p", policy, hyperparameters={"size": value}, **ABOUT)
    one_sentence(caught.value, f"size={value!r}", "pass")
    assert list(tmp_path.iterdir()) == []


# Files that are not what they should be: tests/test_faults.py has a thousand more


def test_a_file_that_is_not_there_or_was_cut_is_named(tmp_path, path):
    refused(tmp_path / "nothing.npz", "check the name")
    refused(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        refused(path, "save it again")


class Burglar:
    """Unpickling this makes a file."""

    def __init__(self, loot):
        self.loot = loot

    def __reduce__(self):
        return open, (str(self.loot), "w")


def pickled(burglar):
    return pickle.dumps({"weights": burglar})


def saved_by_torch(burglar):
    file = io.BytesIO()
    torch.save({"weights": burglar}, file)
    return file.getvalue()


def saved_as_objects(burglar):
    file = io.BytesIO()
    np.savez(file, metadata=np.frombuffer(json.dumps(METADATA).encode(), dtype=np.uint8), weights=np.array([burglar], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize("disguise", [pickled, saved_by_torch, saved_as_objects])
def test_a_malicious_pickle_is_refused_and_never_runs(tmp_path, disguise):
    path, loot = tmp_path / "policy.npz", tmp_path / "loot"
    path.write_bytes(disguise(Burglar(loot)))
    refused(path, "another version or program")
    assert not loot.exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "cartpole-lessons checkpoint 1"},
        {"hyperparameters": [1, 2]},
        {"entries": ["weights/layer"]},
        {"seed": "seven"},
        {"seed": float("inf")},
    ],
)
def test_an_archive_with_other_metadata_one_of_an_older_version_among_them_is_refused(tmp_path, metadata):
    refused(write_archive(tmp_path / "p.npz", metadata))


def test_archives_of_other_programs_and_incomplete_ones_are_refused(tmp_path, path):
    np.savez(tmp_path / "p.npz", weights=np.zeros(3))
    refused(tmp_path / "p.npz")
    np.save(tmp_path / "p.npy", np.zeros(3))
    refused(tmp_path / "p.npy")
    refused(write_archive(tmp_path / "q.npz", {"entries": []}, unexpected=np.zeros(3)))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if name != "weights/layers.3.bias.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    refused(path, "missing")


def test_archives_that_would_fill_the_memory_are_refused_unopened(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.npy", bytes(LARGEST_CHECKPOINT + 1))
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    refused(tmp_path / "bomb.npz", "unpack to more than it is")
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(LARGEST_CHECKPOINT + 1)  # a hole, which takes no space
    refused(tmp_path / "large.npz", "64 MB")


def test_a_checkpoint_of_another_class_or_lesson_is_refused(path, monkeypatch):
    refused(path, f"{LESSON}.Network", "LinearPolicy", policy_class=LinearPolicy)
    monkeypatch.setattr(Network, "__module__", "cartpole_lessons.algorithms.dqn")
    refused(path, f"{LESSON}.Network", "dqn.Network")


@pytest.mark.parametrize("hidden", [-1, "many", None, 2.5, 9, 10**12])
def test_altered_hyperparameters_are_refused(tmp_path, hidden, policy):
    refused(save_checkpoint(tmp_path / "p", policy, hyperparameters={"hidden": hidden}, **ABOUT))


class Starting(Network):
    """A policy with a number that does not change its shape: only a check can tell a wrong one."""

    def __init__(self, start_value: float = 100.0) -> None:
        super().__init__(hidden=8)
        self.start_value = start_value


@pytest.mark.parametrize("value", ["abc", float("nan"), float("inf"), None, [1], True])
def test_hyperparameters_in_a_file_get_the_checks_of_those_that_are_typed(tmp_path, monkeypatch, value):
    monkeypatch.setattr(checkpoints, "_is_json", lambda value: True)  # whoever made the file did not ask
    path = save_checkpoint(tmp_path / "made.npz", Starting(), hyperparameters={"start_value": value}, **ABOUT)
    with pytest.raises(CheckpointError) as refused:
        load_policy(path, Starting)
    one_sentence(refused.value, "start_value", "made.npz")
