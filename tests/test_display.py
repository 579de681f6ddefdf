"""Where are we, and what can be shown there: found out without being told, and said in one line."""

import contextlib
import os
import shutil
import socket
import struct
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
    """As if this process were a kernel; `in_kernel(allow_stdin)` says whether its front end can answer prompts."""

    def pretend(allow_stdin=True):
        shell = SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=allow_stdin))
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    return pretend


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


def test_setup_keeps_sdl_quiet_where_there_is_no_screen(monkeypatch, no_screen):
    for variable in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.delenv(variable, raising=False)
    cartpole_lessons.setup()
    assert os.environ["SDL_VIDEODRIVER"] == os.environ["SDL_AUDIODRIVER"] == "dummy"
    assert os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] == "1"


def test_setup_leaves_a_screen_alone_and_a_students_own_choice_too(monkeypatch):
    monkeypatch.setattr(display, "has_display", lambda: True)
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    cartpole_lessons.setup()
    assert "SDL_VIDEODRIVER" not in os.environ
    monkeypatch.setattr(display, "has_display", lambda: False)
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


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_a_screen_is_always_there_on_windows_and_macos(monkeypatch, system):
    monkeypatch.setattr(display, "sys", SimpleNamespace(platform=system, modules=sys.modules))
    assert has_display()


@pytest.fixture
def screen(monkeypatch):
    """`with screen("DISPLAY", value, family, address)`: a display is named, and a program listens at its address inside the block."""

    @contextlib.contextmanager
    def listening(variable, value, family, address):
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, value)
        assert not has_display()
        with socket.socket(family) as server:
            server.bind(address)
            server.listen()
            yield

    return listening


@linux
@pytest.mark.parametrize("value", [":{number}", "unix:{number}.0", "localhost:{number}.0"])
def test_an_x_display_is_there_while_its_server_answers(screen, value):
    number = next(number for number in range(50, 1000) if not os.path.exists(f"/tmp/.X11-unix/X{number}"))
    local = not value.startswith("localhost")
    family, address = (socket.AF_UNIX, f"\0/tmp/.X11-unix/X{number}") if local else (socket.AF_INET, ("127.0.0.1", 6000 + number))
    with screen("DISPLAY", value.format(number=number), family, address):
        assert has_display()
    assert not has_display()


@linux
@pytest.mark.parametrize("full", [True, False])
def test_a_wayland_display_is_there_while_its_server_answers(screen, tmp_path, monkeypatch, full):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere" if full else str(tmp_path))
    path = tmp_path / "wayland-7"
    with screen("WAYLAND_DISPLAY", str(path) if full else path.name, socket.AF_UNIX, str(path)):
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


@pytest.fixture
def locked_screen(tmp_path):
    """The name of an X display that answers, and refuses whoever has not its password."""
    fields = (b"", b"", b"MIT-MAGIC-COOKIE-1", os.urandom(16))
    (tmp_path / "password").write_bytes(b"\xff\xff" + b"".join(struct.pack(">H", len(field)) + field for field in fields))
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-auth", str(tmp_path / "password"), "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server, open(read) as number:
        os.close(write)
        yield f":{number.readline().strip()}"
        server.terminate()


@needs_xvfb
def test_a_window_on_a_display_that_lets_nobody_in_is_refused(monkeypatch, locked_screen):
    """SDL would draw into memory instead, without a word."""
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", locked_screen)
    monkeypatch.setenv("XAUTHORITY", "/dev/null")
    assert has_display()
    with pytest.raises(NoDisplay) as caught:
        make_env(render="human")
    one_sentence(caught.value, "lets nobody in", "render='rgb_array'")


def test_a_driver_that_the_student_chose_opens_where_no_display_is(monkeypatch, no_screen):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
    with contextlib.closing(make_env(seed=0, render="human")) as env:
        env.reset()
        assert pygame.display.get_driver() == "offscreen"


def test_filming_leaves_a_window_of_the_students_open(monkeypatch, no_screen):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")  # stands in for a screen
    with contextlib.closing(make_env(seed=0, render="human")) as env:
        env.reset()
        record(always_right, max_steps=3)
        env.step(0)


def test_filming_leaves_no_driver_running_where_no_window_is_open(no_screen):
    pygame = pytest.importorskip("pygame")
    record(always_right, max_steps=3)
    assert not pygame.display.get_init()


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
