"""The statistics of a study by hand, and the cells of its tables."""

import numpy as np
import pytest

from cartpole_lessons.study import (
    HEADINGS,
    median_interval,
    ranges,
    readable,
    steps_until_solved,
    summarise,
    wilson_interval,
    worst_of_last,
)


def a_run(**differences):
    """A run as `run_study` returns it."""
    return {
        "row": "row",
        "lesson": "lesson",
        "env_id": "CartPole-v1",
        "hyperparameters": {},
        "seed": 0,
        "code": "c0de",
        "status": "ok",
        "error": None,
        "solved": True,
        "perfect": True,
        "mean_return": 500.0,
        "env_steps": 1000,
        "first_reached": 900,
        "evaluation_steps": 50_000,
        "seconds": 1.0,
        "cpu_seconds": 1.5,
        "evaluation_seconds": 0.25,
        "evaluations": [[1000, 500.0]],
        "machine": {"host": "secret", "python": "3.11"},
    } | differences


@pytest.mark.parametrize(("successes", "of"), [(0, 10), (7, 10), (100, 100), (95, 100), (0, 1), (1, 1)])
def test_wilson_interval_is_scipys(successes, of):
    from scipy.stats import binomtest

    theirs = binomtest(successes, of).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(successes, of)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= low < high <= 1


def test_bootstrap_interval_of_three_values_by_hand():
    # The median of three draws from {1, 2, 3} is 1 with probability 7/27, and 3 as well: both are more than 2.5 %.
    assert median_interval([3, 1, 2]) == (2.0, 1.0, 3.0)
    # Of nine values, the k-th smallest draw has a binomial law: P(median <= first) = P(Bin(9, 1/9) >= 5) = 0.12 %, and
    # P(median <= second) = P(Bin(9, 2/9) >= 5) = 2.55 %, just too much: the interval begins at the second value, and ends at the eighth.
    assert median_interval(range(1, 10)) == (5.0, 2.0, 8.0)
    assert median_interval([7.0]) == (7.0, 7.0, 7.0)


def test_bootstrap_interval_agrees_with_scipys():
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).lognormal(size=41)
    theirs = bootstrap((values,), np.median, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)).confidence_interval
    _, low, high = median_interval(values)
    assert (low, high) == pytest.approx(tuple(theirs), rel=0.1)
    assert median_interval(values) == median_interval(values[::-1])


def test_runs_that_were_not_solved_count_as_longer_than_any_that_was():
    solved = [a_run(seed=seed, env_steps=steps, seconds=steps / 1000) for seed, steps in enumerate([1000, 3000, 2000])]
    unsolved = a_run(seed=3, solved=False, perfect=False, env_steps=10, seconds=0.01)
    crashed = a_run(seed=4, status="failed", solved=False, perfect=False, env_steps=None, seconds=None, mean_return=None, evaluations=[])
    summary = summarise([*solved, unsolved, crashed])["row"]
    assert (summary["runs"], summary["failed"]) == (5, 1)
    assert (summary["solved"]["count"], summary["solved"]["of"], summary["solved"]["share"]) == (3, 5, 0.6)
    # Sorted: 1000, 2000, 3000, infinity, infinity.
    assert summary["env_steps"]["median"] == 3000
    assert summary["seconds"]["median"] == 3.0
    assert summary["env_steps"]["high"] == np.inf
    assert summary["seconds"]["slowest_tenth"] == summary["seconds"]["mean"] == np.inf
    assert not any(np.isnan(value) for value in summary["env_steps"].values())
    half = summarise([*solved[:2], unsolved, crashed])["row"]
    assert half["env_steps"]["median"] == np.inf
    assert readable(half)["env_steps"] == "not reached (1,000-not reached)"
    assert readable(summarise([crashed])["row"])["seconds"] == "not reached"


def test_steps_until_solved_are_infinite_without_a_solution_or_beyond_the_limit():
    crashed = a_run(status="failed", solved=False, perfect=False, env_steps=None, seconds=None, mean_return=None, evaluations=[])
    runs = [a_run(env_steps=1_000), a_run(env_steps=3_000), a_run(env_steps=10, solved=False, perfect=False), crashed]
    assert steps_until_solved(runs) == [1_000, 3_000, np.inf, np.inf]
    assert steps_until_solved(runs, limit=1_000) == [1_000, np.inf, np.inf, np.inf]


def test_rows_keep_their_order_and_their_runs_apart():
    summary = summarise([a_run(row="b"), a_run(row="a"), a_run(row="b", seed=1)])
    assert {row: entry["runs"] for row, entry in summary.items()} == {"b": 2, "a": 1}


def test_stable_runs_keep_above_the_threshold_in_their_last_ten_evaluations():
    fell_long_ago = a_run(evaluations=[[1, 20.0]] + [[step, 475.0] for step in range(2, 12)])
    fell_lately = a_run(evaluations=[[step, 500.0] for step in range(1, 11)] + [[11, 474.99]])
    crashed = a_run(status="failed", solved=False, evaluations=[])
    assert [worst_of_last(run) for run in (fell_long_ago, fell_lately, crashed)] == [475.0, 474.99, None]
    summary = summarise([fell_long_ago, fell_lately, crashed])["row"]
    assert summary["worst_of_last"] == [475.0, 474.99, None]
    assert (summary["stable"]["count"], summary["stable"]["of"]) == (1, 3)
    assert summarise([crashed])["row"]["stable"] is None
    assert summarise([a_run(env_id="nobody/Knows-v0")])["row"]["stable"] is None
    assert readable(summary | {"hyperparameters": {"stop_when_perfect": False}})["stable"] == "1 of 3 (6-79 %)"


def test_cells_are_readable_and_have_headings():
    runs = [a_run(seed=seed, env_steps=1_000 * (seed + 1), seconds=0.5) for seed in range(100)]
    cells = readable(summarise(runs)["row"])
    assert cells.keys() == HEADINGS.keys()
    assert cells == {
        "solved": "100 of 100 (96-100 %)",
        "perfect": "100 of 100 (96-100 %)",
        "stable": "-",
        "first_reached": "900",
        "env_steps": "50,500 (41,000-60,000)",
        "env_steps_mean": "50,500",
        "env_steps_slowest_tenth": "91,000",
        "env_steps_longest": "100,000",
        "seconds": "0.50",
        "seconds_mean": "0.50",
        "seconds_slowest_tenth": "0.50",
        "seconds_longest": "0.50",
        "cpu_seconds": "1.50",
        "evaluation_steps": "50,000",
        "evaluation_share": "50 %",
    }


def test_what_was_not_recorded_is_a_dash_and_what_was_reached_on_the_way_counts_wherever_the_run_ended():
    older = a_run(first_reached=None, cpu_seconds=None, evaluation_seconds=None, evaluation_steps=None)
    cells = readable(summarise([older, older])["row"])
    assert [name for name, cell in cells.items() if cell == "-"][1:] == [
        "first_reached",
        "cpu_seconds",
        "evaluation_steps",
        "evaluation_share",
    ]
    summary = summarise([a_run(solved=False), a_run(solved=False, first_reached=None)])["row"]
    assert (summary["first_reached"]["low"], summary["first_reached"]["high"]) == (900, np.inf)
    assert summary["env_steps"]["low"] == np.inf


def test_seeds_are_named_as_ranges():
    assert ranges([5, 3, 4, 9, 0, 4]) == "0, 3-5, 9"


def test_trainings_that_go_on_have_no_steps_to_solve():
    assert readable(summarise([a_run()])["row"])["env_steps"] != "-"
    cells = readable(summarise([a_run(hyperparameters={"stop_when_perfect": False})])["row"])
    assert (cells["env_steps"], cells["seconds"], cells["cpu_seconds"], cells["env_steps_longest"]) == ("-", "-", "-", "-")
    assert "-" not in (cells["stable"], cells["first_reached"], cells["evaluation_share"])
