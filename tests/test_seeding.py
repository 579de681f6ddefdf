"""Seeds, the streams derived from them, and the global generators that stay as they were found."""

import random

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from conftest import global_state_untouched
from hypothesis import given

from cartpole_lessons._support.checks import check_seed
from cartpole_lessons._support.seeding import derive_seed, seeded, start_of
from cartpole_lessons.environment import make_env, make_envs


def draw():
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(7), np.uint32(7)])
def test_a_seed_is_any_whole_number_from_0_to_4294967295(seed):
    assert check_seed(seed) == seed
    assert type(check_seed(seed)) is int


@given(st.integers(0, 2**32 - 1))
def test_seeds_for_different_purposes_differ_from_each_other_and_from_their_origin(seed):
    derived = [derive_seed(seed, purpose, number) for purpose in ("evaluation", "confirmation", "result") for number in range(1, 50)]
    derived += [seed, derive_seed(seed, "training"), derive_seed(seed, "action space")]
    # Two of 150 random 32-bit numbers are equal once in 400,000 times: Hypothesis does not get there.
    assert len(set(map(check_seed, derived))) == len(derived)
    assert derive_seed(seed, "training") == derived[-2]


def test_in_another_world_every_seed_means_other_numbers(monkeypatch):
    def numbers():
        with seeded(5):
            drawn = draw()
        return derive_seed(5, "training"), start_of(5), drawn, make_env(seed=5).reset()[0].tolist(), make_envs(seed=5).reset()[0].tolist()

    worlds = []
    for shift in ("", "0", "1", "2"):
        monkeypatch.setenv("CARTPOLE_LESSONS_SEED_SHIFT", shift)
        worlds.append(numbers())
    monkeypatch.delenv("CARTPOLE_LESSONS_SEED_SHIFT")
    assert numbers() == worlds[0] == worlds[1]
    assert start_of(5) == 5
    for one, other in ((0, 2), (0, 3), (2, 3)):
        assert all(a != b for a, b in zip(worlds[one], worlds[other], strict=True))


def test_inside_seeded_python_numpy_and_torch_draw_from_the_seed():
    with seeded(5):
        first = draw()
    draw()
    with seeded(5):
        assert draw() == first
    with seeded(6):
        assert not set(draw()) & set(first)


def test_seeded_blocks_nest_and_leave_the_generators_as_they_were_after_an_error_too():
    with global_state_untouched():
        with seeded(1):
            draw()
            undisturbed = draw()

        def fails_inside():
            with seeded(1):
                draw()
                with seeded(2):
                    draw()
                assert draw() == undisturbed
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails_inside()


@pytest.mark.parametrize(
    ("module", "in_use", "read", "write"),
    [
        (torch.cuda, (torch.cuda, "is_initialized"), "get_rng_state_all", "set_rng_state_all"),
        (torch.mps, (torch.backends.mps, "is_available"), "get_rng_state", "set_rng_state"),
    ],
    ids=["cuda", "mps"],
)
def test_a_gpu_in_use_gets_its_generator_back_and_one_that_is_not_is_not_started(monkeypatch, module, in_use, read, write):
    state, written = object(), []
    monkeypatch.setattr(module, read, lambda: pytest.fail("this would start the GPU"))
    with seeded(0):
        pass
    monkeypatch.setattr(*in_use, lambda: True)
    monkeypatch.setattr(module, read, lambda: state)
    monkeypatch.setattr(module, write, written.append)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)  # would seed the GPU that is not there
    with seeded(0):
        assert written == []
    assert written == [state]
