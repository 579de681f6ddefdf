"""Where are we running, and what can be shown there: platform, rendering without a screen, windows on a virtual one."""

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole_lessons._support.notebook import prepare_notebook
from cartpole_lessons.errors import MissingDependency, NoDisplay, in_short

if TYPE_CHECKING:
    import gymnasium as gym

#: Under this name a result's figures stand in the outputs of an executed notebook.
RESULT_MIME = "application/vnd.cartpole-lessons.result+json"
STYLE_FILE = Path(__file__).with_name("cartpole.mplstyle")


def platform_name() -> str:
    """The place this Python runs in, as a student would call it."""
    if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules:
        return "Colab"
    for variable, name in (("BINDER_SERVICE_HOST", "Binder"), ("KAGGLE_KERNEL_RUN_TYPE", "Kaggle")):
        if variable in os.environ:
            return name
    if in_notebook():
        return "VS Code notebook" if "VSCODE_PID" in os.environ else "notebook"
    return "Python"


def in_notebook() -> bool:
    """True inside a Jupyter kernel: rich output reaches somebody or some file."""
    return _kernel() is not None


def somebody_is_watching() -> bool:
    """True when a person has the notebook open, False under nbval, nbconvert or nbclient.

    Those tools cannot answer a prompt and say so with every cell that they run (`allow_stdin`); a live plot would only cost them time.
    """
    kernel = _kernel()
    return kernel is not None and bool(getattr(kernel, "_allow_stdin", True))


def bars_are_seen() -> bool:
    """False in a notebook that nobody watches, where a progress bar is only a broken widget in the saved file."""
    return somebody_is_watching() or not in_notebook()


def _kernel() -> Any | None:
    """The running ipykernel, or None; asks without importing IPython where nothing has."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None)


def setup() -> None:
    """First call of every lesson: quiet SDL, one thread for torch, the course's plot style, and one line that says what was found.

    One thread, because handing a lesson's small networks to more costs more than it saves, and on a crowded machine far more.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not has_display():
        _use_dummy_sdl()
    import importlib.metadata  # here, because it loads `random`, and the doctor must start beside a student's random.py too
    import platform

    import matplotlib.pyplot as plt
    import torch

    torch.set_num_threads(1)
    plt.style.use(STYLE_FILE)
    if in_notebook():
        prepare_notebook(_kernel().shell)
    missing = [name for name, module in (("pygame-ce", "pygame"), ("imageio-ffmpeg", "imageio_ffmpeg")) if not _installed(module)]
    films = f"off (pip install {' '.join(missing)})" if missing else "on"
    windows = "on" if has_display() else "virtual only" if shutil.which("Xvfb") else "off"
    if windows != "on" and named_displays():
        windows += f" ({_why_no_display()})"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "gymnasium")]
    found = [f"Python {platform.python_version()}", *versions, f"{os.cpu_count()} CPU cores", f"films {films}", f"windows {windows}"]
    print(f"{platform_name()}: {', '.join(found)}")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def has_display() -> bool:
    """True where a window can appear: always on Windows and macOS, on Linux where an X or Wayland display is named and answers."""
    if sys.platform in ("win32", "darwin"):
        return True
    wayland = os.environ.get("WAYLAND_DISPLAY")
    return _x_answers(os.environ.get("DISPLAY", "")) or bool(
        wayland and _listens(os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), wayland))
    )


def named_displays() -> dict[str, str]:
    """The environment variables that name a display, whether or not it answers."""
    return {name: value for name in ("DISPLAY", "WAYLAND_DISPLAY") if (value := os.environ.get(name))}


def _why_no_display() -> str:
    named = " or ".join(f"{name}={value}" for name, value in named_displays().items())
    return f"nothing answers at {named}" if named else "this machine has none"


def _x_answers(display: str) -> bool:
    """Whether an X server answers at `display`: ":0" is on this machine, "localhost:10.0" comes through ssh, "host:0" over the network."""
    host, _, screen = display.rpartition(":")
    number = screen.partition(".")[0]
    if not number.isdecimal():
        return False
    if host in ("", "unix"):
        return _listens(f"/tmp/.X11-unix/X{number}")
    import socket

    with contextlib.suppress(OSError, OverflowError), socket.create_connection((host.strip("[]"), 6000 + int(number)), timeout=1):
        return True
    return False


def _listens(path: str) -> bool:
    """Whether a program accepts connections at the socket `path`; a file there may be left from one that has ended.

    Linux knows, and is asked first: an X server with no other clients starts afresh after ours, and lets nobody in meanwhile.
    """
    with contextlib.suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="replace") as sockets:
        if any(line.rstrip("\n").endswith((f" {path}", f" @{path}")) for line in sockets):
            return True
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:  # it may listen outside of our container
        connection.settimeout(1)
        connection.connect(path)
        return True
    return False


def prepare_rendering(render: str) -> None:
    """Make SDL ready for `render` ("rgb_array" or "human") before an environment draws its first frame.

    `MissingDependency` without pygame, `NoDisplay` for a window where none can be shown: SDL itself would stay silent.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not _installed("pygame"):
        raise MissingDependency("Rendering needs pygame, which is not installed: run `pip install pygame-ce`.")
    if render == "rgb_array":
        if not has_display():
            _use_dummy_sdl()
        return
    # A driver that the user chose is theirs, also one that draws where nobody looks.
    chosen = os.environ.get("SDL_VIDEODRIVER")
    if not has_display() and chosen in (None, "", "dummy"):
        raise _no_window(_why_no_display())
    if sys.platform == "darwin" and in_notebook():
        raise NoDisplay("On macOS a window can hang the notebook's kernel: use render='rgb_array' here, or run the window from a script.")
    if chosen == "dummy":
        del os.environ["SDL_VIDEODRIVER"]
    import pygame

    if pygame.display.get_init() and pygame.display.get_driver() == "dummy":  # started so by an earlier rgb_array environment
        pygame.display.quit()
    try:
        pygame.display.init()
    except pygame.error as error:
        raise _no_window(f"SDL finds none ({error})") from None
    # An X server that answers may still refuse us, and then SDL draws into memory without a word.
    if (driver := pygame.display.get_driver()) in ("dummy", "offscreen") and driver != chosen:
        pygame.display.quit()
        raise _no_window("the one that is named here lets nobody in")


def _use_dummy_sdl() -> None:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def _no_window(reason: str) -> NoDisplay:
    return NoDisplay(
        f"A window needs a display, and {reason}: render='rgb_array' works everywhere, or open the window inside `with virtual_display():`."
    )


@contextlib.contextmanager
def closing_beside_windows(env: "gym.Env") -> Iterator["gym.Env"]:
    """Close `env`, which is the course's own, at the end of the block, and leave a window that somebody has opened."""
    try:
        yield env
    finally:
        pygame = sys.modules.get("pygame")
        if pygame is not None and pygame.display.get_surface() is not None:
            env.unwrapped.screen = None  # CartPole's `close` asks for it, and then quits pygame for all
        env.close()


@contextlib.contextmanager
def virtual_display(size: tuple[int, int] = (800, 600)) -> Iterator[object]:
    """A screen in memory (Xvfb), for `render="human"` on a machine without one; yields pyvirtualdisplay's `Display`.

    size: width and height [pixels]. `MissingDependency` names the command that installs what is missing.
    """
    if sys.platform in ("win32", "darwin"):
        raise NoDisplay("Windows open by themselves on this system: use render='human' without virtual_display().")
    if not _installed("pyvirtualdisplay"):
        raise MissingDependency("A virtual display needs pyvirtualdisplay, which is not installed: run `pip install pyvirtualdisplay`.")
    if shutil.which("Xvfb") is None:
        raise MissingDependency("A virtual display needs the program Xvfb, which is not installed: run `apt-get install -y xvfb`.")
    from pyvirtualdisplay import Display

    screen = Display(visible=False, size=size)
    try:
        screen.start()
    except Exception as error:  # of many kinds, and all of them mean the same to a student
        raise NoDisplay(f"Xvfb is installed but does not start here ({in_short(error)!r}): use render='rgb_array'.") from None
    try:
        yield screen
    finally:
        # SDL ends the whole process when its X server vanishes, so it lets go of the screen before the server stops.
        pygame = sys.modules.get("pygame")
        if pygame is not None and pygame.display.get_init() and pygame.display.get_driver() == "x11":
            pygame.display.quit()
        screen.stop()
    if not has_display():
        _use_dummy_sdl()
