"""The command line `cartpole-lessons`: train a lesson's algorithm, judge and watch what it learned, run studies, make a report.

It only reads arguments and prints; the work is done by the modules below it. These import torch, which takes seconds, so each command
imports what it needs: `--help` and `list` answer at once.
"""

import contextlib
import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import typer
from rich.console import Console
from rich.table import Column, Table

from cartpole_lessons import __version__
from cartpole_lessons._support.checks import shown
from cartpole_lessons.errors import CheckpointError, CourseError, InvalidInput, NoDisplay, RecordingError, in_short
from cartpole_lessons.hyperparameters import OF_EVERY_TRAINING, check_known, describe_kind, explained, kind_of, parse_value, settings_of
from cartpole_lessons.lessons import lessons, load_lesson, policy_in

if TYPE_CHECKING:
    from cartpole_lessons.checkpoints import Checkpoint
    from cartpole_lessons.policy import Policy

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Reinforcement learning on CartPole: train what the lessons teach, judge it, watch it, compare it.",
    epilog="Exit codes: 0 solved or done, 1 not solved or failed, 2 wrong use. `COMMAND --help` shows examples.",
)

MOST_SEEDS = 100_000  # more is a typing error


#: What several commands take.
CheckpointFile = Annotated[Path, typer.Argument(help="A file that `train` wrote.")]
FilmFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Film an episode as MP4; `watch` then opens no window.")]


def _examples(*lines: str) -> str:
    """The end of a command's help. A paragraph per example: a terminal shows each on a line of its own."""
    return "\n\n".join(["Examples:", *(f"  cartpole-lessons {line}" for line in lines)])


def parse_grid(train: Callable, settings: Iterable[str]) -> dict[str, list[Any]]:
    """`name=value,value` texts -> the values to try of each. One that is a list itself (state_cost=1,1,1,1) is repeated instead.

    `InvalidInput` on any name or value that `train` does not have.
    """
    grid = {}
    for setting in settings:
        name, _, text = (part.strip() for part in setting.partition("="))
        if not text:
            raise InvalidInput(f"--set takes name=value, for example --set max_steps=5000, but got {shown(setting)}.")
        check_known(name, settings_of(train), train.__module__.rpartition(".")[2])
        kind = kind_of(train, name)
        values = [text] if get_origin(kind) is tuple else text.split(",")
        grid.setdefault(name, []).extend(parse_value(name, value.strip(), kind) for value in values)
    return grid


def parse_settings(train: Callable, settings: Iterable[str]) -> dict[str, Any]:
    """`name=value` texts -> keywords for `train`."""
    grid = parse_grid(train, settings)
    for name, values in grid.items():
        if len(values) > 1:
            raise InvalidInput(f"--set {name} is given {len(values)} values: a training takes one of them.")
    return {name: value for name, (value,) in grid.items()}


def parse_seeds(text: str) -> list[int]:
    """Seeds from "20" (0 to 19), "0-9", "3," or "0-9,42": `InvalidInput` on anything else."""
    listed = f"0-{int(text) - 1}" if re.fullmatch(r"\d{1,10}", text) else text.rstrip(", ")
    parts = [re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip()) for part in listed.split(",")]
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if not all(parts) or not all(ranges) or sum(map(len, ranges)) > MOST_SEEDS:
        raise InvalidInput(
            f"--seeds is a number of seeds (20), or ranges and single seeds (0-9,42), at most {MOST_SEEDS:,} in all, but got {shown(text)}."
        )
    return list(dict.fromkeys(itertools.chain(*ranges)))


def open_checkpoint(path: Path) -> "tuple[Checkpoint, Policy]":
    """What `path` says about itself, and its policy."""
    from cartpole_lessons.checkpoints import load_checkpoint

    if not path.is_file():
        raise InvalidInput(f"There is no checkpoint {path}: `cartpole-lessons train LESSON` writes one.")
    checkpoint = load_checkpoint(path)
    return checkpoint, policy_in(checkpoint)


def _check_writable(**options: Path | None) -> None:
    """`InvalidInput` where an option names a file that cannot be written, or that another one names too: better said before a training."""
    taken: dict[Path, str] = {}
    for option, path in options.items():
        if path is None:
            continue
        try:
            if path.exists() and not path.is_file():  # /dev/null would be replaced by a file
                reason = "it is not a file"
            elif path.resolve() in taken:
                reason = f"--{taken[path.resolve()]} names it too"
            else:
                taken[path.resolve()] = option
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=path.parent):
                    continue
        except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a link to itself
            reason = (getattr(error, "strerror", None) or in_short(error)).lower()
        raise InvalidInput(f"--{option} {path} cannot be written, because of this: {reason}; choose another place.")


def _free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3 ... that does not exist: a name that nobody chose must not overwrite a file."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], others) if not free.exists())


def _save(save: Callable[[Path], Path], path: Path) -> Path:
    """Write to `path`, or, where that fails after all, to a temporary folder; returns where it is."""
    try:
        return save(path)
    except (CheckpointError, RecordingError) as error:
        folder = Path(tempfile.mkdtemp(prefix="cartpole-lessons-"))
        try:
            saved = save(folder / path.name)
        finally:
            with contextlib.suppress(OSError):  # only an empty one goes
                folder.rmdir()
        print(f"{str(error).rstrip('.')}; for now it is in {saved.parent}.", file=sys.stderr)
        return saved


def _film(policy: "Policy", env_id: str, path: Path, **options: int) -> bool:
    """Film an episode into `path`. Returns whether it is there."""
    from cartpole_lessons.video import record

    try:
        film = _save(record(policy, env_id, **options).save, path)
    except CourseError as error:  # a film is never worth what was learned
        print(error, file=sys.stderr)
        return False
    print(f"film: {film}")
    return film == path


def _show_version(asked: bool) -> None:
    if asked:
        print(f"cartpole-lessons {__version__}")
        raise typer.Exit


@app.callback()
def _of_the_program_itself(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


@app.command("list", epilog=_examples("list", "list ppo"))
def list_lessons(
    lesson: Annotated[str | None, typer.Argument(help="Show what this one can be set to.")] = None,
) -> None:
    """Show the lessons that can be trained, or what one of them can be set to."""
    if lesson is None:
        table = Table("", Column("lesson", no_wrap=True), "what it is", box=None, pad_edge=False)
        for name, (number, summary) in lessons().items():
            table.add_row(number, name, summary)
        following = "`cartpole-lessons list ppo` shows what it can be set to, `cartpole-lessons train ppo` trains it."
    else:
        train = load_lesson(lesson).train
        words = OF_EVERY_TRAINING | explained(train)
        table = Table(Column("setting", no_wrap=True), "default", "what it is", box=None, pad_edge=False)
        settings = settings_of(train)
        for name in sorted(settings, key=OF_EVERY_TRAINING.__contains__):  # the lesson's own first
            table.add_row(name, str(settings[name].default), f"{words.get(name, '')} ({describe_kind(kind_of(train, name))})")
        following = f"`cartpole-lessons train {lesson} --set NAME=VALUE` trains it with another value."
    Console(highlight=False, markup=False).print(table)
    print(f"\nNext: {following}")


@app.command(
    epilog=_examples(
        "train ppo",
        "train ppo --seed 3 --set clip=0.2 --set hidden=32",
        "train policy_gradient --video balanced.mp4",
        "train reinforce --set env_id=CartPole-v0 --save v0.npz",
    )
)
def train(
    lesson: Annotated[str, typer.Argument(help="Which algorithm: `cartpole-lessons list` shows them.")],
    seed: Annotated[int, typer.Option(help="Same seed, same training.")] = 0,
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter, env_id or max_steps.")] = [],  # noqa: B006
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the checkpoint goes. Default: LESSON-seedN.npz, here.")] = None,
    video: FilmFile = None,
) -> None:
    """Train a lesson's algorithm until an evaluation is perfect and confirmed, or its steps are used up; Ctrl-C stops it and keeps the best policy so far."""
    learner = load_lesson(lesson).train
    keywords = parse_settings(learner, set_)
    save = save or _free(Path(f"{lesson}-seed{seed}.npz"))
    _check_writable(save=save, video=video)
    try:
        result = learner(seed=seed, progress=True, **keywords)
    except Exception as error:
        # At its own settings a lesson does not fail; those that the user chose can be anything.
        if isinstance(error, CourseError) or not keywords:
            raise
        chosen = ", ".join(f"{name}={value}" for name, value in keywords.items())
        raise InvalidInput(f"{lesson} cannot be trained with {chosen} ({type(error).__name__}: {in_short(error)}).") from None
    try:
        checkpoint = _save(result.save, save)
    finally:
        if not result.interrupted:  # then the run has already said so
            print(result)
    print(f"checkpoint: {checkpoint}")
    all_is_well = result.solved and checkpoint == save
    if video is None:
        print(f"To see it: cartpole-lessons watch {checkpoint}")
    else:
        all_is_well &= _film(result.policy, result.env_id, video)
    raise typer.Exit(0 if all_is_well else 1)


@app.command(epilog=_examples("evaluate ppo-seed0.npz", "evaluate ppo-seed0.npz --episodes 1000 --seed 7"))
def evaluate(
    checkpoint: CheckpointFile,
    episodes: Annotated[int, typer.Option(help="How many fresh episodes it plays.")] = 100,
    seed: Annotated[int | None, typer.Option(help="Which episodes. Default: the course's own held-out ones.")] = None,
    env_id: Annotated[str | None, typer.Option(help="Default: the environment that it was trained in.")] = None,
) -> None:
    """Play fresh episodes without exploration, and say whether they count as solved."""
    from cartpole_lessons.evaluation import HELD_OUT_SEED
    from cartpole_lessons.evaluation import evaluate as judge

    saved, policy = open_checkpoint(checkpoint)
    evaluation = judge(policy, env_id or saved.env_id, episodes, HELD_OUT_SEED if seed is None else seed)
    print(f"{saved.lesson}, trained with seed {saved.seed}: {evaluation}")
    raise typer.Exit(0 if evaluation.solved else 1)


@app.command(epilog=_examples("watch ppo-seed0.npz", "watch ppo-seed0.npz --seed 7 --video balanced.mp4"))
def watch(
    checkpoint: CheckpointFile,
    seed: Annotated[int | None, typer.Option(help="Which episode. Default: the first of the course's held-out ones.")] = None,
    video: FilmFile = None,
) -> None:
    """Play one episode in a window; where no window can open, film it."""
    from cartpole_lessons.evaluation import HELD_OUT_SEED

    _check_writable(video=video)
    if video is not None and video.resolve() == checkpoint.resolve():
        raise InvalidInput(f"--video {video} would replace the checkpoint: choose another place.")
    saved, policy = open_checkpoint(checkpoint)
    seed = HELD_OUT_SEED if seed is None else seed
    if video is None:
        try:
            print(f"{saved.lesson}, trained with seed {saved.seed}: {_play(policy, saved.env_id, seed)} steps")
            return
        except NoDisplay:
            video = _free(Path(f"{checkpoint.stem}.mp4"))
            _check_writable(video=video)
            print("No window can open here, so this is filmed instead.")
    raise typer.Exit(0 if _film(policy, saved.env_id, video, seed=seed) else 1)


def _play(policy: "Policy", env_id: str, seed: int) -> int:
    """Show one greedily played episode in a window; returns its steps. `NoDisplay` where no window opens."""
    from cartpole_lessons.environment import make_env
    from cartpole_lessons.rollout import play_episode

    env = make_env(env_id, seed=seed, render="human")
    import pygame

    steps = -1  # what is seen first comes before any step
    for _ in play_episode(env, policy):
        steps += 1
        if pygame.event.peek(pygame.QUIT):  # Gymnasium takes no notice of the window's close button
            break
    env.close()
    return steps


@app.command(
    epilog=_examples(
        "study ppo actor_critic --seeds 0-9",
        "study ppo --seeds 20 --set hidden=32,64 --folder hidden --workers 2",
        "study --seeds 0-99 --scheduler tcp://localhost:8786",
    )
)
def study(
    lesson: Annotated[list[str] | None, typer.Argument(help="Which algorithms. Default: all of them.")] = None,
    seeds: Annotated[str, typer.Option(help="20 for seeds 0 to 19, or ranges and single seeds such as 0-9,42.")] = "10",
    folder: Annotated[Path, typer.Option(help="Where the results go; what is there already is not run again.")] = Path("study"),
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=V1,V2", help="Values to try, in every combination.")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(help="Processes. Default: one per core.")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Run on the cluster of this Dask scheduler.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run those again that raised an error.")] = False,
) -> None:
    """Train many lessons on many seeds; stopped or killed, the same command picks up where it stopped."""
    chosen = parse_seeds(seeds)
    names = list(lesson or lessons())
    grid = parse_grid(load_lesson(names[0]).train, set_)

    from cartpole_lessons.study import readable, run_study

    done = run_study(names, chosen, folder=folder, grid=grid, workers=workers, scheduler=scheduler, retry_failed=retry_failed)
    table = Table(Column("row", no_wrap=True), "solved", "perfect", "env steps", "seconds", box=None, pad_edge=False)
    for row, summary in done.summary().items():
        cells = readable(summary)
        table.add_row(row, *(cells[name].replace(" (", "\n(") for name in ("solved", "perfect", "env_steps", "seconds")))
    Console(highlight=False, markup=False).print(table)
    for run in done.failed:
        print(f"failed: {run['row']}, seed {run['seed']}: {run['error'].strip().splitlines()[-1]}")
    print(f"{done}. Next: cartpole-lessons report {folder}")
    raise typer.Exit(1 if done.failed else 0)


@app.command(epilog=_examples("report", "report study", "report study --no-films --output study.html"))
def report(
    folder: Annotated[Path | None, typer.Argument(help="That of a study. Default: the published results.")] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("report.html"),
    films: Annotated[bool, typer.Option(help="Train a seed of each row again, to film it.")] = True,
) -> None:
    """Make one HTML page, whole in itself, with the tables, the learning curves and the films of a study."""
    from cartpole_lessons.study.report import write_report

    _check_writable(output=output)
    print(f"report: {write_report(output, folder, films=films, progress=True)}")


@app.command(
    epilog=_examples(
        "grade submissions --lesson 06",
        "grade submissions --csv week3.csv --seconds 120",
        "grade submissions --exercises week_3.py --lesson week_3",
    )
)
def grade(
    folder: Annotated[Path, typer.Argument(help="Students' notebooks, in it or in folders of their own.")],
    csv: Annotated[Path, typer.Option(metavar="FILE", help="Where the table goes; a page with the same name goes beside it.")] = Path(
        "grades.csv"
    ),
    lesson: Annotated[list[str], typer.Option(help="Ask every notebook for this lesson's exercises. Default: those it mentions.")] = [],  # noqa: B006
    exercises: Annotated[list[Path], typer.Option(metavar="FILE", help="A Python file with exercises of your own.")] = [],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="A notebook is stopped after so long.")] = 600.0,
    memory: Annotated[float, typer.Option(metavar="GB", help="A notebook is stopped when it takes more.")] = 2.0,
    workers: Annotated[int | None, typer.Option(help="Notebooks at a time. Default: one per core.")] = None,
) -> None:
    """Grade a folder of notebooks: points for every exercise, and why. Stopped or killed, the same command picks up where it stopped."""
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {folder}: pass the one that your students' notebooks are in.")
    _check_writable(csv=csv)
    from cartpole_lessons import grading

    if not grading.has_walls():
        print(
            "This system lets us take neither the network nor your files away from a notebook: grade only whom you trust.", file=sys.stderr
        )
    limits = grading.Limits(seconds=seconds, memory=int(memory * 1e9))
    rows = grading.grade(folder, lessons=lesson, own=exercises, csv_file=csv, limits=limits, workers=workers, progress=True)
    table = Table("notebook", "exercise", Column("points", justify="right"), "state", "reason", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.notebook, row.exercise, str(row.points), row.state, row.reason)
    Console(highlight=False, markup=False).print(table)
    print(f"{grading.summary(rows)} table: {csv}; page: {csv.with_suffix('.html')}")


@app.command(epilog=_examples("doctor"))
def doctor() -> None:
    """Is this machine ready for the course? If not, the exact command that mends it."""
    from cartpole_lessons.doctor import doctor as examine

    raise typer.Exit(examine().exit_code)
