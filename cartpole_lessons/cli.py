"""The command line `cartpole-lessons`: train a lesson's algorithm, judge and watch what it learned, run studies, make a report.

It only reads arguments and prints; the work is done by the modules below it. These import torch, which takes seconds, so each command
imports what it needs: `--help` and `list` answer at once.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
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

#: More than this is a typing error.
MOST_SEEDS = 100_000


def _examples(*lines: str) -> str:
    """The end of a command's help. A paragraph per example: a terminal shows each on a line of its own."""
    return "\n\n".join(["Examples:", *(f"  cartpole-lessons {line}" for line in lines)])


def parse_settings(train: Callable, settings: Iterable[str]) -> dict[str, Any]:
    """`name=value` texts -> keywords for `train`. `InvalidInput` on any name or value that it does not have."""
    keywords = {}
    for name, text in _split_settings(train, settings):
        if name in keywords:
            raise InvalidInput(f"--set {name} is given twice: a training takes one value of it.")
        keywords[name] = parse_value(name, text, kind_of(train, name))
    return keywords


def parse_grid(train: Callable, settings: Iterable[str]) -> dict[str, list[Any]]:
    """`name=value,value` texts -> the values to try of each. One that is a list itself (state_cost=1,1,1,1) is repeated instead."""
    grid = {}
    for name, text in _split_settings(train, settings):
        kind = kind_of(train, name)
        values = [text] if get_origin(kind) is tuple else text.split(",")
        grid.setdefault(name, []).extend(parse_value(name, value.strip(), kind) for value in values)
    return grid


def _split_settings(train: Callable, settings: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and text of each setting."""
    known = settings_of(train)
    for setting in settings:
        name, given, text = (part.strip() for part in setting.partition("="))
        if not (given and text):
            example = list(known.values())[-1]
            raise InvalidInput(f"--set takes name=value, for example --set {example.name}={example.default}, but got {shown(setting)}.")
        check_known(name, known, train.__module__.rpartition(".")[2])
        yield name, text


def open_checkpoint(path: Path) -> "tuple[Checkpoint, Policy]":
    """What `path` says about itself, and its policy."""
    from cartpole_lessons.checkpoints import load_checkpoint

    if not path.is_file():
        raise InvalidInput(f"There is no checkpoint {path}: `cartpole-lessons train LESSON` writes one.")
    checkpoint = load_checkpoint(path)
    return checkpoint, policy_in(checkpoint)


def _check_writable(**options: Path | None) -> None:
    """`InvalidInput` where one of these options names a file that could not be written, or that another one names: better said before a
    training than after it."""
    taken: dict[Path, str] = {}
    for option, path in options.items():
        if path is None:
            continue
        try:
            parent = next(folder for folder in path.absolute().parents if folder.exists())
            if path.is_dir():
                reason = "it is a folder"
            elif path.exists() and not path.is_file():  # /dev/null would be replaced by a file
                reason = "it is no file"
            elif not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                reason = f"{parent} is not a folder that you may write to"
            else:
                reason = f"--{taken[path.resolve()]} names it too" if path.resolve() in taken else ""
            taken[path.resolve()] = option
        except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a link to itself
            reason = (getattr(error, "strerror", None) or in_short(error)).lower()
        if reason:
            raise InvalidInput(f"--{option} {path} cannot be written, because {reason}: choose another place.")


def _free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3 ... that does not exist: a name that nobody chose must not overwrite a file."""
    number, free = 2, path
    while free.exists():
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free


def _save(save: Callable[[Path], Path], path: Path) -> tuple[Path, bool]:
    """Write to `path`, or, where that fails after all, to a temporary folder. Returns where it is, and whether that is `path`."""
    try:
        return save(path), True
    except (CheckpointError, RecordingError) as error:
        saved = save(Path(tempfile.mkdtemp(prefix="cartpole-lessons-")) / path.name)
        print(f"{str(error).rstrip('.')}; for now it is in {saved.parent}.", file=sys.stderr)
        return saved, False


def _print_table(table: Table) -> None:
    Console(highlight=False, markup=False).print(table)


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
    _print_table(table)
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
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter, env_id or max_steps; may be repeated.")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the checkpoint goes. Default: LESSON-seedN.npz, here.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="Film an episode of what was learned, as MP4.")] = None,
) -> None:
    """Train a lesson's algorithm until it is solved; Ctrl-C stops it and keeps the best policy so far."""
    learner = load_lesson(lesson).train
    keywords = parse_settings(learner, set_ or [])
    save = save or _free(Path(f"{lesson}-seed{seed}.npz"))
    _check_writable(save=save, video=video)
    try:
        result = learner(seed=seed, progress=True, **keywords)
    except CourseError:
        raise
    except Exception as error:
        # At its own settings a lesson does not fail; those that the user chose can be anything.
        if not keywords:
            raise
        chosen = ", ".join(f"{name}={value}" for name, value in keywords.items())
        raise InvalidInput(f"{lesson} cannot be trained with {chosen} ({type(error).__name__}: {in_short(error)}).") from None
    try:
        checkpoint, all_is_well = _save(result.save, save)
    finally:
        if not result.interrupted:  # then the run has already said so
            print(result)
    print(f"checkpoint: {checkpoint}")
    if video is None:
        print(f"To see it: cartpole-lessons watch {checkpoint}")
    else:
        film, filmed_there = _film(result.policy, result.env_id, video)
        all_is_well &= filmed_there
        if film is not None:
            print(f"film: {film}")
    raise typer.Exit(0 if result.solved and all_is_well else 1)


def _film(policy: "Policy", env_id: str, path: Path, seed: int | None = None) -> tuple[Path | None, bool]:
    """Film an episode into `path`. Returns where the film is (None: there is none), and whether that is `path`."""
    from cartpole_lessons.video import record

    try:
        return _save(record(policy, env_id, **({} if seed is None else {"seed": seed})).save, path)
    except CourseError as error:  # a film is never worth what was learned
        print(error, file=sys.stderr)
        return None, False


@app.command(epilog=_examples("evaluate ppo-seed0.npz", "evaluate ppo-seed0.npz --episodes 1000 --seed 7"))
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A file that `train` wrote.")],
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
    checkpoint: Annotated[Path, typer.Argument(help="A file that `train` wrote.")],
    seed: Annotated[int | None, typer.Option(help="Which episode. Default: the first of the course's held-out ones.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a film in any case, instead of opening a window.")] = None,
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
    film, filmed_there = _film(policy, saved.env_id, video, seed)
    if film is not None:
        print(f"film: {film}")
    raise typer.Exit(0 if filmed_there else 1)


def _play(policy: "Policy", env_id: str, seed: int) -> int:
    """Show one greedily played episode in a window; returns its steps. `NoDisplay` where no window opens."""
    from cartpole_lessons.environment import make_env
    from cartpole_lessons.rollout import play_episode

    env = make_env(env_id, seed=seed, render="human")
    import pygame

    try:
        steps = -1  # what is seen first comes before any step
        for _ in play_episode(env, policy):
            steps += 1
            if pygame.display.get_driver() in ("dummy", "offscreen"):  # a display is named, but nothing answers there
                raise NoDisplay("The window opens where nobody can see it: use --video.")
            if pygame.event.peek(pygame.QUIT):  # Gymnasium takes no notice of the window's close button
                break
    except pygame.error as error:
        raise NoDisplay(f"The window does not open ({error}): use --video.") from None
    finally:
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
    folder: Annotated[Path, typer.Option(help="Where the results go, a small file each; what is there already is not run again.")] = Path(
        "study"
    ),
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=V1,V2", help="Values of a hyperparameter to try, in every combination.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: one per core.")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Run on the cluster of this Dask scheduler.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run those again that raised an error.")] = False,
) -> None:
    """Train many lessons on many seeds; stopped or killed, the same command goes on where it was."""
    chosen = parse_seeds(seeds)
    names = list(lesson or lessons())
    trains = [load_lesson(name).train for name in names]
    grid = parse_grid(trains[0], set_ or [])

    from cartpole_lessons.study import readable, run_study

    done = run_study(names, chosen, folder=folder, grid=grid, workers=workers, scheduler=scheduler, retry_failed=retry_failed)
    table = Table(Column("row", no_wrap=True), "solved", "perfect", "env steps", "seconds", box=None, pad_edge=False)
    for row, summary in done.summary().items():
        cells = readable(summary)
        table.add_row(row, *(cells[name].replace(" (", "\n(") for name in ("solved", "perfect", "env_steps", "seconds")))
    _print_table(table)
    for run in done.failed:
        print(f"failed: {run['row']}, seed {run['seed']}: {run['error'].strip().splitlines()[-1]}")
    print(f"{done}. Next: cartpole-lessons report {folder}")
    raise typer.Exit(1 if done.failed else 0)


def parse_seeds(text: str) -> list[int]:
    """Seeds from "20" (0 to 19), "0-9", "3," or "0-9,42": `InvalidInput` on anything else."""
    wrong = InvalidInput(
        f"--seeds is a number of seeds (20), or ranges and single seeds (0-9,42), at most {MOST_SEEDS:,} in all, but got {shown(text)}."
    )
    if re.fullmatch(r"\d{1,10}", text):
        text = f"0-{int(text) - 1}"
    seeds: dict[int, None] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 2**32 or last - first >= MOST_SEEDS:
            raise wrong
        seeds |= dict.fromkeys(range(first, last + 1))
        if len(seeds) > MOST_SEEDS:
            raise wrong
    if not seeds:
        raise wrong
    return list(seeds)


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


@app.command(epilog=_examples("doctor"))
def doctor() -> None:
    """Is this machine ready for the course? If not, the exact command that mends it."""
    from cartpole_lessons.doctor import doctor as examine

    raise typer.Exit(examine().exit_code)
