"""The game in the page: its physics is Gymnasium's in every bit, its networks are torch's, and whatever it cannot play is refused."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from importlib.resources import files

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import one_sentence
from PIL import Image
from scipy.stats import mannwhitneyu

from cartpole_lessons.algorithms import (
    actor_critic,
    augmented_random_search,
    better_dqn,
    dqn,
    gaussian_reinforce,
    hand_made,
    learned_model,
    policy_gradient,
    reinforce,
)
from cartpole_lessons.environment import make_env, make_envs
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.rollout import collect_episodes
from cartpole_lessons.swing_up import SWING_UP
from cartpole_lessons.widgets import (
    ComparePair,
    CountSeeds,
    ExploreCartPole,
    PlayCartPole,
    ReplayCartPole,
    TuneCartPole,
    _outputs,
    network_of,
)

MODULE = files("cartpole_lessons.widgets").joinpath("cartpole.js")
with_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def node(script, given):
    """What a script of JavaScript answers, in JSON; `game` is the module, `given` the input."""
    code = f"const game = require({json.dumps(str(MODULE))}); const given = JSON.parse(require('fs').readFileSync(0)); {script}"
    done = subprocess.run(["node", "-e", code], input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_python_has_the_episodes_that_the_page_tells_of_and_ignores_nonsense():
    game = PlayCartPole()
    with pytest.raises(InvalidInput, match="anywidget"):
        game.episodes()
    game.options["game"] = "as if somebody watched"
    with pytest.raises(InvalidInput, match="No episode"):
        game.episodes()
    start = [0.01, -0.02, 0.03, 0.01]
    heard = [
        {"start": start, "pushes": pushes} for pushes in ([1] * 10, [-1, 1] * 9 + [-1] * 30, [1] * 3)
    ]  # the last two are no whole episodes
    for content in [{}, {"start": "x", "pushes": [1]}, {"start": [1, 2], "pushes": [1]}, {"start": start, "pushes": 7}, *heard]:
        game.hear(content)
    played = game.episodes()
    assert played.lengths.tolist() == played.returns.tolist() == [10]
    assert played.terminated.tolist() == [True]
    assert played.observations[0, 0].tolist() == np.float32(start).tolist()
    # Two of different lengths stand side by side.
    env = make_env(seed=0)
    first = env.reset()[0]
    start, pushes, over = env.unwrapped.state.tolist(), [], False
    observation = first
    while not over:
        pushes.append(1 if observation @ [1, 2, 30, 8] > 0 else -1)
        observation, _, terminated, truncated, _ = env.step(int(pushes[-1] > 0))
        over = terminated or truncated
    game.hear({"start": start, "pushes": pushes})
    played = game.episodes()
    assert played.lengths.tolist() == [10, 500]
    assert played.truncated.tolist() == [False, True]
    np.testing.assert_array_equal(played.actions[:, 1] * 2 - 1, pushes)
    np.testing.assert_array_equal(played.observations[0, 1], first)


@with_node
@pytest.mark.parametrize("balanced", [True, False])
def test_the_physics_is_gymnasiums_in_every_bit_of_every_observation(balanced):
    env = gym.make("CartPole-v1", max_episode_steps=10_000).unwrapped
    rng = np.random.default_rng(0)
    starts, pushes, seen = [], [], []
    while sum(map(len, pushes)) < 50_000:
        observation, _ = env.reset(seed=len(starts))
        starts.append(env.state.tolist())
        pushes.append([])
        over = False
        while not over and len(pushes[-1]) < 10_000:
            action = int(observation @ [1, 2, 30, 8] > 0) if balanced else int(rng.integers(2))
            observation, _, over, _, _ = env.step(action)
            pushes[-1].append(2 * action - 1)
            seen.append(observation)
    script = """
        const seen = [];
        given.starts.forEach((start, i) => {
            let state = start;
            given.pushes[i].forEach((push, k) => {
                state = game.step(state, 10 * push);
                seen.push(game.observed(state));
                if (game.fallen(state) !== (k === given.pushes[i].length - 1 && given.falls)) throw new Error("falls elsewhere");
            });
        });
        console.log(JSON.stringify(seen));"""
    answered = node(script, {"starts": starts, "pushes": pushes, "falls": not balanced})
    np.testing.assert_array_equal(np.array(answered, dtype=np.float32), np.array(seen))


def stirred(policy):
    """Its weights drawn at random, where it begins with zeros."""
    for weights in policy.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return policy


def dead_outputs():
    network = better_dqn.QNetwork()
    torch.nn.init.zeros_(network.layers[-1].weight)
    return network


POLICIES = {
    "policy_gradient": policy_gradient.PolicyNetwork,
    "reinforce": lambda: reinforce.PolicyNetwork().eval(),
    "dqn": dqn.QNetwork,
    "better_dqn": lambda: better_dqn.QNetwork(dueling=False),
    "dueling": better_dqn.QNetwork,
    "critic": actor_critic.Critic,
    "dead outputs": dead_outputs,
    "hand_made": lambda: hand_made.LinearPolicy([1.0, 2.0, 30.0, 8.0]),
    "hand_made, continuous": lambda: hand_made.LinearPolicy([1.0, 2.0, 30.0, 8.0], continuous=True),
    "gaussian": lambda: stirred(gaussian_reinforce.GaussianPolicy()),
    "gaussian, not trained": gaussian_reinforce.GaussianPolicy,
    "gaussian, hidden": lambda: stirred(gaussian_reinforce.GaussianPolicy(hidden=16)),
    "random search": lambda: stirred(augmented_random_search.LinearPolicy(continuous=False)),
    "random search, continuous": lambda: stirred(augmented_random_search.LinearPolicy()),
}


@with_node
@pytest.mark.parametrize("name", POLICIES)
def test_networks_run_in_the_page_as_they_do_in_torch(name):
    torch.manual_seed(0)
    policy = POLICIES[name]()
    observations = torch.randn(200, 4)
    script = "console.log(JSON.stringify(given.observations.map((seen) => [game.outputs(given.network, seen), game.pushOf(given.network, seen)])));"
    answered = node(script, {"network": network_of(policy), "observations": observations.tolist()})
    if "continuous" in name or "gaussian" in name:
        pushes = policy.act(observations)[:, 0].clamp(-1, 1)
        assert (pushes.unique().numel() > 20) != ("not trained" in name)
        np.testing.assert_allclose([row[1] for row in answered], pushes, rtol=1e-5, atol=1e-6)
        return
    with torch.no_grad():
        said = policy(observations).reshape(200, -1).double()
    np.testing.assert_allclose([row[0] for row in answered], said, rtol=1e-4, atol=1e-5)
    if name == "critic":
        return
    sure = (said[:, -1] - (said[:, 0] if said.shape[1] == 2 else 0)).abs() > 1e-5
    pushes = 2 * policy.act(observations.numpy()) - 1
    assert [row[1] for row, is_sure in zip(answered, sure, strict=True) if is_sure] == pushes[sure.numpy()].tolist()


def test_what_cannot_play_in_the_page_is_refused():
    wide = policy_gradient.PolicyNetwork(hidden=20_000)
    odd = policy_gradient.PolicyNetwork()
    odd.layers.append(torch.nn.Sigmoid())

    class Bent(policy_gradient.PolicyNetwork):
        def forward(self, observations):
            return super().forward(observations) ** 2

    three = policy_gradient.PolicyNetwork()
    three.layers[-1] = torch.nn.Linear(64, 3)
    tanh = policy_gradient.PolicyNetwork()
    tanh.layers.append(torch.nn.Tanh())
    lost = actor_critic.Critic()
    torch.nn.init.constant_(lost.layers[0].bias, float("nan"))
    bent_force = gaussian_reinforce.GaussianPolicy()
    bent_force.actions = lambda observations, deterministic: observations[:, :1] ** 2
    two_forces = gaussian_reinforce.GaussianPolicy()
    two_forces.actions = lambda observations, deterministic: observations[:, :2]
    for policy in (
        torch.nn.Bilinear(4, 4, 2),
        lambda seen: 0,
        lost,
        wide,
        odd,
        Bent(),
        three,
        tanh,
        bent_force,
        two_forces,
        learned_model.WorldModel(),
    ):
        with pytest.raises(InvalidInput):
            PlayCartPole(opponent=policy)


def test_a_page_needs_nothing_else_and_runs_no_name():
    game = PlayCartPole(policy_gradient.PolicyNetwork(), name="</script><b>me")
    page = game.to_page()
    assert "://" not in page
    assert page.count("</script>") == 1
    shown = game._repr_mimebundle_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', shown["text/html"])
    assert html.unescape(inside) == page
    assert "notebook" in shown["text/plain"]
    assert len(MODULE.read_bytes()) < 40_000


def test_the_map_shows_as_a_page_of_its_own_and_refuses_what_cannot_run_there():
    bundle = ExploreCartPole(dqn.QNetwork(), name="</script>")._repr_mimebundle_()
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', bundle["text/html"])[1])
    assert "explore(game, " in page
    assert page.count("</script>") == 1
    assert re.findall(r"https?://", page) == []
    assert "it needs a notebook that shows HTML" in bundle["text/plain"]
    with pytest.raises(InvalidInput, match="cannot play in the page"):
        ExploreCartPole(torch.nn.Bilinear(4, 4, 2))
    network = dqn.QNetwork()
    for policies, values in (
        ({}, None),
        ({"early": network}, {"late": network}),
        ({"early": network}, network),
        (network, {"early": network}),
    ):
        with pytest.raises(InvalidInput) as caught:
            ExploreCartPole(policies, value=values)
        one_sentence(caught.value, "by the same names")


def test_stages_of_a_training_stand_in_their_order_with_their_values():
    early, late = policy_gradient.PolicyNetwork(), policy_gradient.PolicyNetwork()
    critic = actor_critic.Critic()
    stages = ExploreCartPole({"20": early, "3": late}, value={"3": critic, "20": critic}).options["stages"]
    assert [stage["label"] for stage in stages] == ["20", "3"]
    assert [stage["policy"] for stage in stages] == [network_of(early), network_of(late)]
    assert [stage["value"] for stage in stages] == [network_of(critic)] * 2


WIDGETS = {
    "play": PlayCartPole,
    "race": lambda: PlayCartPole(policy_gradient.PolicyNetwork()),
    "explore": lambda: ExploreCartPole(dqn.QNetwork()),
    "force": lambda: ExploreCartPole(stirred(gaussian_reinforce.GaussianPolicy())),
    "tune": TuneCartPole,
    "replay": lambda: ReplayCartPole([[0.0, 0.0, 0.1, 0.0]] * 3, [0, 1, 0]),
    "seeds": lambda: CountSeeds({"A, B": ([1.0, 2.0, float("inf")], [2.0, 4.0])}),
    "pair": lambda: ComparePair([[0.0, 0.0, 0.1, 0.0]] * 3, [[1.0, 0.0, 3.0, 0.0]] * 4),
}


@pytest.mark.parametrize("name", WIDGETS)
def test_a_small_picture_is_there_for_readers_who_do_not_see_the_page(name):
    """On GitHub, which takes frames, scripts and styles out; where none of that happens a style sheet hides it."""
    widget = WIDGETS[name]()
    shown = widget._repr_mimebundle_()["text/html"]
    assert shown.endswith(widget.to_html())
    assert shown.startswith("<style>.cartpole-still { display: none; }</style><figure class=")
    png = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    assert len(png) < 5_000
    picture = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    assert picture.shape[:2] == {"race": (300, 640), "pair": (300, 640)}.get(
        name, (260, 260) if name in ("explore", "force", "seeds") else (150, 640)
    )
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > (1 if name == "seeds" else 3)
    assert html.escape(repr(widget)) in shown


@with_node
def test_the_picture_of_a_map_is_that_of_the_page():
    torch.manual_seed(0)
    network = network_of(policy_gradient.PolicyNetwork())
    observations = torch.randn(20, 4).tolist()
    said = node(
        "console.log(JSON.stringify(given.seen.map((seen) => game.outputs(given.network, seen))))",
        {"network": network, "seen": observations},
    )
    np.testing.assert_allclose(_outputs(network, np.array(observations)), said, rtol=1e-6)
    # To the right is the pole that leans to the right, and there this rule pushes to the right.
    rule = ExploreCartPole(hand_made.LinearPolicy([0.0, 0.0, 1.0, 0.0], continuous=True))
    left, right = np.array(rule._picture())[130, [0, -1]].astype(int)
    assert left[2] > left[0]
    assert right[0] > right[2]


@with_node
def test_other_worlds_obey_gymnasiums_physics_too():
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    env.force_mag, env.length, env.masspole = 4.0, 1.2, 0.3
    env.total_mass, env.polemass_length = env.masspole + env.masscart, env.masspole * env.length
    start, states = env.state.tolist(), []
    for action in (0, 1, 1, 0, 1):
        env.step(action)
        states.append([*env.state])
    script = """
        let state = given.start;
        const states = given.pushes.map((push) => state = game.step(state, push * 4, { mass: 0.3, half: 1.2 }));
        console.log(JSON.stringify(states));"""
    np.testing.assert_allclose(node(script, {"start": start, "pushes": [-1, 1, 1, -1, 1]}), states, rtol=1e-12)


@with_node
def test_what_a_rule_reaches_is_what_lesson_01_computes():
    A, B = hand_made.linearised_dynamics()
    rules = [(0, 0, 0, 0), (0, 0, 100, 0), (0, 0, 100, 50), (5, 10, 100, 50), (-5, -10, 100, 50), (0.9, 2.1, 30.6, 7.8), (0, 0, -50, 0)]
    radii = [np.abs(np.linalg.eigvals(A + np.outer(B, gains))).max() for gains in rules]
    np.testing.assert_allclose(node("console.log(JSON.stringify(given.map(game.growth)))", rules), radii, atol=1e-3)

    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    start, lasts = (0.05, 0.0, 0.03, 0.0), []
    for gains in rules:
        state, steps = np.array(start), 0
        while steps < 500 and abs(state[0]) <= env.x_threshold and abs(state[2]) <= env.theta_threshold_radians:
            env.state, env.force_mag = state, np.clip(np.dot(gains, state), -10, 10)
            env.steps_beyond_terminated = None
            env.step(1)
            state, steps = np.array(env.state), steps + 1
        lasts.append(steps)
    assert (
        node("console.log(JSON.stringify(given.rules.map((gains) => game.stands(gains, given.start))))", {"rules": rules, "start": start})
        == lasts
    )
    assert {min(lasts), max(lasts)} == {lasts[6], 500}


@pytest.mark.parametrize("gains", [(1, 2, 3), "abcd", (1, 2, 3, float("nan")), None, (1, 2, 3, "x")])
def test_a_rule_has_four_gains(gains):
    with pytest.raises(InvalidInput, match="four gains"):
        TuneCartPole(gains)


# Replays


def moments(replay):
    """What the page will show of each moment."""
    return np.array(node("console.log(JSON.stringify(game.moments(given)))", replay.options["film"]))


@with_node
@pytest.mark.parametrize("env_id", ["CartPole-v1", "cartpole_lessons/ContinuousCartPole-v0", SWING_UP])
def test_a_replay_shows_what_was_seen_and_done(env_id):
    rng = np.random.default_rng(0)
    act = (
        (lambda seen: rng.integers(2, size=len(seen)))
        if env_id == "CartPole-v1"
        else (lambda seen: rng.uniform(-1, 1, (len(seen), 1)).astype("f4"))
    )
    played = collect_episodes(make_envs(env_id, 3, seed=0), act)
    for number, length in enumerate(played.lengths):
        rows = moments(ReplayCartPole(played, episode=number))
        assert rows.shape == (length, 5)
        seen, pushes = played.observations[:length, number].numpy(), played.actions[:length, number].reshape(-1).numpy()
        # Half of a 32,767th of the largest is as near as two bytes can come, and under a pixel.
        np.testing.assert_allclose(rows[:, :4], seen, rtol=0, atol=1.01 * np.abs(seen).max() / 65_534)
        np.testing.assert_allclose(rows[:, 4], 2 * pushes - 1 if env_id == "CartPole-v1" else pushes, atol=1e-4)


@with_node
def test_a_replay_takes_observations_alone_one_more_than_actions_and_numbers_that_are_all_zero():
    seen = [[0.0, -1.0, 0.1, 2.0], [0.0, 1.0, 0.2, 1.0], [0.0, 0.5, -0.3, 0.0]]
    np.testing.assert_allclose(moments(ReplayCartPole(torch.tensor(seen, requires_grad=True))), seen, atol=1e-4)
    for actions in ([0, 1], [[-1.0], [1.0]], np.array([False, True])):
        np.testing.assert_allclose(moments(ReplayCartPole(seen, actions))[:, 4], [-1, 1, 0])


def test_a_replay_is_small():
    assert len(ReplayCartPole(np.random.default_rng(0).normal(size=(501, 4)), [0, 1] * 250).options["film"]["rows"]) < 7_000


@pytest.mark.parametrize(
    ("played", "keywords", "word"),
    [
        ("a film", {}, "Episodes"),
        (None, {}, "four numbers"),
        ([[1, 2, 3]], {}, "four numbers"),
        (np.zeros((0, 4)), {}, "four numbers"),
        (np.zeros((10_001, 4)), {}, "10,000"),
        (np.full((5, 4), np.nan), {}, "infinite"),
        (np.zeros((5, 4)), {"actions": [0, 1]}, "one push for each step"),
        (np.zeros((2, 4)), {"actions": np.zeros((2, 2))}, "one push for each step"),
        (np.zeros((2, 4)), {"actions": 1}, "one push for each step"),
        (np.zeros((2, 4)), {"actions": ["left", "right"]}, "another environment"),
        (np.zeros((2, 4)), {"actions": [0, 2]}, "another environment"),
        (np.zeros((2, 4)), {"speed": 0}, "speed"),
        ("episodes", {"episode": 2}, "These are 2 episodes"),
        ("episodes", {"episode": -1}, "These are 2 episodes"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_sentence(played, keywords, word):
    if isinstance(played, str) and played == "episodes":
        played = collect_episodes(make_envs(num_envs=2, seed=0), lambda seen: np.ones(len(seen), dtype=int))
    with pytest.raises(InvalidInput) as caught:
        ReplayCartPole(played, **keywords)
    one_sentence(caught.value, word)


def test_a_pair_is_compared_and_python_has_the_answer():
    pair = ComparePair(np.zeros((25, 4)), np.ones((9, 4)))
    assert "compare(game, " in pair.to_page()
    with pytest.raises(InvalidInput, match="anywidget"):
        _ = pair.answer
    for content in ({}, {"better": "both"}, {"better": ["left"]}):
        pair.hear(content)
    with pytest.raises(InvalidInput, match="anywidget"):
        _ = pair.answer
    for answer in ("right", "left"):
        pair.hear({"better": answer})
        assert pair.answer == answer
    with pytest.raises(InvalidInput, match="four numbers"):
        ComparePair(np.zeros((25, 4)), np.zeros((2, 25, 4)))


# Studies


@with_node
@pytest.mark.parametrize("seeds", [2, 3, 5, 20, 50])
def test_a_study_in_the_page_tells_apart_what_scipy_does(seeds):
    rng = np.random.default_rng(seeds)
    studies = [rng.gamma(4, 1_000 * scale, seeds).round(-2) for scale in np.repeat([1.0, 1.0, 1.4, 3.0], 50)]
    ones, others = np.array(studies), rng.gamma(4, 1_000, (len(studies), seeds)).round(-2)
    ones[::3, 0] = others[::3, -1] = 1e9  # as many seeds have failed on both sides, which is a tie
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = mannwhitneyu(ones, others, axis=1, method="asymptotic").pvalue < 0.05
    answered = node(
        "console.log(JSON.stringify(given.map((pair) => game.toldApart(...pair))))", list(zip(ones.tolist(), others.tolist(), strict=True))
    )
    assert answered == wanted.tolist()
    assert wanted.any() == (seeds > 3)
    assert not wanted.all()


@pytest.mark.parametrize(
    "pairs", [{}, None, {"a": 1}, {"a": ([1],)}, {"a": ([1], [])}, {"a": ([1], [float("nan")])}, {"a": ([1], [[1]])}, {"a": ("x", "y")}]
)
def test_what_is_no_pair_of_algorithms_is_refused_in_one_sentence(pairs):
    with pytest.raises(InvalidInput) as caught:
        CountSeeds(pairs)
    one_sentence(caught.value, "pairs")
