"""What a training can be set to is declared once, explained, and checked: 3,000 wrong arguments each get one sentence, before anything runs."""

import inspect
import random
import time
import tracemalloc
import typing
from decimal import Decimal

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import FULL, one_sentence, write_reliability_figures

from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.hyperparameters import (
    Count,
    Device,
    MaxSteps,
    NotNegative,
    Number,
    Positive,
    Share,
    ShareBelowOne,
    StepCount,
    Units,
    check_value,
    describe_kind,
    explained,
    hyperparameters_of,
    kind_of,
    parse_value,
    settings_of,
)
from cartpole_lessons.lessons import lessons, load_lesson

TYPES = [Count, StepCount, Units, Share, ShareBelowOne, Positive, NotNegative, Number, Device]
METHOD = typing.Literal["one", "other"]
FOUR = tuple[NotNegative, NotNegative, NotNegative, NotNegative]
nan, inf = float("nan"), float("inf")


def is_declared(kind):
    """Whether a keyword's kind is one of the course's, bool, a choice of texts, or made of these and None."""
    parts = typing.get_args(kind) if typing.get_origin(kind) is not typing.Annotated else ()
    return kind in [*TYPES, bool, type(None)] or typing.get_origin(kind) is typing.Literal or (parts != () and all(map(is_declared, parts)))


@pytest.mark.parametrize("lesson", lessons())
def test_every_hyperparameter_of_every_lesson_has_a_type_and_words_beside_it(lesson):
    train = load_lesson(lesson).train
    names = hyperparameters_of(train)
    assert names
    assert [name for name in names if not is_declared(kind_of(train, name))] == []
    assert [name for name in names if name not in explained(train)] == []


@pytest.mark.parametrize("lesson", lessons())
def test_every_default_is_allowed_and_read_back_as_itself(lesson):
    train = load_lesson(lesson).train
    for name, parameter in settings_of(train).items():
        for read in (
            check_value(name, parameter.default, kind_of(train, name)),
            parse_value(name, str(parameter.default), kind_of(train, name)),
        ):
            assert read == parameter.default


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", Positive, 3.0), ("1e-3", Positive, 0.001), ("200_000", StepCount, 200_000), ("2e5", StepCount, 200_000), ("-4", Number, -4.0),
        ("true", bool, True), ("False", bool, False), ("one", METHOD, "one"), ("50", Count | None, 50), ("None", Count | None, None),
        ("1, 2,3,4", FOUR, (1.0, 2.0, 3.0, 4.0)), ("(1,2,3,4)", FOUR, (1.0, 2.0, 3.0, 4.0)), ("CartPole-v0", str, "CartPole-v0"),
        ("cpu", Device, "cpu"), ("2e9", int, 2_000_000_000), ("anything", typing.Any, "anything"),
    ],
)  # fmt: skip
def test_texts_are_read_as_the_declared_type(text, kind, value):
    parsed = parse_value("it", text, kind)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("abc", Positive), ("nan", Positive), ("inf", Positive), ("1e999", Positive), ("0", Positive), ("1.5", Count), ("inf", Count), ("x", Count),
        ("9" * 5_000, Count), ("1or2", Count), ("10**9", Count), ("(" * 5_000, Count), ("2", bool), ("yes", bool), ("magic", METHOD), ("3", METHOD),
        ("x", Count | None), ("1,x,1,1", FOUR), ("1,1,1", FOUR), ("1", FOUR), ("meta", Device), ("gpu", Device), ("1,5", Share), ("\0", Share),
    ],
)  # fmt: skip
def test_texts_of_another_type_are_refused_with_what_is_allowed(text, kind, recwarn):
    with pytest.raises(InvalidInput) as caught:
        parse_value("clip", text, kind)
    one_sentence(caught.value, "clip is ", describe_kind(kind))
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    ("value", "kind", "plain"),
    [
        (np.int64(3), Count, 3), (torch.tensor(3), Count, 3), (np.float32(0.5), Share, 0.5), (torch.tensor(0.5), Share, 0.5), (1, Share, 1.0),
        (np.bool_(True), bool, True), (np.str_("one"), METHOD, "one"), ([1, 2, 3, 4], FOUR, (1.0, 2.0, 3.0, 4.0)), (np.ones(4), FOUR, (1.0,) * 4),
        (torch.device("cpu"), Device, "cpu"),
    ],
)  # fmt: skip
def test_numbers_of_numpy_and_torch_become_plain_ones(value, kind, plain):
    checked = check_value("it", value, kind)
    assert (checked, type(checked)) == (plain, type(plain))


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (Count, [1, 4_096], [0, 4_097]), (StepCount, [1, 10_000_000], [0, 10_000_001]), (Units, [1, 2_048], [0, 2_049]), (Share, [0, 1], [-0.1, 1.1]),
        (ShareBelowOne, [0, 0.999], [-0.1, 1]), (Positive, [1e-9, 1_000_000], [0, 1_000_001]), (NotNegative, [0, 1_000_000], [-1e-9, 1_000_001]),
        (Number, [-1_000_000, 1_000_000], [-1_000_001, 1_000_001]), (MaxSteps, [1, 1_000_000_000], [0, 1_000_000_001]),
    ],
)  # fmt: skip
def test_limits_are_where_the_types_say(kind, allowed, refused):
    assert [check_value("it", value, kind) for value in allowed] == allowed
    for value in refused:
        with pytest.raises(InvalidInput):
            check_value("it", value, kind)


def test_a_name_that_is_not_known_is_answered_with_the_one_that_was_meant():
    for name, answer in {"hiden": "did you mean 'hidden'?", "zzz": "it has num_envs,"}.items():
        with pytest.raises(InvalidInput) as caught:
            load_lesson("ppo").train(**{name: 3})
        one_sentence(caught.value, f"ppo has no hyperparameter {name!r}: {answer}")


class Hostile:
    """Whatever it is asked, it raises."""

    def refuse(self, *args):
        raise RuntimeError("No.\nNever.")

    __repr__ = __str__ = __float__ = __index__ = __int__ = __bool__ = __eq__ = __hash__ = __len__ = __array__ = __getitem__ = refuse


class Talkative:
    """Says a lot of itself, on many lines."""

    def __repr__(self):
        return "Here I am\n" * 100_000


NO_VALUES = [Hostile(), Talkative(), object(), Ellipsis, 1j, len, Hostile, Decimal("nan"), nan, inf, -inf, 10**5_000, -(10**400), gym]
NO_VALUES += [np.float32("nan"), np.datetime64("NaT"), torch.tensor(nan), torch.tensor(1j)]
NEITHER = [
    [],
    {},
    (),
    set(),
    [[1, 2], [3, 4]],
    {"a": 1},
    range(0),
    b"",
    b"\xff" * 50,
    bytearray(b"3"),
    np.array([]),
    np.array([[1.5, 2.5]] * 3),
]
NEITHER += [
    np.array(["a"]),
    np.empty(3, dtype=object),
    torch.zeros(2, 3),
    torch.ones(10_000),
    [0] * 100_000,
    [Hostile()],
    iter([nan]),
    "",
    "x" * 100_000,
]
NEITHER += ["\ud800", "\0", "one\ntwo", " "]
NUMBERS_THAT_ARE_NONE = ["3", "0.3", "nan", "None", True, False, np.bool_(True)]
#: For what no number below or above some limit is good: whole numbers, and numbers.
WHOLE = [0.5, -1.5, 2.0, 1e9, 0, -1, 10**10, 2**64, np.int64(-1), torch.tensor(-1), torch.tensor(0.5), np.float64(3)]
TOO_LARGE = [1e9, 1e300, -1e9, 10**12, np.float64(1e9), torch.tensor(-1e9)]
OUT_OF = {Share: [1.001, -0.001, -1, 2], ShareBelowOne: [1, 1.0, -1], Positive: [0, 0.0, -0.0, -1], NotNegative: [-1, -1e-9], Number: []}


def wrong_values(name, kind):
    """Values that the keyword `name` of this kind does not have."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if name == "seed":
        return [*WHOLE[:3], -1, 2**32, 10**10, None, *NO_VALUES]  # lesson 13 takes collections of seeds
    if type(None) in parts:
        return [value for value in wrong_values(name, parts[0]) if value is not None]
    anything = [*NO_VALUES, *NEITHER]
    if kind is Device:
        return [*anything, None, -1, 1e9, "gpu", "cuda:99", "meta", "cpu:x", "CPU ", "cpu cpu", ["cpu"]]
    if kind is bool:
        return [*anything, None, 0, 1, -1, 1e9, "true", "True", np.int64(1), torch.tensor(True)]
    if kind is str:
        return [*anything, None, 0, -1, 1e9, "CartPole", "CartPole-v9", "cartpole-v1", "os:system", "../CartPole-v1", ["CartPole-v1"]]
    if origin is typing.Literal:
        return [*anything, None, 0, 1, 1e9, "magic", parts[0].upper(), [parts[0]], parts]
    if origin is tuple:
        return [
            *anything,
            None,
            1,
            1e9,
            "1,1,1,1",
            (1,) * 3,
            (1,) * 5,
            (1, 1, 1, -1),
            (1, 1, 1, nan),
            [1, 1, 1, "1"],
            dict.fromkeys(range(4)),
            {1, 2, 3, 4},
        ]
    if parts[0] is int:
        return [*anything, None, *NUMBERS_THAT_ARE_NONE, *WHOLE]
    return [*anything, None, *NUMBERS_THAT_ARE_NONE, *TOO_LARGE, *OUT_OF[kind]]


def test_every_wrong_argument_is_refused_in_one_sentence_before_anything_trains(monkeypatch, capsys):
    trains = {lesson: load_lesson(lesson).train for lesson in lessons()}
    wrong = [
        (lesson, name, value)
        for lesson, train in trains.items()
        for name in inspect.signature(train).parameters
        for value in wrong_values(name, kind_of(train, name) if name != "progress" else bool)
    ]
    random.Random(0).shuffle(wrong)
    wrong = wrong[: 3_000 if FULL else 300]
    for make in ("make", "make_vec"):
        monkeypatch.setattr(gym, make, lambda *args, **keywords: pytest.fail("an environment was made"))
    slowest, most = 0.0, 0
    tracemalloc.start()
    try:
        for lesson, name, value in wrong:
            tracemalloc.reset_peak()
            before, started = tracemalloc.get_traced_memory()[0], time.process_time()
            with pytest.raises(InvalidInput) as caught:
                trains[lesson](**{name: value})
            slowest, most = max(slowest, time.process_time() - started), max(most, tracemalloc.get_traced_memory()[1] - before)
            assert len(one_sentence(caught.value)) < 500
    finally:
        tracemalloc.stop()
    with capsys.disabled():
        print(
            f"\n{len(wrong):,} wrong arguments of {len(trains)} lessons, {len({case[:2] for case in wrong})} keywords: "
            f"each one sentence, after {slowest * 1e3:.0f} ms and with {most / 2**20:.1f} MB at most"
        )
    assert slowest < 2
    assert most < 8 * 2**20
    if FULL:
        write_reliability_figures({"arguments": {"wrong": len(wrong), "megabytes": round(most / 2**20, 1)}})
