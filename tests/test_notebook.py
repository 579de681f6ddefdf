"""What `setup` teaches a notebook: plots say in words what they show, and a name that is not there yet says what to run."""

import matplotlib.pyplot as plt
import pytest
from conftest import printed

from cartpole_lessons._support.notebook import describe

SETUP = "import cartpole_lessons; cartpole_lessons.setup(); import matplotlib.pyplot as plt"
PLOT = "plt.plot([1, 2], label='seed 3'); plt.title('How long'); plt.xlabel('episode'); plt.legend(); plt.show()"


def pictures(messages):
    return [message["content"] for message in messages if "image/png" in message["content"].get("data", {})]


@pytest.mark.parametrize("setups", [1, 2])
def test_a_plot_has_a_text_for_those_who_cannot_see_it(kernel, setups):
    for _ in range(setups):
        kernel.run(SETUP)
    (picture,) = pictures(kernel.run(PLOT))
    assert picture["metadata"]["image/png"]["alt"] == "Plot of How long: episode (seed 3)"


def test_a_description_names_every_panel_once_and_a_drawing_without_words_says_so():
    figure, axes = plt.subplots(1, 3)
    for ax, title in zip(axes, ("before", "after", "after"), strict=True):
        ax.set(title=title, xlabel="angle", ylabel="push")
    assert describe(figure) == "Plot of before: push over angle; after: push over angle"
    assert describe(plt.figure()) == "A drawing; the text around it says what it shows"
    plt.close("all")


def test_a_name_that_is_not_there_says_which_cells_to_run_and_other_errors_are_as_ever(kernel):
    kernel.run(SETUP)
    messages = kernel.run("train(seed=0)")
    assert [message["content"]["ename"] for message in messages if message["msg_type"] == "error"] == ["NameError"]
    assert printed(messages, "stderr").startswith("train is not there. If a cell above makes it, run the cells above first")
    messages = kernel.run("1 / 0")
    assert [message["content"]["ename"] for message in messages if message["msg_type"] == "error"] == ["ZeroDivisionError"]
    assert printed(messages, "stderr") == ""
