"""Films of an agent: record an episode and show it in the notebook, or record some episodes of a training.

Where a film cannot be made, because ffmpeg or pygame is missing, `record` returns the same episode as a `ReplayCartPole`.
"""

import base64
import contextlib
import html
import io
import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import numpy as np

from cartpole_lessons._support.checks import check_count, check_seed
from cartpole_lessons._support.files import cannot_write, write_file
from cartpole_lessons._support.seeding import seeded
from cartpole_lessons.display import closing_beside_windows
from cartpole_lessons.environment import make_env
from cartpole_lessons.errors import InvalidInput, MissingDependency, RecordingError
from cartpole_lessons.evaluation import HELD_OUT_SEED
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import play_episode
from cartpole_lessons.widgets import ReplayCartPole

#: A film plays while it is in sight, unless its reader has asked for less motion, and its controls cover it only when they are wanted. Where a notebook
#: is not trusted this is left out, and the controls stay.
PLAYS_WHEN_SEEN = (
    "onloadeddata=\"if(!matchMedia('(prefers-reduced-motion: reduce)').matches){this.controls=false;"
    'new IntersectionObserver(([film])=>film.isIntersecting?this.play():this.pause()).observe(this)}" '
    'tabindex="0" onmouseenter="this.controls=true" onfocus="this.controls=true" ontouchstart="this.controls=true" onmouseleave="this.controls=this.paused"'
)


@dataclass(frozen=True)
class Video:
    """A film that a notebook can show: H.264 in MP4, with a still picture for places that do not play films."""

    mp4: bytes
    poster: bytes  #: PNG
    frames: int
    fps: float  #: frames per second
    size: tuple[int, int]  #: width, height [pixels]
    label: str  #: what is seen, for the caption and for screen readers

    def save(self, path: str | os.PathLike) -> Path:
        """Write the MP4 to `path`, whole or not at all; `RecordingError` names the folder where that fails."""
        write_file(path, self.mp4, "The film")
        return Path(path)

    def to_html(self) -> str:
        """The film as HTML that needs no other file."""
        label = html.escape(self.label, quote=True)
        source = f"data:video/mp4;base64,{base64.b64encode(self.mp4).decode()}"
        poster = f"data:image/png;base64,{base64.b64encode(self.poster).decode()}"
        wide = f"width:{self.size[0] * 2 // 3}px;max-width:100%"
        return (
            f'<figure style="display:inline-block;margin:0 1em 0 0;{wide}"><video controls loop muted playsinline style="width:100%" {PLAYS_WHEN_SEEN} '
            f'poster="{poster}" aria-label="{label}"><source src="{source}" type="video/mp4">'
            # What a place shows that takes films out of a page, as GitHub does, but leaves pictures in.
            f'<img src="{poster}" alt="" style="width:100%"></video><figcaption>{label}</figcaption></figure>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.to_html(), "image/png": base64.b64encode(self.poster).decode(), "text/plain": str(self)}

    def __str__(self) -> str:
        return f"film of {self.frames} frames, {self.frames / self.fps:.1f} s: {self.label}"

    __repr__ = __str__


class Unfilmed(ReplayCartPole):
    """What stands in for a film that could not be made: it plays in a notebook, and is no file."""

    missing: MissingDependency

    def save(self, path: str | os.PathLike) -> Path:
        """Say what a film needs."""
        raise self.missing


@dataclass(frozen=True)
class SideBySide:
    """Films next to each other in a notebook."""

    videos: tuple[Video | Unfilmed, ...]

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from PIL import Image

        shown = {"text/html": "".join(video.to_html() for video in self.videos), "text/plain": "\n".join(map(str, self.videos))}
        posters = [np.asarray(Image.open(io.BytesIO(video.poster)).convert("RGB")) for video in self.videos if isinstance(video, Video)]
        if posters:
            height = min(map(len, posters))
            joined = np.concatenate([poster[:height] for poster in posters], axis=1)
            shown["image/png"] = base64.b64encode(_encode_png(joined)).decode()
        return shown


def side_by_side(*videos: Video | Unfilmed) -> SideBySide:
    """Show several films in one row."""
    if not videos:
        raise InvalidInput("side_by_side needs at least one film: pass what record(...) returned.")
    return SideBySide(videos)


def record(
    policy: Policy | Callable,
    env_id: str = "CartPole-v1",
    *,
    seed: int = HELD_OUT_SEED,
    max_steps: int | None = None,
    label: str | None = None,
    slow_motion: int = 1,
) -> Video | Unfilmed:
    """Film one greedily played episode: a frame of the start and one after each step, so duration + 1 frames.

    max_steps: stop filming after so many steps (None: the episode's end). slow_motion: how many times slower than life the film plays.
    Global random state is left alone. Where ffmpeg or pygame is missing, the episode plays in the notebook without them, but cannot be saved.
    """
    slow_motion = check_count("slow_motion", slow_motion)
    if max_steps is not None:
        max_steps = check_count("max_steps", max_steps)
    try:
        _ffmpeg_program()
        env = make_env(env_id, seed=check_seed(seed), render="rgb_array")
    except MissingDependency as missing:
        return _replay(missing, policy, env_id, seed, max_steps, label, slow_motion)
    with seeded(seed) as interrupts, closing_beside_windows(env):
        moments = itertools.islice(play_episode(env, policy), None if max_steps is None else max_steps + 1)
        # Encoded as they come: the frames of a long episode would fill the memory.
        film = encode(
            (interrupts.check() or env.render() for _ in moments), fps=env.metadata["render_fps"] / slow_motion, label=label or ""
        )
    return film if label else replace(film, label=f"{env_id}: {film.frames - 1} steps")


def _replay(
    missing: MissingDependency,
    policy: Policy | Callable,
    env_id: str,
    seed: int,
    max_steps: int | None,
    label: str | None,
    slow_motion: int,
) -> Unfilmed:
    """The episode of `record`, seen without a film; `missing` where it has not four numbers to show."""
    env = _Noted(make_env(env_id, seed=seed))
    with seeded(seed) as interrupts:
        moments = itertools.islice(play_episode(env, policy), None if max_steps is None else max_steps + 1)
        seen = [interrupts.check() or observation for observation in moments]
    try:
        film = Unfilmed(seen, env.actions, label=label or f"{env_id}: {len(env.actions)} steps", speed=1 / slow_motion)
    except InvalidInput:
        raise missing from None
    film.missing = missing
    return film


class _Noted(gym.Wrapper):
    """Keeps the actions that were taken."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.actions: list = []

    def step(self, action):
        self.actions.append(action)
        return super().step(action)


def encode(frames: Iterable[np.ndarray], *, fps: float, label: str) -> Video:
    """Frames uint8 (height, width, 3) -> a film that every browser plays (H.264, yuv420p, even size)."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise InvalidInput("A film needs at least one frame: render the environment after its reset.")
    height, width = (side - side % 2 for side in first.shape[:2])  # yuv420p halves both sides
    count, candidates = 0, {}
    with _told_where_it_fails():
        folder = tempfile.TemporaryDirectory(prefix="cartpole-lessons-")
    with folder:
        path = Path(folder.name) / "film.mp4"
        with _ffmpeg(path, (width, height), fps) as process:
            for frame in itertools.chain([first], frames):
                picture = np.ascontiguousarray(frame[:height, :width])
                if count & (count - 1) == 0:  # 0, 1, 2, 4, 8, ...
                    candidates[count] = picture
                with _told_where_it_fails():
                    process.stdin.write(picture)
                count += 1
            with _told_where_it_fails():
                process.stdin.close()
                if process.wait() != 0:
                    raise OSError("ffmpeg did not come to its end")
                mp4 = path.read_bytes()
    # About a third of the way in, the pole has left its starting position and is still up.
    poster = candidates[max(number for number in candidates if number <= count // 3)]
    return Video(mp4, _encode_png(poster), count, fps, (width, height), label)


@contextlib.contextmanager
def _ffmpeg(path: Path, size: tuple[int, int], fps: float) -> Iterator[subprocess.Popen]:
    """An ffmpeg that writes the frames from its stdin to `path`; whatever happens, it is not left behind."""
    taken = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(fps), "-i", "-"]
    # The index comes first, for browsers. One thread is enough, and more of them would compete with the student's training.
    given = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "28", "-movflags", "+faststart", "-threads", "1"]
    command = [_ffmpeg_program(), "-v", "error", "-xerror", *taken, *given, str(path)]
    with _told_where_it_fails():
        # In a session of its own: Ctrl-C is ours to handle.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):  # a pipe that was broken before
            process.stdin.close()


def _ffmpeg_program() -> str:
    """Where ffmpeg is; `MissingDependency` where it is not, whose message holds the command that installs one."""
    try:
        import imageio_ffmpeg

        program = shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
    except ImportError:
        raise MissingDependency("Films are encoded by imageio-ffmpeg, which is not installed: run `pip install imageio-ffmpeg`.") from None
    except RuntimeError:
        program = None
    if program is None:
        raise MissingDependency(
            "imageio-ffmpeg finds no ffmpeg program: run `pip install --force-reinstall imageio-ffmpeg`, or `apt-get install -y ffmpeg`."
        )
    return program


def _encode_png(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    # CartPole's frames hold a handful of colours: a palette makes the poster a third of the size.
    Image.fromarray(image).quantize(32).save(file, format="PNG", optimize=True)
    return file.getvalue()


@contextlib.contextmanager
def _told_where_it_fails() -> Iterator[None]:
    """`RecordingError` for an `OSError` of the writing of a film; those of a policy or an environment are none of it."""
    try:
        yield
    except OSError as error:
        raise cannot_write("The film", tempfile.gettempdir(), error) from None


def record_training(env: gym.Env, folder: str | os.PathLike, *, every: int = 50) -> gym.Env:
    """Wrap `env` (made with render="rgb_array") so that every `every`-th episode of a training is filmed into `folder`.

    Gymnasium's RecordVideo does the filming; a film is written at the next `reset()` or at `close()`, and has duration + 1 frames. Where
    it cannot be written a warning names the folder, and training goes on without it.
    """
    every = check_count("every", every)
    if env.render_mode != "rgb_array":
        raise InvalidInput(
            f"record_training needs frames, but render_mode is {env.render_mode!r}: make the environment with make_env(..., render='rgb_array')."
        )
    _ffmpeg_program()  # before moviepy, which looks for it too, and in other words
    try:
        import moviepy  # noqa: F401  (RecordVideo insists on it)
    except ImportError:
        raise MissingDependency("Recording a training needs moviepy, which is not installed: run `pip install moviepy`.") from None
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(f"{cannot_write('The film', folder, error)} Training goes on without films.", stacklevel=2)
        return env
    # It would warn of what is in the folder already, which is our own, and fail at that where the folder has a percent sign in its name.
    level, gym.logger.min_level = gym.logger.min_level, gym.logger.ERROR
    try:
        return _PatientRecordVideo(env, str(folder), episode_trigger=lambda episode: episode % every == 0)
    finally:
        gym.logger.min_level = level


class _PatientRecordVideo(gym.wrappers.RecordVideo):
    """RecordVideo that loses a film rather than the training when the disk fails.

    It encodes the frames as `record` does: moviepy would leave out the last one, on which the pole falls, at some lengths
    (https://github.com/Zulko/moviepy/issues/2507), and would not notice a full disk.
    """

    def stop_recording(self) -> None:
        path = Path(self.video_folder) / f"{self._video_name}.mp4"
        frames, self.recorded_frames, self.recording, self._video_name = self.recorded_frames, [], False, None
        try:
            encode(frames, fps=self.frames_per_sec, label=path.stem).save(path)
        except RecordingError as error:
            warnings.warn(f"{error} Training goes on without this film.", stacklevel=2)
