"""Plots: right sums, labelled axes, the course's look."""

import hypothesis.strategies as st
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given

from cartpole_lessons.display import STYLE_FILE
from cartpole_lessons.plots import Curve, course_style, moving_average, plot_arrivals, plot_durations, plot_learning_curves

DURATIONS = list(np.random.default_rng(0).integers(1, 501, 250))


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(1, 150))
def test_the_moving_average_is_the_mean_of_the_last_values_unless_told_otherwise_of_100(values, window):
    slow = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(moving_average(values, window), slow, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(moving_average(values), moving_average(values, 100))


def test_durations_show_each_episode_and_the_moving_average():
    axes = plot_durations(DURATIONS, title="agent")
    episodes, average = axes.lines
    assert list(episodes.get_xdata()) == list(range(1, 251))
    assert list(episodes.get_ydata()) == DURATIONS
    np.testing.assert_allclose(average.get_ydata(), moving_average(DURATIONS, window=50))
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("episode", "duration [steps]", "agent")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one episode", "mean of the last 50"]
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize(("episodes", "window"), [(1, 1), (30, 6), (500, 100), (2_000, 100)])
def test_the_average_is_over_a_hundred_episodes_or_a_fifth_of_all(episodes, window):
    assert plot_durations([10] * episodes).get_legend().get_texts()[1].get_text() == f"mean of the last {window}"


def test_learning_curves_are_one_line_per_seed_that_ends_in_a_dot_or_a_cross_and_their_median():
    evaluated = [[(1_000, 100), (2_000, 300)], [(1_000, 200), (2_000, 500)], [(1_000, 0), (4_000, 60)]]
    axes = plot_learning_curves(
        [Curve(each, solved) for each, solved in zip(evaluated, (True, True, False), strict=True)], label="three seeds"
    )
    assert [list(line.get_ydata()) for line in axes.lines[0:6:2]] == [[100, 300], [200, 500], [0, 60]]
    assert [line.get_marker() for line in axes.lines[1:6:2]] == ["o", "o", "x"]
    grid, median = axes.lines[6].get_xdata(), axes.lines[6].get_ydata()
    # Where every seed has been evaluated once it begins; a seed that has stopped stays where it was: at 4,000 they stand at 300, 500 and 60.
    assert (grid[0], grid[-1]) == (1_000, 4_000)
    assert (median[0], median[-1]) == (100, 300)
    assert axes.get_xlabel() == "environment steps"
    assert "return" in axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["three seeds"]


def test_arrivals_are_a_dot_for_each_training_or_a_cross_at_the_end_and_a_bar_at_the_median():
    axes = plot_arrivals({"soon": [100, 300, 200], "late": [400, np.inf, 1_500]}, limit=1_000)
    dots, crosses, bar = axes.lines[:3]
    assert (list(dots.get_xdata()), list(crosses.get_xdata()), list(bar.get_xdata())) == ([100, 300, 200], [], [200])
    dots, crosses, bar = axes.lines[3:]
    assert (list(dots.get_xdata()), list(crosses.get_xdata()), list(bar.get_xdata())) == ([400], [1_000, 1_000], [np.inf])
    assert (dots.get_marker(), crosses.get_marker()) == ("o", "x")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["soon: 3/3", "late: 1/3"]
    assert axes.get_xlim() == (0, 1_000)


def test_plots_are_drawn_where_they_are_told_and_what_was_never_evaluated_spoils_none():
    _, (left, right) = plt.subplots(1, 2)
    assert plot_learning_curves([Curve([], False), Curve([(1_000, 9)], True)], ax=right) is right
    assert right.get_legend().get_texts()[0].get_text() == "median of 1 seeds"
    assert not left.lines
    assert plot_durations([], ax=left) is left


def test_the_look_of_the_course_ends_with_the_block():
    wanted = matplotlib.rc_params_from_file(STYLE_FILE, use_default_template=False)
    before = dict(plt.rcParams)
    with course_style():
        assert {name: plt.rcParams[name] for name in wanted} == dict(wanted)
    assert dict(plt.rcParams) == before


def test_the_look_of_the_course_is_dark_on_opaque_white_also_for_readers_with_a_dark_style(tmp_path):
    pixels = []
    for reader in ("default", ["dark_background", {"figure.facecolor": "none", "savefig.transparent": True}]):
        with plt.style.context(reader), course_style():
            plt.figure()
            plot_durations(DURATIONS, title="agent").axhline(475)
            plt.savefig(tmp_path / "figure.png")
        pixels.append(plt.imread(tmp_path / "figure.png"))
    assert (pixels[0][..., 3] == 1).all()
    assert np.array_equal(*pixels)
