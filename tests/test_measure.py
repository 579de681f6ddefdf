"""The published results: `make study` writes them, their files are small and of the course's code, and what is made of them shows them."""

import functools
import importlib.util
import json
from pathlib import Path

import badges
import curves
import pytest
from conftest import one_sentence
from PIL import Image
from test_statistics import a_run

from cartpole_lessons.study import RESULTS, lesson_code, read_figures, read_results, run_study, summarise, write_results

ROOT = Path(__file__).resolve().parent.parent
ARS = "augmented_random_search"


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """`measure("ppo")`: benchmarks/measure.py, kept away from the repository's own files; `measure.ran`: the programs it ran."""
    spec = importlib.util.spec_from_file_location("measure", ROOT / "benchmarks" / "measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = tmp_path / "results"
    monkeypatch.setattr(module, "run_study", functools.partial(run_study, backend="sequential", progress=False))
    monkeypatch.setattr(module, "write_results", lambda runs, folder=results: write_results(runs, folder))
    monkeypatch.setattr(module, "read_results", lambda folder=results: read_results(folder))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["measure.py", "--folder", str(tmp_path / "study"), *arguments])
        return module.main()

    run.module, run.results, run.ran = module, results, []
    monkeypatch.setattr(module, "run_program", run.ran.append)
    return run


def test_published_results_come_back_as_they_were_but_for_the_machines_name(tmp_path):
    long = [[step, 475.25 if step % 2 else 500.0] for step in range(1, 101)]
    runs = [
        a_run(seed=0, evaluations=long),
        a_run(seed=1, status="failed", solved=False, perfect=False, env_steps=None, seconds=None, evaluations=[]),
    ]
    path = write_results(runs, tmp_path)
    assert path == tmp_path / "row.json"
    assert "secret" not in path.read_text()
    (back,) = read_results(tmp_path).values()
    differs = ("machine", "error", "evaluations")
    assert [{k: v for k, v in run.items() if k not in differs} for run in back] == [
        {k: v for k, v in run.items() if k not in differs} for run in runs
    ]
    assert back[0]["machine"] == {"python": "3.11"}
    kept = back[0]["evaluations"]
    assert len(kept) == 40
    assert kept[0] == [1, 475.25]
    assert kept[-10:] == long[-10:]
    assert all(point in long for point in kept)
    assert summarise(back)["row"] == summarise(runs)["row"]


def test_the_courses_published_results_are_complete_and_small_and_those_of_its_code(measure):
    rows = read_results()
    assert {row: (runs[0]["lesson"], runs[0]["hyperparameters"]) for row, runs in rows.items()} == measure.module.ROWS
    for row, runs in rows.items():
        assert {run["code"] for run in runs} == {lesson_code(runs[0]["lesson"])}, f"{row} is stale: run `make study`"
        assert [run["seed"] for run in runs] == list(measure.module.SEEDS), row
        assert {run["status"] for run in runs} <= {"ok", "failed"}
    assert sum(path.stat().st_size for path in RESULTS.glob("*.json")) < 600_000


def test_the_published_comparison_is_that_of_the_courses_code():
    pairs = read_figures("against_stable_baselines3")["pairs"]
    assert {pair["lesson"]: pair["code"] for pair in pairs} == {pair["lesson"]: lesson_code(pair["lesson"]) for pair in pairs}
    assert {tuple(run["seed"] for run in pair["runs"]) for pair in pairs} == {tuple(range(1_000, 1_020))}


def test_the_published_peers_are_those_of_the_benchmark_on_all_its_seeds():
    spec = importlib.util.spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    published = read_figures("peers")
    assert published["machine"]["installed"] == benchmark.PINNED, "run `benchmarks/peers.py`"
    assert list(published["peers"]) == list(benchmark.PEERS)
    for peer, measured in published["peers"].items():
        assert [run["seed"] for run in measured["runs"]] == list(benchmark.SEEDS), peer
        assert ("together" in measured) == (peer in benchmark.STACKED), peer
        for run in (*measured["runs"], *([measured["together"]] if "together" in measured else [])):
            assert 0 < run["training_seconds"] < run["cpu_seconds"], peer


def test_rows_by_name_are_published_and_drawn_without_the_comparison(measure, monkeypatch, tmp_path):
    monkeypatch.setattr(measure.module, "SEEDS", range(7, 9))
    monkeypatch.setitem(measure.module.ROWS, ARS, (ARS, {"max_steps": 3_000}))
    assert measure("hand_made", ARS) == 0
    assert measure.ran == ["tools/curves.py", "tools/badges.py"]
    rows = read_results(measure.results)
    assert {row: [run["seed"] for run in runs] for row, runs in rows.items()} == {"hand_made": [7, 8], ARS: [7, 8]}
    assert rows[ARS][0]["settings_chosen_with"] == "seeds 0-99"
    assert rows[ARS][0]["first_reached"] <= rows[ARS][0]["env_steps"]
    assert 0 < rows[ARS][0]["evaluation_seconds"] < rows[ARS][0]["seconds"]

    drawn = curves.drawn_rows(measure.results)
    assert set(drawn) == {ARS}  # nothing is learned in hand_made, so it has no curve
    curves.draw(drawn, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.text["Description"] == curves.fingerprint(drawn)
    monkeypatch.setattr(badges, "RESULTS", measure.results)
    monkeypatch.setattr(badges, "PICTURE", str(tmp_path / "picture.png"))
    assert "on seeds 7-8" in badges.learning_curves()


def test_all_rows_are_compared_with_stable_baselines3_too(measure, monkeypatch):
    monkeypatch.setattr(measure.module, "SEEDS", range(1))
    monkeypatch.setattr(measure.module, "ROWS", {"hand_made": ("hand_made", {})})
    monkeypatch.setattr(measure.module, "find_spec", lambda name: name)
    assert measure() == 0
    assert measure.ran[0] == "benchmarks/against_stable_baselines3.py"


def test_a_study_that_should_compare_says_at_once_where_it_cannot(measure, monkeypatch, capsys):
    monkeypatch.setattr(measure.module, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        measure()
    assert stop.value.code == 2
    assert "--no-comparison" in capsys.readouterr().err


def test_a_wrong_row_and_a_folder_that_cannot_be_written_end_in_one_sentence(measure, unwritable):
    with pytest.raises(SystemExit) as stop:
        measure("nothing_like_it")
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        measure("hand_made", "--folder", str(unwritable))
    one_sentence(stop.value, str(unwritable))


def test_rows_of_other_code_with_the_same_figures_are_verified_and_others_named(measure, tmp_path, capsys):
    runs = run_study("hand_made", range(3), folder=tmp_path / "s", backend="sequential", progress=False).runs
    same = write_results([run | {"code": "0" * 12} for run in runs], measure.results)
    different = write_results(
        [run | {"row": "hand_made-continuous", "code": "0" * 12, "mean_return": 1.0 + run["seed"]} for run in runs], measure.results
    )
    before = different.read_bytes()
    assert measure("--verify", "2") == 1
    assert capsys.readouterr().out == "hand_made-continuous: other figures on seed 0, 1\nhand_made: the same on 2 seeds\n"
    assert different.read_bytes() == before
    verified = read_results(measure.results)["hand_made"]
    assert verified[0]["code"] == lesson_code("hand_made")
    assert verified[0]["verified"]["seeds"] == 2
    assert "host" not in verified[0]["verified"]["machine"]
    assert [run["seconds"] for run in verified] == [run["seconds"] for run in runs]

    kept = same.read_bytes()
    assert measure("hand_made", "--verify", "2") == 0
    assert "today's code" in capsys.readouterr().out
    assert same.read_bytes() == kept


def test_the_picture_in_the_readme_shows_the_published_results():
    path = ROOT / badges.PICTURE
    with Image.open(path) as picture:
        assert picture.text["Description"] == curves.fingerprint(curves.drawn_rows()), "run `make study`"
    assert path.stat().st_size < 150_000


def test_what_will_be_seen_is_said_as_measured():
    solved = summarise([a_run(seed=seed) for seed in range(3)])["row"]
    assert badges.you_will_see(solved) == (
        "You will see: solved on 3 of 3 seeds, typically after 1,000 environment steps and 1.00 seconds (measured; medians)."
    )
    at_once = summarise([a_run(env_steps=0)])["row"]
    assert "in 1.00 seconds without training" in badges.you_will_see(at_once)
    never = summarise([a_run(solved=False)])["row"]
    assert badges.you_will_see(never) == "You will see: solved on 0 of 1 seeds (measured)."


def test_the_comparisons_table_holds_both_sides_and_the_ratios(monkeypatch, tmp_path):
    monkeypatch.setattr("cartpole_lessons.study.results.RESULTS", tmp_path)
    side = {"solved": True, "env_steps": 1000, "cpu_seconds": 2.0, "training_seconds": 1.0}
    runs = [{"seed": steps, "ours": side, "theirs": side | {"env_steps": steps}, "same": side} for steps in (2000, 3000, 9000)]
    pair = {"lesson": "ppo", "theirs": "SB3 PPO", "version": "2.9", "runs": runs}
    (tmp_path / "against_stable_baselines3.json").write_text(json.dumps({"machine": {}, "pairs": [pair]}))
    assert badges.comparison_table().splitlines()[2:5] == [
        "| **05 PPO** | 3 of 3 | 1,000 | 2.00 | 1.00 |",
        "| SB3 PPO, the Zoo's settings | 3 of 3 | 3,000 (3.0 x) | 2.00 (1.0 x) | 1.00 (1.0 x) |",
        "| SB3 PPO, the course's settings | 3 of 3 | 1,000 (1.0 x) | 2.00 (1.0 x) | 1.00 (1.0 x) |",
    ]
    assert read_results(tmp_path) == {}


def test_the_table_of_peers_says_from_where_on_another_library_needs_less(monkeypatch, tmp_path):
    monkeypatch.setattr("cartpole_lessons.study.results.RESULTS", tmp_path)

    def measured(begun, each, **more):
        runs = [
            {"seed": seed, "stopped": 1, "env_steps": 5_000, "cpu_seconds": seconds, "training_seconds": seconds / 2}
            for seed, seconds in enumerate(each)
        ]
        return {"version": "1.0", "importing": begun, "compiling": 0.5, "runs": runs} | more

    together = {"stopped": 99, "env_steps": 1, "cpu_seconds": 20.0, "training_seconds": 8.0, "seeds": 100}
    peers = {
        "course": measured(2.0, (0.5, 1.0, 1.5), together=together | {"compiling": 0.1}),
        "rejax": measured(9.5, (0.1, 0.25, 0.4), together=together | {"compiling": 3.0}),
    }
    (tmp_path / "peers.json").write_text(json.dumps({"peers": peers}))
    *rows, _, said = badges.peers_table().splitlines()[2:]
    assert rows == [
        "| **05 PPO** | 3 of 3 | 5,000 | 2.0 | 0.5 | 1.00 | 0.50 |",
        "| rejax (JAX, compiled whole) 1.0 | 3 of 3 | 5,000 | 9.5 | 0.5 | 0.25 | 0.12 |",
    ]
    assert said.partition("the course takes ")[2] == (
        "3.5 CPU seconds (rejax 10.2). One after the other, rejax needs less from 11 trainings in a process on. A hundred seeds side by side take "
        "the course 20 (8 without evaluations, 99 of 100 stopped; one after the other they would take 100), "
        "rejax 20 and 3 for compiling them (8 without evaluations, 99 of 100 stopped; one after the other they would take 25)."
    )
