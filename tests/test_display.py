"""Where are we, and what can be shown there: found out without being told, and said in one line."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from conftest import one_sentence, printed

import cartpole_lessons
from cartpole_lessons import display
from cartpole_lessons.display import (
    STYLE_FILE,
    has_display,
    in_notebook,
    platform_name,
    prepare_rendering,
    somebody_is_watching,
    virtual_display,
)
from cartpole_lessons.environment import make_env
from cartpole_lessons.errors import MissingDependency, NoDisplay

needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")


@pytest.fixture
def in_kernel(monkeypatch):
    """As if this process were a kernel; `in_kernel(allow_stdin)` says whether its front end can answer prompts."""

    def pretend(allow_stdin=True):
        monkeypatch.setattr(display, "_kernel", lambda: SimpleNamespace(_allow_stdin=allow_stdin))

    return pretend


# Where are we


@pytest.mark.parametrize(
    ("variable", "name"), [("COLAB_RELEASE_TAG", "Colab"), ("BINDER_SERVICE_HOST", "Binder"), ("KAGGLE_KERNEL_RUN_TYPE", "Kaggle"), (None, "Python")]
)  # fmt: skip
def test_each_platform_is_known_by_its_own_variable(monkeypatch, variable, name):
    for known in ("COLAB_RELEASE_TAG", "BINDER_SERVICE_HOST", "KAGGLE_KERNEL_RUN_TYPE", "VSCODE_PID"):
        monkeypatch.delenv(known, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    assert platform_name() == name


def test_colab_is_known_by_its_module_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert platform_name() == "Colab"


def test_notebooks_are_told_from_scripts(monkeypatch, in_kernel):
    monkeypatch.delenv("VSCODE_PID", raising=False)
    assert platform_name() == "Python"
    monkeypatch.setenv("VSCODE_PID", "1")  # the terminal of VS Code has it as well
    assert platform_name() == "Python"
    in_kernel()
    assert platform_name() == "VS Code notebook"
    monkeypatch.delenv("VSCODE_PID")
    assert platform_name() == "notebook"


def test_outside_a_kernel_there_is_no_notebook_and_nobody_watches():
    assert not in_notebook()
    assert not somebody_is_watching()


def test_a_front_end_that_answers_prompts_is_a_person(in_kernel):
    in_kernel(allow_stdin=True)
    assert in_notebook()
    assert somebody_is_watching()
    in_kernel(allow_stdin=False)
    assert in_notebook()
    assert not somebody_is_watching()


def test_a_real_kernel_knows_whether_somebody_watches(kernel):
    code = "from cartpole_lessons.display import in_notebook, somebody_is_watching; print(in_notebook(), somebody_is_watching())"
    for watched in (True, False, True):
        assert printed(kernel.run(code, watched=watched)) == f"True {watched}\n"


# The first call of every lesson


def test_setup_says_in_one_line_what_it_found(capsys, no_screen):
    cartpole_lessons.setup()
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("Python 3.", "torch ", "gymnasium ", f"{os.cpu_count()} CPU cores", "films on", "windows "):
        assert part in line


def test_setup_in_a_notebook_says_so(kernel):
    messages = kernel.run("import cartpole_lessons; cartpole_lessons.setup()")
    assert printed(messages).count("\n") == 1
    assert "Python" in printed(messages)
    assert printed(messages, "stderr") == ""


@pytest.mark.parametrize(
    ("modules", "command"),
    [
        (["pygame"], "pip install pygame-ce"),
        (["imageio_ffmpeg"], "pip install imageio-ffmpeg"),
        (["pygame", "imageio_ffmpeg"], "pip install pygame-ce imageio-ffmpeg"),
    ],
)
def test_setup_names_the_command_that_turns_films_on(capsys, missing, modules, command):
    missing(*modules)
    cartpole_lessons.setup()
    assert f"films off ({command})" in capsys.readouterr().out


@pytest.mark.parametrize(("screen", "xvfb", "said"), [(True, False, "on"), (False, True, "virtual only"), (False, False, "off")])
def test_setup_says_whether_windows_can_open(monkeypatch, capsys, screen, xvfb, said):
    monkeypatch.setattr(display, "has_display", lambda: screen)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/Xvfb" if xvfb else None)
    cartpole_lessons.setup()
    assert capsys.readouterr().out.endswith(f"windows {said}\n")


def test_setup_keeps_sdl_quiet_where_there_is_no_screen(monkeypatch, no_screen):
    for variable in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.delenv(variable, raising=False)
    cartpole_lessons.setup()
    assert os.environ["SDL_VIDEODRIVER"] == os.environ["SDL_AUDIODRIVER"] == "dummy"
    assert os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] == "1"


def test_setup_leaves_a_screen_alone_and_a_students_own_choice_too(monkeypatch, no_screen):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    cartpole_lessons.setup()
    assert "SDL_VIDEODRIVER" not in os.environ
    monkeypatch.delenv("DISPLAY")
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    cartpole_lessons.setup()
    assert os.environ["SDL_VIDEODRIVER"] == "offscreen"


def test_setup_gives_torch_one_thread():
    torch.set_num_threads(2)
    cartpole_lessons.setup()
    assert torch.get_num_threads() == 1


def test_setup_gives_plots_the_look_of_the_course():
    plt.rcdefaults()
    cartpole_lessons.setup()
    wanted = matplotlib.rc_params_from_file(STYLE_FILE, use_default_template=False)
    assert wanted
    assert {name: plt.rcParams[name] for name in wanted} == dict(wanted)


# Rendering


@pytest.mark.parametrize(
    ("system", "variables", "screen"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("win32", {}, True),
        ("darwin", {}, True),
    ],
)
def test_a_screen_is_there_on_windows_and_macos_and_where_linux_names_one(monkeypatch, system, variables, screen):
    monkeypatch.setattr(display, "sys", SimpleNamespace(platform=system, modules=sys.modules))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert has_display() == screen


def test_a_window_without_a_screen_is_refused_with_two_ways_out(no_screen):
    with pytest.raises(NoDisplay) as caught:
        make_env(render="human")
    one_sentence(caught.value, "render='rgb_array'", "with virtual_display():")


def test_a_window_in_a_notebook_on_macos_is_refused(monkeypatch, in_kernel):
    in_kernel()
    monkeypatch.setattr(display, "sys", SimpleNamespace(platform="darwin", modules=sys.modules))
    with pytest.raises(NoDisplay) as caught:
        prepare_rendering("human")
    one_sentence(caught.value, "macOS", "render='rgb_array'")


@pytest.mark.parametrize("render", ["rgb_array", "human"])
def test_without_pygame_the_message_holds_the_command(missing, render):
    missing("pygame")
    with pytest.raises(MissingDependency) as caught:
        make_env(render=render)
    one_sentence(caught.value, "`pip install pygame-ce`")


def test_a_window_takes_the_place_of_the_dummy_driver(monkeypatch, no_screen):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    assert pygame.display.get_driver() == "dummy"
    monkeypatch.setenv("DISPLAY", ":99")
    prepare_rendering("human")
    assert "SDL_VIDEODRIVER" not in os.environ
    assert not pygame.display.get_init()


# A screen in memory


@needs_xvfb
def test_a_virtual_display_is_there_inside_the_block_only(no_screen):
    with virtual_display(size=(320, 240)) as screen:
        assert has_display()
        assert os.environ["DISPLAY"] == screen.new_display_var
        assert screen.is_alive()
    assert not has_display()
    assert not screen.is_alive()
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


@needs_xvfb
def test_a_virtual_display_closes_after_an_error_too(no_screen):
    with pytest.raises(ZeroDivisionError), virtual_display() as screen:
        _ = 1 / 0
    assert not screen.is_alive()
    assert not has_display()


WINDOW_SCRIPT = """
import time
from PIL import ImageGrab
from cartpole_lessons.display import virtual_display
from cartpole_lessons.environment import make_env
from cartpole_lessons.video import record

def push_right(observations):
    return [1] * len(observations)

def frame_colours():
    env = make_env(seed=0, render="rgb_array")
    env.reset()
    return len(set(map(tuple, env.render().reshape(-1, 3))))

print("frame before", frame_colours())
for visit in (1, 2):
    with virtual_display(size=(700, 500)) as screen:
        env = make_env(seed=0, render="human")
        env.reset()
        deadline, colours = time.monotonic() + 20, 1
        while colours == 1 and time.monotonic() < deadline:
            env.step(env.action_space.sample())
            picture = ImageGrab.grab(xdisplay=screen.new_display_var)
            colours = len(picture.getcolors(2**24))
        print("window", *picture.size, colours)
        # The environment stays open, as a student would leave it.
print("frame after", frame_colours())
print("film after", record(push_right, max_steps=3).frames)
"""


@needs_xvfb
def test_a_window_really_shows_and_the_process_outlives_its_screen():
    """In a process of its own: SDL would take pytest down with the X server."""
    variables = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")}
    script = subprocess.run([sys.executable, "-c", WINDOW_SCRIPT], env=variables, capture_output=True, text=True, timeout=120)
    assert script.returncode == 0, script.stderr
    said = dict(line.rsplit(" ", 1) for line in script.stdout.splitlines() if not line.startswith("window"))
    windows = [line.split()[1:] for line in script.stdout.splitlines() if line.startswith("window")]
    assert [(width, height) for width, height, _ in windows] == [("700", "500")] * 2
    assert all(int(colours) > 3 for _, _, colours in windows)
    assert int(said["frame before"]) == int(said["frame after"]) > 3
    assert said["film after"] == "4"


def test_a_virtual_display_needs_pyvirtualdisplay(missing):
    missing("pyvirtualdisplay")
    with pytest.raises(MissingDependency) as caught, virtual_display():
        pytest.fail("there is no display")
    one_sentence(caught.value, "`pip install pyvirtualdisplay`")


def test_a_virtual_display_needs_xvfb(missing):
    missing(program="Xvfb")
    with pytest.raises(MissingDependency) as caught, virtual_display():
        pytest.fail("there is no display")
    one_sentence(caught.value, "`apt-get install -y xvfb`")


@pytest.mark.skipif(sys.platform == "win32", reason="a stand-in for Xvfb is a shell script")
def test_an_xvfb_that_does_not_start_is_told(tmp_path, monkeypatch, no_screen):
    pytest.importorskip("pyvirtualdisplay")
    broken = tmp_path / "Xvfb"
    broken.write_text("#!/bin/sh\necho 'Xvfb: unrecognised\noptions' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(NoDisplay) as caught, virtual_display():
        pytest.fail("there is no display")
    one_sentence(caught.value, "Xvfb", "render='rgb_array'")
    assert not has_display()


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_where_windows_open_by_themselves_a_virtual_display_is_refused(monkeypatch, system):
    monkeypatch.setattr(display, "sys", SimpleNamespace(platform=system, modules=sys.modules))
    with pytest.raises(NoDisplay) as caught, virtual_display():
        pytest.fail("there is no need for it")
    one_sentence(caught.value, "render='human'")
