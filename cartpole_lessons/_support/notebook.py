"""How the course shows itself in a notebook: cards, what a plot shows in words, and what to do about a name that is not there yet."""

import html
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def card(colour: str, text: str, *, heading: str = "", code: str = "") -> str:
    """A small card in HTML. No background and no colour of its own for text: it has to be readable in light and in dark themes."""
    parts = [f"<strong>{html.escape(heading)}</strong> " if heading else "", html.escape(text).replace("\n", "<br>")]
    parts += [f"<pre style='margin:0.5em 0 0'>{html.escape(code)}</pre>"] if code else []
    return f"<div role='status' style='border-left:5px solid {colour};padding:0.3em 0.8em'>{''.join(parts)}</div>"


def prepare_notebook(shell: Any) -> None:
    """Plots of this notebook, whose IPython shell it is, get a text for screen readers, and a NameError a sentence."""
    if not shell.custom_exceptions:  # somebody else's stay
        shell.set_custom_exc((NameError,), _explain_missing_name)
    from matplotlib.figure import Figure

    shell.enable_matplotlib("inline")  # what the first plot would do otherwise
    pictures = shell.display_formatter.formatters["image/png"]
    draw = pictures.lookup_by_type(Figure)
    if getattr(draw, "describes", False):  # a second call of `setup`
        return

    def draw_and_describe(figure: "Figure") -> tuple[Any, dict[str, Any]]:
        drawn = draw(figure)
        picture, metadata = drawn if isinstance(drawn, tuple) else (drawn, {})
        return picture, {**metadata, "alt": describe(figure)}

    draw_and_describe.describes = True
    pictures.for_type(Figure, draw_and_describe)


def describe(figure: "Figure") -> str:
    """What a plot shows, from its own words: titles, axes, and the names of its lines."""
    parts = []
    for ax in figure.axes:
        names = [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []
        axes = " over ".join(text for text in (ax.get_ylabel(), ax.get_xlabel()) if text)
        part = ": ".join(text for text in (ax.get_title() or ax.get_title(loc="left"), axes) if text)
        parts.append(part + f" ({', '.join(names)})" * bool(names))
    shown = "; ".join(dict.fromkeys(part for part in parts if part)).replace("\n", " ")
    return f"Plot of {shown}" if shown else "A drawing; the text around it says what it shows"


def _explain_missing_name(shell: Any, kind: type, error: NameError, traceback: Any, tb_offset: int | None = None) -> None:
    """IPython's usual traceback, and below it what a student can do."""
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)
    print(
        f"{error.name or 'The name'} is not there. If a cell above makes it, run the cells above first (in JupyterLab Run > Run All Above "
        "Selected Cell, in Colab Runtime > Run before); otherwise look at its spelling.",
        file=sys.stderr,
    )
