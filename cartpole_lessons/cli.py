"""The command line `cartpole-lessons`: train a lesson's algorithm, judge and watch what it learned, run studies, make a report.

It only reads arguments and prints; the work is done by the modules below it. These import torch, which takes seconds, so each command
imports what it needs: `--help` and `list` answer at once.
"""

import ast
import inspect
import math
import os
import pkgutil
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

import cartpole_lessons.algorithms
from cartpole_lessons._support.checks import settings_of
from cartpole_lessons.errors import CheckpointError, CourseError, InvalidInput, MissingDependency, NoDisplay, RecordingError

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

#: Packages whose module has another name.
PACKAGES = {"ignite": "pytorch-ignite"}
#: More than this is a typing error.
MOST_SEEDS = 100_000


def _examples(*lines: str) -> str:
    """The end of a command's help. A paragraph per example: a terminal shows each on a line of its own."""
    return "\n\n".join(["Examples:", *(f"  cartpole-lessons {line}" for line in lines)])


# The lessons --------------------------------------------------------------------------------------------------------------------


def lessons() -> dict[str, str]:
    """Name of every lesson that can be trained -> the sentence that says what it is; read without importing torch."""
    folder = Path(cartpole_lessons.algorithms.__path__[0])
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        tree = ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").split("\n")[0]
    return found


def algorithm(lesson: str) -> Any:
    """The module of `lesson`; `InvalidInput` names the lessons there are, `MissingDependency` the package it lacks."""
    if lesson not in lessons():
        raise InvalidInput(f"There is no lesson {lesson!r}: the lessons to train are {', '.join(lessons())}.")
    try:
        return import_module(f"cartpole_lessons.algorithms.{lesson}")
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        package = PACKAGES.get(module, module)
        raise MissingDependency(f"The lesson {lesson} needs {package}, which is not installed: run `pip install {package}`.") from None


def open_checkpoint(path: Path) -> "tuple[Checkpoint, Policy]":
    """What `path` says about itself, and its policy: rebuilt as the class, among those of the lesson's module, that its weights fit."""
    from cartpole_lessons.checkpoints import load_checkpoint, load_policy
    from cartpole_lessons.policy import Policy

    if not path.is_file():
        raise InvalidInput(f"There is no checkpoint {path}: `cartpole-lessons train LESSON` writes one.")
    checkpoint = load_checkpoint(path)
    if checkpoint.lesson not in lessons():
        raise CheckpointError(
            f"{path} was saved by {checkpoint.lesson!r}, which this version does not have: its lessons are {', '.join(lessons())}."
        )
    module = algorithm(checkpoint.lesson)
    own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    misfit = CheckpointError(f"The lesson {checkpoint.lesson!r} has no policy that {path} could be: train it again.")
    for kind in own:
        if issubclass(kind, Policy):
            try:
                return checkpoint, load_policy(path, kind)
            except CheckpointError as error:
                misfit = error
    raise misfit


# Hyperparameters ----------------------------------------------------------------------------------------------------------------


def parse_settings(train: Callable, settings: Iterable[str]) -> dict[str, Any]:
    """`name=value` texts -> keywords for `train`, each of the type of that keyword's default. `InvalidInput` on any other name or type."""
    keywords = {}
    for name, text, default in _split_settings(train, settings):
        if name in keywords:
            raise InvalidInput(f"--set {name} is given twice: a training takes one value of it.")
        keywords[name] = parse_value(name, text, default)
    return keywords


def parse_grid(train: Callable, settings: Iterable[str]) -> dict[str, list[Any]]:
    """`name=value,value` texts -> the values to try of each. One that is a list itself (state_cost=1,1,1,1) is repeated instead."""
    grid = {}
    for name, text, default in _split_settings(train, settings):
        values = [text] if isinstance(default, tuple | list) else text.split(",")
        grid.setdefault(name, []).extend(parse_value(name, value, default) for value in values)
    return grid


def _split_settings(train: Callable, settings: Iterable[str]) -> Iterable[tuple[str, str, Any]]:
    """Name, text and the keyword's default of each setting."""
    defaults = settings_of(train)
    for setting in settings:
        name, given, text = (part.strip() for part in setting.partition("="))
        if not (given and text):
            raise InvalidInput(f"--set takes name=value, for example --set {_example(defaults)}, but got {setting!r}.")
        if name not in defaults:
            lesson = train.__module__.rpartition(".")[2]
            raise InvalidInput(f"{lesson} has no hyperparameter {name!r}: it has {', '.join(defaults)}.")
        yield name, text, defaults[name]


def _example(defaults: dict[str, Any]) -> str:
    name, value = list(defaults.items())[-1]
    return f"{name}={value}"


def parse_value(name: str, text: str, default: Any) -> Any:
    """`text` as a value of `default`'s type: bool, whole number, number, text, or a tuple of these. None stands for "no number"."""
    if isinstance(default, tuple | list):
        return tuple(parse_value(name, part.strip(), default[0]) for part in text.strip("()[]").split(","))
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}[text.lower()]
        if default is None:
            return None if text.lower() == "none" else _whole(text)
        if isinstance(default, int):
            return _whole(text)
        if isinstance(default, float):
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
    except (KeyError, ValueError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", type(None): "a whole number or none"}
        raise InvalidInput(f"{name} is {kinds[type(default)]} (by default {default}), but got {text!r}.") from None
    return text


def _whole(text: str) -> int:
    """200000, 200_000 and 2e5 are whole numbers."""
    number = float(text)
    if not number.is_integer():
        raise ValueError
    return int(number)


# Files --------------------------------------------------------------------------------------------------------------------------


def _check_writable(option: str, path: Path) -> None:
    """`InvalidInput` where `path` could not be written: better said before a training than after it."""
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        reason = "it is a folder" if path.is_dir() else f"{parent} is not a folder that you may write to"
        raise InvalidInput(f"{option} {path} cannot be written, because {reason}: choose another place.")


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


# The commands -------------------------------------------------------------------------------------------------------------------


@app.command("list", epilog=_examples("list"))
def list_lessons() -> None:
    """Show the lessons that can be trained."""
    table = Table(box=None, pad_edge=False)
    table.add_column("lesson", no_wrap=True)
    table.add_column("what it is")
    for name, summary in lessons().items():
        table.add_row(name, summary)
    Console(highlight=False).print(table)
    print("\nNext: cartpole-lessons train ppo")


@app.command(
    epilog=_examples(
        "train ppo",
        "train ppo --seed 3 --set clip=0.2 --set hidden=32",
        "train policy_gradient --video balanced.mp4",
        "train reinforce --set env_id=CartPole-v0 --save v0.npz",
        "train ppo --resume",
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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a training with the same settings was cut off in this folder.")
    ] = False,
) -> None:
    """Train a lesson's algorithm until it is solved; Ctrl-C stops it and keeps the best policy so far."""
    learner = algorithm(lesson).train
    keywords = parse_settings(learner, set_ or [])
    if resume and "resume" not in inspect.signature(learner).parameters:
        raise InvalidInput(f"{lesson} keeps nothing to resume: leave out --resume.")
    save = save or _free(Path(f"{lesson}-seed{seed}.npz"))
    for option, path in (("--save", save), ("--video", video)):
        if path is not None:
            _check_writable(option, path)

    try:
        result = learner(seed=seed, progress=True, **({"resume": True} if resume else {}), **keywords)
    except CourseError:
        raise
    except Exception as error:
        # At its own settings a lesson does not fail; those that the user chose can be anything.
        if not keywords:
            raise
        chosen = ", ".join(f"{name}={value}" for name, value in keywords.items())
        raise InvalidInput(f"{lesson} cannot be trained with {chosen} ({type(error).__name__}: {str(error).split(chr(10))[0]}).") from None
    if not result.interrupted:  # then the run has already said so
        print(result)
    checkpoint, all_is_well = _save(result.save, save)
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

    saved, policy = open_checkpoint(checkpoint)
    seed = HELD_OUT_SEED if seed is None else seed
    if video is None:
        try:
            print(f"{saved.lesson}, trained with seed {saved.seed}: {_play(policy, saved.env_id, seed)} steps")
            return
        except NoDisplay:
            video = _free(Path(f"{checkpoint.stem}.mp4"))
            print("No window can open here, so this is filmed instead.")
    _check_writable("--video", video)
    film, filmed_there = _film(policy, saved.env_id, video, seed)
    if film is not None:
        print(f"film: {film}")
    raise typer.Exit(0 if filmed_there else 1)


def _play(policy: "Policy", env_id: str, seed: int) -> int:
    """Show one greedily played episode in a window; returns its steps. `NoDisplay` where no window opens."""
    import gymnasium as gym

    from cartpole_lessons.environment import make_env
    from cartpole_lessons.policy import check_actions

    env = make_env(env_id, seed=seed, render="human")
    import pygame

    batched_space = gym.vector.utils.batch_space(env.action_space, 1)
    try:
        observation, _ = env.reset()
        if pygame.display.get_driver() in ("dummy", "offscreen"):  # a display is named, but nothing answers there
            raise NoDisplay("The window opens where nobody can see it: use --video.")
        steps, over = 0, False
        # Gymnasium takes no notice of the window's close button.
        while not over and not pygame.event.peek(pygame.QUIT):
            action = check_actions(policy.act(observation[None]), batched_space)[0]
            observation, _, terminated, truncated, _ = env.step(action)
            steps, over = steps + 1, terminated or truncated
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
    for name in names:
        algorithm(name)
    grid = parse_grid(algorithm(names[0]).train, set_ or [])

    from cartpole_lessons.study import readable, run_study

    done = run_study(names, chosen, folder=folder, grid=grid, workers=workers, scheduler=scheduler, retry_failed=retry_failed)
    table = Table(Column("row", no_wrap=True), "solved", "perfect", "env steps", "seconds", box=None, pad_edge=False)
    for row, summary in done.summary().items():
        cells = readable(summary)
        table.add_row(row, *(cells[name].replace(" (", "\n(") for name in ("solved", "perfect", "env_steps", "seconds")))
    Console(highlight=False).print(table)
    for run in done.failed:
        print(f"failed: {run['row']}, seed {run['seed']}: {run['error'].strip().splitlines()[-1]}")
    print(f"{done}. Next: cartpole-lessons report {folder}")
    raise typer.Exit(1 if done.failed else 0)


def parse_seeds(text: str) -> list[int]:
    """Seeds from "20" (0 to 19), "0-9", "3," or "0-9,42": `InvalidInput` on anything else."""
    wrong = InvalidInput(f"--seeds is a number of seeds (20), or ranges and single seeds (0-9,42), but got {text!r}.")
    if text.isdecimal():
        text = f"0-{int(text) - 1}"
    seeds = []
    for part in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 2**32 or last - first >= MOST_SEEDS:
            raise wrong
        seeds += range(first, last + 1)
    if not seeds:
        raise wrong
    return list(dict.fromkeys(seeds))


@app.command(epilog=_examples("report", "report study", "report study --no-films --output study.html"))
def report(
    folder: Annotated[Path | None, typer.Argument(help="That of a study. Default: the published results.")] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("report.html"),
    films: Annotated[bool, typer.Option(help="Train a seed of each row again, to film it.")] = True,
) -> None:
    """Make one HTML page, whole in itself, with the tables, the learning curves and the films of a study."""
    from cartpole_lessons.report import write_report

    _check_writable("--output", output)
    print(f"report: {write_report(output, folder, films=films, progress=True)}")


@app.command(epilog=_examples("doctor"))
def doctor() -> None:
    """Is this machine ready for the course? If not, the exact command that mends it."""
    from cartpole_lessons.doctor import doctor as examine

    raise typer.Exit(examine().exit_code)
