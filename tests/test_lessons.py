"""The lessons by name: which there are, their policies out of checkpoints, and what one changed in the one before."""

import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import LinearPolicy, one_sentence, printed

from cartpole_lessons.algorithms import hand_made
from cartpole_lessons.checkpoints import save_checkpoint
from cartpole_lessons.errors import CheckpointError, InvalidInput, MissingDependency
from cartpole_lessons.lessons import lessons, load_lesson, load_policy, what_changed

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def test_lessons_come_in_the_order_of_the_course_with_their_notebooks_number():
    numbers = [lesson.number for lesson in lessons().values()]
    assert numbers == sorted(numbers)
    for name, lesson in lessons().items():
        (notebook,) = NOTEBOOKS.glob(f"{lesson.number}_*.ipynb")
        assert f"#| default_exp algorithms.{name}" in notebook.read_text(encoding="utf-8")
        assert lesson.summary.endswith(".")
    assert {"hand_made", "ppo", "many_seeds"} <= set(lessons())


@pytest.mark.parametrize(
    ("name", "answer"),
    [("pppo", "'ppo'"), ("zzz", "hand_made, policy_gradient"), ("../ppo", "'../ppo'"), ("", "''"), (3, "3"), (None, "None"), ("x" * 9_999, "xxx"),
     ("no_such_package.lesson", "no_such_package"), ("os.path", "os.path has no function train")],
)  # fmt: skip
def test_what_is_no_lesson_is_refused_in_one_sentence(name, answer):
    with pytest.raises(InvalidInput) as caught:
        load_lesson(name)
    assert len(one_sentence(caught.value, answer)) < 400


def test_a_lesson_whose_package_is_missing_names_it(monkeypatch, missing):
    monkeypatch.delitem(sys.modules, "cartpole_lessons.algorithms.reinforce", raising=False)
    missing("ignite", "ignite.engine")
    with pytest.raises(MissingDependency) as caught:
        load_lesson("reinforce")
    one_sentence(caught.value, "reinforce", "`pip install pytorch-ignite`")


def test_a_module_of_ones_own_is_a_lesson(tmp_path, monkeypatch):
    package = tmp_path / "a_students_lessons"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text("def train(seed=0, **hyperparameters): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_lesson("a_students_lessons.mine").__name__ == "a_students_lessons.mine"


def test_what_papermill_writes_below_the_parameters_is_trained_with(kernel):
    notebook = nbformat.read(NOTEBOOKS / "09_gaussian_reinforce.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            failed = [message for message in kernel.run(cell.source) if message["msg_type"] == "error"]
            assert not failed, cell.source
        if "parameters" in cell.metadata.get("tags", []):
            kernel.run("seed = 5\nmax_steps = 700")  # a cell of its own, as papermill inserts it
        if cell.id == "learn":
            break
    seed, steps = printed(kernel.run("print(result.seed, result.env_steps)")).split()
    assert int(seed) == 5
    assert 700 <= int(steps) < 700 + 8 * 500  # it stops after the update that passed them


@pytest.mark.parametrize("lesson", lessons())
def test_every_lessons_checkpoint_is_loaded_as_the_policy_it_was(lesson, tmp_path):
    result = load_lesson(lesson).train(seed=1, max_steps=1)
    policy = load_policy(result.save(tmp_path / "it.npz"))
    assert type(policy) is type(result.policy)
    observations = np.random.default_rng(0).normal(0, 0.2, (200, 4)).astype(np.float32)
    assert np.array_equal(policy.act(observations), result.policy.act(observations))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("trap", "Policy"), ("my.trap", "Policy"), ("os", "system"), ("ppo", "make_envs"), ("ppo", "Policy"), ("ppo", "PolicyNetwork"),
        ("policy_gradient", "__doc__"), ("many_seeds", "Learner"), ("", ""), ("ppo", ""), ("", "ppo"),
    ],
)  # fmt: skip
def test_only_policies_of_lessons_are_accepted_and_nothing_is_imported_because_a_file_names_it(tmp_path, monkeypatch, module, name):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    pretender = type(name, (LinearPolicy,), {"__module__": module})()
    save_checkpoint("it.npz", pretender, lesson="ppo", env_id="CartPole-v1", seed=0, hyperparameters={})
    for lesson in lessons():  # what these import is no choice of the file's
        load_lesson(lesson)
    before = set(sys.modules)
    with pytest.raises(CheckpointError) as caught:
        load_policy("it.npz")
    one_sentence(caught.value, "it.npz")
    assert [name for name in set(sys.modules) - before if not name.startswith("encodings.")] == []


def test_weights_of_another_policy_are_refused_though_the_name_is_a_lessons(tmp_path):
    policy = hand_made.LinearPolicy()
    path = save_checkpoint(tmp_path / "it.npz", policy, lesson="hand_made", env_id="CartPole-v1", seed=0, hyperparameters={}, weights={})
    with pytest.raises(CheckpointError) as caught:
        load_policy(path)
    one_sentence(caught.value, "it.npz", "hand_made", "LinearPolicy")


def before(clip):
    ratios = clip + 1
    return ratios


def after(clip):
    ratios = clip + 2
    return ratios


def test_what_changed_is_a_diff_of_two_functions():
    changes = what_changed(before, after)
    assert changes.splitlines() == [
        "-def before(clip):", "-    ratios = clip + 1", "+def after(clip):", "+    ratios = clip + 2", "     return ratios",
    ]  # fmt: skip
    assert (changes.count, what_changed(before, before).count) == (4, 0)
    assert changes._repr_markdown_() == f"```diff\n{changes}\n```"
    assert "\n+    clip: " in what_changed(load_lesson("actor_critic").train, load_lesson("ppo").train)


def test_what_changed_looks_past_comments_so_that_a_translated_lesson_shows_the_same_lines():
    def before(clip):
        ratios = clip + 1  # how far
        return ratios  # and no further

    english = before

    def before(clip):
        ratios = clip + 2  # how far e fit go
        return ratios  # e no fit pass dat one

    assert what_changed(english, before).splitlines()[1:] == [
        "-        ratios = clip + 1  # how far",
        "+        ratios = clip + 2  # how far e fit go",
        "         return ratios  # e no fit pass dat one",
    ]


@pytest.mark.parametrize("function", [len, 3, "train", None])
def test_what_changed_needs_functions_whose_source_is_at_hand(function):
    with pytest.raises(InvalidInput) as caught:
        what_changed(before, function)
    one_sentence(caught.value, "source", "not at hand")
