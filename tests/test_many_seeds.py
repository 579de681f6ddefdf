"""Lesson 13's exported algorithm: seeds that learn together learn as if alone."""

import copy
import time

import numpy as np
import pytest
import torch
from conftest import global_state_untouched, one_sentence

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons.algorithms import actor_critic, many_seeds
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork
from cartpole_lessons.checkpoints import load_policy
from cartpole_lessons.environment import make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import Evaluation, evaluate
from cartpole_lessons.rollout import StepCollector, Steps

SEEDS = [7, 0, 123, 3]
#: One matrix and many of them are multiplied by different routines, which add in a different order.
ROUNDING = 1e-5


def learners(seeds, hidden=32, envs_per_seed=2, steps=32):
    """All that training these seeds takes: learners, actors, critics, optimizer, collector."""
    each, actors, critics = many_seeds.new_learners(seeds, hidden)
    optimizer = many_seeds.make_optimizer(actors, critics, 0.01, 0.05)
    envs = many_seeds.make_envs_of_seeds("CartPole-v1", envs_per_seed, [learner.generator for learner in each])
    return each, actors, critics, optimizer, StepCollector(envs, steps)


@course_arithmetic()
def trained_for(updates, seeds):
    """For each update the steps that were collected; and at the end actors and critics."""
    each, actors, critics, optimizer, collector = learners(seeds)
    collected = []
    for _ in range(updates):
        collected.append(many_seeds.collect(collector, actors, [learner.generator for learner in each]))
        many_seeds.update(actors, critics, optimizer, collected[-1], 0.98)
    return collected, actors, critics


@pytest.fixture(scope="module")
def together():
    return many_seeds.train(SEEDS)


@pytest.fixture(scope="module")
def sixty_four():
    """Twenty updates of seeds 0 to 63 in one network."""
    return trained_for(20, range(64))


@pytest.mark.parametrize("seed", [0, 5, 63])
def test_one_seed_alone_and_among_64_learns_the_same(sixty_four, seed):
    collected, actors, critics = sixty_four
    alone, own_actor, own_critic = trained_for(20, [seed])
    for mine, all_of_them in zip(alone, collected, strict=True):
        for name in ("actions", "rewards", "terminated", "truncated", "mask"):
            assert torch.equal(getattr(mine, name), getattr(all_of_them, name)[:, 2 * seed : 2 * seed + 2]), name
        assert torch.equal(mine.observations, all_of_them.observations[:, 2 * seed : 2 * seed + 2])
    for own, shared in ((own_actor, actors), (own_critic, critics)):
        for name, tensor in own.state_dict(0).items():
            assert torch.allclose(tensor, shared.state_dict(seed)[name], atol=ROUNDING), name


def test_seeds_in_another_order_learn_the_same(sixty_four):
    _, actors, critics = sixty_four
    order = np.random.default_rng(0).permutation(64).tolist()
    _, other_actors, other_critics = trained_for(20, order)
    for shared, other in ((actors, other_actors), (critics, other_critics)):
        for name in shared.parameters:
            assert torch.allclose(shared.parameters[name][order], other.parameters[name], atol=ROUNDING), name


def test_different_seeds_learn_differently(sixty_four):
    for weights in sixty_four[1].parameters.values():
        assert len(weights.flatten(1).unique(dim=0)) == 64


def test_seeds_that_leave_do_not_change_what_the_others_learn(together):
    finished = {result.env_steps for result in together}
    assert len(finished) > 1, "some seed has to leave before another"
    for result in together:
        alone = many_seeds.train(result.seed)
        # Rounding may separate the two in the end, but not in the first episodes.
        assert alone.history.episode_returns[:20] == result.history.episode_returns[:20]
        assert alone.history.evaluations[0] == result.history.evaluations[0]
        assert alone.solved == result.solved


def test_leaving_keeps_parameters_and_adams_averages_of_the_others():
    each, actors, critics, optimizer, collector = learners(range(4))
    steps = many_seeds.collect(collector, actors, [learner.generator for learner in each])
    many_seeds.update(actors, critics, optimizer, steps, 0.98)
    fewer_actors, fewer_critics, fewer = many_seeds.only([3, 1], actors, critics, optimizer)
    for name, weights in fewer_actors.parameters.items():
        assert torch.equal(weights, actors.parameters[name][[3, 1]])
        state, old = fewer.state[weights], optimizer.state[actors.parameters[name]]
        assert torch.equal(state["exp_avg"], old["exp_avg"][[3, 1]])
        assert torch.equal(state["exp_avg_sq"], old["exp_avg_sq"][[3, 1]])
        assert state["step"] == old["step"]
    assert [group["lr"] for group in fewer.param_groups] == [0.01, 0.05]
    assert len(fewer_critics.parameters["layers.0.weight"]) == 2


def test_starts_come_from_each_seeds_own_generator():
    envs = many_seeds.make_envs_of_seeds("CartPole-v1", 3, [np.random.default_rng(5), np.random.default_rng(6)])
    observations, _ = envs.reset()
    for number, seed in enumerate((5, 6)):
        alone, _ = make_envs("CartPole-v1", 3, seed=seed).reset()
        assert np.array_equal(observations[3 * number : 3 * number + 3], alone)


@pytest.mark.parametrize("seeds", [1, 2])
def test_two_environments_that_fall_together_start_as_if_others_were_there(seeds):
    envs = many_seeds.make_envs_of_seeds("CartPole-v1", 2, [np.random.default_rng(seed) for seed in range(seeds)])
    envs.reset()
    expected = np.random.default_rng(0)
    expected.uniform(size=(4, 2))
    envs.state[2, :2] = 1.0  # far beyond the angle at which an episode ends
    for _ in range(2):
        observations, *_ = envs.step(np.zeros(2 * seeds, dtype=np.int64))
    starts = [expected.uniform(-0.05, 0.05, 4) for _ in range(2)]
    assert np.array_equal(observations[:2], np.array(starts, dtype=np.float32))


def test_a_stack_says_what_its_networks_say():
    actors = [PolicyNetwork(hidden=8) for _ in range(5)]
    critics = [actor_critic.Critic(hidden=8) for _ in range(5)]
    observations = torch.randn(5, 3, 4)
    for networks, shape in ((actors, (5, 3, 2)), (critics, (5, 3))):
        stack = many_seeds.Stack(networks)
        said = stack(observations)
        assert said.shape == shape
        for row, network, seen in zip(said, networks, observations, strict=True):
            assert torch.allclose(row, network(seen), atol=ROUNDING)
        assert torch.equal(stack.only([4, 2])(observations[[4, 2]]), stack(observations)[[4, 2]])
        network.load_state_dict(stack.state_dict(1))
        assert torch.equal(network(observations), networks[1](observations))


def test_preferences_are_the_difference_of_the_logits():
    stack = many_seeds.Stack([PolicyNetwork(hidden=16, angle_scale=3.0) for _ in range(4)])
    observations = torch.randn(4, 7, 4)
    logits = stack(observations)
    assert torch.allclose(many_seeds.preferences(stack)(observations), logits[..., 1] - logits[..., 0], atol=1e-4)


def test_actions_are_drawn_with_the_policys_probability():
    each, actors, _, _, collector = learners([4], envs_per_seed=500, steps=1)
    steps = many_seeds.collect(collector, actors, [each[0].generator])
    likely = actors(steps.observations[:1])[0].softmax(-1)[:, 1].mean().item()
    assert steps.actions.float().mean().item() == pytest.approx(likely, abs=4 * (0.25 / 500) ** 0.5)


def test_an_update_is_that_of_lesson_04_for_every_seed():
    each, actors, critics, optimizer, collector = learners(SEEDS, envs_per_seed=4, steps=64)
    steps = many_seeds.collect(collector, actors, [learner.generator for learner in each])
    assert not steps.mask.all(), "there has to be a reset step that must not count"
    reference = []
    for number in range(len(SEEDS)):
        actor, critic = copy.deepcopy(actors.network), copy.deepcopy(critics.network)
        actor.load_state_dict(actors.state_dict(number))
        critic.load_state_dict(critics.state_dict(number))
        groups = [{"params": actor.parameters(), "lr": 0.01}, {"params": critic.parameters(), "lr": 0.05}]
        own = slice(4 * number, 4 * number + 4)
        tensors = {name: tensor[:, own] for name, tensor in vars(steps).items() if isinstance(tensor, torch.Tensor)}
        own_steps = Steps(**tensors, returns=[], ends=[])
        losses = actor_critic.update(actor, critic, torch.optim.Adam(groups), own_steps, discount=0.98, entropy_bonus=0.0)
        reference.append((actor, critic, losses))
    losses = many_seeds.update(actors, critics, optimizer, steps, 0.98)
    for number, (actor, critic, own_losses) in enumerate(reference):
        assert losses["loss"][number].item() == pytest.approx(own_losses["loss"].item(), abs=1e-4)
        assert losses["critic_loss"][number].item() == pytest.approx(own_losses["critic_loss"].item(), rel=1e-4)
        for stack, network in ((actors, actor), (critics, critic)):
            for name, weights in network.named_parameters():
                gradient = stack.parameters[name].grad[number]
                assert torch.allclose(gradient, weights.grad, rtol=1e-3, atol=1e-4), name
                # Adam's first step is a full one, whatever the gradient's size: where that is rounding, the sign may be, too.
                apart = (stack.parameters[name][number] - weights).abs() > 1e-4
                assert apart.float().mean() < 0.02, name


def test_advantages_of_each_seed_are_normalised_over_its_real_steps():
    values = torch.tensor([[1.0, 2.0, 3.0, 99.0], [5.0, 5.0, 5.0, 5.0]])
    real = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    normalised = many_seeds.normalise_each(values, real / real.mean(1, keepdim=True))
    assert normalised[0, :3].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5], abs=1e-5)
    assert normalised[1].tolist() == [0, 0, 0, 0]


def test_evaluations_are_those_of_evaluate():
    networks = [PolicyNetwork(hidden=8).eval() for _ in range(3)]
    together = many_seeds.evaluate_each(many_seeds.Stack(networks), [4, 5, 6], "CartPole-v0", episodes=20)
    for seed, network, evaluation in zip((4, 5, 6), networks, together, strict=True):
        alone = evaluate(network, "CartPole-v0", episodes=20, seed=seed)
        assert np.array_equal(evaluation.returns, alone.returns)
        assert (evaluation.seed, evaluation.env_id, evaluation.reward_threshold) == (seed, "CartPole-v0", alone.reward_threshold)


def test_a_seed_is_done_when_its_evaluation_is_perfect_and_confirmed(monkeypatch):
    each, actors, *_ = learners([5, 6, 7])
    evaluations = {
        ("evaluation", 5): 500,
        ("evaluation", 6): 499,
        ("evaluation", 7): 500,
        ("confirmation", 5): 499,
        ("confirmation", 7): 500,
    }
    asked = []

    def scripted(stack, seeds, env_id, episodes=100):
        purpose = "evaluation" if episodes == 16 else "confirmation"
        by_seed = {many_seeds.derive_seed(learner.seed, purpose, learner.env_steps): learner.seed for learner in each}
        asked.append([by_seed[seed] for seed in seeds])
        assert len(stack.buffers["scale"]) == len(seeds)
        means = [evaluations[purpose, by_seed[seed]] for seed in seeds]
        return [Evaluation(env_id, 0, np.full(episodes, float(mean)), 475.0, 500) for mean in means]

    monkeypatch.setattr(many_seeds, "evaluate_each", scripted)
    assert many_seeds.judge(each, actors, "CartPole-v1") == [2]
    assert asked == [[5, 6, 7], [5, 7]]
    assert [learner.best_mean for learner in each] == [500, 499, 500]
    evaluations["evaluation", 6] = evaluations["evaluation", 7] = evaluations["evaluation", 5] = 100
    best = each[0].best_state
    assert many_seeds.judge(each, actors, "CartPole-v1") == []
    assert each[0].best_state is best
    assert each[0].history.evaluations == [(0, 500), (0, 100)]


def test_histories_count_real_steps_and_whole_episodes():
    each, actors, _, _, collector = learners(range(3), steps=200)
    steps = many_seeds.collect(collector, actors, [learner.generator for learner in each])
    many_seeds.record(each, steps, {"loss": torch.tensor([1.0, 2.0, 3.0])})
    for number, learner in enumerate(each):
        own = slice(2 * number, 2 * number + 2)
        mask, done = steps.mask[:, own], (steps.terminated | steps.truncated)[:, own]
        assert learner.env_steps == mask.sum()
        assert len(learner.history.episode_returns) == done.sum() > 0
        taken = mask.sum(1).cumsum(0)
        assert learner.history.episode_ends == [taken[step].item() for step, _ in done.nonzero().tolist()]
        unfinished = sum(int(mask[done[:, env].nonzero()[-1] + 1 :, env].sum()) for env in range(2) if done[:, env].any())
        assert sum(learner.history.episode_returns) == learner.env_steps - unfinished
        assert learner.history.metrics == {"loss": [(learner.env_steps, number + 1.0)]}


def test_cartpole_is_solved_by_every_seed(together):
    assert [result.seed for result in together] == SEEDS
    for result in together:
        assert result.solved
        assert evaluate(result.policy, seed=777).solved
        assert result.evaluation.returns.shape == (100,)
        assert result.history.evaluation_episodes == 16
        assert len(result.history.evaluations) >= 1
        assert 0 < result.env_steps == result.history.losses[-1][0]


def test_results_are_judged_as_evaluate_would(together):
    result = together[0]
    assert evaluate(result.policy, seed=result.evaluation.seed).mean == pytest.approx(result.evaluation.mean, abs=1)


def test_a_policy_is_a_network_of_its_own(together, tmp_path):
    observations = torch.randn(10, 4)
    first, second = (result.policy for result in together[:2])
    assert first.act(observations).shape == (10,)
    assert isinstance(first.act(np.zeros(4, dtype=np.float32)).item(), int)
    assert not torch.equal(first(observations), second(observations))
    path = together[0].save(tmp_path / "seed7.npz")
    assert torch.equal(load_policy(path, PolicyNetwork)(observations), first(observations))


def test_same_seeds_give_the_same_histories_byte_for_byte():
    first, second = (many_seeds.train(range(3), max_steps=2_000) for _ in range(2))
    assert [result.history.to_csv() for result in first] == [result.history.to_csv() for result in second]
    assert set(first[0].history.metrics) == {"loss", "critic_loss"}


def test_one_seed_gives_one_result_and_a_list_of_one_a_list():
    result = many_seeds.train(5, max_steps=64)
    (same,) = many_seeds.train([np.int64(5)], max_steps=64)
    assert result.history.to_csv() == same.history.to_csv()
    assert (result.lesson, result.seed, same.seed, result.interrupted) == ("many_seeds", 5, 5, False)


@pytest.mark.parametrize(("max_steps", "updates"), [(64, 1), (65, 2), (1_500, 24)])
def test_training_ends_after_max_steps_of_each_seed(max_steps, updates):
    for result in many_seeds.train(range(2), max_steps=max_steps):
        assert len(result.history.losses) == updates
        assert len(result.history.evaluations) == -(-updates // 16)
        assert updates * 64 * 0.8 < result.env_steps <= updates * 64


def test_seconds_of_a_seed_are_those_that_its_train_took(together):
    started = time.perf_counter()
    result = many_seeds.train(7)
    assert 0.5 * (time.perf_counter() - started) < result.seconds <= time.perf_counter() - started
    by_seconds = sorted(together, key=lambda each: each.seconds)
    updates = [len(each.history.losses) for each in by_seconds]
    assert updates == sorted(updates)


def test_global_state_is_left_alone():
    with global_state_untouched():
        many_seeds.train(range(2), max_steps=200)


def test_ctrl_c_returns_the_best_policies_so_far(monkeypatch, capsys):
    calls = []
    original = many_seeds.update

    def update(*parts):
        calls.append(None)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return original(*parts)

    monkeypatch.setattr(many_seeds, "update", update)
    results = many_seeds.train(range(3))
    left = [result for result in results if result.interrupted]
    assert f"{len(left)} of 3 seeds" in one_sentence(capsys.readouterr().out.strip())
    for result in left:
        best = many_seeds.evaluate_each(many_seeds.Stack([result.policy]), [result.evaluation.seed])
        assert best[0].mean == pytest.approx(result.evaluation.mean, abs=1)
        assert len(result.history.evaluations) == 1
        assert result.seconds > 0
        assert len(result.history.to_csv()) > 100


def test_what_a_notebook_has_set_of_torch_changes_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        result = many_seeds.train(5, max_steps=64)
    finally:
        torch.set_default_dtype(torch.float32)
    assert result.history.to_csv() == many_seeds.train(5, max_steps=64).history.to_csv()


@pytest.mark.parametrize(
    ("seeds", "keywords", "named"),
    [
        ([], {}, "range(64)"),
        ([1, 2, 1], {}, "[1, 2, 1]"),
        (range(10**9), {}, "4,096"),
        ([1, -2], {}, "-2"),
        ("abc", {}, "'a'"),
        (0.5, {}, "0.5"),
        (0, {"env_id": "Pendulum-v1"}, "Pendulum-v1"),
        (0, {"env_id": "cartpole_lessons/ContinuousCartPole-v0"}, "discrete"),
        (0, {"num_envs": "x"}, "num_envs"),
        (0, {"max_steps": 0}, "max_steps"),
        (0, {"progress": "yes"}, "progress"),
        (0, {"device": "abacus"}, "abacus"),
    ],
)
def test_bad_arguments_get_one_sentence(seeds, keywords, named):
    with pytest.raises(InvalidInput) as caught:
        many_seeds.train(seeds, **keywords)
    one_sentence(caught.value, named)
