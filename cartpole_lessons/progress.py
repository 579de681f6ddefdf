"""What is seen of a training while it runs: a bar over the environment steps and, in a notebook, the live plot below it."""

import base64
import contextlib
import io
import time
import warnings
from collections.abc import Iterator

from cartpole_lessons._support.interrupts import HeldInterrupts
from cartpole_lessons.display import bars_are_seen, in_notebook, somebody_is_watching
from cartpole_lessons.errors import in_short
from cartpole_lessons.history import History
from cartpole_lessons.plots import course_style, plot_durations


class Progress:
    """The bar and the plot of one training. What goes wrong in them is one warning, and costs nothing else."""

    def __init__(self, title: str, total: int) -> None:
        self.env_steps, self.total = 0, total
        self.parts: list[Bar | LivePlot] = []
        with self._parts_may_fail():
            self.parts += [Bar(title), LivePlot(title)] if bars_are_seen() else [LivePlot(title)]

    def update(self, env_steps: int, history: History) -> None:
        """Show how far the training has come."""
        self.env_steps = env_steps
        with self._parts_may_fail():
            for part in self.parts:
                part.update(env_steps, history)

    def close(self, history: History, *, solved: bool) -> None:
        """Show how it ended. A training that ends by itself does so at an evaluation, or when its steps are used up."""
        by_itself = self.env_steps >= self.total or self.env_steps in (step for step, _ in history.evaluations[-1:])
        ending = "stopped" if not by_itself else "" if solved else "not solved"
        with self._parts_may_fail():
            for part in self.parts:
                part.close(history, ending)

    @contextlib.contextmanager
    def _parts_may_fail(self) -> Iterator[None]:
        try:
            with HeldInterrupts():  # the first picture imports what draws it, and half an import is of no use to the next one
                yield
        except Exception as error:
            self.parts.clear()
            warnings.warn(f"The progress of a training cannot be shown ({in_short(error)}); it goes on without.", stacklevel=4)


class Bar:
    """The steps so far and the latest means. It promises no time: a training is over when its policy is perfect, and nobody knows when."""

    def __init__(self, title: str) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(desc=title, unit=" steps", unit_scale=True, leave=True)

    def update(self, env_steps: int, history: History) -> None:
        """Move it to `env_steps`."""
        self._say(history)
        self.bar.update(env_steps - self.bar.n)

    def _say(self, history: History, ending: str = "") -> None:
        """Short words, because they leave the bar what is left of the line: in JupyterLab, beside its files, that was nothing."""
        recent = history.episode_returns[-100:]
        words = [f"exploring {sum(recent) / max(len(recent), 1):.0f}"]
        words += [f"greedy {mean:.0f}" for _, mean in history.evaluations[-1:]]
        self.bar.set_postfix_str(", ".join(words + [ending] * bool(ending)), refresh=False)

    def close(self, history: History, ending: str) -> None:
        """Leave it as it is; an `ending` other than a solved task is written beside it, in another colour."""
        self._say(history, ending)
        self.bar.refresh()
        self.bar.close()
        if ending and hasattr(self.bar, "disp"):  # a notebook's
            self.bar.disp(bar_style="warning", check_delay=False)


class LivePlot:
    """The duration plot of a running training: one picture in the notebook that is replaced in place, never a second one.

    In a notebook that nobody watches (nbval, nbconvert) it is drawn once, at the end. Outside notebooks it does nothing.
    """

    def __init__(self, title: str, seconds_between: float = 0.4) -> None:
        self.title = title
        self.seconds_between = seconds_between
        self._handle = None
        self._last_drawn = time.monotonic()

    def update(self, env_steps: int, history: History) -> None:
        """Redraw if somebody is watching and the last drawing is old enough."""
        if somebody_is_watching() and time.monotonic() - self._last_drawn >= self.seconds_between:
            self._show(history)
            self._last_drawn = time.monotonic()

    def close(self, history: History, ending: str) -> None:
        """Draw the whole history."""
        if in_notebook():
            self._show(history)

    def _show(self, history: History) -> None:
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
        # By hand, because IPython 7, which Colab has, knows no pictures with a text for screen readers.
        picture = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": text}
        options = {"raw": True, "metadata": {"image/png": {"alt": text}}}
        if self._handle is None:
            self._handle = display(picture, display_id=True, **options)
        else:
            self._handle.update(picture, **options)
