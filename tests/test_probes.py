"""Probes: what is right passes, what is wrong fails and says where to look, and learners that were not written here can be tried."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from cartpole_lessons.algorithms import actor_critic, augmented_random_search, dqn, gaussian_reinforce, policy_gradient, ppo
from cartpole_lessons.bugs import BUGS
from cartpole_lessons.environment import make_env, make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.evaluation import evaluate
from cartpole_lessons.probes import ACTIONS, PROBES, judge, probe
from cartpole_lessons.rollout import StepCollector
from cartpole_lessons.study import read_figures


@pytest.fixture(params=PROBES)
def each(request):
    return PROBES[request.param]


def perfect(each):
    """A policy that knows the answers: of the nearest state, the right action; 0 where it does not matter."""
    states = torch.tensor(each.states)
    answers = torch.tensor([float(each.right.get(state, 0)) for state in range(len(each.states))])

    def act(observations):
        nearest = torch.cdist(torch.as_tensor(observations), states).argmin(-1)
        actions = answers[nearest]
        return actions[:, None].numpy() if each.continuous_only else actions.long().numpy()

    return act


def kind(each):
    return "continuous" if each.continuous_only else "discrete"


def test_whoever_knows_the_answers_passes_and_whoever_does_the_opposite_is_told_where_to_look(each):
    act = perfect(each)
    verdict = judge(act, each, actions=kind(each))
    assert (verdict.passed, verdict.wrong) == (True, [])
    assert str(verdict).startswith("passed")
    wrong = judge(lambda observations: 1 - act(observations) - 2 * each.continuous_only, each, actions=kind(each))
    assert not wrong.passed
    assert str(wrong).startswith("FAILED")
    assert [cause for cause in each.causes if cause not in str(wrong)] == []
    assert "instead of" in wrong._repr_html_()


def discounted(each, action, state, discount, *, limit):
    """What the action is worth in the state, played on for `limit` episodes' ends: who bootstraps goes on where time runs out."""
    reward, following = each.pays[state][action], each.leads[state][action]
    if following < 0 or limit == 0:
        return reward
    return reward + discount * max(discounted(each, other, following, discount, limit=limit - 1) for other in (0, 1))


@pytest.mark.parametrize("discount", [0.95, 0.98, 0.99])
def test_the_right_action_is_worth_more_whatever_the_usual_discount_is(each, discount):
    if each.continuous_only:
        assert each.pays == ((0, 0),)
        return
    for state, right in each.right.items():
        values = [discounted(each, action, state, discount, limit=12) for action in (0, 1)]
        assert values[int(right)] > values[1 - int(right)] + 0.1
    for state, worth in each.worth.items():
        best = max(discounted(each, action, state, discount, limit=12) for action in (0, 1))
        assert best == pytest.approx(worth, abs=0.2)


@pytest.mark.parametrize("actions", ACTIONS)
def test_environments_keep_gymnasiums_rules_and_one_and_many_of_them_are_the_same(each, actions):
    env_id = each.env_id(actions)
    check_env(gym.make(env_id).unwrapped, skip_render_check=True)
    env, envs = make_env(env_id, seed=3, actions=actions), make_envs(env_id, 1, seed=3, actions=actions)
    seen, together = env.reset()[0], envs.reset()[0]
    env.action_space.seed(0)
    for _ in range(30):
        assert np.array_equal(seen, together[0])
        action = env.action_space.sample()
        seen, reward, terminated, truncated, _ = env.step(action)
        together, rewards, ended, stopped, _ = envs.step(np.array([action]))
        assert np.array_equal(seen, together[0])
        assert (reward, terminated, truncated) == (pytest.approx(rewards[0]), ended[0], stopped[0])
        if terminated or truncated:
            seen = env.reset()[0]
            together, rewards, ended, stopped, _ = envs.step(np.array([action]))
            assert (rewards[0], ended[0], stopped[0]) == (0, False, False)


def test_the_step_after_an_end_is_no_experience(each):
    steps = StepCollector(make_envs(each.env_id(), 5, seed=0), 40).collect(
        lambda seen: np.random.default_rng(0).integers(2, size=len(seen))
    )
    done = (steps.terminated | steps.truncated)[:-1]
    assert done.any()
    assert torch.equal(steps.mask[1:], ~done)
    assert steps.rewards[~steps.mask].abs().sum() == 0


@pytest.mark.parametrize(
    ("train", "options"),
    [
        (policy_gradient.train, {"whole_episodes": True, "only": ["observations", "delayed"]}),
        (actor_critic.train, {"only": ["falls", "time_limit", "reset_steps"]}),
        (ppo.train, {"only": ["time_limit"]}),
        (dqn.train, {"only": ["falls", "reset_steps"], "values": lambda result, seen: result.policy(seen).amax(-1)}),
        (gaussian_reinforce.train, {"only": ["force"], "actions": "continuous"}),
        (augmented_random_search.train, {"whole_episodes": True, "only": ["observations"]}),
    ],
    ids=["policy_gradient", "actor_critic", "ppo", "dqn", "gaussian_reinforce", "augmented_random_search"],
)
def test_lessons_pass(train, options, capsys):
    verdicts = probe(train, seed=1, **options)
    assert [verdict.wrong for verdict in verdicts] == [[]] * len(options["only"])
    assert capsys.readouterr().out.count("passed") == len(verdicts)


def test_a_learner_without_a_critic_is_right_to_take_the_sum_and_the_card_says_so(capsys):
    (verdict,) = probe(policy_gradient.train, only=["time_limit"])
    assert not verdict.passed
    assert "whole_episodes=True" in capsys.readouterr().out
    assert probe(policy_gradient.train, only=["time_limit"], whole_episodes=True) == []


def test_the_last_policy_is_judged_and_not_the_one_with_the_most_reward():
    """In `time_limit` whoever takes the sum has the better evaluation, and is wrong."""
    env_id = PROBES["time_limit"].env_id()
    assert evaluate(lambda seen: np.zeros(len(seen), dtype=int), env_id).mean == 3
    assert evaluate(lambda seen: np.ones(len(seen), dtype=int), env_id).mean == 1
    (verdict,) = probe(actor_critic.train, only=["time_limit"])
    assert verdict.answers == {0: 1}


def test_a_value_that_is_not_the_true_one_fails_although_the_action_is_right():
    each = PROBES["two_actions"]
    assert judge(perfect(each), each, values=lambda agent, seen: torch.ones(len(seen))).passed
    for wrong in (4.0, float("nan")):
        verdict = judge(perfect(each), each, values=lambda agent, seen, wrong=wrong: torch.full((len(seen),), wrong))
        assert not verdict.passed
        assert f"values state 0 at {wrong:.3g} instead of 1" in verdict.wrong[0]


class Table:
    """A learner of somebody's own, which looks nothing like the course's: a Q-table by the sign of each number."""

    def __init__(self, env_id, seed, max_steps, nothing_follows_an_end=True):
        self.values, draw = {}, np.random.default_rng(seed)
        env, over = gym.make(env_id), True
        for _ in range(max_steps):
            if over:
                seen, _ = env.reset(seed=int(draw.integers(2**31)))
            action = int(draw.integers(2))
            following, reward, terminated, truncated, _ = env.step(action)
            target = reward + 0.9 * max(self.of(following)) * (not (terminated and nothing_follows_an_end))
            self.of(seen)[action] += 0.2 * (target - self.of(seen)[action])
            seen, over = following, terminated or truncated

    def of(self, observation):
        return self.values.setdefault(tuple(np.sign(observation)), [0.0, 0.0])

    def predict(self, observations, deterministic):
        return np.array([int(np.argmax(self.of(each))) for each in observations]), None


def test_a_learner_of_ones_own_passes_and_fails_where_it_has_a_bug():
    assert all(verdict.passed for verdict in probe(Table, max_steps=2_000))
    wrong = probe(lambda **where: Table(**where, nothing_follows_an_end=False), max_steps=2_000, only=["observations", "falls"])
    assert [verdict.passed for verdict in wrong] == [True, False]


def test_models_of_stable_baselines3_are_probed():
    sb3 = pytest.importorskip("stable_baselines3")

    def learner(env_id, seed, max_steps):
        return sb3.A2C("MlpPolicy", gym.make(env_id), seed=seed, learning_rate=0.01, device="cpu").learn(max_steps)

    assert [verdict.passed for verdict in probe(learner, max_steps=1_500, only=["two_actions"])] == [True]


def test_what_is_no_probe_and_what_is_no_kind_of_action_is_named():
    with pytest.raises(InvalidInput, match="no probe 'jump': there are two_actions"):
        probe(dqn.train, only=["jump"])
    with pytest.raises(InvalidInput, match="actions"):
        probe(dqn.train, actions="both")


#: Bugs that no probe finds on all seeds; lesson 12 says why.
NOT_FOUND = {"zero_grad", "not_detached", "same_object", "episode_epsilon", "misaligned", "reset_steps"}


@pytest.fixture
def published():
    return read_figures("probes")


def test_published_every_learner_passes_all_that_apply_on_all_seeds(published):
    learners = {row: counts for row, counts in published["passed"].items() if row not in BUGS}
    assert len(learners) >= 7
    for row, counts in learners.items():
        assert set(counts.values()) == {published["seeds"]}, row


def test_published_bugs_are_found_on_all_seeds_but_for_those_that_the_lesson_names(published):
    found = {row for row, counts in published["passed"].items() if row in BUGS and 0 in counts.values()}
    assert found == set(BUGS) - NOT_FOUND
