"""What is seen of a training: a bar, a plot that is replaced in place, and nothing that could cost the training."""

import signal
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from conftest import printed, same_result, train

from cartpole_lessons import progress
from cartpole_lessons.history import History
from cartpole_lessons.progress import LivePlot


def last_bar(capsys):
    return capsys.readouterr().err.rstrip().splitlines()[-1]


def test_a_bar_says_how_far_it_came_names_both_means_and_promises_no_time(evaluations, capsys):
    evaluations(100, 500)
    result = train(seed=0, progress=True)
    bar = last_bar(capsys)
    assert bar.startswith("conftest, seed 0: ")
    assert f"{result.env_steps / 1_000:.2f}k steps" in bar
    assert "exploring" in bar
    assert "greedy 500" in bar
    assert ("%" in bar, "?" in bar) == (False, False)


@pytest.mark.parametrize(
    ("judged", "max_steps", "said"), [((100, KeyboardInterrupt(), 500), 10_000, "stopped"), ((100, 100, 100), 2_000, "not solved")]
)
def test_a_bar_says_why_it_ended_without_success(judged, max_steps, said, evaluations, capsys):
    evaluations(*judged)
    train(seed=0, progress=True, max_steps=max_steps)
    assert said in last_bar(capsys)


def test_without_progress_a_training_is_silent(capsys):
    train(max_steps=100)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def shown(monkeypatch):
    """What a notebook is asked to show: ("display" or "update", the text of the picture), in order."""
    shown = []
    handle = SimpleNamespace(update=lambda picture, **options: shown.append(("update", picture["text/plain"])))

    def display(picture, **options):
        assert options["metadata"]["image/png"]["alt"] == picture["text/plain"]
        shown.append(("display", picture["text/plain"]))
        return handle

    monkeypatch.setattr("IPython.display.display", display)
    return shown


def in_a_notebook(monkeypatch, *, watched):
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "somebody_is_watching", lambda: watched)


def train_for_four_seconds(monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)
    plot, history = LivePlot("agent"), History()
    for episode in range(400):
        clock.now += 0.01
        history.episode_returns.append(float(episode))
        plot.update(episode, history)
    plot.close(history, "")


def test_a_watched_plot_is_redrawn_two_to_four_times_a_second_and_leaves_no_figure(monkeypatch, shown):
    in_a_notebook(monkeypatch, watched=True)
    train_for_four_seconds(monkeypatch)
    assert [kind for kind, _ in shown] == ["display"] + ["update"] * (len(shown) - 1)
    assert 8 <= len(shown) <= 16
    assert shown[-1][1] == "agent: 400 episodes, the longest 399 steps"
    assert plt.get_fignums() == []


def test_an_unwatched_plot_is_drawn_once_and_outside_a_notebook_not_at_all(monkeypatch, shown):
    train_for_four_seconds(monkeypatch)
    assert shown == []
    in_a_notebook(monkeypatch, watched=False)
    train_for_four_seconds(monkeypatch)
    assert [kind for kind, _ in shown] == ["display"]


def test_a_training_that_was_stopped_at_once_is_drawn_too(monkeypatch, shown):
    in_a_notebook(monkeypatch, watched=True)
    LivePlot("agent").close(History(), "stopped")
    assert shown == [("display", "agent: 0 episodes, the longest 0 steps")]


@pytest.mark.parametrize("broken", ["plot_durations", "Bar"])
def test_what_cannot_be_shown_is_one_warning_and_the_same_training(monkeypatch, shown, broken, capsys):
    def fail(*arguments, **keywords):
        raise RuntimeError("latex could not be found. Install it.")

    plain = train(seed=1, max_steps=1_000)
    in_a_notebook(monkeypatch, watched=True)
    monkeypatch.setattr(progress, broken, fail)
    with pytest.warns(UserWarning, match="cannot be shown") as caught:
        assert same_result(plain, train(seed=1, max_steps=1_000, progress=True))
    (warning,) = caught
    assert str(warning.message) == "The progress of a training cannot be shown (latex could not be found); it goes on without."


def test_ctrl_c_while_a_picture_is_drawn_takes_effect_when_it_is(monkeypatch, shown, capsys):
    in_a_notebook(monkeypatch, watched=True)
    draw = progress.plot_durations
    monkeypatch.setattr(
        progress, "plot_durations", lambda *arguments, **keywords: (signal.raise_signal(signal.SIGINT), draw(*arguments, **keywords))
    )
    result = train(seed=1, max_steps=100, progress=True)
    assert result.interrupted
    assert [kind for kind, _ in shown] == ["display"]
    assert "Stopped by you" in capsys.readouterr().out


TRAINING = "from conftest import train; result = train(seed=0, max_steps={}, progress=True); print(result.env_steps)"


def test_who_watches_a_notebook_sees_a_bar_that_turns_green_and_one_plot_that_is_replaced_in_place(kernel):
    messages = kernel.run(TRAINING.format(40_000))
    shown = [(message["msg_type"], message["content"]) for message in messages if "image/png" in message["content"].get("data", {})]
    assert [kind for kind, _ in shown] == ["display_data"] + ["update_display_data"] * (len(shown) - 1)
    assert len({content["transient"]["display_id"] for _, content in shown}) == 1
    assert shown[0][1]["metadata"]["image/png"]["alt"].startswith("conftest, seed 0: ")
    # What the kernel tells the page of its widgets.
    told = [message["content"]["data"].get("state", {}) for message in messages if message["msg_type"] in ("comm_open", "comm_msg")]
    assert [state["bar_style"] for state in told if "bar_style" in state][-1] == "success"
    assert printed(messages, "stderr") == ""


def test_in_a_notebook_that_nobody_watches_there_is_one_plot_and_no_bar(kernel):
    messages = kernel.run(TRAINING.format(1_000), watched=False)
    shown = [message["content"] for message in messages if message["msg_type"] in ("display_data", "update_display_data")]
    assert [list(content["data"]) for content in shown] == [["image/png", "text/plain"]]
    assert printed(messages, "stderr") == ""


def test_a_notebook_told_to_use_a_latex_that_is_not_there_loses_no_training(kernel, tmp_path):
    kernel.run(f"import os; path, os.environ['PATH'] = os.environ['PATH'], {str(tmp_path)!r}")
    try:
        messages = kernel.run("import matplotlib; matplotlib.rcParams['text.usetex'] = True; " + TRAINING.format(1_000))
    finally:
        kernel.run("os.environ['PATH'] = path; matplotlib.rcdefaults()")
    assert int(printed(messages)) > 0
    assert "cannot be shown" in printed(messages, "stderr") or any("image/png" in m["content"].get("data", {}) for m in messages)
