"""A run: when it stops, what it returns, that it repeats itself, and that it can be stopped anywhere."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import GOOD_DIRECTION, STILL, global_state_untouched, linear_policy, one_sentence, printed, train

from cartpole_lessons import training
from cartpole_lessons.checkpoints import load_checkpoint
from cartpole_lessons.errors import InvalidInput, MissingDependency, RecordingError
from cartpole_lessons.evaluation import HELD_OUT_SEED, evaluate
from cartpole_lessons.training import RESULT_MIME, History, Run


def start_run(**keywords):
    return Run("lesson", **{"seed": 0, "env_id": "CartPole-v1", "max_steps": 10_000, "progress": False, **keywords})


def numbered_training(policy, **keywords):
    """A run in which every update takes 1000 environment steps and writes its number into the policy's weights."""
    updates = 0
    with start_run(**keywords) as run:
        while run.goes_on(policy):
            updates += 1
            with torch.no_grad():
                policy.layer.bias.fill_(updates)
            run.record(env_steps=1_000, returns=[400.0, 600.0], loss=torch.tensor(1 / updates))
    return run.result


def number_of(weights):
    return weights["layer.bias"][0].item()


# When it stops


def test_a_perfect_evaluation_and_its_confirmation_end_the_training(evaluations):
    scripted = evaluations(20, 300, 500, 500, 500)
    result = numbered_training(linear_policy(GOOD_DIRECTION))
    assert result.env_steps == 3_000
    assert result.history.evaluations == [(1_000, 20), (2_000, 300), (3_000, 500)]
    # Three evaluations, the confirmation of the last, and the verdict on what is returned.
    assert len(scripted.seeds) == 5


def test_an_unconfirmed_evaluation_does_not_end_it(evaluations):
    evaluations(500, 499, 500, 400, 500, 500, 500)
    result = numbered_training(linear_policy(GOOD_DIRECTION))
    assert result.env_steps == 3_000


def test_solved_is_not_enough_to_end_it(evaluations):
    evaluations(499.9)
    assert numbered_training(linear_policy(GOOD_DIRECTION)).env_steps == 10_000
    evaluations(480, 500, 400, 300)
    assert numbered_training(linear_policy(GOOD_DIRECTION)).history.evaluations[:2] == [(1_000, 480), (2_000, 500)]


def test_max_steps_end_it_and_the_verdict_is_truthful(evaluations):
    evaluations(100)
    result = numbered_training(linear_policy(GOOD_DIRECTION), max_steps=4_000)
    assert result.env_steps == 4_000
    assert not result.solved
    assert not result.interrupted


def test_the_last_update_is_evaluated_even_if_the_next_evaluation_is_not_due(evaluations):
    evaluations(100)
    result = numbered_training(linear_policy(GOOD_DIRECTION), max_steps=2_500, evaluate_every=1_700)
    assert [step for step, _ in result.history.evaluations] == [2_000, 3_000]


def test_evaluations_are_as_far_apart_as_asked(evaluations):
    evaluations(100)
    result = numbered_training(linear_policy(GOOD_DIRECTION), evaluate_every=2_500)
    assert [step for step, _ in result.history.evaluations] == [3_000, 6_000, 9_000, 10_000]


def test_evaluations_switch_dropout_off_and_training_switches_it_on_again(evaluations):
    scripted = evaluations(100)
    policy = linear_policy(GOOD_DIRECTION).train()
    with start_run(max_steps=2_000) as run:
        while run.goes_on(policy):
            assert policy.training
            run.record(env_steps=1_000)
    assert set(scripted.was_training) == {False}
    assert not run.result.policy.training


# What it returns


def test_the_result_is_the_best_policy_seen(evaluations):
    scripted = evaluations(10, 300, 200, 250, 300, 20, 100)
    result = numbered_training(linear_policy(GOOD_DIRECTION), max_steps=6_000)
    # Of two equally good ones the later, which has learned from more.
    assert number_of(result.policy.state_dict()) == 5
    assert number_of(scripted.weights[-1]) == 5
    assert result.evaluation.mean == 100


def test_the_verdict_comes_from_episodes_that_no_decision_has_seen(evaluations):
    scripted = evaluations(500, 400, 500, 500, 500)
    result = numbered_training(linear_policy(GOOD_DIRECTION))
    assert len(set(scripted.seeds)) == len(scripted.seeds) == 5
    assert result.evaluation.seed == scripted.seeds[-1] != HELD_OUT_SEED


def test_a_history_that_cannot_be_written_names_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="file"):
        History().to_csv(tmp_path / "file" / "history.csv")


def test_other_training_seeds_evaluate_on_other_episodes(evaluations):
    scripted = evaluations(100)
    for seed in range(20):
        numbered_training(linear_policy(GOOD_DIRECTION), seed=seed, max_steps=3_000)
    assert len(set(scripted.seeds)) == len(scripted.seeds) == 20 * 4


def test_a_learner_learns_and_its_result_keeps_the_contract(trained):
    assert trained.solved
    assert trained.evaluation.solved
    assert evaluate(trained.policy).solved
    assert (trained.lesson, trained.env_id, trained.seed) == ("conftest", "CartPole-v1", 3)
    assert trained.hyperparameters == {"episodes": 8, "learning_rate": 0.2, "angle_scale": 5.0}
    assert trained.policy.act(np.zeros((7, 4), dtype=np.float32)).shape == (7,)
    assert trained.policy.act(STILL) in (0, 1)
    assert trained.env_steps == sum(trained.history.episode_returns) == trained.history.episode_ends[-1]
    assert len(trained.history.losses) == len(trained.history.episode_returns) / 8
    assert trained.seconds > 0
    assert not trained.interrupted


def test_version_0_is_judged_by_its_own_threshold():
    result = train(seed=0, env_id="CartPole-v0")
    assert result.evaluation.reward_threshold == 195
    assert result.evaluation.max_episode_steps == 200
    assert result.solved == (result.evaluation.mean >= 195)


def test_a_result_is_one_line_and_its_figures_are_json(trained):
    bundle = trained._repr_mimebundle_()
    assert bundle["text/plain"] == str(trained)
    assert "\n" not in str(trained)
    assert str(trained).startswith("conftest, seed 3: ")
    assert f"{trained.env_steps:,} steps" in str(trained)
    figures = json.loads(json.dumps(bundle[RESULT_MIME]))
    assert figures == trained.summary()
    assert figures["mean_return"] == pytest.approx(trained.evaluation.mean, abs=0.01)
    assert (figures["solved"], figures["env_steps"], figures["seed"]) == (True, trained.env_steps, 3)


@pytest.mark.parametrize("number", [np.int64(1_000), torch.tensor(1_000)], ids=["NumPy", "torch"])
def test_env_steps_may_be_counted_by_numpy_or_torch(evaluations, number):
    evaluations(100)
    policy = linear_policy(GOOD_DIRECTION)
    with start_run(max_steps=3_000) as run:
        while run.goes_on(policy):
            run.record(env_steps=number, returns=torch.tensor([20.0]), loss=np.float32(0.5))
    assert run.result.history.episode_ends == [1_000, 2_000, 3_000]
    assert json.loads(json.dumps(run.result.summary()))["env_steps"] == 3_000
    assert run.result.history.to_csv().splitlines()[1] == "episode_return,1000,20.0"


def test_a_result_saves_itself_with_all_that_rebuilds_it(trained, tmp_path):
    checkpoint = load_checkpoint(trained.save(tmp_path / "policy.npz"))
    assert (checkpoint.lesson, checkpoint.env_id, checkpoint.seed) == ("conftest", "CartPole-v1", 3)
    assert checkpoint.hyperparameters == trained.hyperparameters
    assert checkpoint.mean_return == trained.evaluation.mean


# Its history


def test_episodes_stand_in_the_order_in_which_they_ended(evaluations):
    evaluations(100)
    policy = linear_policy(GOOD_DIRECTION)
    with start_run(max_steps=200) as run:
        while run.goes_on(policy):
            run.record(env_steps=100, returns=[60.0, 40.0, 50.0])
            run.record(env_steps=100, returns=torch.tensor([70.0, 30.0, 20.0]), ends=torch.tensor([90, 30, 30]))
    assert run.result.history.episode_returns == [60, 40, 50, 30, 20, 70]
    assert run.result.history.episode_ends == [100, 100, 100, 130, 130, 190]


@pytest.fixture
def history():
    return History([9.0, 12.5], [8, 20], [(20, 11.0)], {"loss": [(8, 0.25), (20, -1e-9)], "entropy": [(8, 0.5)]})


def test_history_is_written_as_one_table(history, tmp_path):
    text = history.to_csv(tmp_path / "new" / "history.csv")
    assert text.splitlines() == [
        "name,env_step,value",
        "episode_return,8,9.0",
        "episode_return,20,12.5",
        "evaluation,20,11.0",
        "loss,8,0.25",
        "loss,20,-1e-09",
        "entropy,8,0.5",
    ]
    assert (tmp_path / "new" / "history.csv").read_bytes() == text.encode()
    assert history.losses == [(8, 0.25), (20, -1e-9)]
    assert History().losses == []


def test_history_as_a_data_frame_holds_the_same_rows(history):
    frame = history.to_frame()
    assert list(frame.columns) == ["name", "env_step", "value"]
    assert list(frame.itertuples(index=False, name=None)) == history.rows()


def test_without_pandas_the_message_holds_the_command(history, missing):
    missing("pandas")
    with pytest.raises(MissingDependency) as caught:
        history.to_frame()
    one_sentence(caught.value, "`pip install pandas`", "to_csv()")


# That it repeats itself


def test_same_seed_gives_the_same_history_byte_for_byte(capsys):
    first = train(seed=5, max_steps=4_000)
    torch.rand(3), np.random.random()  # noqa: NPY002  (what was drawn before must not matter)
    second = train(seed=5, max_steps=4_000, progress=True)
    assert first.history.to_csv().encode() == second.history.to_csv().encode()
    assert first.evaluation.returns.tolist() == second.evaluation.returns.tolist()
    assert all(map(torch.equal, first.policy.state_dict().values(), second.policy.state_dict().values()))
    assert train(seed=6, max_steps=4_000).history.to_csv() != first.history.to_csv()


def test_global_random_state_and_threads_are_left_alone():
    with global_state_untouched():
        train(seed=0, max_steps=1_000)


def test_they_are_left_alone_when_the_algorithm_fails_too(evaluations, capsys):
    evaluations(20)

    def fail(place, update):
        torch.rand(1)
        return 1 / (3 - update)

    with global_state_untouched(), pytest.raises(ZeroDivisionError):
        interrupted_training(fail, progress=True)


def test_it_trains_on_one_thread():
    policy, threads = linear_policy(GOOD_DIRECTION), []
    with global_state_untouched(), start_run(max_steps=1) as run:
        while run.goes_on(policy):
            threads.append(torch.get_num_threads())
            run.record(env_steps=1)
    assert threads == [1]


# That it can be stopped


def interrupted_training(interrupt, **keywords):
    """A run of five updates, each of which calls `interrupt(place, update)` where Ctrl-C might come."""
    policy = linear_policy(GOOD_DIRECTION)
    with start_run(max_steps=5_000, **keywords) as run:
        interrupt("before the first goes_on", 0)
        update = 0
        while run.goes_on(policy):
            update += 1
            interrupt("collecting", update)
            with torch.no_grad():
                policy.layer.bias.fill_(update)
            interrupt("learning", update)
            run.record(env_steps=1_000, returns=[10.0 * update], loss=0.5)
    return run.result


def interrupt_at(*wanted):
    def interrupt(*here):
        if here == wanted:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize(
    ("place", "update", "best", "env_steps"), [("collecting", 1, 0, 0), ("learning", 1, 1, 0), ("collecting", 4, 2, 3_000), ("learning", 4, 2, 3_000)]
)  # fmt: skip
def test_stopping_returns_the_best_policy_so_far_with_its_history_and_says_so(evaluations, capsys, place, update, best, env_steps):
    evaluations(20, 300, 100, 250)
    with global_state_untouched():
        result = interrupted_training(interrupt_at(place, update))
    assert result.interrupted
    assert number_of(result.policy.state_dict()) == best
    assert result.env_steps == env_steps == (result.history.episode_ends or [0])[-1]
    assert len(result.history.evaluations) == update - 1
    assert not result.policy.training
    said = capsys.readouterr().out
    assert said.startswith("Stopped by you")
    assert str(result) in said


def test_stopping_before_there_is_a_policy_stops(evaluations):
    evaluations(20)
    with global_state_untouched(), pytest.raises(KeyboardInterrupt):
        interrupted_training(interrupt_at("before the first goes_on", 0))


@pytest.mark.parametrize("means", [(KeyboardInterrupt(), 20), (20, 300, KeyboardInterrupt(), 300), (20, 500, KeyboardInterrupt(), 500)])
def test_stopping_during_an_evaluation_or_a_confirmation_returns_what_there_is(evaluations, means):
    evaluations(*means)
    with global_state_untouched():
        result = interrupted_training(lambda place, update: None)
    assert result.interrupted
    assert number_of(result.policy.state_dict()) == len(means) - 2 if len(means) > 2 else True
    assert result.evaluation.mean == means[-1]
    assert result.history.to_csv().count("evaluation") == len(result.history.evaluations)


def test_stopping_during_the_last_evaluation_returns_the_best_policy_too(evaluations, capsys):
    evaluations(20, 500, 500, KeyboardInterrupt(), 480)
    with global_state_untouched():
        result = interrupted_training(lambda place, update: None)
    assert result.interrupted
    assert number_of(result.policy.state_dict()) == 2
    assert result.evaluation.mean == 480
    assert "Stopped by you" in capsys.readouterr().out


def test_stopping_a_second_time_really_stops(evaluations):
    evaluations(20, KeyboardInterrupt())
    with global_state_untouched(), pytest.raises(KeyboardInterrupt):
        interrupted_training(interrupt_at("learning", 2))


def test_stopping_at_any_line_of_the_run_leaves_a_whole_history_and_the_best_policy(evaluations):
    """Ctrl-C comes between any two lines: raise it at the first line that `Run` executes, at the second, and so on."""
    countdown = 0

    def raise_when_due(frame, event, argument):
        nonlocal countdown
        if frame.f_code.co_filename != training.__file__ or frame.f_code.co_name not in ("goes_on", "record", "_evaluate"):
            return None
        if event == "line":
            countdown -= 1
            if countdown == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return raise_when_due

    means = (20, 300, 100, 250, 30, 10)  # of the policies after update 1, 2, ..., and of the result
    tracer, line, results = sys.gettrace(), 0, []
    while not results or results[-1].interrupted:
        scripted = evaluations(*means)
        line += 1
        countdown = line
        try:
            with global_state_untouched():
                sys.settrace(raise_when_due)
                try:
                    result = interrupted_training(lambda place, update: None)
                finally:
                    sys.settrace(tracer)
        except KeyboardInterrupt:
            # Only where there was no policy yet, which is at the first line of the first `goes_on`.
            assert line == 1
            continue
        results.append(result)
        ends = result.history.episode_ends
        assert len(result.history.rows()) == result.history.to_csv().count("\n") - 1
        assert len(ends) == len(result.history.episode_returns)
        assert (ends or [0])[-1] <= result.env_steps
        if result.history.evaluations:
            assert means[int(number_of(scripted.weights[-1])) - 1] >= max(mean for _, mean in result.history.evaluations)
    assert len(results) > 50


def test_stopping_a_cell_in_a_real_kernel_returns_the_best_policy_and_says_so(kernel):
    messages = kernel.run(
        """
        from conftest import LinearPolicy
        from cartpole_lessons.training import Run
        policy = LinearPolicy()
        with Run("endless", seed=0, env_id="CartPole-v1", max_steps=10**12, progress=False) as run:
            while run.goes_on(policy):
                run.record(env_steps=10, returns=[10])
                if run.env_steps == 2_000:
                    print("two evaluations done", flush=True)
        print(run.result.interrupted, len(run.result.history.evaluations) >= 1, run.result.policy is policy)
        """,
        interrupt_at="two evaluations done",
    )
    assert "Stopped by you. This is the best policy so far: endless, seed 0: " in printed(messages)
    assert printed(messages).endswith("True True True\n")
    assert [message for message in messages if message["msg_type"] == "error"] == []


# What it shows meanwhile


def test_a_bar_counts_the_steps_and_is_full_when_solved(evaluations, capsys):
    evaluations(100, 500)
    numbered_training(linear_policy(GOOD_DIRECTION), progress=True)
    bar = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert "lesson, seed 0: 100%" in bar
    assert "2.00k/2.00k" in bar
    assert "mean return 500" in bar


def test_the_widget_of_a_solved_run_is_full_too(kernel):
    messages = kernel.run(
        """
        from cartpole_lessons.training import History, _Progress
        progress = _Progress("agent", total=1_000)
        progress.update(100, History())
        progress.close(History(), solved=True)
        _, widget, figures = progress.bar.container.children
        print(widget.value, widget.max, widget.bar_style, "100/100" in figures.value)
        """
    )
    assert printed(messages) == "100.0 100.0 success True\n", printed(messages, "stderr")


def test_a_bar_of_an_unsolved_run_stays_where_it_stopped(evaluations, capsys):
    evaluations(20)
    interrupted_training(interrupt_at("learning", 3), progress=True)
    captured = capsys.readouterr()
    assert "40%" in captured.err.rstrip().splitlines()[-1]
    assert "Stopped by you" in captured.out


def test_without_progress_it_is_silent(evaluations, capsys):
    evaluations(500)
    numbered_training(linear_policy(GOOD_DIRECTION))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_in_a_notebook_that_nobody_watches_there_is_one_plot_and_no_bar(kernel):
    messages = kernel.run("from conftest import train; _ = train(seed=0, max_steps=3_000, progress=True)", watched=False)
    shown = [message["content"] for message in messages if message["msg_type"] in ("display_data", "update_display_data")]
    assert [list(content["data"]) for content in shown] == [["image/png", "text/plain"]]
    assert printed(messages, "stderr") == ""


def test_in_a_watched_notebook_there_are_a_bar_and_one_plot_that_is_replaced_in_place(kernel):
    messages = kernel.run("from conftest import train; _ = train(seed=0, max_steps=40_000, progress=True)", watched=True)
    plots = [message for message in messages if "image/png" in message["content"].get("data", {})]
    assert [message["msg_type"] for message in plots].count("display_data") == 1
    assert {message["msg_type"] for message in plots[1:]} == {"update_display_data"}
    assert len({message["content"]["transient"]["display_id"] for message in plots}) == 1
    assert printed(messages, "stderr") == ""


# Bad input


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"seed": -1}, "-1"),
        ({"env_id": "CartPole-v7"}, "'CartPole-v7'"),
        ({"max_steps": 0}, "max_steps"),
        ({"evaluate_every": 0}, "evaluate_every"),
    ],
)
def test_bad_arguments_are_named_before_anything_starts(keywords, named, capsys):
    with pytest.raises(InvalidInput) as caught:
        start_run(**{"progress": True, **keywords})
    one_sentence(caught.value, named)
    assert capsys.readouterr().err == ""


def test_a_result_that_is_not_there_yet_is_explained():
    run = start_run()
    with pytest.raises(RuntimeError) as caught:
        _ = run.result
    one_sentence(caught.value, "`with` block")


def test_a_loop_that_forgets_to_ask_is_explained():
    with pytest.raises(RuntimeError) as caught, start_run():
        pass
    one_sentence(caught.value, "run.goes_on(policy)")
