"""The published learning curves as SVG for the site: one picture of which one chooses the algorithms, and one for each algorithm with a line per seed.

Neither needs a script: the choice is made by CSS, and a seed's name and figures are the `<title>` of its line.
"""

import html
import math
from collections.abc import Iterable, Iterator

from badges import lesson_titles
from curves import quantiles

from cartpole_lessons.environment import env_spec

#: On from the beginning; the others are a click away.
SHOWN_FIRST = {"policy_gradient", "actor_critic", "ppo", "dqn"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#3a8fc7")
#: Whose colour is somebody else's too is drawn with dashes.
DASHES = ("", "7 4", "2 4")
#: Of each picture: width, height, and the room for its left and lower axis.
WIDE, SMALL = (760, 400, 52, 44), (360, 220, 44, 36)


class Scale:
    """A picture's axes: environment steps across, on a logarithmic scale or not, and the mean return upwards."""

    def __init__(self, size: tuple[int, int, int, int], steps: tuple[float, float], highest: float, *, log: bool = False) -> None:
        self.width, self.height, self.left, self.below = size
        self.steps, self.highest, self.log = steps, highest, log

    def x(self, step: float) -> float:
        """Where a step lies, in the picture's units."""
        low, high, at = (math.log(max(each, 1)) if self.log else each for each in (*self.steps, step))
        return self.left + (self.width - self.left - 12) * (at - low) / (high - low)

    def y(self, mean: float) -> float:
        """Where a mean return lies."""
        return 10 + (self.height - 10 - self.below) * (1 - mean / (1.04 * self.highest))

    def points(self, pairs: Iterable[tuple[float, float]]) -> str:
        """A line's points."""
        return " ".join(f"{self.x(step):.0f},{self.y(mean):.0f}" for step, mean in pairs)

    def axes(self, ticks: Iterable[int], threshold: float) -> Iterator[str]:
        """Both axes with their numbers, and the environment's threshold."""
        bottom, right = self.y(0), self.width - 12
        for mean in range(0, int(self.highest) + 1, 100 if self.width > 400 else 250):
            yield f'<path class="grid" d="M{self.left} {self.y(mean):.0f}H{right}"/><text x="{self.left - 6}" y="{self.y(mean) + 4:.0f}" class="end">{mean}</text>'
        for step in ticks:
            yield f'<text x="{self.x(step):.0f}" y="{bottom + 18:.0f}" class="middle">{step:,}</text>'
        yield f'<path class="threshold" d="M{self.left} {self.y(threshold):.0f}H{right}"/>'
        yield f'<text x="{(self.left + right) / 2:.0f}" y="{self.height - 4}" class="middle">environment steps</text>'


def chart(rows: dict[str, list]) -> str:
    """Medians and middle 80 % of all algorithms in one picture, each with a box to tick."""
    titles = lesson_titles()
    ordered = sorted(rows, key=lambda row: titles[row])
    scale = Scale(WIDE, (50, 60_000), 500, log=True)
    boxes, rules, drawn = [], [], []
    for number, row in enumerate(ordered):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS)]
        steps, (low, median, high) = quantiles(rows[row])
        band = scale.points([*zip(steps, high, strict=True), *zip(steps[::-1], low[::-1], strict=True)])
        drawn.append(
            f'<g class="curve {row}"><polygon points="{band}" fill="{colour}"/>'
            f'<polyline points="{scale.points(zip(steps, median, strict=True))}" stroke="{colour}" stroke-dasharray="{dash}"/></g>'
        )
        checked = "checked" if row in SHOWN_FIRST else ""
        sample = f'<svg viewBox="0 0 30 10" aria-hidden="true"><path d="M0 5H30" stroke="{colour}" stroke-dasharray="{dash}"/></svg>'
        boxes.append(f'<label><input type="checkbox" id="curve-{row}" {checked}>{sample}{html.escape(titles[row])}</label>')
        rules.append(f".curves:has(#curve-{row}:not(:checked)) .curve.{row} {{ display: none; }}")
    return (
        f'<div class="curves"><style>{" ".join(rules)}</style><div class="boxes">{"".join(boxes)}</div>'
        f'<svg viewBox="0 0 {scale.width} {scale.height}" role="img" aria-label="Mean return against environment steps, for the algorithms ticked above">'
        f"{''.join(scale.axes((100, 1_000, 10_000, 50_000), 475))}{''.join(drawn)}</svg></div>"
    )


def seeds(row: str, runs: list) -> str:
    """A row's picture: a line for each seed, whose name a pointer that rests on it shows. Ends in a dot (solved) or a cross (not)."""
    spec = env_spec(runs[0]["env_id"])
    steps, _ = quantiles(runs)
    longest, scale = steps[-1], Scale(SMALL, (0, steps[-1] * 1.05), spec.max_episode_steps)
    lines = []
    for run in runs:
        *_, (last, mean) = run["evaluations"]
        x, y = scale.x(last), scale.y(mean)
        end = f'<circle cx="{x:.0f}" cy="{y:.0f}" r="2.5"/>' if run["solved"] else f'<path d="M{x - 3:.0f} {y - 3:.0f}l6 6m0-6l-6 6"/>'
        said = f"seed {run['seed']}: {'solved' if run['solved'] else 'not solved'}, stopped after {run['env_steps']:,} steps"
        lines.append(f'<g><title>{said}</title><polyline points="{scale.points(run["evaluations"])}"/>{end}</g>')
    tick = 10 ** math.floor(math.log10(longest))
    tick *= 5 if longest / tick >= 5 else 2 if longest / tick >= 2 else 1
    title = lesson_titles()[row]
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg class="seeds" viewBox="0 0 {scale.width} {scale.height}" role="img" '
        f'aria-label="{html.escape(title)}: a line for each of {len(runs)} seeds">{"".join(scale.axes((0, tick), spec.reward_threshold))}{"".join(lines)}</svg></figure>'
    )


def all_seeds(rows: dict[str, list]) -> str:
    """`seeds` of every row, in the order of the lessons."""
    titles = lesson_titles()
    return f'<div class="panels">{"".join(seeds(row, rows[row]) for row in sorted(rows, key=lambda row: titles[row]))}</div>'
