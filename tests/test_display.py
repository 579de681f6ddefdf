"""Where are we, and what can be shown there: found out without being told, and said in one line."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from conftest import always_right, one_sentence, printed

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
from cartpole_lessons.video import record

linux = pytest.mark.skipif(sys.platform != "linux", reason="displays are named by variables on Linux alone")
needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")


@pytest.fixture
def in_kernel(monkeypatch):
    """`in_kernel()`: from now on as if this process were a kernel."""
    shell = SimpleNamespace(kernel=SimpleNamespace())
    return lambda: monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_each_platform_is_known_by_its_own_variables(monkeypatch, in_kernel):
    known = {"COLAB_RELEASE_TAG": "Colab", "BINDER_SERVICE_HOST": "Binder", "KAGGLE_KERNEL_RUN_TYPE": "Kaggle", "VSCODE_PID": "Python"}
    for variable in known:
        monkeypatch.delenv(variable, raising=False)
    assert platform_name() == "Python"
    assert not in_notebook()
    assert not somebody_is_watching()
    for variable, name in known.items():  # the terminal of VS Code has its variable as well
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert platform_name() == name
    in_kernel()
    assert platform_name() == "notebook"
    monkeypatch.setenv("VSCODE_PID", "1")
    assert platform_name() == "VS Code notebook"
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert platform_name() == "Colab"


def test_a_real_kernel_knows_whether_somebody_watches(kernel):
    code = "from cartpole_lessons.display import in_notebook, somebody_is_watching; print(in_notebook(), somebody_is_watching())"
    for watched in (True, False, True):
        assert printed(kernel.run(code, watched=watched)) == f"True {watched}\n"


def test_setup_says_in_one_line_what_it_found(capsys, no_screen):
    cartpole_lessons.setup()
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("Python 3.", "torch ", "gymnasium ", f"{os.cpu_count()} CPU cores", "films on", "windows "):
        assert part in line


@pytest.mark.parametrize("modules", [["pygame"], ["imageio_ffmpeg"], ["pygame", "imageio_ffmpeg"]])
def test_setup_names_the_command_that_turns_films_on(capsys, missing, modules):
    missing(*modules)
    cartpole_lessons.setup()
    packages = " ".join(modules).replace("pygame", "pygame-ce").replace("_", "-")
    assert f"films off (pip install {packages})" in capsys.readouterr().out


@pytest.mark.parametrize(("there", "xvfb", "said"), [(True, False, "on"), (False, True, "virtual only"), (False, False, "off")])
def test_setup_says_whether_windows_can_open(monkeypatch, capsys, no_screen, there, xvfb, said):
    monkeypatch.setattr(display, "has_display", lambda: there)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/Xvfb" if xvfb else None)
    cartpole_lessons.setup()
    assert capsys.readouterr().out.endswith(f"windows {said}\n")


@linux
def test_setup_says_where_a_display_is_named_but_does_not_answer(monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    cartpole_lessons.setup()
    assert capsys.readouterr().out.endswith(" (nothing answers at DISPLAY=:77)\n")
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"


def test_setup_keeps_sdl_quiet_where_there_is_no_screen_and_leaves_a_students_own_choice(monkeypatch, no_screen):
    variables = ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT")
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    cartpole_lessons.setup()
    assert [os.environ[variable] for variable in variables] == ["dummy", "dummy", "1"]
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    cartpole_lessons.setup()
    assert os.environ["SDL_VIDEODRIVER"] == "offscreen"
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setattr(display, "has_display", lambda: True)
    cartpole_lessons.setup()
    assert "SDL_VIDEODRIVER" not in os.environ


def test_setup_gives_torch_one_thread_and_plots_the_look_of_the_course():
    torch.set_num_threads(2)
    plt.rcdefaults()
    cartpole_lessons.setup()
    assert torch.get_num_threads() == 1
    wanted = matplotlib.rc_params_from_file(STYLE_FILE, use_default_template=False)
    assert wanted
    assert {name: plt.rcParams[name] for name in wanted} == dict(wanted)


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_on_windows_and_macos_windows_open_by_themselves(monkeypatch, system):
    monkeypatch.setattr(display, "sys", SimpleNamespace(platform=system, modules=sys.modules))
    assert has_display()
    with pytest.raises(NoDisplay) as caught, virtual_display():
        pytest.fail("there is no need for it")
    one_sentence(caught.value, "render='human'")


@contextlib.contextmanager
def answering(family, address):
    """A program accepts connections there."""
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()
        yield


@linux
@pytest.mark.parametrize("value", [":{number}", "unix:{number}.0", "localhost:{number}.0"])
def test_an_x_display_is_there_while_its_server_answers(monkeypatch, value):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    number = next(number for number in range(50, 1000) if not os.path.exists(f"/tmp/.X11-unix/X{number}"))
    local = not value.startswith("localhost")
    monkeypatch.setenv("DISPLAY", value.format(number=number))
    assert not has_display()
    with answering(*((socket.AF_UNIX, f"\0/tmp/.X11-unix/X{number}") if local else (socket.AF_INET, ("127.0.0.1", 6000 + number)))):
        assert has_display()
    assert not has_display()


@linux
@pytest.mark.parametrize("full", [True, False])
def test_a_wayland_display_is_there_while_its_server_answers(tmp_path, monkeypatch, full):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere" if full else str(tmp_path))
    path = tmp_path / "wayland 7"
    monkeypatch.setenv("WAYLAND_DISPLAY", str(path) if full else path.name)
    assert not has_display()
    with answering(socket.AF_UNIX, str(path)):
        assert has_display()
    assert path.exists()
    assert not has_display()


@linux
@pytest.mark.parametrize("named", ["", "nonsense", ":", ":x", "localhost:99999999", "/tmp/none:0"])
def test_a_name_that_means_no_display_is_none(monkeypatch, named):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", named)
    assert not has_display()


@linux
def test_a_window_on_a_display_that_does_not_answer_is_refused(monkeypatch):
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":77")
    with pytest.raises(NoDisplay) as caught:
        make_env(render="human")
    one_sentence(caught.value, "nothing answers at DISPLAY=:77", "render='rgb_array'", "with virtual_display():")


def test_a_window_on_a_display_that_answers_and_lets_nobody_in_is_refused(monkeypatch, no_screen):
    """SDL would draw into memory instead, without a word."""
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setattr(display, "has_display", lambda: True)
    with pytest.raises(NoDisplay) as caught:
        make_env(render="human")
    one_sentence(caught.value, "A window needs a display", "render='rgb_array'")


def test_filming_leaves_a_window_of_the_students_open_and_none_where_there_was_none(monkeypatch, no_screen):
    pygame = pytest.importorskip("pygame")
    record(always_right, max_steps=3)
    assert not pygame.display.get_init()
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")  # a driver that the student chose opens where no display is
    with contextlib.closing(make_env(seed=0, render="human")) as env:
        env.reset()
        assert pygame.display.get_driver() == "offscreen"
        record(always_right, max_steps=3)
        env.step(0)


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


@needs_xvfb
def test_a_virtual_display_is_there_inside_the_block_only_and_ends_after_an_error_too(no_screen):
    with contextlib.suppress(ZeroDivisionError), virtual_display(size=(320, 240)) as screen:
        assert has_display()
        assert os.environ["DISPLAY"] == screen.new_display_var
        assert screen.is_alive()
        _ = 1 / 0
    assert not has_display()
    assert not screen.is_alive()


WINDOW_SCRIPT = """
import time
from PIL import ImageGrab
from cartpole_lessons.display import virtual_display
from cartpole_lessons.environment import make_env
from cartpole_lessons.video import record

def film():
    return record(lambda observations: [1] * len(observations), max_steps=3).frames

print(film())
for visit in (1, 2):
    with virtual_display(size=(700, 500)) as screen:
        env = make_env(seed=0, render="human")
        env.reset()
        deadline, colours = time.monotonic() + 20, 1
        while colours == 1 and time.monotonic() < deadline:
            env.step(env.action_space.sample())
            picture = ImageGrab.grab(xdisplay=screen.new_display_var)
            colours = len(picture.getcolors(2**24))
        print(*picture.size, colours > 3)
        # The environment stays open, as a student would leave it.
print(film())
"""


@needs_xvfb
def test_a_window_really_shows_and_the_process_outlives_its_screen():
    """In a process of its own: SDL would take pytest down with the X server."""
    variables = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")}
    script = subprocess.run([sys.executable, "-c", WINDOW_SCRIPT], env=variables, capture_output=True, text=True, timeout=120)
    assert script.returncode == 0, script.stderr
    assert script.stdout.splitlines() == ["4", "700 500 True", "700 500 True", "4"]


@pytest.mark.parametrize(
    ("gone", "command"), [({"program": "Xvfb"}, "`apt-get install -y xvfb`"), (["pyvirtualdisplay"], "`pip install pyvirtualdisplay`")]
)
def test_a_virtual_display_names_the_command_that_installs_what_is_missing(missing, gone, command):
    missing(**gone) if isinstance(gone, dict) else missing(*gone)
    with pytest.raises(MissingDependency) as caught, virtual_display():
        pytest.fail("there is no display")
    one_sentence(caught.value, command)


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
