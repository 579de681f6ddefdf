"""Where are we running, and what can be shown there: platform, rendering without a screen, windows on a virtual one."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform as python_platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from cartpole_lessons.errors import MissingDependency, NoDisplay

STYLE_FILE = Path(__file__).with_name("cartpole.mplstyle")


def platform_name() -> str:
    """The place this Python runs in, as a student would call it."""
    if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules:
        return "Colab"
    if "BINDER_SERVICE_HOST" in os.environ:
        return "Binder"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "Kaggle"
    if "VSCODE_PID" in os.environ and in_notebook():
        return "VS Code notebook"
    return "notebook" if in_notebook() else "Python"


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


def _kernel() -> object | None:
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
    import matplotlib.pyplot as plt
    import torch

    torch.set_num_threads(1)
    plt.style.use(STYLE_FILE)
    films = "on" if _installed("pygame") and _installed("imageio_ffmpeg") else f"off ({_film_remedy()})"
    windows = "on" if has_display() else "virtual only" if shutil.which("Xvfb") else "off"
    parts = [f"Python {python_platform.python_version()}"]
    parts += [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "gymnasium")]
    parts += [f"{os.cpu_count()} CPU cores", f"films {films}", f"windows {windows}"]
    print(f"{platform_name()}: " + ", ".join(parts))


def _film_remedy() -> str:
    missing = [name for name, module in (("pygame-ce", "pygame"), ("imageio-ffmpeg", "imageio_ffmpeg")) if not _installed(module)]
    return "pip install " + " ".join(missing)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def has_display() -> bool:
    """True where a window can appear: always on Windows and macOS, on Linux when an X or Wayland display is named."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


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
    if not has_display():
        raise NoDisplay(
            "A window needs a display and this machine has none: render='rgb_array' works everywhere, or open the window inside `with virtual_display():`."
        )
    if sys.platform == "darwin" and in_notebook():
        raise NoDisplay("On macOS a window can hang the notebook's kernel: use render='rgb_array' here, or run the window from a script.")
    _use_real_sdl()


def _use_dummy_sdl() -> None:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def _use_real_sdl() -> None:
    """Undo the dummy driver, also where an earlier rgb_array environment has already started SDL with it."""
    if os.environ.get("SDL_VIDEODRIVER") == "dummy":
        del os.environ["SDL_VIDEODRIVER"]
    import pygame

    if pygame.display.get_init() and pygame.display.get_driver() == "dummy":
        pygame.display.quit()


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
    except Exception as error:
        # Each version of pyvirtualdisplay has its own exceptions for this, and all of them mean the same to a student.
        raise NoDisplay(f"Xvfb is installed but does not start here ({str(error).split('. ')[0]!r}): use render='rgb_array'.") from None
    try:
        yield screen
    finally:
        try:
            # SDL ends the whole process when its X server vanishes, so it lets go of the screen before the server stops.
            pygame = sys.modules.get("pygame")
            if pygame is not None and pygame.display.get_init() and pygame.display.get_driver() == "x11":
                pygame.display.quit()
        finally:
            screen.stop()
    if not has_display():
        _use_dummy_sdl()
