"""Plots of how an agent learns: episode durations, returns against environment steps, many seeds together."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cartpole_lessons.display import STYLE_FILE
from cartpole_lessons.errors import InvalidInput

if TYPE_CHECKING:
    # matplotlib takes longer to import than the rest of the course together, so only what draws imports it.
    from matplotlib.axes import Axes

#: CartPole counts as solved on the mean of 100 episodes, so that is the window people look at.
WINDOW = 100


class Curve(NamedTuple):
    """How one training went: its evaluations on the way, and whether it ended solved."""

    evaluations: Sequence[tuple[int, float]]  #: (env step, mean return)
    solved: bool


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


def plot_learning_curves(curves: Sequence[Curve], *, ax: "Axes | None" = None, label: str = "", color: str = "C0") -> "Axes":
    """Mean return of the evaluations against environment steps: a thin line per curve, and the median of all.

    curves: of as many seeds, for example `[result.curve for result in results]`.

    A line ends where its training stopped, in a dot (solved) or a cross (not). The median holds a stopped seed at its last value: an agent
    that has learned does not forget because its training is over. It begins where every seed has been evaluated once.
    """
    # A run that was stopped before its first evaluation has nothing to show.
    curves = [curve for curve in curves if curve.evaluations]
    if not curves:
        raise InvalidInput(
            "plot_learning_curves needs at least one curve with an evaluation: pass for example [train(seed=0).curve, train(seed=1).curve]."
        )
    if ax is None:
        ax = _current_axes()
    first = max(curve.evaluations[0][0] for curve in curves)
    grid = np.linspace(first, max(curve.evaluations[-1][0] for curve in curves), 300)
    on_grid = []
    for curve in curves:
        env_steps, means = np.array(curve.evaluations).T
        ax.plot(env_steps, means, color=color, alpha=0.3, linewidth=0.8)
        ax.plot(env_steps[-1:], means[-1:], "o" if curve.solved else "x", color=color, markersize=4, clip_on=False)
        on_grid.append(np.interp(grid, env_steps, means))
    ax.plot(grid, np.median(on_grid, axis=0), color=color, linewidth=2.5, label=label or f"median of {len(curves)} seeds")
    ax.set(xlabel="environment steps", ylabel="mean return, greedy", xlim=(0, None), ylim=(0, None))
    ax.legend(loc="lower right")
    return ax
