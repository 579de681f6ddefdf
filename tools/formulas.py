"""A formula's TeX as a small SVG, drawn by Matplotlib: it looks the same in every browser, and needs no font, no script and no network."""

import functools
import html
import re

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.textpath import TextPath

FONT = FontProperties(family="STIXGeneral", math_fontfamily="stix", size=100)
#: What Matplotlib's TeX lacks, and what says the same: (pattern, replacement).
DIALECT = (
    (r"\\[Bb]ig[lr]?(?=[\[(])", r"\\left"),
    (r"\\[Bb]ig[lr]?(?=[\])])", r"\\right"),
    (r"\\(t?)frac(\d)(\d)", r"\\\1frac{\2}{\3}"),
    (r"\\sqrt (\w)", r"\\sqrt{\1}"),
)
#: A path's codes in Matplotlib and in SVG, and how many points belong to each.
COMMANDS = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}


@functools.cache
def svg(tex: str, *, block: bool = False) -> str:
    """The formula as an `<svg>` in the colour of the text around it, standing on its line. block: on a line of its own, with whole fractions."""
    spoken = " ".join(tex.split())
    for pattern, replacement in DIALECT:
        spoken = re.sub(pattern, replacement, spoken)
    if block:  # there a fraction is large, unless it stands inside of something
        outside = lambda at: spoken[:at].count("{") == spoken[:at].count("}")  # noqa: E731
        spoken = re.sub(r"\\frac", lambda found: r"\dfrac" if outside(found.start()) else found[0], spoken)
    spoken = spoken.replace(r"\tfrac", r"\frac")
    width, height, depth, *_ = MathTextParser("path").parse(f"${spoken}$", dpi=72, prop=FONT)
    path = TextPath((0, 0), f"${spoken}$", prop=FONT)
    size = f"width:{width / 100:.2f}em;height:{(height + depth) / 100:.2f}em;vertical-align:{-depth / 100:.2f}em"
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(tex)}" style="{size}" '
        f'viewBox="0 {-height:.0f} {width:.0f} {height + depth:.0f}"><path transform="scale(1,-1)" d="{_outline(path)}"/></svg>'
    )


def _outline(path: TextPath) -> str:
    vertices, parts, at = np.round(path.vertices).astype(int), [], 0
    while at < len(path.codes):
        letter, points = COMMANDS[int(path.codes[at])]
        parts.append(letter if letter == "Z" else letter + " ".join(f"{x} {y}" for x, y in vertices[at : at + points]))
        at += points
    return "".join(parts)
