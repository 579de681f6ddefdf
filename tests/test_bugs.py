"""Lesson 12's bugs: each is the lesson's code with one place changed, can be found by its line, trains without an error, and fails the test that would have caught it."""

import inspect
import warnings
from importlib import import_module

import pytest
import torch

from cartpole_lessons.bugs import BUGS
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.lessons import ALGORITHMS
from cartpole_lessons.study import read_figures, read_results


@pytest.fixture(params=BUGS)
def bug(request):
    return BUGS[request.param]


def sound(bug):
    return import_module(f"{ALGORITHMS}.{bug.lesson}")


def test_a_program_differs_from_the_sound_one_by_its_bug_alone(bug):
    source = inspect.getsource(sound(bug))
    assert bug.source.replace(bug.buggy, bug.sound) == source
    assert bug.source != source
    assert 1 <= len(bug.lines) <= 2
    lines = bug.code.splitlines()
    assert 5 <= len(lines) <= 27
    assert any(line.startswith(("-", "+")) for line in str(bug.diff).splitlines())


def test_the_line_is_found_and_no_other_one(bug):
    numbers = range(1, len(bug.code.splitlines()))
    states = {number: bug.find(number).state for number in numbers}
    assert {number for number, state in states.items() if state == "right"} == bug.lines & set(numbers)
    assert bug.find(...).state == "not attempted"
    assert bug.find("the third").state == "wrong"
    wrong = next(number for number, state in states.items() if state == "wrong")
    assert bug.hint in bug.find(wrong).text
    assert bug.why not in bug.find(wrong).text


def test_it_trains_without_an_error_and_leaves_the_lesson_alone(bug):
    before = inspect.getsource(sound(bug))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = bug.train(seed=0, max_steps=600)
    assert result.lesson == bug.lesson
    assert result.env_steps >= 600 or result.solved
    assert inspect.getsource(sound(bug)) == before
    assert "what a reward counts" in bug.train.__doc__ or bug.lesson == "augmented_random_search"


def test_a_text_that_has_moved_is_named():
    lost = type(BUGS["zero_grad"])("lost", "ppo", "update", "no such text", "", "", "", "")
    with pytest.raises(InvalidInput, match="lost its place"):
        _ = lost.source


def test_published_costs_are_of_these_bugs_and_stand_beside_the_sound_ones():
    published = read_figures("bugs")
    assert list(published["runs"]) == list(BUGS)
    results = read_results()
    for name, runs in published["runs"].items():
        seeds = [run["seed"] for run in runs]
        assert len(seeds) == 20
        assert set(seeds) <= {run["seed"] for run in results[BUGS[name].lesson]}


def _both(name):
    return sound(BUGS[name]), BUGS[name].module


def test_returns_by_hand_find_two_of_them():
    for module, right in zip(_both("past_returns"), (True, False), strict=True):
        returns = module.discounted_returns(torch.tensor([[0.0], [0.0], [1.0]]), 0.5)[:, 0].tolist()
        assert (returns == [0.25, 0.5, 1.0]) is right
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    for module, right in zip(_both("truncated_as_fall"), (True, False), strict=True):
        worth = module.n_step_returns(torch.ones(1, 1), torch.full((1, 1), 8.0), no, yes, 0.5)
        assert (worth.item() == 5.0) is right


def test_a_look_at_the_batch_finds_three_of_them():
    from cartpole_lessons.environment import make_envs
    from cartpole_lessons.rollout import StepCollector

    torch.manual_seed(0)
    steps = StepCollector(make_envs("CartPole-v1", 4, seed=0), 200).collect(lambda seen: torch.randint(2, (len(seen),)))
    falls = int(steps.terminated.sum())
    assert falls > 10
    for name, expected in (("endless_future", 0), ("last_step_dropped", 0), ("reset_steps", falls)):
        for module, count in zip(_both(name), (falls, expected), strict=True):
            assert int((module.transitions(steps, 0.9).discounts == 0).sum()) == count
    begins_fallen = [int((module.transitions(steps, 0.9).observations[:, 2].abs() > 0.21).sum()) for module in _both("reset_steps")]
    assert begins_fallen[0] == 0 < begins_fallen[1]


def test_a_shape_that_is_broadcast_is_told_by_torch_itself():
    for module, warned in zip(_both("wrong_shape"), (False, True), strict=True):
        network = module.QNetwork()
        batch = module.Transition(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), torch.ones(8), torch.randn(8, 4), torch.ones(8))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.update(network, torch.optim.SGD(network.parameters(), lr=0.0), batch, torch.ones(8))
        assert any("broadcast" in str(each.message) for each in caught) is warned
