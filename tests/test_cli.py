"""The command line does what its help shows, says in one sentence what went wrong, and loses nothing that was learned."""

import functools
import importlib.metadata
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import full_disk, one_sentence

from cartpole_lessons import __version__, study, video
from cartpole_lessons.__main__ import main
from cartpole_lessons.algorithms import hand_made, ppo
from cartpole_lessons.checkpoints import load_checkpoint, save_checkpoint
from cartpole_lessons.cli import open_checkpoint, parse_grid, parse_seeds, parse_settings
from cartpole_lessons.display import virtual_display
from cartpole_lessons.errors import InvalidInput, RecordingError
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons.hyperparameters import describe_kind, explained, kind_of, settings_of
from cartpole_lessons.lessons import lessons, load_lesson
from cartpole_lessons.study import StudyError, report, run_study, write_results

COMMANDS = ("list", "train", "evaluate", "watch", "study", "report", "grade", "doctor")
ROOT = Path(__file__).resolve().parent.parent
needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")


@pytest.fixture
def command(capfd, tmp_path, monkeypatch):
    """`command("train ppo --seed 3")` in an empty folder: its exit code and what it printed. hand_made is the lesson that takes no time."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        code = main(shlex.split(line))
        printed = capfd.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def short_films(monkeypatch):
    """Films of ten steps: whole episodes take seconds to encode."""
    for module in (video, report):
        monkeypatch.setattr(module, "record", functools.partial(video.record, max_steps=10))


def subprocess_of(*arguments, path=None, **options):
    """The command line as a process of its own; path: a folder that Python searches first."""
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [sys.executable, "-m", "cartpole_lessons", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


def frames_of(path):
    """How many frames the film in `path` has."""
    return imageio_ffmpeg.count_frames_and_secs(path)[0]


def failed_with_one_sentence(done, code, *named):
    """The command ended with `code`, printed nothing else, and said on stderr one sentence that names all of `named`."""
    assert (done.code, done.out) == (code, "")
    return one_sentence(done.err.rstrip("\n"), *named)


def examples_of(help_text):
    """The commands that a help text shows, without the program's name."""
    return re.findall(r"^ +cartpole-lessons (.+?) *$", help_text, re.MULTILINE)


def test_help_names_every_command_and_the_exit_codes_and_the_readme_shows_no_other_examples(command):
    done = command("--help")
    assert done.code == 0
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", done.out)] == []
    assert "0 solved" in done.out
    shown = re.findall(r"^cartpole-lessons (.+?) *(?:#.*)?$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {line.split()[0] for line in shown} == set(COMMANDS)
    assert [line for line in shown if line not in examples_of(command(f"{line.split()[0]} --help").out)] == []


def test_examples_in_the_help_work_as_printed(command, no_screen, small_studies, short_films):
    for name in COMMANDS:
        examples = examples_of(command(f"{name} --help").out)
        assert examples, f"{name} --help shows no example"
        for number, example in enumerate(examples):
            assert example.split()[0] == name
            # The first training is run as it stands; the others need not last until they are solved.
            short = name == "train" and number > 0
            if name in ("doctor", "grade"):  # their own tests run them
                continue
            done = command(f"{example} --set max_steps=1" if short else example)
            assert done.code in ((0, 1) if short else (0,)), f"{example}: {done.err}"
            assert "Traceback" not in done.err
    written = {path.name for path in Path().iterdir()} - small_studies
    assert written == {
        "balanced.mp4", "policy_gradient-seed0.npz", "ppo-seed0.mp4", "ppo-seed0.npz", "ppo-seed3.npz", "report.html", "study.html", "v0.npz",
    }  # fmt: skip


@pytest.fixture
def small_studies(monkeypatch, tmp_path):
    """Studies train one lesson on one seed for one step, here; the published results are those of such a study. Returns the folders they make."""
    folders = set()

    def small(names, seeds, *, folder, grid=None, workers=None, scheduler=None, retry_failed=False):
        folders.add(Path(folder).name)
        rows = {name: (name, {"max_steps": 1}) for name in names[:1]}
        return run_study(rows, seeds[:1], folder=folder, grid=grid, backend="sequential", progress=False)

    monkeypatch.setattr(study, "run_study", small)
    published = tmp_path.parent / f"{tmp_path.name}-published"
    runs = run_study("hand_made", [0], folder=published / "runs", backend="sequential", progress=False).runs
    write_results(runs, published)
    monkeypatch.setattr(report, "RESULTS", published)
    return folders


def test_the_program_is_installed_under_its_name_and_says_its_version(command):
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="cartpole-lessons")
    assert entry.load() is main
    assert command("--version").out == f"cartpole-lessons {__version__}\n"


def test_list_shows_every_lesson_in_the_order_of_the_course_and_answers_without_torch():
    code = "import sys; from cartpole_lessons.__main__ import main; main(['list']); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("False\n")
    assert re.findall(r"^(\d\d)  (\w+) ", shown, re.MULTILINE) == [(lesson.number, name) for name, lesson in lessons().items()]


@pytest.mark.parametrize("lesson", ["hand_made", "many_seeds"])
def test_list_of_a_lesson_shows_what_each_setting_is_by_default_means_and_may_be(command, monkeypatch, lesson):
    monkeypatch.setenv("COLUMNS", "300")
    train = load_lesson(lesson).train
    lines = {line.split()[0]: line for line in command(f"list {lesson}").out.splitlines() if line}
    for name, parameter in settings_of(train).items():
        assert f" {parameter.default} " in lines[name]
        assert f"({describe_kind(kind_of(train, name))})" in lines[name]
        assert explained(train).get(name, "") in lines[name]


@pytest.mark.parametrize(
    ("package", "words", "named"),
    [
        ("typer", ["list"], ["`pip install typer rich`"]),
        ("rich", ["list"], ["`pip install typer rich`"]),
        ("torch", ["train", "ppo"], ["torch", "broken", "`cartpole-lessons doctor`"]),
    ],
)
def test_a_package_that_does_not_load_is_named_with_the_command_that_helps(tmp_path, package, words, named):
    (tmp_path / f"{package}.py").write_text(f"raise ImportError('broken', name={package!r})")
    done = subprocess_of(*words, path=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    one_sentence(done.stderr.rstrip("\n"), *named)


@pytest.mark.parametrize("line", ["bogus", "train", "train ppo --sed 3", "train ppo --seed x", "evaluate", "list pppo", "--versio"])
def test_wrong_use_ends_with_2(command, line):
    assert command(line).code == 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["hiden=3"], ["'hiden'", "did you mean 'hidden'?"]),
        (["seed=3"], ["'seed'"]),  # it has an option of its own
        (["hidden"], ["name=value", "'hidden'"]),
        (["hidden="], ["name=value", "'hidden='"]),
        (["hidden=3", "hidden=4"], ["hidden", "one of them"]),
        (["hidden=3,4"], ["hidden", "one of them"]),
        (["hidden=0"], ["hidden is a whole number from 1 to 2,048", "0"]),
    ],
)
def test_wrong_settings_are_named_with_what_there_is(settings, named):
    with pytest.raises(InvalidInput) as caught:
        parse_settings(ppo.train, settings)
    one_sentence(caught.value, *named)


def test_grids_list_values_and_repeat_what_is_a_list_itself():
    assert parse_grid(ppo.train, ["hidden=32,64", "clip=0.1", "clip=0.2"]) == {"hidden": [32, 64], "clip": [0.1, 0.2]}
    assert parse_grid(hand_made.train, ["state_cost=1,1,1,1", "state_cost=2,1,1,1"])["state_cost"] == [(1, 1, 1, 1), (2, 1, 1, 1)]


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("0-3", [0, 1, 2, 3]), ("7,", [7]), ("0-2, 42,1", [0, 1, 2, 42])]
)  # fmt: skip
def test_seeds_are_a_number_or_ranges(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "0", "x", "3-1", "-3", "1-", ",", "999999999", "1.5", "0-1e9", "0-999999999", "9" * 5_000, "0-60000,70000-130000"]
)
def test_seeds_that_are_none_or_too_many_are_refused_before_memory_is_taken(text):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput) as caught:
            parse_seeds(text)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()
    one_sentence(caught.value, "0-9,42", "100,000", repr(text)[:20])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("buffering", [-1, 1], ids=["at the end", "at the first line"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_goes_away_costs_nothing_of_what_was_learned(command, monkeypatch, stream, buffering):
    reader, pipe = os.pipe()
    os.close(reader)
    for output, code in ((pipe, 0), ("/dev/full", int(stream == "stdout"))):
        with open(output, "w", buffering=buffering) as broken, monkeypatch.context() as patch:
            patch.setattr(sys, stream, broken)
            done = command("train hand_made --save it.npz")
        assert done.code == code
        assert load_checkpoint("it.npz").mean_return == 500
        assert "Traceback" not in done.err
        if code:
            one_sentence(done.err.splitlines()[-1], "cannot be written", "free some space")
        Path("it.npz").unlink()


def test_the_checkpoint_is_written_before_anything_is_printed(command, monkeypatch):
    class Watching(io.StringIO):
        def write(self, text):
            assert Path("hand_made-seed0.npz").exists()
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Watching())
    assert command("train hand_made").code == 0
    assert sys.stdout.getvalue().splitlines()[1] == "checkpoint: hand_made-seed0.npz"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes files in another way there")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("list | true", 0, ""),
        ("--help | true", 0, ""),
        ("list >&-", 0, ""),
        ("list <&- >&- 2>&-", 0, ""),
        ("train pppo <&- >&-", 2, "There is no lesson 'pppo': did you mean 'ppo'?\n"),
        ("train pppo 2>&-", 2, ""),
        ("train pppo 2>/dev/full", 2, ""),
        ("list >/dev/full", 1, "What this command prints cannot be written (No space left on device): free some space there.\n"),
    ],
)
def test_exit_codes_and_sentences_are_right_where_nobody_listens(line, code, said):
    program = shlex.join([sys.executable, "-m", "cartpole_lessons"])
    done = subprocess.run(["bash", "-c", f"{program} {line}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")


def test_a_training_without_any_open_stream_or_under_another_code_page_writes_whole_files(tmp_path, monkeypatch):
    words = ["train", "ppo", "--set", "max_steps=1", "--save", "модель.npz"]
    close = "exec <&- >&- 2>&-; exec " + shlex.join([sys.executable, "-m", "cartpole_lessons", *words, "--video", "it.mp4"])
    assert subprocess.run(["bash", "-c", close], cwd=tmp_path, timeout=120).returncode == 1  # not solved
    assert load_checkpoint(tmp_path / "модель.npz").lesson == "ppo"
    assert frames_of(tmp_path / "it.mp4") > 5
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    assert "checkpoint: ??????.npz" in subprocess_of(*words, cwd=tmp_path).stdout


def test_train_shows_a_bar_and_ends_with_the_verdict_and_the_files(command, short_films):
    done = command("train hand_made --seed 5 --video films/balanced.mp4 --save deep/down/policy.npz")
    assert done.code == 0
    assert "hand_made, seed 5:" in done.err  # the bar
    verdict, *places = done.out.splitlines()
    assert verdict.startswith("hand_made, seed 5: perfect, mean return 500.0 in 100 episodes of CartPole-v1")
    assert places == ["checkpoint: deep/down/policy.npz", "film: films/balanced.mp4"]
    assert frames_of("films/balanced.mp4") == 11


def test_train_is_the_lessons_own_training_with_the_settings_given_and_ends_with_1_where_it_is_not_solved(command):
    done = command("train ppo --seed 4 --set max_steps=300 --set hidden=8 --set env_id=CartPole-v0")
    assert done.code == 1
    assert "not solved" in done.out.splitlines()[0]
    assert done.out.splitlines()[-1] == "To see it: cartpole-lessons watch ppo-seed4.npz"
    result = ppo.train(seed=4, max_steps=300, hidden=8, env_id="CartPole-v0")
    saved = load_checkpoint("ppo-seed4.npz")
    assert (saved.lesson, saved.env_id, saved.seed, saved.hyperparameters) == ("ppo", "CartPole-v0", 4, result.hyperparameters)
    assert saved.mean_return == result.evaluation.mean < 195
    assert all(weights.equal(saved.weights[name]) for name, weights in result.policy.state_dict().items())


def test_a_name_that_nobody_chose_overwrites_nothing_and_a_chosen_one_does(command):
    for expected in ("hand_made-seed0.npz", "hand_made-seed0-2.npz", "hand_made-seed0-3.npz"):
        assert f"checkpoint: {expected}\n" in command("train hand_made").out
    Path("mine.npz").touch()
    command("train hand_made --save mine.npz")
    assert load_checkpoint("mine.npz").lesson == "hand_made"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("train pppo", ["'pppo'", "'ppo'"]),
        ("train ppo --seed -1", ["seed", "-1"]),
        ("train ppo --set env_id=CartPole-v9", ["CartPole-v9", "CartPole-v1"]),
        ("train ppo --set hidden=-3", ["hidden is a whole number from 1 to 2,048", "-3"]),
        ("train hand_made --save x --video x", ["--video", "--save names it too"]),
        ("train hand_made --save x --video ../{here}/x", ["--video", "--save names it too"]),
        ("train hand_made --save " + "x" * 300, ["--save", "too long"]),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(command, line, named):
    done = command(line.format(here=Path.cwd().name))
    assert (done.code, done.out) == (2, "")
    one_sentence(done.err.splitlines()[-1], *named)
    assert list(Path().iterdir()) == []


def test_an_error_of_a_lesson_at_its_own_settings_is_not_hidden(command, monkeypatch):
    def broken(seed=0, progress=False, hidden=1):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(ppo, "train", broken)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        command("train ppo")
    # Which settings go together nobody has tried.
    failed_with_one_sentence(command("train ppo --set hidden=2"), 2, "ppo cannot be trained with hidden=2", "a bug of ours")


@pytest.mark.parametrize("option", ["--save", "--video"])
def test_a_place_that_cannot_be_written_is_refused_before_the_training(command, monkeypatch, unwritable, option):
    monkeypatch.setattr(hand_made, "train", lambda seed=0, progress=False: pytest.fail("trained"))
    Path("folder").mkdir()
    for place in (unwritable / "it", "folder", os.devnull):
        failed_with_one_sentence(command(f"train hand_made {option} {place}"), 2, option, str(place), "another place")


@pytest.mark.parametrize(("option", "name"), [("--save", "policy.npz"), ("--video", "film.mp4")])
def test_what_was_learned_goes_elsewhere_when_its_place_breaks_meanwhile(command, monkeypatch, short_films, option, name):
    folder, train = Path("out"), hand_made.train

    def train_and_break(seed=0, *, progress=False):
        result = train(seed, progress=progress)
        folder.rmdir()
        folder.touch()
        return result

    monkeypatch.setattr(hand_made, "train", train_and_break)
    done = command(f"train hand_made {option} out/{name}")
    assert done.code == 1
    assert "perfect" in done.out
    one_sentence(done.err.splitlines()[-1], "out", "for now it is in")
    (place,) = re.findall(r"^(?:checkpoint|film): (.*cartpole-lessons-.*)$", done.out, re.MULTILINE)
    assert Path(place).name == name
    assert Path(place).stat().st_size > 500
    shutil.rmtree(Path(place).parent)


def test_a_disk_that_is_full_everywhere_is_said_after_the_verdict(command, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(Path().absolute()))
    with full_disk(2500):  # enough for what is printed
        done = command("train ppo --set max_steps=1")
    assert done.code == 1
    assert "mean return" in done.out
    one_sentence(done.err.splitlines()[-1], "checkpoint cannot be written", "space")
    assert list(Path().iterdir()) == []


def test_a_film_that_cannot_be_made_costs_nothing_of_what_was_learned(command, missing):
    missing("pygame")
    done = command("train hand_made --video film.mp4")
    assert (done.code, load_checkpoint("hand_made-seed0.npz").mean_return) == (1, 500)
    one_sentence(done.err.splitlines()[-1], "pip install pygame-ce")
    assert not Path("film.mp4").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_ctrl_c_keeps_the_best_policy_so_far(tmp_path):
    # With this learning rate nothing is ever learned, so only the signal ends it.
    words = ["train", "ppo", "--set", "actor_learning_rate=1e-12", "--set", "max_steps=100_000_000", "--save", "stopped.npz"]
    with subprocess.Popen(
        [sys.executable, "-m", "cartpole_lessons", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        bar = ""
        while not re.search(r"[1-9][.\d]*k steps", bar):
            bar += process.stderr.read(1)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert out.startswith("Stopped by you. This is the best policy so far: ppo, seed 0: not solved")
    assert "checkpoint: stopped.npz" in out
    assert load_checkpoint(tmp_path / "stopped.npz").lesson == "ppo"


def test_evaluate_says_what_python_says_and_ends_with_the_verdict(command):
    command("train hand_made --save good.npz")
    command("train ppo --set max_steps=1 --save bad.npz")
    done = command("evaluate good.npz --episodes 7 --seed 3")
    assert (done.code, done.out) == (0, "hand_made, trained with seed 0: perfect, mean return 500.0 in 7 episodes of CartPole-v1\n")
    done = command("evaluate bad.npz")
    assert (done.code, done.out) == (1, f"ppo, trained with seed 0: {evaluate(open_checkpoint(Path('bad.npz'))[1])}\n")
    assert "CartPole-v0" in command("evaluate good.npz --env-id CartPole-v0").out
    failed_with_one_sentence(command("evaluate good.npz --episodes 1000000000"), 2, "episodes is a whole number from 1 to 100,000")


def test_what_is_no_checkpoint_of_a_lesson_is_refused_in_one_sentence(command):
    failed_with_one_sentence(command("evaluate none.npz"), 2, "none.npz", "cartpole-lessons train")
    Path("text.npz").write_text("hello")
    failed_with_one_sentence(command("watch text.npz"), 1, "text.npz")
    foreign = type("system", (hand_made.LinearPolicy,), {"__module__": "os"})()
    save_checkpoint("foreign.npz", foreign, lesson="os", env_id="CartPole-v1", seed=0, hyperparameters={})
    failed_with_one_sentence(command("evaluate foreign.npz"), 1, "'os.system'")


def test_watch_films_where_no_window_can_open(command, no_screen):
    command("train ppo --set max_steps=1 --save clumsy.npz")
    for name in ("clumsy.mp4", "clumsy-2.mp4"):
        done = command("watch clumsy.npz --seed 1")
        assert (done.code, done.out) == (0, f"No window can open here, so this is filmed instead.\nfilm: {name}\n")
        assert frames_of(name) > 5
    assert Path("clumsy.mp4").read_bytes() == Path("clumsy-2.mp4").read_bytes()


def test_watch_refuses_a_place_that_cannot_be_written_and_ends_with_1_when_the_film_fails(command, unwritable, missing):
    command("train hand_made --save it.npz")
    failed_with_one_sentence(command(f"watch it.npz --video {unwritable}/film.mp4"), 2, "--video")
    failed_with_one_sentence(command("watch it.npz --video it.npz"), 2, "--video", "checkpoint")
    assert load_checkpoint("it.npz").lesson == "hand_made"
    missing("pygame")
    failed_with_one_sentence(command("watch it.npz --video film.mp4"), 1, "pip install pygame-ce")


@needs_xvfb
def test_watch_opens_a_window_and_its_close_button_ends_it(command, monkeypatch):
    import pygame

    command("train hand_made --save it.npz")
    seen = []

    def fall(policy, observations, deterministic=True):
        seen.append((pygame.display.get_driver(), pygame.display.get_surface().get_size()))
        if len(seen) == closes_after:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        return np.array([1])

    monkeypatch.setattr(hand_made.LinearPolicy, "act", fall)
    with virtual_display():
        closes_after = None
        assert command("watch it.npz").out == f"hand_made, trained with seed 0: {len(seen)} steps\n"
        assert set(seen) == {("x11", (600, 400))}
        assert len(seen) > 5
        closes_after = len(seen) + 4
        assert command("watch it.npz").out.endswith(": 4 steps\n")


@pytest.fixture
def sequential(monkeypatch):
    """Studies in this process: starting others takes seconds."""
    monkeypatch.setattr(
        study, "run_study", lambda *args, workers, scheduler, **keywords: run_study(*args, backend="sequential", **keywords)
    )


def test_study_runs_what_is_missing_and_shows_what_was_reached(command, sequential):
    done = command("study hand_made --seeds 0-1,7 --set force_cost=1,2 --folder here")
    assert done.code == 0
    assert len(list(Path("here").glob("*.json"))) == 6
    assert re.search(r"^hand_made force_cost=1\.0 +3 of 3", done.out, re.MULTILINE)
    assert done.out.endswith("6 runs in here, 0 of them failed. Next: cartpole-lessons report here\n")
    before = {path: path.stat().st_mtime_ns for path in Path("here").iterdir()}
    assert command("study hand_made --seeds 2 --set force_cost=1,2 --folder here").code == 0
    assert {path: path.stat().st_mtime_ns for path in Path("here").iterdir()} == before


def test_study_passes_workers_and_scheduler_on(command, monkeypatch):
    asked = {}

    def remember(names, seeds, **keywords):
        asked.update(keywords, names=names, seeds=seeds)
        raise StudyError("No scheduler answers.")

    monkeypatch.setattr(study, "run_study", remember)
    failed_with_one_sentence(command("study --seeds 2 --workers 3 --scheduler tcp://localhost:1"), 1, "No scheduler")
    assert (asked["names"], asked["seeds"]) == (list(lessons()), [0, 1])
    assert (asked["workers"], asked["scheduler"], asked["folder"]) == (3, "tcp://localhost:1", Path("study"))


def test_a_study_with_a_training_that_raised_or_that_was_stopped_ends_with_1(command, sequential, monkeypatch):
    done = command("study hand_made --seeds 1 --set state_cost=0,0,0,0")
    assert done.code == 1
    assert re.search(r"^failed: hand_made state_cost=.*, seed 0: .*InvalidInput", done.out, re.MULTILINE)
    assert "1 run in study, 1 of them failed" in done.out

    def stopped(*args, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_study", stopped)
    assert command("study hand_made").code == 1


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("study ppo pppo --set hidden=3", ["'pppo'", "'ppo'"]),
        ("study ppo --set hiden=3", ["'hiden'"]),
        ("study ppo --seeds 3-1", ["'3-1'"]),
        ("study hand_made --workers 0", ["workers"]),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_in_one_sentence(command, line, named):
    failed_with_one_sentence(command(line), 2, *named)
    assert list(Path().iterdir()) == []


def test_a_report_is_one_page_with_tables_curves_and_films(command, sequential, short_films):
    command("study hand_made --seeds 2 --folder s")
    command("study augmented_random_search --seeds 2 --folder s")
    done = command("report s --output page.html")
    assert (done.code, done.out) == (0, "report: page.html\n")
    page = Path("page.html").read_text(encoding="utf-8")
    assert [word for word in ("http", "@import", "<script", "srcset") if word in page] == []
    assert set(re.findall(r'\b(?:src|href|poster|data)="(.{5})', page)) == {"data:"}
    assert (page.count("<video"), page.count("<figure><img"), page.count("<img")) == (2, 1, 2 + 1)
    for summary in study.read_study("s").summary().values():
        assert f">{summary['row']}<" in page
        assert f"{summary['env_steps']['median']:,.0f}" in page
    assert "4 trainings: 2 rows, seeds 0-1." in page


def test_a_report_shows_failures_and_lets_no_text_become_markup(command):
    run_study({"<b>bold</b>": ("hand_made", {"state_cost": (0, 0, 0, 0)})}, [0, 3], folder="a&b", backend="sequential", progress=False)
    assert command("report 'a&b' --no-films").code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "InvalidInput" in page
    assert "seeds 0, 3." in page


def test_a_report_without_films_trains_nothing_and_a_film_that_cannot_be_made_leaves_its_reason(command, sequential, monkeypatch, missing):
    command("study hand_made --seeds 1 --folder s")

    def no_film(*_, **__):
        raise RecordingError("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(report, "record", no_film)
        assert command("report s").code == 0
    assert "hand_made: no film. The disk is full." in Path("report.html").read_text(encoding="utf-8")
    missing("pygame")
    assert command("report s").code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "hand_made: no film. " not in page
    assert page.count("<iframe") == 1  # the episode plays all the same
    monkeypatch.setattr(hand_made, "train", lambda **keywords: pytest.fail("trained"))
    assert command("report s --no-films").code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<video" not in page
    assert "no evaluations from during the training" in page


def test_the_run_that_is_filmed_is_the_one_in_the_middle():
    unsolved = [{"status": "ok", "solved": False, "mean_return": value} for value in (30.0, 10.0, 20.0)]
    solved = [{"status": "ok", "solved": True, "env_steps": value} for value in (900, 100, 500, 300, 700)]
    assert report.typical([*unsolved, *solved])["env_steps"] == 500
    assert report.typical(unsolved)["mean_return"] == 20
    assert report.typical([{"status": "failed"}]) is None


def test_report_without_results_or_place_says_so_in_one_sentence(command, sequential, monkeypatch, tmp_path, unwritable):
    failed_with_one_sentence(command("report nowhere"), 1, "nowhere")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    failed_with_one_sentence(command("report"), 1, "no published results")
    failed_with_one_sentence(command(f"report --output {unwritable}/page.html"), 2, "--output")
    command("study hand_made --seeds 1 --folder s")
    with full_disk(200):
        failed_with_one_sentence(command("report s --no-films"), 1, "The report cannot be written", "space")
