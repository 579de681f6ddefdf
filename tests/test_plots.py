"""Plots: right sums, labelled axes, and a live one that is replaced in place."""

from types import SimpleNamespace

import hypothesis.strategies as st
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import one_sentence, printed
from hypothesis import given

from cartpole_lessons import display, plots
from cartpole_lessons.display import STYLE_FILE
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.plots import LivePlot, course_style, moving_average, plot_durations, plot_learning_curves
from cartpole_lessons.training import History

DURATIONS = list(np.random.default_rng(0).integers(1, 501, 250))


def result(evaluations, solved=True, env_steps=None):
    """As much of a `Result` as a learning curve shows."""
    history = History(evaluations=evaluations)
    return SimpleNamespace(history=history, env_steps=env_steps or max([step for step, _ in evaluations], default=0), solved=solved)


# The moving average


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(1, 150))
def test_the_moving_average_is_the_mean_of_the_last_values(values, window):
    slow = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(moving_average(values, window), slow, rtol=1e-6, atol=1e-4)


def test_the_moving_average_is_over_100_episodes_unless_told_otherwise():
    averages = moving_average([0] * 100 + [100] * 100)
    assert averages[99] == 0
    assert averages[149] == 50
    assert averages[199] == 100
    assert averages.dtype == np.float64


# Plots of a training


def test_durations_show_each_episode_and_the_moving_average():
    axes = plot_durations(DURATIONS, title="agent")
    episodes, average = axes.lines
    assert list(episodes.get_xdata()) == list(range(1, 251))
    assert list(episodes.get_ydata()) == DURATIONS
    np.testing.assert_allclose(average.get_ydata(), moving_average(DURATIONS))
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("episode", "duration [steps]", "agent")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one episode", "mean of the last 100"]
    assert axes.get_ylim()[0] == 0


def test_durations_can_be_drawn_into_given_axes_and_before_the_first_episode():
    _, (left, right) = plt.subplots(1, 2)
    assert plot_durations([], ax=left) is left
    assert not right.lines


def test_learning_curves_are_one_line_per_seed_and_their_median():
    curves = [result([(1_000, 100), (2_000, 300)]), result([(1_000, 200), (2_000, 500)]), result([(1_000, 0), (4_000, 60)], solved=False)]
    axes = plot_learning_curves(curves, label="three seeds")
    thin = axes.lines[0:6:2]
    assert [list(line.get_ydata()) for line in thin] == [[100, 300], [200, 500], [0, 60]]
    assert [line.get_marker() for line in axes.lines[1:6:2]] == ["o", "o", "x"]
    grid, median = axes.lines[6].get_xdata(), axes.lines[6].get_ydata()
    assert (grid[0], grid[-1]) == (0, 4_000)
    # A seed that has stopped stays where it was: at 4,000 steps the three stand at 300, 500 and 60.
    assert median[-1] == 300
    assert axes.get_xlabel() == "environment steps"
    assert "return" in axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["three seeds"]


def test_learning_curves_name_themselves_and_draw_where_they_are_told():
    _, (left, right) = plt.subplots(1, 2)
    assert plot_learning_curves([result([(1_000, 9)])], ax=right) is right
    assert not left.lines
    assert right.get_legend().get_texts()[0].get_text() == "median of 1 seeds"


def test_a_run_that_was_stopped_before_its_first_evaluation_has_no_curve_and_spoils_none():
    axes = plot_learning_curves([result([]), result([(1_000, 9), (2_000, 11)])])
    assert list(axes.lines[0].get_ydata()) == [9, 11]


@pytest.mark.parametrize("results", [[], [result([])]], ids=["none", "none with an evaluation"])
def test_no_results_are_refused(results):
    with pytest.raises(InvalidInput) as caught:
        plot_learning_curves(results)
    one_sentence(caught.value, "train(seed=0)")


def test_the_look_of_the_course_ends_with_the_block():
    wanted = matplotlib.rc_params_from_file(STYLE_FILE, use_default_template=False)
    before = dict(plt.rcParams)
    with course_style():
        assert {name: plt.rcParams[name] for name in wanted} == dict(wanted)
    assert dict(plt.rcParams) == before


# The live plot


@pytest.fixture
def shown(monkeypatch):
    """What a notebook is asked to show: ("display" or "update", picture), in order."""
    shown = []
    handle = SimpleNamespace(update=lambda picture: shown.append(("update", picture)))

    def show(picture, display_id):
        shown.append(("display", picture))
        return handle

    monkeypatch.setattr("IPython.display.display", show)
    return shown


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test turns."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(plots, "time", clock)
    return clock


def notebook(monkeypatch, watched):
    monkeypatch.setattr(display, "_kernel", lambda: SimpleNamespace(_allow_stdin=watched))


def train_for_four_seconds(clock):
    plot, history = LivePlot("agent"), History()
    for episode in range(400):
        clock.now += 0.01
        history.episode_returns.append(float(episode))
        plot.update(history)
    plot.finish(history)


def test_a_watched_plot_is_redrawn_two_to_four_times_a_second(monkeypatch, shown, clock):
    notebook(monkeypatch, watched=True)
    train_for_four_seconds(clock)
    assert [kind for kind, _ in shown].count("display") == 1
    assert shown[0][0] == "display"
    assert 8 <= len(shown) <= 16
    assert shown[0][1].data.startswith(b"\x89PNG")
    assert shown[-1][1].alt == "agent: 400 episodes, the longest 399 steps"
    assert plt.get_fignums() == []


def test_the_live_picture_is_a_png_with_a_text_for_screen_readers():
    from IPython.core.formatters import DisplayFormatter

    data, metadata = DisplayFormatter().format(plots._Picture(b"\x89PNG", "agent: 3 episodes"))
    assert data == {"image/png": "iVBORw==", "text/plain": "agent: 3 episodes"}
    assert metadata == {"image/png": {"alt": "agent: 3 episodes"}}


def test_an_unwatched_plot_is_drawn_once(monkeypatch, shown, clock):
    notebook(monkeypatch, watched=False)
    train_for_four_seconds(clock)
    assert [kind for kind, _ in shown] == ["display"]


def test_outside_a_notebook_nothing_is_drawn(shown, clock):
    train_for_four_seconds(clock)
    assert shown == []


def test_a_training_that_was_stopped_at_once_is_drawn_too(monkeypatch, shown, clock):
    notebook(monkeypatch, watched=True)
    LivePlot("agent").finish(History())
    assert shown[0][1].alt == "agent: 0 episodes, the longest 0 steps"


LIVE_CELL = """
from cartpole_lessons.plots import LivePlot
from cartpole_lessons.training import History
plot, history = LivePlot("agent", seconds_between=0), History()
for episode in range(4):
    history.episode_returns.append(10.0 * episode)
    plot.update(history)
plot.finish(history)
"""


def pictures(messages):
    return [
        message for message in messages if message["msg_type"] in ("display_data", "update_display_data", "clear_output", "execute_result")
    ]


def test_in_a_real_kernel_that_somebody_watches_it_is_replaced_in_place(kernel):
    messages = kernel.run(LIVE_CELL, watched=True)
    assert [message["msg_type"] for message in pictures(messages)] == ["display_data"] + ["update_display_data"] * 4
    assert len({message["content"]["transient"]["display_id"] for message in pictures(messages)}) == 1
    drawn = [message["content"]["data"]["image/png"] for message in pictures(messages)]
    assert len(set(drawn)) >= 4
    assert printed(messages, "stderr") == ""


def test_in_a_real_kernel_that_nobody_watches_it_is_drawn_once(kernel):
    messages = kernel.run(LIVE_CELL, watched=False)
    assert [message["msg_type"] for message in pictures(messages)] == ["display_data"]
    assert "image/png" in pictures(messages)[0]["content"]["data"]


def test_no_figure_is_left_open_in_a_real_kernel(kernel):
    assert printed(kernel.run(LIVE_CELL + "import matplotlib.pyplot as plt; print(plt.get_fignums())")) == "[]\n"
