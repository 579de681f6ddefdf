"""Play CartPole in the notebook, and look into it: in the page itself, with Gymnasium's physics in JavaScript. It needs no kernel once it is shown.

PlayCartPole()                           # arrow keys or the two buttons
PlayCartPole(opponent=result.policy)     # you above, the agent below, from the same start
ExploreCartPole(result.policy)           # where it pushes, as a map to click on; {"at first": policy, ...} shows how it came about
TuneCartPole((5, 10, 100, 50))           # a linear rule, its gains to turn
ReplayCartPole(game.episodes())          # an episode once more, with what was seen and done below it
ComparePair(one, another)                # two episodes: which is better? `answer` has what was clicked
CountSeeds({"A, B": (steps, others)})    # how many seeds tell two algorithms apart?

game = PlayCartPole(); game              # play a few episodes, and then:
game.episodes().lengths                  # what agents produce, from your own hands
"""

import base64
import copy
import html
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from cartpole_lessons._support.checks import check_number, shown
from cartpole_lessons.display import somebody_is_watching
from cartpole_lessons.environment import make_env
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import Episodes
from cartpole_lessons.widgets.stills import carts, field, still

if TYPE_CHECKING:
    from PIL.Image import Image

#: More numbers than this are no network of these lessons, and too many for a page.
MOST_NUMBERS = 50_000
#: Where the notebook itself listens to the game in it, tells Python, and passes on that Python has heard. The game may be there first.
EAR = """export default { initialize({ model }) {
  const game = model.get("game"), frames = () => [...document.querySelectorAll("iframe")].map((frame) => frame.contentWindow);
  const hear = ({ data }) => { if (data && data.cartpole === game) model.send(data); };
  const answer = (words) => frames().forEach((page) => page.postMessage({ ...words, cartpole: game }, "*"));
  addEventListener("message", hear);
  model.on("msg:custom", answer);
  answer({ ear: true });
  return () => { removeEventListener("message", hear); model.off("msg:custom", answer); };
} };"""


class _Page:
    """What stands in a notebook as a page of its own: the module, and a call of one of its functions."""

    _call: str  #: name of the function in cartpole.js
    _title: str
    _height: int  #: of the frame [pixels]
    options: dict[str, Any]  #: what the function gets

    def _listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Let Python hear what the page says, where anywidget is installed and somebody is watching."""
        if somebody_is_watching() and find_spec("anywidget"):
            self.options["game"] = uuid.uuid4().hex
            self._ear = _ear(self.options["game"], hear)

    def _must_listen(self) -> None:
        if "game" not in self.options:
            raise InvalidInput("Python cannot hear the page: that needs anywidget (`pip install anywidget`) and an open notebook.")

    def to_page(self) -> str:
        """All of it as a page, which needs no other file."""
        code = files(__package__).joinpath("cartpole.js").read_text(encoding="utf-8")
        # Inside of a script `</` would end it.
        options = json.dumps(self.options).replace("</", "<\\/")
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{self._title}</title>'
            f"</head><body><div id='game'></div><script>{code}\nconst style = document.createElement('style'); style.textContent = STYLE; "
            f"document.head.append(style); const game = document.getElementById('game'); {self._call}(game, {options}); "
            # As high as it is, however wide its place becomes.
            "new ResizeObserver(() => { if (window.frameElement) frameElement.style.height = `${game.offsetHeight}px`; }).observe(game);</script></body></html>"
        )

    def to_html(self) -> str:
        """The page in a frame, for a page of something else."""
        page = html.escape(self.to_page(), quote=True)
        look = f"width:100%;max-width:660px;height:{self._height}px;border:0"
        return f'<iframe srcdoc="{page}" title="{self._title}" style="{look}" loading="lazy"></iframe>'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": still(self._picture(), repr(self)) + self.to_html(), "text/plain": repr(self)}

    def _picture(self) -> "Image":
        """What is seen where the page is not: carts as they start."""
        return carts([[0, 0, 0.05, 0]] * (1 + ("opponent" in self.options)))

    def __repr__(self) -> str:
        rival = f", with {self.options['name']}" if "name" in self.options else ""
        return f"{self._title}{rival}: it needs a notebook that shows HTML, for example JupyterLab or Colab."


class PlayCartPole(_Page):
    """A game that a notebook shows: hold the pole up for ten seconds. A key says which way the cart is pushed, and no key keeps the last.

    opponent: a policy of these lessons, whose cart starts like yours and is drawn below it. It runs in the page, from its weights.
    A gust of wind hits both carts alike.
    Where anywidget is installed and a person has the notebook open in JupyterLab or Notebook 7, `episodes` has what was played without wind. What you play
    while the kernel is gone waits in the browser's tab for the next game there.
    """

    _call, _title = "play", "CartPole to play"

    def __init__(self, opponent: nn.Module | None = None, *, name: str = "the agent") -> None:
        self.options = {} if opponent is None else {"opponent": network_of(opponent), "name": _short(name)}
        self._height = 590 if self.options else 400
        self._played: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._listen(self.hear)

    def episodes(self) -> Episodes:
        """The episodes that you have played to their end so far, as `collect_episodes` would return them. `InvalidInput` where there is none."""
        if not self._played:
            self._must_listen()
            raise InvalidInput("No episode has come from the game: play one to its end.")
        observations, actions, terminated = zip(*self._played, strict=True)
        mask = pad_sequence([torch.ones(len(pushes)) for pushes in actions]).bool()
        fell = torch.stack(terminated)
        return Episodes(pad_sequence(observations), pad_sequence(actions), mask.float(), mask, fell, ~fell)

    def hear(self, content: dict[str, Any]) -> None:
        """Note an episode that the page has sent: what was seen is what Gymnasium shows for the same start and pushes. Anything else is ignored."""
        env = make_env()
        env.reset()
        observations, actions, over = [], [], False
        try:
            env.unwrapped.state = np.array(content["start"], dtype=float).reshape(4)
            observation, pushes = env.unwrapped.state.astype(np.float32), [int(push > 0) for push in content["pushes"]]
            while pushes and not over:
                observations.append(torch.from_numpy(observation))
                actions.append(pushes.pop(0))
                observation, _, terminated, truncated, _ = env.step(actions[-1])
                over = terminated or truncated
        except (KeyError, TypeError, ValueError):
            return
        if over and not pushes:
            self._played.append((torch.stack(observations), torch.tensor(actions), torch.tensor(terminated)))


class ExploreCartPole(_Page):
    """Where a policy pushes, as a map over angle and angular velocity. A click drops the cart there; pull at it, or at its pole, and see.

    policy: one of these lessons', or several of one training, {"after 20 updates": policy, ...}, with a slider through them. They run in the page,
    from their weights. Where actions are real-valued the map shows how hard it pushes. Sliders change where the cart starts, the pole and the push.
    value: a network that says what a state is worth, a critic or Q-values, of which the largest counts; the map can show that as well. As many
    as there are policies, by the same names.
    """

    _call, _title, _height = "explore", "CartPole to look into", 500

    def __init__(
        self,
        policy: nn.Module | Mapping[str, nn.Module],
        *,
        value: nn.Module | Mapping[str, nn.Module] | None = None,
        name: str = "the agent",
    ) -> None:
        policies, values = (each if isinstance(each, Mapping) else {"": each} for each in (policy, value))
        if not policies or (value is not None and values.keys() != policies.keys()):
            raise InvalidInput(
                "A map shows one policy or more, and as many values or none: pass both as one network, or both by the same names."
            )
        stages = [{"label": str(label)[:40], "policy": network_of(each)} for label, each in policies.items()]
        if value is not None:
            for stage, label in zip(stages, policies, strict=True):
                stage["value"] = network_of(values[label])
        self.options = {"stages": stages, "name": _short(name)}

    def _picture(self) -> "Image":
        network = self.options["stages"][-1]["policy"]
        angle, speed = np.meshgrid(np.linspace(-1, 1, 40) * np.radians(12), np.linspace(3, -3, 40))
        said = _outputs(network, np.stack([0 * angle, 0 * angle, angle, speed], -1))
        pushes = said[..., -1] - (said[..., 0] if said.shape[-1] == 2 else 0)
        return field((pushes if network["real"] else pushes / (np.median(np.abs(pushes)) or 1)).clip(-1, 1))


class TuneCartPole(_Page):
    """The four gains of a linear rule as sliders, on the continuous CartPole: how long the pole stands, and which starts are saved.

    gains: to begin with, (4,) [N/m, N s/m, N/rad, N s/rad], as in lesson 01. `InvalidInput` for anything but four numbers.
    """

    _call, _title, _height = "tune", "A rule to tune", 640

    def __init__(self, gains: Sequence[float] = (0, 0, 100, 0)) -> None:
        try:
            numbers = np.asarray(gains, dtype=float)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (4,) or not np.isfinite(numbers).all():
            raise InvalidInput("A rule has four gains: for position, velocity, angle and angular velocity.")
        self.options = {"gains": numbers.tolist()}


class ReplayCartPole(_Page):
    """An episode once more, to stop at any moment: the cart, and in step with it the four observations and the push as curves.

    played: `Episodes`, of which the one with the number `episode` is shown, or the observations (T, 4) of one, and its `actions` (T,) if
    they are to be seen; one observation more, the last, may follow. speed: 1 plays as fast as life, at first.
    """

    _call, _title, _height = "replay", "CartPole to see again", 450

    def __init__(self, played: Episodes | Any, actions: Any = None, *, episode: int = 0, label: str = "", speed: float = 1.0) -> None:
        if isinstance(played, Episodes):
            many = played.mask.shape[1]
            if not isinstance(episode, int) or not 0 <= episode < many:
                raise InvalidInput(f"These are {many} episodes, counted from 0, and none of them is {shown(episode)}.")
            lasts = played.mask[:, episode]
            played, actions = played.observations[lasts, episode], played.actions[lasts, episode]
        speed = check_number("speed", speed, positive=True)
        self.options = {"film": _film(played, actions), "label": str(label)[:100], "speed": speed}

    def _picture(self) -> "Image":
        return carts([_middle(self.options["film"])])


class ComparePair(_Page):
    """Two episodes side by side, and the question which is better. Where anywidget is installed and a person has the notebook open, `answer` is theirs.

    left, right: `Episodes`, of which the first is shown, or observations (T, 4).
    """

    _call, _title, _height = "compare", "Which is better?", 320

    def __init__(self, left: Episodes | Any, right: Episodes | Any) -> None:
        self.options = {"films": [ReplayCartPole(side).options["film"] for side in (left, right)]}
        self._answer: str | None = None
        self._listen(self.hear)

    def _picture(self) -> "Image":
        return carts([_middle(film) for film in self.options["films"]])

    @property
    def answer(self) -> str | None:
        """The one clicked last, "left" or "right"; None before any click. `InvalidInput` where Python cannot hear of it."""
        if self._answer is None:
            self._must_listen()
        return self._answer

    def hear(self, content: dict[str, Any]) -> None:
        """Note what was clicked; anything else is ignored."""
        if content.get("better") in ("left", "right"):
            self._answer = content["better"]


class CountSeeds(_Page):
    """How many seeds tell two algorithms apart? A hundred studies with as many seeds of each as a slider says; coloured are those that find a difference.

    pairs: {name: (one, other)}, what every seed of the two took, infinite where it failed. A study draws its seeds from them, and asks Mann and Whitney's
    test at the level of 0.05. `InvalidInput` where there is no pair, or not two rows of numbers in one.
    """

    _call, _title, _height = "studies", "How many seeds", 260

    def __init__(self, pairs: Mapping[str, Sequence[Sequence[float]]]) -> None:
        try:
            both = {label: [np.asarray(values, dtype=float) for values in pair] for label, pair in dict(pairs).items()}
        except (TypeError, ValueError):
            both = {}
        fit = [
            len(pair) == 2 and all(v.ndim == 1 and 0 < v.size <= 1_000 and not np.isnan(v).any() for v in pair) for pair in both.values()
        ]
        if not fit or not all(fit):
            raise InvalidInput("Studies compare pairs, {name: (one, other)}, each of two rows of up to 1,000 numbers.")
        self.options = {
            "pairs": [{"label": str(label)[:100], "both": [values.tolist() for values in pair]} for label, pair in both.items()]
        }

    def _picture(self) -> "Image":
        from scipy.stats import mannwhitneyu

        rng = np.random.default_rng(0)
        drawn = [rng.choice(values, (100, 20)) for values in self.options["pairs"][0]["both"]]
        told = mannwhitneyu(*drawn, axis=1, method="asymptotic").pvalue < 0.05
        return field(np.where(told, -1.0, -0.02).reshape(10, 10))


def _film(observations: Any, actions: Any) -> dict[str, Any]:
    """Moments for JavaScript, two bytes a number: {"largest": of each column, "rows": base64}. A row is an observation, and a push if there are actions."""
    try:
        rows, pushes = _array(observations).astype(float), None if actions is None else _array(actions)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidInput("A replay is made of numbers: pass Episodes, or the observations (T, 4) of one episode.") from None
    most = MOST_NUMBERS // 5
    if rows.ndim != 2 or rows.shape[1] != 4 or not 1 <= len(rows) <= most:
        raise InvalidInput(f"A replay shows up to {most:,} observations of four numbers, (T, 4), but got an array of shape {rows.shape}.")
    if pushes is not None:
        if pushes.ndim == 0 or pushes.size != len(pushes) or len(rows) - len(pushes) not in (0, 1):
            raise InvalidInput(f"A replay shows one push for each step, but got actions {pushes.shape} for observations {rows.shape}.")
        kind, pushes = pushes.dtype.kind, pushes.reshape(-1)
        if kind in "biu":
            pushes = 2.0 * pushes - 1
        if kind not in "biuf" or np.abs(pushes).max(initial=0) > 1:
            raise InvalidInput("A push is 0 or 1, or a real number from -1 to 1: these actions are for another environment.")
        rows = np.column_stack([rows, np.append(pushes, np.zeros(len(rows) - len(pushes)))])
    if not np.isfinite(rows).all():
        raise InvalidInput("A replay cannot show numbers that are infinite or no numbers: look for the step that made them.")
    largest = np.where(rows.any(0), np.abs(rows).max(0), 1.0)
    packed = np.round(rows / largest * 32767).astype("<i2")
    return {"largest": largest.tolist(), "rows": base64.b64encode(packed.tobytes()).decode()}


def _middle(film: dict[str, Any]) -> np.ndarray:
    """The observation (4,) half-way through a film."""
    rows = np.frombuffer(base64.b64decode(film["rows"]), "<i2").reshape(-1, len(film["largest"]))
    return (rows[len(rows) // 2] / 32767 * film["largest"])[:4]


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)


def _ear(game: str, hear: Callable[[dict[str, Any]], None]) -> Any:
    """Something in the notebook, not to be seen, that passes on what the game of this name says."""
    import anywidget
    import traitlets

    class Ear(anywidget.AnyWidget):
        _esm = EAR
        game = traitlets.Unicode().tag(sync=True)

    def heard(_: Any, content: dict[str, Any], buffers: Any) -> None:
        hear(content)
        ear.send({"heard": content.get("id")})

    ear = Ear(game=game)
    ear.on_msg(heard)
    return ear


def _short(name: object) -> str:
    return str(name)[:40] or "the agent"


def network_of(policy: nn.Module) -> dict[str, Any]:
    """A policy's weights as numbers for JavaScript: {"scale": (4,), "layers": [{"weight", "bias", "activation"}], "real": whether it says how hard to push}.

    For networks of linear layers, tanh and ReLU after a `scale`; what they do with the outputs (a start, differences) has to be linear, and is taken
    into the last layer. And for rules that are linear altogether. `InvalidInput` for others.
    """
    if not isinstance(policy, nn.Module):
        raise InvalidInput("This policy cannot play in the page: pass a network of these lessons.")
    exact = copy.deepcopy(policy).cpu().double().eval()
    if not all(weights.isfinite().all() for weights in exact.state_dict().values()):
        raise InvalidInput("This policy cannot play in the page: its weights are NaN or infinite.")
    wholes = [whole for name in ("layers", "features", "head") if isinstance(whole := getattr(exact, name, None), nn.Module)]
    parts = [part for whole in wholes for part in whole.modules() if not list(part.children())]
    layers: list[dict[str, Any]] = [] if parts else [{"weight": np.eye(4), "bias": np.zeros(4), "activation": ""}]
    for part in parts:
        if isinstance(part, nn.Linear):
            layers.append({"weight": _array(part.weight), "bias": _array(part.bias), "activation": ""})
        elif isinstance(part, (nn.Tanh, nn.ReLU)) and layers:
            layers[-1]["activation"] = type(part).__name__.lower()
        elif not isinstance(part, (nn.Dropout, nn.Identity)):
            raise InvalidInput(f"A {type(part).__name__} cannot run in the page: linear layers, Tanh and ReLU can.")
    if sum(layer["weight"].size for layer in layers) > MOST_NUMBERS:
        raise InvalidInput(f"This network is too large for a page: the limit is {MOST_NUMBERS:,} weights.")
    if not layers or layers[-1]["activation"] or layers[0]["weight"].shape[1] != 4:
        raise InvalidInput("A policy that plays in the page sees four numbers, and its last layer is linear.")
    scale = getattr(exact, "scale", torch.ones(4, dtype=torch.float64))
    seen = torch.randn(1_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        with torch.no_grad():
            actions = exact.actions(seen, True) if isinstance(exact, Policy) else seen.long()
            real = actions.is_floating_point()
            before, said = (
                _array(values).reshape(len(seen), -1) for values in (nn.Sequential(*parts)(seen * scale), actions if real else exact(seen))
            )
    except (RuntimeError, TypeError, AttributeError, ValueError, IndexError):
        raise InvalidInput("This policy cannot play in the page: it does not act on CartPole's four numbers alone.") from None
    before = np.column_stack([before, np.ones(len(before))])
    within = (np.abs(said) < 1).all(1) | (not real)  # a push beyond the largest is cut off, and says nothing about the weights
    head = np.linalg.lstsq(before[within], said[within], rcond=None)[0]
    again, said = (np.clip(values, -1, 1) if real else values for values in (before @ head, said))
    if said.shape[1] not in (1, 2 - real) or not np.allclose(again, said):
        raise InvalidInput(
            "A policy that plays in the page has one or two outputs, and makes them of its last layer by adding and subtracting."
        )
    last = layers[-1]
    last["weight"], last["bias"] = head[:-1].T @ last["weight"], head[:-1].T @ last["bias"] + head[-1]
    layers = [{**layer, "weight": _digits(layer["weight"]), "bias": _digits(layer["bias"])} for layer in layers]
    return {"scale": _digits(_array(scale)), "layers": layers, "real": real}


def _outputs(network: dict[str, Any], observations: np.ndarray) -> np.ndarray:
    """What the page will compute: observations (..., 4) -> outputs (..., 1 or 2)."""
    values = observations * network["scale"]
    for layer in network["layers"]:
        values = values @ np.transpose(layer["weight"]) + layer["bias"]
        values = {"tanh": np.tanh, "relu": lambda rows: np.maximum(rows, 0), "": lambda rows: rows}[layer["activation"]](values)
    return values


def _digits(values: np.ndarray) -> list:
    """Numbers with as many digits as float32 has: half as long in a page."""
    return values.astype("f4").astype(str).astype(float).tolist()
