"""Plots of how an agent learns (episode durations, returns against environment steps, many seeds together), and of a batch's fields."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """Duration of each episode [steps] and the moving average over the last 100 of them; over a fifth of all where there are fewer than 500."""
    ax = ax or _current_axes()
    episodes = np.arange(1, len(durations) + 1)
    ax.plot(episodes, durations, ".", color="C4", alpha=0.5, markersize=3, label="one episode")
    window = min(WINDOW, max(len(durations) // 5, 1))
    ax.plot(episodes, moving_average(durations, window), color="C0", label=f"mean of the last {window}")
    ax.set(xlabel="episode", ylabel="duration [steps]", title=title, ylim=(0, None))
    ax.legend(loc="upper left")
    return ax


def plot_learning_curves(curves: Sequence[Curve], *, ax: "Axes | None" = None, label: str = "", color: str = "C0") -> "Axes":
    """Mean return of the evaluations against environment steps: a thin line per curve, and the median of all.

    curves: one per seed, for example `[result.curve for result in results]`. A line ends where its training stopped, in a dot (solved) or
    a cross (not). The median begins where every seed has been evaluated once, and holds a stopped seed at its last value.
    """
    curves = [curve for curve in curves if curve.evaluations]  # without those that were stopped before the first one
    if not curves:
        raise InvalidInput("plot_learning_curves needs at least one curve with an evaluation, for example [train(seed=0).curve].")
    ax = ax or _current_axes()
    first = max(curve.evaluations[0][0] for curve in curves)
    grid = np.linspace(first, max(curve.evaluations[-1][0] for curve in curves), 300)
    on_grid = []
    for curve in curves:
        env_steps, means = np.array(curve.evaluations).T
        ax.plot(env_steps, means, color=color, alpha=0.3, linewidth=0.8)
        ax.plot(env_steps[-1:], means[-1:], "o" if curve.solved else "x", color=color, markersize=4)
        on_grid.append(np.interp(grid, env_steps, means))
    ax.plot(grid, np.median(on_grid, axis=0), color=color, linewidth=2.5, label=label or f"median of {len(curves)} seeds")
    ax.set(xlabel="environment steps", ylabel="mean return, greedy", xlim=(0, None), ylim=(0, None))
    ax.legend(loc="lower right")
    return ax


def plot_arrivals(arrivals: Mapping[str, Sequence[float]], limit: float, *, ax: "Axes | None" = None) -> "Axes":
    """When each of many trainings was solved: a row for each name, a dot for each training, a bar at the median.

    arrivals: {name: environment steps until solved, infinite where a training was not};
    limit: where the axis ends. Whatever came later is a cross there.
    """
    from matplotlib import rcParams

    ax, labels = ax or _current_axes(), []
    for row, (name, steps) in enumerate(arrivals.items()):
        steps = np.asarray(steps, dtype=float)
        in_time = steps <= limit
        for mark, where in (("o", steps[in_time]), ("x", np.full((~in_time).sum(), limit))):
            ax.plot(where, np.full(len(where), row), mark, color=f"C{row}", alpha=0.5, clip_on=False)
        ax.plot(np.median(np.where(in_time, steps, np.inf)), row, "|", color=rcParams["text.color"], markersize=16)
        labels.append(f"{name}: {in_time.sum()}/{len(steps)}")
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlabel="environment steps (bar: median)", xlim=(0, limit), ylim=(len(labels) - 0.5, -0.5))
    return ax


def draw_fields(fields: Mapping[str, Sequence[Any]], *, ax: "Axes | None" = None, framed: str = "") -> "Axes":
    """The fields of a batch side by side, every number in a cell of its own, and under each field the shape that it has.

    fields: {name: tensor (n,) or (n, k), or n tensors () or (k,), or None where there is nothing to show};
    framed: "rows" for a frame around each row of all fields, "fields" for one around each field.
    """
    from matplotlib import rcParams
    from matplotlib.patches import Rectangle

    ax = ax or _current_axes()
    left, most = 0.0, max(map(len, fields.values()))

    def box(x: float, y: float, width: float, height: float, **look: Any) -> None:
        ax.add_patch(Rectangle((x, y), width, height, **{"edgecolor": rcParams["patch.edgecolor"], "facecolor": "none", **look}))

    for color, (name, rows) in enumerate(fields.items()):
        first = next(row for row in rows if row is not None)
        width = first.numel()
        for row, item in enumerate(rows):
            numbers = [None] * width if item is None else item.reshape(-1).tolist()
            for column, number in enumerate(numbers):
                box(left + column, -row, 0.9, 0.8, edgecolor="0.4", facecolor="none" if number is None else f"C{color}", alpha=0.4)
                if number is not None:
                    ax.text(left + column + 0.45, 0.4 - row, f"{number:.3g}", ha="center", va="center", fontsize=7)
        shape = str(tuple(rows.shape)) if hasattr(rows, "shape") else f"{len(rows)} of {tuple(first.shape)}"
        ax.text(left + width / 2, 1.2, name, ha="center", va="bottom", fontsize=8)
        ax.text(left + width / 2, -most + 0.3, shape, ha="center", va="center", fontsize=8, family="monospace")
        if framed == "fields":
            box(left - 0.2, 0.9 - len(rows), width + 0.3, len(rows) + 0.1)
        left += width + 1.2
    for row in range(most if framed == "rows" else 0):
        box(-0.2, -row - 0.1, left - 0.9, 1)
    ax.set(xlim=(-0.5, left - 0.5), ylim=(-most - 0.2, 2))
    ax.set_axis_off()
    return ax
