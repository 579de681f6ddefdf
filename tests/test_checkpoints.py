"""Checkpoints: what is saved comes back, and nothing else gets in."""

import io
import json
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from conftest import LinearPolicy, full_disk, global_state_untouched, one_sentence
from torch import nn

from cartpole_lessons.checkpoints import FORMAT, LARGEST_CHECKPOINT, load_checkpoint, load_policy, save_checkpoint
from cartpole_lessons.errors import CheckpointError
from cartpole_lessons.policy import Policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
#: The lesson that the classes of this module belong to, as `load_policy` sees it.
LESSON = __name__
METADATA = {"format": FORMAT, "lesson": LESSON, "env_id": "CartPole-v1", "seed": 7, "hyperparameters": {"hidden": 8}, "mean_return": 12.5}


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
    return save_checkpoint(
        tmp_path / "policy.npz",
        policy,
        lesson=LESSON,
        env_id="CartPole-v1",
        seed=7,
        hyperparameters={"hidden": 8, "learning_rate": 0.1},
        mean_return=12.5,
    )


def write_archive(path, metadata=None, **arrays):
    """An .npz file as somebody else might make it."""
    text = json.dumps(METADATA | {"entries": sorted(arrays)} | (metadata or {})).encode()
    np.savez(path, metadata=np.frombuffer(text, dtype=np.uint8), **arrays)
    return path


def refused(path, *named):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    sentence = one_sentence(caught.value, str(path), *named)
    assert "allow_pickle=True" not in sentence
    assert "unsafe" not in sentence


# What is saved comes back


def test_a_loaded_policy_acts_as_the_saved_one(path, policy):
    loaded = load_policy(path, Network)
    np.testing.assert_array_equal(loaded.act(OBSERVATIONS), policy.act(OBSERVATIONS))
    assert not loaded.training


def test_a_checkpoint_holds_what_rebuilds_the_policy(path, policy):
    checkpoint = load_checkpoint(str(path))
    assert (checkpoint.path, checkpoint.lesson, checkpoint.env_id, checkpoint.seed) == (path, LESSON, "CartPole-v1", 7)
    assert checkpoint.hyperparameters == {"hidden": 8, "learning_rate": 0.1}
    assert checkpoint.mean_return == 12.5
    assert checkpoint.weights.keys() == policy.state_dict().keys()
    assert all(torch.equal(checkpoint.weights[name], tensor) for name, tensor in policy.state_dict().items())


def test_hyperparameters_that_the_policy_does_not_take_are_left_out(path):
    assert load_policy(path, Network).layers[0].out_features == 8


def test_buffers_and_scalars_come_back_too(tmp_path):
    policy = LinearPolicy(angle_scale=3.0)
    policy.register_buffer("updates", torch.tensor(5))
    path = save_checkpoint(tmp_path / "p", policy, lesson="lesson", env_id="CartPole-v0", seed=0, hyperparameters={})
    weights = load_checkpoint(path).weights
    assert weights["updates"].item() == 5
    assert weights["scale"].tolist() == [1, 1, 3, 1]
    assert load_checkpoint(path).mean_return is None


def test_the_file_has_the_very_name_that_was_given(tmp_path, policy):
    path = save_checkpoint(tmp_path / "best", policy, lesson=LESSON, env_id="CartPole-v1", seed=0, hyperparameters={})
    assert [file.name for file in tmp_path.iterdir()] == [path.name] == ["best"]


def test_loading_leaves_the_global_generators_alone(path):
    with global_state_untouched():
        load_policy(path, Network)


# Saving that fails


@pytest.mark.parametrize(
    ("hyperparameters", "named"),
    [
        ({"hidden": 8, "device": torch.device("cpu")}, "device=device(type='cpu')"),
        ({"hidden": 8, "learning_rate": float("nan")}, "learning_rate=nan"),
        ({"hidden": {8}}, "hidden={8}"),
        ({"hidden": np.int64(8)}, "hidden="),
    ],
)
def test_hyperparameters_that_cannot_be_stored_are_named(tmp_path, policy, hyperparameters, named):
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(tmp_path / "p", policy, lesson=LESSON, env_id="CartPole-v1", seed=0, hyperparameters=hyperparameters)
    one_sentence(caught.value, named, "pass")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(unwritable, policy):
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(unwritable / "p", policy, lesson=LESSON, env_id="CartPole-v1", seed=0, hyperparameters={})
    one_sentence(caught.value, str(unwritable), "choose a folder")


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint(path, policy):
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as caught, full_disk(500):
        save_checkpoint(path, policy, lesson=LESSON, env_id="CartPole-v1", seed=0, hyperparameters={})
    one_sentence(caught.value, str(path.parent), "space")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# Files that are not what they should be


def test_a_file_that_is_not_there_is_named(tmp_path):
    refused(tmp_path / "nothing.npz", "check the name")
    refused(tmp_path)


def test_a_truncated_file_is_refused_wherever_it_was_cut(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        refused(path, "save it again")


def test_a_flipped_bit_is_noticed_or_changes_nothing(path):
    whole, intact = path.read_bytes(), load_checkpoint(path)
    # Half of them in the last part of the file, the directory, where the zip format itself checks least.
    generator = random.Random(0)
    places = [generator.randrange(len(whole)) for _ in range(300)] + [
        generator.randrange(len(whole) * 3 // 4, len(whole)) for _ in range(300)
    ]
    noticed = 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :])
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            one_sentence(error, str(path))
            noticed += 1
            continue
        assert {**vars(checkpoint), "weights": None} == {**vars(intact), "weights": None}
        assert checkpoint.weights.keys() == intact.weights.keys()
        assert all(torch.equal(checkpoint.weights[name], intact.weights[name]) for name in intact.weights)
    assert noticed > 300


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
    text = np.frombuffer(json.dumps(METADATA).encode(), dtype=np.uint8)
    np.savez(file, metadata=text, **{"weights/layer": np.array([burglar], dtype=object)})
    return file.getvalue()


def metadata_as_object(burglar):
    file = io.BytesIO()
    np.savez(file, metadata=np.array(burglar, dtype=object))
    return file.getvalue()


def zipped_pickle(burglar):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.npy", pickle.dumps(burglar))
    return file.getvalue()


@pytest.mark.parametrize("disguise", [pickled, saved_by_torch, saved_as_objects, metadata_as_object, zipped_pickle])
def test_a_malicious_pickle_is_refused_and_never_runs(tmp_path, disguise):
    path, loot = tmp_path / "policy.npz", tmp_path / "loot"
    path.write_bytes(disguise(Burglar(loot)))
    refused(path, "made by another program")
    with pytest.raises(CheckpointError):
        load_policy(path, Network)
    assert not loot.exists()


def test_the_burglar_of_these_tests_does_break_in_where_pickles_are_loaded(tmp_path):
    pickle.loads(pickled(Burglar(tmp_path / "loot")))["weights"].close()
    assert (tmp_path / "loot").exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "another program 3"},
        {"hyperparameters": [1, 2]},
        {"entries": ["weights/layer"]},
        {"seed": "seven"},
        {"seed": float("inf")},
    ],
)
def test_an_archive_with_other_metadata_is_refused(tmp_path, metadata):
    refused(write_archive(tmp_path / "p.npz", metadata))


def test_archives_of_other_programs_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", weights=np.zeros(3))
    refused(tmp_path / "p.npz")
    np.save(tmp_path / "p.npy", np.zeros(3))
    refused(tmp_path / "p.npy")
    refused(write_archive(tmp_path / "q.npz", {"entries": []}, unexpected=np.zeros(3)))
    with zipfile.ZipFile(tmp_path / "r.npz", "w") as archive:
        archive.writestr("metadata.npy", b"no array at all")
    refused(tmp_path / "r.npz")


def test_an_archive_that_would_fill_the_memory_is_refused_unopened(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.npy", bytes(LARGEST_CHECKPOINT + 1))
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    refused(tmp_path / "bomb.npz", "unpack to more than it is")


def test_an_archive_in_which_a_weight_is_missing_is_refused(path):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries.pop("weights/layers.3.bias.npy")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    refused(path, "missing")


# Checkpoints of something else


def not_fitting(path, policy_class, *named):
    with pytest.raises(CheckpointError) as caught:
        load_policy(path, policy_class)
    one_sentence(caught.value, str(path), policy_class.__name__, *named)


def test_a_checkpoint_of_another_lesson_is_refused(tmp_path, policy):
    path = save_checkpoint(tmp_path / "p", policy, lesson="dqn", env_id="CartPole-v1", seed=0, hyperparameters={})
    not_fitting(path, Network, "'dqn'", repr(LESSON))


def test_a_class_from_a_notebook_may_load_what_fits_it(path, policy, monkeypatch):
    monkeypatch.setattr(Network, "__module__", "__main__")
    np.testing.assert_array_equal(load_policy(path, Network).act(OBSERVATIONS), policy.act(OBSERVATIONS))


def test_weights_that_do_not_fit_the_class_are_refused(path, monkeypatch):
    monkeypatch.setattr(LinearPolicy, "__module__", LESSON)
    not_fitting(path, LinearPolicy, "use the policy class")


@pytest.mark.parametrize("hidden", [-1, "many", None, 2.5, 9, 10**12])
def test_altered_hyperparameters_are_refused(tmp_path, hidden, policy):
    path = save_checkpoint(tmp_path / "p", policy, lesson=LESSON, env_id="CartPole-v1", seed=0, hyperparameters={"hidden": hidden})
    not_fitting(path, Network)
