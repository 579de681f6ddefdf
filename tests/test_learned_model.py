"""Lesson 14's exported algorithm: the fit against the truth, the rule on seeds, the network's kinematics, the plan and its refusals."""

import numpy as np
import pytest
import torch

from cartpole_lessons.algorithms import learned_model
from cartpole_lessons.algorithms.learned_model import WorldModel, attempt, cost, fit_dynamics, fit_world, plan, transitions
from cartpole_lessons.continuous import derivative
from cartpole_lessons.environment import CONTINUOUS_CARTPOLE, make_env
from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.swing_up import SWING_UP


def test_a_linear_world_is_fitted_exactly():
    rng = np.random.default_rng(0)
    A, B, states, forces = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=(20, 4)), rng.normal(size=20)
    fitted_A, fitted_B = fit_dynamics(states, forces, states @ A.T + forces[:, None] * B)
    np.testing.assert_allclose(fitted_A, A, atol=1e-10)
    np.testing.assert_allclose(fitted_B, B, atol=1e-10)


@pytest.mark.parametrize("shapes", [((5, 3), (5,), (5, 3)), ((5, 4), (4,), (5, 4)), ((5, 4), (5,), (4, 4))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(InvalidInput, match="shape"):
        fit_dynamics(*map(np.zeros, shapes))


@pytest.mark.parametrize("env_id", ["CartPole-v1", CONTINUOUS_CARTPOLE])
def test_it_solves_both_cartpoles_from_seventy_steps(env_id):
    result = learned_model.train(seed=1, env_id=env_id)
    assert result.evaluation.perfect
    assert result.env_steps <= 70


def test_too_little_experience_is_followed_by_more():
    result = learned_model.train(seed=0, num_envs=1, steps_per_fit=1, max_steps=300)
    assert result.solved
    assert result.env_steps > 4


class TrueWorld(WorldModel):
    """A model that knows how velocities change."""

    def forward(self, states, pushes):
        after = states.double().numpy().T
        for _ in range(2):
            after = after + 0.02 * derivative(after, 10 * pushes.double().numpy())
        return torch.from_numpy(after[1::2].T).float() - states[:, 1::2]


def test_positions_follow_from_velocities():
    states = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    pushes = torch.linspace(-1, 1, 50)
    after = states.double().numpy().T
    for _ in range(2):
        after = after + 0.02 * derivative(after, 10 * pushes.double().numpy())
    np.testing.assert_allclose(TrueWorld().step(states, pushes).numpy(), after.T, atol=0.02)


def test_a_plan_costs_less_than_no_plan_and_stays_within_the_force():
    torch.manual_seed(0)
    model, start = TrueWorld(), np.array([0.0, 0.0, 0.3, 0.0])
    pushes = plan(model, start, torch.zeros(25))
    costs = []
    for each in (torch.zeros(25), pushes):
        states, total = torch.from_numpy(start).float()[None], 0.0
        for push in each:
            states = model.step(states, push[None])
            total += cost(states).item()
        costs.append(total)
    assert costs[1] < costs[0]
    assert pushes.abs().max() <= 1


def test_the_network_learns_the_world_it_has_seen():
    torch.manual_seed(0)
    episode = attempt(make_env(SWING_UP, seed=0), None, pushes=100)
    states, pushes, changes = transitions([episode])
    assert states.shape == (len(pushes), 4)
    assert changes.shape == (len(pushes), 2)
    model = WorldModel()
    fit_world(model, states, pushes, changes)
    with torch.no_grad():
        said = model(torch.from_numpy(states), torch.from_numpy(pushes).float()).numpy()
    assert np.abs(said - changes).mean() < 0.1 * np.abs(changes).mean()
