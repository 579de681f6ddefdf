"""Plots of how an agent learns: episode durations live, returns against environment steps, many seeds together."""

import base64
import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cartpole_lessons.display import STYLE_FILE, in_notebook, somebody_is_watching
from cartpole_lessons.errors import InvalidInput

if TYPE_CHECKING:
    # matplotlib takes longer to import than the rest of the course together, so only what draws imports it.
    from matplotlib.axes import Axes

    from cartpole_lessons.training import History, Result

#: CartPole counts as solved on the mean of 100 episodes, so that is the window people look at.
WINDOW = 100


def moving_average(values: Sequence[float], window: int = WINDOW) -> np.ndarray:
    """Mean of the last `window` values at each position, float64 (len(values),); of all there are while there are fewer."""
    totals = np.concatenate([[0.0], np.cumsum(values, dtype=float)])
    ends = np.arange(1, len(totals))
    starts = np.maximum(ends - window, 0)
    return (totals[ends] - totals[starts]) / (ends - starts)


@contextlib.contextmanager
def course_style() -> Iterator[None]:
    """The course's look for the plots made inside, whatever the student's own settings are."""
    from matplotlib import style

    with style.context(STYLE_FILE):
        yield


def _current_axes() -> "Axes":
    import matplotlib.pyplot as plt

    return plt.gca()


def plot_durations(durations: Sequence[float], *, ax: "Axes | None" = None, title: str = "") -> "Axes":
    """Duration of each episode [steps] and the moving average over the last 100 of them."""
    if ax is None:
        ax = _current_axes()
    episodes = np.arange(1, len(durations) + 1)
    ax.plot(episodes, durations, ".", color="C4", alpha=0.5, markersize=3, label="one episode")
    ax.plot(episodes, moving_average(durations), color="C0", label=f"mean of the last {WINDOW}")
    ax.set(xlabel="episode", ylabel="duration [steps]", title=title, ylim=(0, None))
    ax.legend(loc="upper left")
    return ax


def plot_learning_curves(results: "Sequence[Result]", *, ax: "Axes | None" = None, label: str = "", color: str = "C0") -> "Axes":
    """Mean return of the evaluations against environment steps: a thin line per seed, and the median of all.

    A line ends where its training stopped, in a dot (solved) or a cross (not). The median holds a stopped seed at its last value: an agent
    that has learned does not forget because its training is over.
    """
    # A run that was stopped before its first evaluation has nothing to show.
    results = [result for result in results if result.history.evaluations]
    if not results:
        raise InvalidInput(
            "plot_learning_curves needs at least one result with an evaluation: pass a list such as [train(seed=0), train(seed=1)]."
        )
    if ax is None:
        ax = _current_axes()
    grid = np.linspace(0, max(result.env_steps for result in results), 300)
    curves = []
    for result in results:
        env_steps, means = np.array(result.history.evaluations).T
        ax.plot(env_steps, means, color=color, alpha=0.3, linewidth=0.8)
        ax.plot(env_steps[-1:], means[-1:], "o" if result.solved else "x", color=color, markersize=4)
        curves.append(np.interp(grid, env_steps, means))
    ax.plot(grid, np.median(curves, axis=0), color=color, linewidth=2.5, label=label or f"median of {len(results)} seeds")
    ax.set(xlabel="environment steps", ylabel="mean return, greedy", xlim=(0, None), ylim=(0, None))
    ax.legend(loc="lower right")
    return ax


@dataclass(frozen=True)
class _Picture:
    """A PNG with a text for screen readers; IPython's own Image takes none in IPython 7, which Colab has."""

    data: bytes
    alt: str

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict[str, str], dict[str, dict]]:
        return {"image/png": base64.b64encode(self.data).decode(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


class LivePlot:
    """The duration plot of a running training: one picture in the notebook that is replaced in place, never a second one.

    In a notebook that nobody watches (nbval, nbconvert) it is drawn once, by `finish`. Outside notebooks it does nothing.
    """

    def __init__(self, title: str, seconds_between: float = 0.4) -> None:
        self.title = title
        self.seconds_between = seconds_between
        self._handle = None
        self._last_drawn = time.monotonic()

    def update(self, history: "History") -> None:
        """Redraw if somebody is watching and the last drawing is old enough."""
        if somebody_is_watching() and time.monotonic() - self._last_drawn >= self.seconds_between:
            self._show(history)
            self._last_drawn = time.monotonic()

    def finish(self, history: "History") -> None:
        """Draw the whole history."""
        if in_notebook():
            self._show(history)

    def _show(self, history: "History") -> None:
        from IPython.display import display
        from matplotlib.figure import Figure

        with course_style():
            # A Figure of its own, outside pyplot: nothing is left open when the cell is interrupted.
            figure = Figure(figsize=(7, 3))
            plot_durations(history.episode_returns, ax=figure.add_subplot(), title=self.title)
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=100)
        best = max(history.episode_returns, default=0)
        text = f"{self.title}: {len(history.episode_returns)} episodes, the longest {best:.0f} steps"
        picture = _Picture(png.getvalue(), text)
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)
