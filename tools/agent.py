"""Film docs/agent.gif: the same pole in the hands of an agent before, during and after its training. The README begins with it.

python tools/agent.py
"""

from collections.abc import Iterator
from itertools import islice

import torch
from badges import ROOT
from PIL import Image, ImageDraw

from cartpole_lessons.algorithms import actor_critic
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork
from cartpole_lessons.environment import make_env
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import play_episode

FILM = ROOT / "docs" / "agent.gif"
SECONDS, EVERY = 8, 2  # of the film; every second frame is enough for the eye
TRACK = (0, 130, 600, 340)  # pixels of Gymnasium's picture: the rest is sky
SIZE = (280, 98)
HEAD, LETTERS = 76, 32  # pixels above each track; so large that a phone, which shows the film at 0.4 of its width, leaves them legible


def frames(policy: Policy, label: str) -> Iterator[Image.Image]:
    """One episode after another, cut to the track, with a count of the steps that this one has lasted."""
    env = make_env("CartPole-v1", seed=4, render="rgb_array")
    while True:
        for step, _ in enumerate(play_episode(env, policy)):
            picture = Image.new("RGB", (SIZE[0], HEAD + SIZE[1]), "white")
            picture.paste(Image.fromarray(env.render()).crop(TRACK).resize(SIZE, Image.Resampling.LANCZOS), (0, HEAD))
            ImageDraw.Draw(picture).text((8, 0), f"{label}\n{step} steps", fill="black", font_size=LETTERS)
            yield picture


def film() -> list[Image.Image]:
    """The three agents beside each other."""
    torch.manual_seed(0)
    trained, half_way = actor_critic.train(seed=0), actor_critic.train(seed=0, max_steps=1_500)
    agents = {"untrained": PolicyNetwork(), "half trained": half_way.policy, "trained": trained.policy}
    each = [frames(policy, label) for label, policy in agents.items()]
    together = []
    for pictures in islice(zip(*each, strict=True), 0, 50 * SECONDS, EVERY):
        row = Image.new("RGB", (len(pictures) * SIZE[0], pictures[0].height), "white")
        for place, picture in enumerate(pictures):
            row.paste(picture, (place * SIZE[0], 0))
        together.append(row)
    # The colours of the first picture, for all: a pixel that stays as it was then costs nothing.
    colours = together[0].quantize(16)
    return [row.quantize(palette=colours, dither=Image.Dither.NONE) for row in together]


if __name__ == "__main__":
    first, *others = film()
    first.save(FILM, save_all=True, append_images=others, duration=20 * EVERY, loop=0, optimize=True)
    print(f"wrote {FILM.relative_to(ROOT)}, {FILM.stat().st_size / 1e3:.0f} kB")
