"""Films: they play everywhere, say what they show, and never cost a training."""

import base64
import io
import re
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
from html.parser import HTMLParser
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import (
    FULL,
    GOOD_DIRECTION,
    always_right,
    full_disk,
    global_state_untouched,
    good_controller,
    linear_policy,
    one_sentence,
    write_reliability_figures,
)
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from cartpole_lessons.environment import make_env
from cartpole_lessons.errors import MissingDependency, RecordingError
from cartpole_lessons.evaluation import HELD_OUT_SEED
from cartpole_lessons.video import encode, record, record_training, side_by_side

NOISE = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)


def decode(path):
    """What ffmpeg finds in a film: its properties, and its frames uint8 (n, height, width, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    properties = next(reader)
    width, height = properties["size"]
    return properties, np.array([np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in reader])


def decode_film(film, folder):
    return decode(film.save(folder / "decoded.mp4"))


@pytest.fixture(scope="module")
def film():
    return record(always_right, seed=1, label="falls")


def play(env, episodes):
    """Lengths of `episodes` episodes of pushing to the right, the environment left open in the middle of no film."""
    lengths = []
    for _ in range(episodes):
        env.reset()
        lengths.append(0)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(1)
            lengths[-1] += 1
            over = terminated or truncated
    return lengths


# One film


def test_a_film_has_a_frame_of_the_start_and_one_after_each_step(film, tmp_path):
    env = make_env(seed=1)
    properties, frames = decode_film(film, tmp_path)
    assert len(frames) == film.frames == play(env, 1)[0] + 1
    assert properties["fps"] == film.fps == 50
    # The first frame is the start: what the environment itself renders there, but for the compression.
    start = make_env(seed=1, render="rgb_array")
    start.reset()
    assert np.abs(frames[0].astype(int) - start.render()).mean() < 5
    assert np.abs(frames[-1].astype(int) - start.render()).mean() > np.abs(frames[0].astype(int) - start.render()).mean()


def test_a_film_plays_in_every_browser(film, tmp_path):
    properties, _ = decode_film(film, tmp_path)
    assert properties["codec"] == "h264"
    assert properties["pix_fmt"].startswith("yuv420p")
    assert properties["size"] == film.size == (600, 400)
    # The index comes before the pictures, so that a browser shows the first ones before it has all.
    assert 0 < film.mp4.find(b"moov") < film.mp4.find(b"mdat")


def test_a_whole_balanced_episode_is_a_small_film_and_max_steps_a_shorter_one():
    film = record(linear_policy(GOOD_DIRECTION))
    assert film.frames == 501
    assert len(film.mp4) < 60_000
    assert str(film) == repr(film) == "film of 501 frames, 10.0 s: CartPole-v1: 500 steps"
    assert record(good_controller, max_steps=5).frames == 6
    assert record(always_right, max_steps=400).frames < 20
    assert record(good_controller, "CartPole-v0").frames == 201
    assert record(always_right, slow_motion=5).fps == 10


def test_the_filmed_episode_is_the_one_of_the_seed():
    assert record(always_right, seed=3).mp4 == record(always_right, seed=3).mp4 != record(always_right, seed=4).mp4
    # Unless told otherwise, one of those episodes that `evaluate` holds out.
    assert record(always_right).mp4 == record(always_right, seed=HELD_OUT_SEED).mp4


def test_filming_leaves_the_surroundings_alone_and_changes_nothing_in_a_training(tmp_path, no_screen):
    record(always_right, max_steps=1)  # the first one makes SDL ready for a machine without a screen
    with global_state_untouched():
        record(lambda observations: np.random.randint(0, 2, len(observations)), max_steps=3)  # noqa: NPY002
        env = record_training(make_env(seed=0, render="rgb_array"), tmp_path, every=1)
        assert play(env, 4) == play(make_env(seed=0), 4)
        env.close()


@pytest.mark.parametrize(("height", "width"), [(41, 64), (40, 65), (41, 65)])
def test_frames_of_odd_size_lose_a_row_or_a_column(tmp_path, height, width):
    film = encode(np.zeros((3, height, width, 3), dtype=np.uint8) + 200, fps=10, label="grey")
    properties, frames = decode_film(film, tmp_path)
    assert film.size == properties["size"] == (64, 40)
    assert len(frames) == 3
    assert Image.open(io.BytesIO(film.poster)).size == (64, 40)
    assert np.abs(frames.astype(int) - 200).max() < 5


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_the_poster_is_a_frame_from_the_first_third(count):
    frames = [np.full((40, 64, 3), number, dtype=np.uint8) for number in range(count)]
    (color,) = set(Image.open(io.BytesIO(encode(frames, fps=10, label="").poster)).convert("RGB").getdata())
    assert count // 6 <= color[0] <= count // 3


def test_a_film_of_any_length_needs_no_more_memory():
    blank = np.zeros((400, 600, 3), dtype=np.uint8)
    encode([blank], fps=50, label="")  # what is imported takes memory once
    tracemalloc.start()
    try:
        encode((blank.copy() for _ in range(300)), fps=50, label="")
        assert tracemalloc.get_traced_memory()[1] < 20 * blank.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not FULL or sys.platform == "win32", reason="takes long, and asks POSIX for the peak")
def test_a_long_episode_is_filmed_within_700_megabytes_of_memory():
    steps = 3_000
    code = f"""
        import resource, sys
        import gymnasium
        from conftest import good_controller
        from cartpole_lessons.video import record
        gymnasium.register("Long-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps={steps})
        film = record(good_controller, "Long-v0")
        print(film.frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 2**20))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    frames, peak = map(int, done.stdout.split())
    assert (frames, peak < 700) == (steps + 1, True)
    write_reliability_figures({"film": {"steps": steps, "peak_megabytes": peak}})


# What a notebook gets


class Elements(HTMLParser):
    """The tags of a piece of HTML with their attributes, and its text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def content_of(data_url, kind):
    head, _, data = data_url.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(data, validate=True)


def shown_by_a_notebook(thing):
    """What it is in the kinds of output that a notebook can show, by IPython's own formatter."""
    return DisplayFormatter().format(thing)[0]


def test_the_film_is_embedded_with_poster_controls_and_a_label(film):
    (player,) = Elements(film.to_html()).of("video")
    assert {"controls", "loop", "muted", "playsinline"} <= set(player)
    assert player["aria-label"] == "falls"
    assert content_of(player["poster"], "image/png") == film.poster
    (source,) = Elements(film.to_html()).of("source")
    assert source["type"] == "video/mp4"
    assert content_of(source["src"], "video/mp4") == film.mp4
    taken_out = re.sub(r"<(video|source)[^>]*>|</video>", "", film.to_html())  # as GitHub does
    assert [content_of(picture["src"], "image/png") for picture in Elements(taken_out).of("img")] == [film.poster]


def test_places_that_strip_films_show_the_poster_and_others_the_text(film):
    shown = shown_by_a_notebook(film)
    assert set(shown) == {"text/html", "image/png", "text/plain"}
    assert shown["text/html"] == film.to_html()
    assert base64.b64decode(shown["image/png"]) == film.poster
    assert shown["text/plain"] == str(film)
    assert "falls" in str(film)


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", '" onplay="alert(1)', "a & b's <b>", "</figcaption><img src=x>"])
def test_a_label_is_shown_and_never_run(label):
    elements = Elements(encode(NOISE[:2], fps=10, label=label).to_html())
    assert [tag for tag, _ in elements.tags] == ["figure", "video", "source", "img", "figcaption"]
    assert elements.of("video")[0]["aria-label"] == label
    assert "onplay" not in elements.of("video")[0]
    assert elements.text == label


def test_side_by_side_shows_several_films_also_of_different_heights():
    low, high = encode(NOISE[:2, :40], fps=10, label="low"), encode(NOISE[:2], fps=10, label="high")
    shown = shown_by_a_notebook(side_by_side(low, high, low))
    assert len(Elements(shown["text/html"]).of("video")) == 3
    assert Image.open(io.BytesIO(base64.b64decode(shown["image/png"]))).size == (3 * 96, 40)
    assert shown["text/plain"] == f"{low}\n{high}\n{low}"


# What can go wrong with one film


def test_an_error_of_the_policy_is_passed_on_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def look_up(observations):
        raise FileNotFoundError("my table")

    with pytest.raises(FileNotFoundError, match="my table"):
        record(look_up)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0, 0.1, 0.9, 0.999])
def test_a_disk_that_fills_up_while_encoding_is_told_wherever_it_happens(tmp_path, monkeypatch, share):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    size = len(encode(NOISE, fps=10, label="noise").mp4)
    with pytest.raises(RecordingError) as caught, full_disk(int(share * size)):
        encode(NOISE, fps=10, label="noise")
    one_sentence(caught.value, str(tmp_path), "free some space")
    assert list(tmp_path.iterdir()) == []


def test_without_ffmpeg_the_message_holds_the_command(monkeypatch, tmp_path):
    def not_found():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", not_found)  # as its wheel for an unknown platform does
    for film in (
        lambda: encode(NOISE[:2], fps=10, label=""),
        lambda: filmed(tmp_path),
        lambda: record(always_right).save(tmp_path / "film.mp4"),
    ):
        with pytest.raises(MissingDependency) as caught:
            film()
        one_sentence(caught.value, "`pip install --force-reinstall imageio-ffmpeg`", "`apt-get install -y ffmpeg`")
    monkeypatch.undo()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))  # named, but not there
    with pytest.raises(MissingDependency) as caught:
        encode(NOISE[:2], fps=10, label="")
    one_sentence(caught.value, "ffmpeg")


@pytest.mark.parametrize(("module", "package"), [("imageio_ffmpeg", "imageio-ffmpeg"), ("pygame", "pygame-ce"), ("moviepy", "moviepy")])
def test_without_a_package_the_message_holds_the_command(missing, tmp_path, module, package):
    missing(module)
    with pytest.raises(MissingDependency) as caught:
        filmed(tmp_path) if module == "moviepy" else record(always_right, max_steps=1).save(tmp_path / "film.mp4")
    one_sentence(caught.value, f"`pip install {package}`")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("env_id", ["CartPole-v1", "cartpole_lessons/ContinuousCartPole-v0"])
def test_without_ffmpeg_the_same_episode_plays_in_the_notebook(missing, env_id):
    act = always_right if env_id == "CartPole-v1" else lambda observations: np.full((len(observations), 1), 0.5, np.float32)
    films = [record(act, env_id, seed=1)]
    missing("imageio_ffmpeg")
    with global_state_untouched():
        films += [record(act, env_id, seed=1), record(act, env_id, seed=1, max_steps=3, label="three", slow_motion=4)]
    _, whole, start = films
    moments = [len(base64.b64decode(film.options["film"]["rows"])) // 10 for film in (whole, start)]
    assert moments == [films[0].frames, 4]
    assert whole.options["label"] == films[0].label
    assert start.options["label"] == "three"
    assert start.options["speed"] == 0.25
    assert whole.options["film"]["largest"][4] == (1 if env_id == "CartPole-v1" else 0.5)
    shown = side_by_side(*films)._repr_mimebundle_()
    assert (shown["text/html"].count("<video"), shown["text/html"].count("<iframe")) == (1, 2)
    assert "image/png" in shown
    assert "image/png" not in side_by_side(whole)._repr_mimebundle_()


def test_without_ffmpeg_and_without_four_numbers_the_message_holds_the_command(missing):
    missing("imageio_ffmpeg")
    with pytest.raises(MissingDependency, match="pip install imageio-ffmpeg"):
        record(lambda observations: np.zeros(len(observations), dtype=int), "Acrobot-v1", max_steps=2)


# Films of a training


def filmed(folder, **keywords):
    return record_training(make_env(seed=0, render="rgb_array"), folder, **keywords)


def test_every_so_many_episodes_one_is_filmed_whole_and_written_at_the_next_reset(tmp_path):
    env = filmed(tmp_path / "films", every=2)
    lengths = play(env, 1)
    assert list((tmp_path / "films").iterdir()) == []
    lengths += play(env, 4)
    env.close()
    names = sorted(path.name for path in (tmp_path / "films").iterdir())
    assert names == [f"rl-video-episode-{episode}.mp4" for episode in (0, 2, 4)]
    for episode in (0, 2, 4):
        properties, frames = decode(tmp_path / "films" / f"rl-video-episode-{episode}.mp4")
        assert len(frames) == lengths[episode] + 1
        assert properties["codec"] == "h264"


def test_a_folder_that_is_there_already_is_no_reason_for_a_warning_whatever_its_name(tmp_path):
    for name in ("100% mine", "RL%20course", "%s%(x)d"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                env = filmed(tmp_path / name / "films", every=1)
                play(env, 1)
                env.close()
        assert [path.name for path in (tmp_path / name / "films").iterdir()] == ["rl-video-episode-0.mp4"]


def told(caught, *named):
    """There is one warning: its first sentence names all of `named`, its second says that training goes on."""
    # A pipe to ffmpeg that is collected meanwhile may warn as well, but not as a user's warning.
    (warning,) = [warning for warning in caught if warning.category is UserWarning]
    sentence, _, rest = str(warning.message).partition(". Training goes on without ")
    one_sentence(f"{sentence}.", *named)
    assert rest in ("films.", "this film.")


def test_a_folder_that_cannot_be_written_is_named_and_training_goes_on(unwritable):
    env = make_env(seed=0, render="rgb_array")
    with pytest.warns(UserWarning, match="without films") as caught:
        same = record_training(env, unwritable)
    told(caught, str(unwritable), "choose a folder")
    assert same is env
    assert len(play(same, 2)) == 2


@pytest.mark.parametrize("free_bytes", [0, 1_000])
def test_a_film_that_does_not_fit_on_the_disk_is_told_and_training_goes_on(tmp_path, monkeypatch, free_bytes):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    env = filmed(tmp_path / "films", every=1)
    play(env, 1)
    with pytest.warns(UserWarning, match="without this film") as caught, full_disk(free_bytes):
        env.reset()
    told(caught, str(tmp_path), "free some space")
    # No half film stays behind, and the next one has a disk again.
    assert list((tmp_path / "films").iterdir()) == []
    (length,) = play(env, 1)
    env.close()
    assert len(decode(tmp_path / "films" / "rl-video-episode-2.mp4")[1]) == length + 1
