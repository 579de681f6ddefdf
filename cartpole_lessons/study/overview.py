"""Every algorithm of the course in one table: what it has to be told, what it cannot do, and what learning took. Figures are read from the published results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cartpole_lessons.study.results import read_figures, read_results


class Algorithm(NamedTuple):
    """What no measurement says of an algorithm, and where what was measured stands."""

    name: str
    lesson: str  #: number of its notebook
    told: str  #: what it has to know beforehand
    cannot: str
    results: tuple[str, ...]  #: row of the published results, or the name of other figures and the keys on the way to its runs


ALGORITHMS = (
    Algorithm(
        "Linear-quadratic regulator", "01", "the physics, and a cost", "learn, or leave the neighbourhood of upright", ("hand_made",)
    ),
    Algorithm("Policy gradient", "02", "which pushes there are", "learn before an episode's end", ("policy_gradient",)),
    Algorithm("REINFORCE, step by step", "03", "which pushes there are", "learn before an episode's end", ("reinforce",)),
    Algorithm("Actor-critic", "04", "which pushes there are", "use a step twice", ("actor_critic",)),
    Algorithm("PPO", "05", "which pushes there are", "use steps of old policies", ("ppo",)),
    Algorithm("DQN", "06", "a few pushes to choose from", "real-valued pushes", ("dqn",)),
    Algorithm("Better DQN", "07", "a few pushes to choose from", "real-valued pushes", ("better_dqn",)),
    Algorithm(
        "Gaussian REINFORCE: real-valued pushes", "09", "the range of the push", "learn before an episode's end", ("gaussian_reinforce",)
    ),
    Algorithm(
        "Augmented random search: real-valued pushes", "10", "nothing but returns", "say which push was good", ("augmented_random_search",)
    ),
    Algorithm(
        "Linear model, and its regulator", "14", "a cost, and that the world is linear", "what is not nearly linear", ("learned_model",)
    ),
    Algorithm(
        "Network model, and planning: swing-up", "14", "the reward of each state", "act without planning ahead", ("swing_up", "runs")
    ),
    Algorithm("Imitation", "15", "a teacher's pushes", "find what no teacher shows", ("imitation",)),
    Algorithm("Preferences", "15", "which of two clips is better", "want what nobody was asked about", ("preferences",)),
    Algorithm("PPO from pixels", "16", "two pictures in a row", "learn as quickly as from numbers", ("pixels", "runs", "two pictures")),
    Algorithm("PPO with a memory", "16", "position and angle", "learn from single steps", ("pixels", "runs", "a memory")),
)
HEADINGS = ("algorithm", "lesson", "what it has to be told", "what it cannot do", "solved", "steps", "CPU seconds")


def overview() -> Iterator[tuple[str, ...]]:
    """A line of the table for each algorithm whose results are published; its cells are those of `HEADINGS`."""
    rows = read_results()
    for algorithm in ALGORITHMS:
        runs = _runs(algorithm.results, rows)
        if runs:
            solved = [run["solved"] for run in runs]
            # Who was not solved took longer than all that were.
            medians = [np.median([run[name] if run["solved"] else np.inf for run in runs]) for name in ("env_steps", "cpu_seconds")]
            yield (*algorithm[:4], f"{sum(solved)} of {len(runs)}", f"{medians[0]:,.0f}", f"{medians[1]:.2g}")


def markdown() -> str:
    """The whole table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *overview()))


def _runs(where: tuple[str, ...], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """The runs at this place; none where they are not published."""
    if len(where) == 1:
        return rows.get(where[0], ())
    content = read_figures(where[0])
    for key in where[1:]:
        content = content.get(key, {})
    return [{"solved": run.get("held"), **run} for run in content]
