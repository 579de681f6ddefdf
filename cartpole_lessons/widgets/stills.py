"""What stands in a widget's place where no page is shown: a small picture of it, as GitHub takes frames and scripts out of a notebook."""

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# The page's colours.
BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (119, 119, 119)
WIDE, TALL, METRE = 640, 150, 114  # of one track, and a metre on it [pixels]


def still(picture: "Image", words: str) -> str:
    """HTML that shows a picture and a sentence only where style sheets are taken out, too; elsewhere they would stand above the page that works."""
    png = io.BytesIO()
    picture.quantize(64).save(png, "png", optimize=True)
    source = base64.b64encode(png.getvalue()).decode()
    return (
        '<style>.cartpole-still { display: none; }</style><figure class="cartpole-still">'
        f'<img src="data:image/png;base64,{source}" alt=""><figcaption>{html.escape(words)}</figcaption></figure>'
    )


def carts(states: Any) -> "Image":
    """Tracks below each other, and on each a cart with its pole: states (n, 4)."""
    from PIL import Image, ImageDraw

    def scaled(*numbers: float) -> list[float]:
        return [2 * number for number in numbers]

    picture = Image.new("RGB", (2 * WIDE, 2 * TALL * len(states)), "white")
    pen = ImageDraw.Draw(picture)
    for row, (position, _, angle, _) in enumerate(states):
        x, ground = WIDE / 2 + position * METRE, TALL * (row + 1) - 22
        pen.line(scaled(WIDE / 2 - 2.4 * METRE, ground + 12, WIDE / 2 + 2.4 * METRE, ground + 12), GREY, 4)
        pen.rectangle(scaled(x - 24, ground - 12, x + 24, ground + 10), BLUE)
        pen.line(scaled(x, ground - 12, x + 100 * np.sin(angle), ground - 12 - 100 * np.cos(angle)), ORANGE, 16)
    return picture.resize((WIDE, TALL * len(states)))  # half as large, and so without steps in its lines


def field(pushes: np.ndarray) -> "Image":
    """A map of pushes (n, n), -1 to 1: blue to the left, orange to the right."""
    from PIL import Image

    strength = 0.05 + 0.8 * np.abs(pushes)[..., None]
    colours = 255 - strength * (255 - np.where(pushes[..., None] < 0, BLUE, ORANGE))
    return Image.fromarray(colours.astype(np.uint8)).resize((260, 260), Image.Resampling.NEAREST)
