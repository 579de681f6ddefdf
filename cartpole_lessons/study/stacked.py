"""All seeds of a lesson side by side: one vector environment, and networks whose every layer holds the weights of all seeds.

    for seed, result in train_stacked("ppo", range(100)):
        ...                                        # as soon as it has left the stack

The algorithm, its settings and the verdict are the lesson's own, and a seed goes its way as if it were alone, whoever is in the stack
with it (up to rounding). It draws other numbers than `train(seed)` does, since those come from torch's one generator.
"""

import bisect
import copy
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import VectorEnv
from torch import nn
from torch.func import vmap
from torch.nn.functional import pad, smooth_l1_loss

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.checks import check_seed, shown
from cartpole_lessons._support.seeding import derive_seed, seeded
from cartpole_lessons.algorithms.actor_critic import Critic, mean_entropy, n_step_returns
from cartpole_lessons.algorithms.dqn import QNetwork, ReplayMemory, Transition, epsilon_at, td_targets, transitions
from cartpole_lessons.algorithms.gaussian_reinforce import GaussianPolicy, action_log_probs, rewards_to_go
from cartpole_lessons.algorithms.many_seeds import StartsOfEachSeed, normalise_each
from cartpole_lessons.algorithms.policy_gradient import PolicyNetwork, discounted_returns, log_probs_of, policy_loss
from cartpole_lessons.algorithms.ppo import clipped_objective, generalised_advantages
from cartpole_lessons.environment import env_spec, make_envs
from cartpole_lessons.errors import InvalidAction, InvalidInput
from cartpole_lessons.evaluation import Evaluation
from cartpole_lessons.history import History, Result
from cartpole_lessons.hyperparameters import MaxSteps, check_hyperparameters, check_value
from cartpole_lessons.lessons import load_lesson
from cartpole_lessons.policy import Policy
from cartpole_lessons.rollout import Episodes, StepCollector, Steps, collect_episodes

NOT_FINITE = "The policy's weights have become NaN or infinite: look for a learning rate that is too high."
Metrics = dict[str, torch.Tensor]  #: name -> float32 (S,), a figure of each seed


def products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The products of S pairs of matrices: (S, a, b), (S, b, c) -> (S, a, c).

    NumPy multiplies small ones in less time than torch, and each of them in the same way whatever S is. Of large ones it makes work for
    several threads, which costs more than it saves.
    """
    if left.shape[1] * left.shape[2] * right.shape[2] < 2**18:
        return torch.from_numpy(np.matmul(left.numpy(), right.numpy()))
    return torch.bmm(left, right)


def quickly(function: type[torch.autograd.Function]) -> Callable:
    """What `function` computes, without the way through autograd where no gradient is asked for."""
    return function.apply if torch.is_grad_enabled() else function.forward


class StackedLinear(nn.Module):
    """S linear layers as one: the first axis of weight, bias, inputs and outputs is the seed."""

    class _Function(torch.autograd.Function):
        @staticmethod
        def forward(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            return products(inputs.detach(), weight.detach().mT).add_(bias.detach()[:, None])

        @staticmethod
        def setup_context(context: Any, inputs: tuple[torch.Tensor, ...], outputs: torch.Tensor) -> None:
            context.save_for_backward(*inputs[:2])

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            inputs, weight = (tensor.detach() for tensor in context.saved_tensors)
            of_inputs = products(gradient, weight) if context.needs_input_grad[0] else None
            return of_inputs, products(gradient.mT, inputs), gradient.sum(1)

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))  # (S, outputs, inputs)
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))  # (S, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs (S, n, inputs) -> (S, n, outputs)."""
        return quickly(self._Function)(inputs, self.weight, self.bias)


class QuickTanh(nn.Module):
    """The hyperbolic tangent by NumPy, which needs a fraction of torch's time for it."""

    class _Function(torch.autograd.Function):
        @staticmethod
        def forward(inputs: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(np.tanh(inputs.detach().numpy()))

        @staticmethod
        def setup_context(context: Any, inputs: tuple[torch.Tensor], outputs: torch.Tensor) -> None:
            context.save_for_backward(outputs)

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            (outputs,) = context.saved_tensors
            return torch.addcmul(gradient, gradient * outputs, outputs, value=-1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs of any shape -> outputs of the same."""
        return quickly(self._Function)(inputs)


def stacked(networks: Sequence[nn.Module]) -> nn.Module:
    """S networks of one kind as one, with their own `forward`: observations (S, n, 4) -> what each says of its n, (S, n, ...)."""
    stack = copy.deepcopy(networks[0])
    for name, module in list(stack.named_modules()):
        if isinstance(module, nn.Linear):
            stack.set_submodule(name, StackedLinear([network.get_submodule(name) for network in networks]))
        elif isinstance(module, nn.Tanh):
            stack.set_submodule(name, QuickTanh())
    return stack


def flat(stack: nn.Module) -> torch.Tensor:
    """A tensor (S, P) that from now on holds all weights of a stack, so that an optimizer has one thing to do.

    torch's fused optimizers round the last few numbers of a tensor in another way, unless their number is a multiple of 16: P is one.
    """
    weights = list(stack.parameters())
    sizes = [each[0].numel() for each in weights]
    whole = torch.zeros(len(weights[0]), -(-sum(sizes) // 16) * 16)
    for each, place in zip(weights, whole[:, : sum(sizes)].split(sizes, dim=1), strict=True):
        place.copy_(each.detach().flatten(1))
        each.data = place.unflatten(1, each.shape[1:])
    return whole


def only(stack: nn.Module, positions: Sequence[int]) -> nn.Module:
    """A copy of a stack that holds the seeds at these positions alone."""
    return copy.deepcopy(stack, {id(weights): nn.Parameter(weights.detach()[positions]) for weights in stack.parameters()})


def state_of(stack: nn.Module, position: int) -> dict[str, torch.Tensor]:
    """A copy of the state of the network at this position, for its `load_state_dict`."""
    return dict(stack.named_buffers()) | {name: weights[position].detach().clone() for name, weights in stack.named_parameters()}


class StartsOfEpisodes:
    """Stands in for a vector CartPole's generator: n starts from the generator of each seed at the reset, and nothing of theirs later.

    What autoreset starts once an episode has ended is not looked at, and must not cost the seed a number: how often that happens depends
    on how long the other seeds play.
    """

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        self.generators = generators

    def uniform(self, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
        """Starting states float64 (4, resets)."""
        generators, self.generators = self.generators, ()
        if not generators:
            return np.zeros(size)
        shape = size[0], size[1] // len(generators)
        return np.concatenate([generator.uniform(low, high, shape) for generator in generators], axis=1)


def narrower(envs: VectorEnv, env_id: str, chosen: np.ndarray) -> VectorEnv:
    """The environments of `envs` at these positions, each in the middle of what it was doing."""
    fewer = make_envs(env_id, len(chosen))
    fewer.reset(seed=0)
    fewer.state, fewer.steps, fewer.prev_done = envs.state[:, chosen], envs.steps[chosen], envs.prev_done[chosen]
    fewer.np_random = envs.np_random
    return fewer


@torch.no_grad()
def evaluate_each(policies: nn.Module, seeds: Sequence[int], env_id: str, episodes: int = 100) -> list[Evaluation]:
    """What `evaluate` says of each seed's policy, each with its own seed, all at once."""
    spec = env_spec(env_id)
    envs = make_envs(env_id, episodes * len(seeds))
    envs.np_random = StartsOfEpisodes([np.random.default_rng(seed) for seed in seeds])
    observations, _ = envs.reset()
    returns, steps = np.zeros((len(seeds), episodes)), np.zeros(len(seeds), dtype=int)
    left = np.arange(len(seeds))  # seeds of which an episode is under way
    sums, playing = np.zeros(envs.num_envs), np.ones(envs.num_envs, dtype=bool)
    while len(left):
        actions = policies.actions(torch.from_numpy(observations).view(len(left), episodes, 4), deterministic=True)
        observations, rewards, terminated, truncated, _ = envs.step(actions.numpy().reshape(envs.action_space.shape))
        sums += rewards * playing
        steps[left] += playing.reshape(len(left), episodes).sum(1)
        playing &= ~(terminated | truncated)
        plays = playing.reshape(len(left), episodes).any(1)
        if plays.sum() <= 0.8 * len(left):
            returns[left] = sums.reshape(len(left), episodes)
            stay = np.flatnonzero(plays)
            left, policies = left[stay], only(policies, stay)
            if len(left):
                chosen = (stay[:, None] * episodes + np.arange(episodes)).ravel()
                envs, observations, sums, playing = narrower(envs, env_id, chosen), observations[chosen], sums[chosen], playing[chosen]
    return [
        Evaluation(env_id, seed, each, float(spec.reward_threshold), spec.max_episode_steps, played)
        for seed, each, played in zip(seeds, returns, steps.tolist(), strict=True)
    ]


@dataclass(eq=False)
class Learner:
    """What belongs to one seed alone, beside its rows of the networks, and when it is evaluated: all that a `Run` keeps."""

    seed: int
    next_evaluation: int
    history: History = field(default_factory=History)
    env_steps: int = 0
    evaluations: int = 0
    evaluation_steps: int = 0
    evaluation_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    due: tuple[int, dict[str, torch.Tensor]] | None = None  # step and state of the policy that waits for its evaluation
    best_mean: float = -np.inf
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)  # of the policy

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(derive_seed(self.seed, "stacked"))

    def evaluation_seed(self, purpose: str) -> int:
        """The one that a `Run` of this seed would use for its next evaluation."""
        self.evaluations += 1
        return derive_seed(self.seed, purpose, self.evaluations)

    def go_back_to(self, env_steps: int) -> None:
        """Forget what came after this step."""
        history, self.env_steps = self.history, env_steps
        episodes = bisect.bisect_right(history.episode_ends, env_steps)
        del history.episode_ends[episodes:], history.episode_returns[episodes:]
        history.metrics = {name: [point for point in points if point[0] <= env_steps] for name, points in history.metrics.items()}

    def record(self, env_steps: int, episodes: Iterable[tuple[int, float]], metrics: Mapping[str, float]) -> None:
        """Note new steps, (end, return) of the episodes that ended in them, and figures by name."""
        for end, value in sorted(episodes, key=lambda episode: episode[0]):
            self.history.episode_ends.append(self.env_steps + end)
            self.history.episode_returns.append(value)
        self.env_steps += env_steps
        for name, value in metrics.items():
            if math.isnan(value):  # nothing was learned
                continue
            self.history.metrics.setdefault(name, []).append((self.env_steps, value))


class StackedLesson:
    """The seeds of a lesson that still learn. A lesson says which networks it has, how it draws an action, and how it learns.

    The first of the networks is the policy. `update` gets tensors whose second axis is S * n, first the environments of the first seed.
    """

    actions = "discrete"
    envs_of_a_seed: str  # the hyperparameter that says how many there are

    def __init__(self, seeds: Sequence[int], env_id: str, settings: Mapping[str, Any], evaluate_every: int) -> None:
        self.env_id, self.settings = env_id, settings
        self.n = settings[self.envs_of_a_seed]
        self.learners = [Learner(seed, evaluate_every) for seed in seeds]
        networks = []
        for seed in seeds:
            with seeded(derive_seed(seed, "training")):  # as a `Run` does, so that a seed begins with the weights that it has there
                networks.append(self.networks(settings))
        self.template = networks[0][0]
        self.stacks = [stacked(each) for each in zip(*networks, strict=True)]
        self.policy = self.stacks[0]
        self.weights = [flat(stack) for stack in self.stacks]
        self.optimizer = self.make_optimizer(settings)
        self.begin(make_envs(env_id, self.n * len(seeds), actions=self.actions))

    def network(self, state: Mapping[str, torch.Tensor]) -> Policy:
        """A policy of one seed, ready to be judged."""
        policy = copy.deepcopy(self.template).eval()
        policy.load_state_dict(state)
        return policy

    def networks(self, settings: Mapping[str, Any]) -> list[nn.Module]:
        """The networks of one seed, in the order in which the lesson makes them."""
        raise NotImplementedError

    def make_optimizer(self, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
        """The lesson's optimizer of `self.weights`, a group for each stack; what it does to a weight depends on this weight alone."""
        raise NotImplementedError

    def draw(self, outputs: Any, draws: torch.Tensor) -> torch.Tensor:
        """Actions (S, n), by the policy's outputs for observations (S, n, 4) and one number (S, n) for each."""
        raise NotImplementedError

    def update(self, collected: Any) -> Metrics:
        """Learn from what was collected."""
        raise NotImplementedError

    def begin(self, envs: VectorEnv) -> None:
        """Take the environments for training."""
        self.envs = envs

    @property
    def generators(self) -> list[np.random.Generator]:
        """One for each seed."""
        return [learner.generator for learner in self.learners]

    def act(self, steps: int) -> Callable[[np.ndarray], np.ndarray]:
        """The function from observations (S * n, 4) to actions, for at most so many steps."""
        draws = iter(torch.from_numpy(np.stack([self.numbers(each, (steps, self.n)) for each in self.generators], axis=1)))

        @torch.no_grad()
        def act(observations: np.ndarray) -> np.ndarray:
            outputs = self.policy(torch.from_numpy(observations).view(len(self.learners), self.n, 4))
            return self.draw(outputs, next(draws)).numpy().reshape(self.envs.action_space.shape)

        return act

    def numbers(self, generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """What actions are drawn with, float32: uniform between 0 and 1."""
        return generator.random(shape, np.float32)

    def by_seed(self, tensor: torch.Tensor) -> torch.Tensor:
        """(T, S * n, ...) -> (S, T * n, ...), in the order in which a mask (T, n) picks."""
        return tensor.unflatten(1, (-1, self.n)).transpose(0, 1).flatten(1, 2)

    def columns(self, tensor: torch.Tensor) -> torch.Tensor:
        """(S, T * n) -> (T, S * n), the way back."""
        return tensor.unflatten(1, (-1, self.n)).transpose(0, 1).flatten(1)

    def keep(self, positions: Sequence[int]) -> None:
        """Reduce everything to the seeds at these positions."""
        self.learners = [self.learners[position] for position in positions]
        if not positions:
            return
        for stack in self.stacks:
            for weights in stack.parameters():
                weights.data = weights.data[positions]
        self.weights = [flat(stack) for stack in self.stacks]
        self.keep_optimizer(positions)
        self.keep_envs((np.asarray(positions)[:, None] * self.n + np.arange(self.n)).ravel())

    def keep_optimizer(self, positions: Sequence[int]) -> None:
        """Reduce what the optimizer remembers."""
        for group, weights in zip(self.optimizer.param_groups, self.weights, strict=True):
            (before,) = group["params"]
            group["params"] = [weights]
            # Running averages (S, P), and the number of steps (), which all seeds share.
            state = self.optimizer.state.pop(before)
            self.optimizer.state[weights] = {name: value[positions] if value.ndim else value for name, value in state.items()}

    def keep_envs(self, chosen: np.ndarray) -> None:
        """Reduce the environments to these."""
        self.envs = narrower(self.envs, self.env_id, chosen)

    def step(self, loss: torch.Tensor) -> None:
        """One step of the optimizer against the losses (S,); no seed's weights have a part in the loss of another."""
        for weights, gradient in zip(self.weights, self.gradients(loss), strict=True):
            weights.grad = gradient
        self.optimizer.step()

    def gradients(self, loss: torch.Tensor) -> Iterator[torch.Tensor]:
        """Those of the losses (S,), in the shape of `self.weights`."""
        gradients = iter(torch.autograd.grad(loss.sum(), [weights for stack in self.stacks for weights in stack.parameters()]))
        for stack, weights in zip(self.stacks, self.weights, strict=True):
            gradient = torch.cat([next(gradients).flatten(1) for _ in stack.parameters()], dim=1)
            yield pad(gradient, (0, weights.shape[1] - gradient.shape[1]))


class FromEpisodes(StackedLesson):
    """A lesson that plays whole episodes, one in each environment."""

    envs_of_a_seed = "episodes_per_update"

    def collect(self) -> Episodes:
        self.envs.np_random = StartsOfEpisodes(self.generators)
        return collect_episodes(self.envs, self.act(self.envs.spec.max_episode_steps))

    def tallies(self, episodes: Episodes) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """For each seed its steps, and (end, return) of its episodes."""
        lengths, returns = episodes.lengths.view(-1, self.n), episodes.returns.view(-1, self.n)
        ends = torch.minimum(lengths[:, :, None], lengths[:, None]).sum(2)
        for steps, *each in zip(lengths.sum(1).tolist(), ends.tolist(), returns.tolist(), strict=True):
            yield steps, list(zip(*each, strict=True))

    def real_steps(self, mask: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Weights (S, steps) with mean 1 for each seed, 0 where a seed has fewer steps than the others, and the tensors (S, steps, ...)."""
        mask = self.by_seed(mask)  # (S, T * n)
        counts = mask.sum(1, keepdim=True)  # (S, 1)
        first = mask.int().argsort(dim=1, descending=True, stable=True)[:, : counts.max()]  # (S, steps), the real ones first
        seeds = torch.arange(len(mask))[:, None]
        weights = (torch.arange(first.shape[1]) < counts) * (first.shape[1] / counts)
        return weights, *(self.by_seed(tensor)[seeds, first] for tensor in tensors)


class FromSteps(StackedLesson):
    """A lesson that plays a number of steps at a time, with episodes that begin and end anywhere."""

    envs_of_a_seed = "num_envs"
    steps_of_a_batch = "steps_per_update"

    class Collector(StepCollector):
        """A collector whose environments can become fewer on the way."""

        def keep(self, envs: VectorEnv, chosen: np.ndarray) -> None:
            self.envs, self._observation = envs, self._observation[chosen]
            self._done, self._return = self._done[chosen], self._return[chosen]

    def begin(self, envs: VectorEnv) -> None:
        super().begin(envs)
        envs.np_random = StartsOfEachSeed(envs, self.generators)
        self.collector = self.Collector(envs, self.settings[self.steps_of_a_batch])

    def keep_envs(self, chosen: np.ndarray) -> None:
        super().keep_envs(chosen)
        self.envs.np_random = StartsOfEachSeed(self.envs, self.generators)
        self.collector.keep(self.envs, chosen)

    def collect(self) -> Steps:
        return self.collector.collect(self.act(self.collector.steps))

    def tallies(self, steps: Steps) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """For each seed its steps, and (end, return) of the episodes that ended in them."""
        taken = steps.mask.unflatten(1, (-1, self.n)).sum(2).cumsum(0).T.tolist()  # S lists of T
        episodes = [[] for _ in self.learners]
        ended = (steps.terminated | steps.truncated).nonzero().tolist()  # (step, environment) of each
        for (step, env), value in zip(ended, steps.returns, strict=True):
            episodes[env // self.n].append((taken[env // self.n][step], value))
        return zip((each[-1] for each in taken), episodes, strict=True)


class CategoricalPolicy(StackedLesson):
    """A lesson whose policy gives logits of the two pushes."""

    def draw(self, logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return (draws < (logits[..., 1] - logits[..., 0]).sigmoid()).long()


def each_step(function: Callable) -> Callable:
    """A lesson's function of tensors (steps, ...), for tensors (S, steps, ...)."""

    def of_all(*tensors: torch.Tensor) -> torch.Tensor:
        return function(*(tensor.flatten(0, 1) for tensor in tensors)).unflatten(0, tensors[0].shape[:2])

    return of_all


class PolicyGradient(FromEpisodes, CategoricalPolicy):
    def networks(self, settings: Mapping[str, Any]) -> list[nn.Module]:
        return [PolicyNetwork(settings["hidden"], settings["angle_scale"])]

    def make_optimizer(self, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.weights, lr=settings["learning_rate"], fused=True)

    def update(self, episodes: Episodes) -> Metrics:
        returns = discounted_returns(episodes.rewards, self.settings["discount"])  # (T, S * n)
        weights, observations, actions, returns = self.real_steps(episodes.mask, episodes.observations, episodes.actions, returns)
        advantages = weights * normalise_each(returns, weights)  # (S, steps)
        log_probs = each_step(log_probs_of)(self.policy(observations), actions)  # (S, steps)
        loss = vmap(policy_loss)(log_probs, advantages)  # (S,)
        self.step(loss)
        return {"loss": loss}


class GaussianReinforce(FromEpisodes):
    actions = "continuous"

    def networks(self, settings: Mapping[str, Any]) -> list[nn.Module]:
        names = ("hidden", "angle_scale", "smallest_deviation", "largest_deviation")
        return [GaussianPolicy(*(settings[name] for name in names))]

    def make_optimizer(self, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
        rate, decay = settings["learning_rate"], settings["weight_decay"]
        return torch.optim.AdamW(self.weights, lr=rate, weight_decay=decay, fused=True)

    def numbers(self, generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return generator.standard_normal(shape, np.float32)

    def draw(self, outputs: tuple[torch.Tensor, torch.Tensor], draws: torch.Tensor) -> torch.Tensor:
        mean, deviation = outputs
        return mean + deviation * draws[..., None]

    def update(self, episodes: Episodes) -> Metrics:
        settings = self.settings
        returns = rewards_to_go(episodes, settings["discount"])  # (T, S * n)
        weights, observations, actions, returns = self.real_steps(episodes.mask, episodes.observations, episodes.actions, returns)
        advantages = normalise_each(returns, weights)  # (S, steps)
        for weights, observations, actions, advantages in minibatches(  # noqa: B020
            self.generators, weights > 0, settings["epochs"], split(settings["minibatches"]), observations, actions, advantages
        ):
            mean, deviation = self.policy(observations)  # (S, batch, 1) each
            log_probs = action_log_probs(mean, deviation, actions)  # (S, batch)
            loss = vmap(policy_loss)(log_probs, weights * advantages)  # (S,)
            self.step(loss)
        return {"loss": loss, "deviation": (weights * deviation.squeeze(-1)).mean(1)}


class TwoNetworks(FromSteps, CategoricalPolicy):
    """A lesson with an actor and a critic."""

    def networks(self, settings: Mapping[str, Any]) -> list[nn.Module]:
        return [kind(settings["hidden"], settings["angle_scale"]) for kind in (PolicyNetwork, Critic)]

    def make_optimizer(self, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
        rates = settings["actor_learning_rate"], settings["critic_learning_rate"]
        groups = [{"params": [weights], "lr": rate} for weights, rate in zip(self.weights, rates, strict=True)]
        return torch.optim.Adam(groups, fused=True)


class ActorCritic(TwoNetworks):
    def update(self, steps: Steps) -> Metrics:
        actor, critic = self.stacks
        mask = self.by_seed(steps.mask).float()  # (S, T * n)
        weights = mask / mask.mean(1, keepdim=True)
        observations = self.by_seed(steps.observations)  # (S, (T + 1) * n, 4)
        all_values = critic(observations)  # (S, (T + 1) * n)
        values = all_values[:, : -self.n]  # (S, T * n)
        next_values = self.columns(all_values.detach())[1:]  # (T, S * n)
        returns = self.by_seed(n_step_returns(steps.rewards, next_values, steps.terminated, steps.truncated, self.settings["discount"]))
        critic_loss = (weights * (values - returns).square()).mean(1)  # (S,)
        advantages = weights * normalise_each(returns - values.detach(), weights)
        logits = actor(observations[:, : -self.n])  # (S, T * n, 2)
        log_probs = each_step(log_probs_of)(logits, self.by_seed(steps.actions))  # (S, T * n)
        actor_loss = vmap(policy_loss)(log_probs, advantages)  # (S,)
        entropy = entropies(logits, weights)
        self.step(actor_loss + critic_loss - self.settings["entropy_bonus"] * entropy)
        return {"loss": actor_loss, "critic_loss": critic_loss, "entropy": entropy}


class PPO(TwoNetworks):
    def update(self, steps: Steps) -> Metrics:
        actor, critic = self.stacks
        clip, real = self.settings["clip"], self.by_seed(steps.mask)  # (S, T * n)
        observations, actions = self.by_seed(steps.observations), self.by_seed(steps.actions)  # (S, (T + 1) * n, 4), (S, T * n)
        with torch.no_grad():
            values = self.columns(critic(observations))  # (T + 1, S * n)
            advantages = generalised_advantages(
                steps.rewards, values, steps.terminated, steps.truncated, self.settings["discount"], self.settings["gae_lambda"]
            )
            targets = self.by_seed(advantages + values[:-1])  # (S, T * n)
            advantages = self.by_seed(advantages)
            if self.settings["normalise_advantages"]:
                advantages = normalise_each(advantages, real / real.float().mean(1, keepdim=True))
            observations = observations[:, : -self.n]
            old_log_probs = each_step(log_probs_of)(actor(observations), actions)  # (S, T * n)
        for weights, observations, actions, old_log_probs, advantages, targets in minibatches(  # noqa: B020
            self.generators,
            real,
            self.settings["epochs"],
            chunk(self.settings["minibatches"]),
            *(observations, actions, old_log_probs, advantages, targets),
        ):
            logits = actor(observations)  # (S, batch, 2)
            ratios = (each_step(log_probs_of)(logits, actions) - old_log_probs).exp()  # (S, batch)
            actor_loss = -(weights * clipped_objective(ratios, advantages, clip)).mean(1)  # (S,)
            critic_loss = (weights * (critic(observations) - targets).square()).mean(1)  # (S,)
            self.step(actor_loss + critic_loss)
        clipped = (weights * ((ratios - 1).abs() > clip)).mean(1)
        return {"loss": actor_loss, "critic_loss": critic_loss, "clipped": clipped, "entropy": entropies(logits.detach(), weights)}


class DQN(FromSteps):
    """Every seed counts its own updates, because it has as many as it has taken steps: the optimizer gets a row of the weights for each."""

    steps_of_a_batch = "steps_per_round"

    def networks(self, settings: Mapping[str, Any]) -> list[nn.Module]:
        return [QNetwork(settings["hidden"], settings["angle_scale"], settings["start_value"])]

    def make_optimizer(self, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
        (weights,) = self.weights
        return torch.optim.AdamW(weights.unbind(), lr=settings["learning_rate"], amsgrad=True, fused=True)

    def begin(self, envs: VectorEnv) -> None:
        super().begin(envs)
        self.memory = ReplayMemory(len(self.learners) * self.settings["capacity"]).fields  # first that of the first seed, and so on
        self.pushed = torch.zeros(len(self.learners), dtype=torch.int64)
        self.updates_due = np.zeros(len(self.learners))
        self.target = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_weights = flat(self.target)

    def draw(self, values: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        names = ("epsilon_start", "epsilon_end", "epsilon_decay")
        epsilons = [epsilon_at(learner.env_steps, *(self.settings[name] for name in names)) for learner in self.learners]
        epsilon = torch.tensor(epsilons)[:, None]  # (S, 1)
        return torch.where(draws < epsilon, draws < epsilon / 2, values[..., 1] > values[..., 0]).long()

    def push(self, steps: Steps) -> None:
        """Remember the real steps of every seed in its part of the memory; the newest take the place of its oldest."""
        capacity, mask = self.settings["capacity"], self.by_seed(steps.mask)  # (S, T * n)
        place = (self.pushed[:, None] + mask.cumsum(1) - 1) % capacity + torch.arange(len(mask))[:, None] * capacity
        place = self.columns(place)[steps.mask]  # (steps,), as `transitions` orders them
        for remembered, new in zip(self.memory, transitions(steps, self.settings["discount"]), strict=True):
            remembered[place] = new
        self.pushed += mask.sum(1)

    def sample(self, updates: np.ndarray) -> list[Transition]:
        """A batch (S, batch_size) for each of the seed's updates (S,), drawn by its own generator; those who have fewer get any."""
        capacity, shape = self.settings["capacity"], (max(updates), self.settings["batch_size"])
        draws = np.zeros((len(updates), *shape))
        for drawn, generator, count in zip(draws, self.generators, updates, strict=True):
            drawn[:count] = generator.random((count, shape[1]))
        held = np.minimum(self.pushed.numpy(), capacity)[:, None, None]
        chosen = (draws * held).astype(np.int64) + np.arange(len(updates))[:, None, None] * capacity  # (S, updates, batch)
        chosen = torch.from_numpy(chosen.swapaxes(0, 1).copy())
        fields = (field.index_select(0, chosen.flatten()).unflatten(0, chosen.shape) for field in self.memory)
        return [Transition(*batch) for batch in zip(*fields, strict=True)]

    def update(self, steps: Steps) -> Metrics:
        settings = self.settings
        self.push(steps)
        starts = (self.pushed >= settings["learning_starts"]).numpy()
        self.updates_due += starts * settings["updates_per_step"] * self.by_seed(steps.mask).sum(1).numpy()
        updates = self.updates_due.astype(int)
        self.updates_due -= updates
        losses = torch.full((len(updates),), torch.nan)  # of seeds that have no update
        for number, batch in enumerate(self.sample(updates) if updates.any() else []):
            takes_part = torch.from_numpy(updates > number)
            targets = td_targets(batch, self.target)  # (S, batch)
            values = self.policy(batch.observations)  # (S, batch, 2)
            chosen = values.gather(-1, batch.actions[..., None]).squeeze(-1)  # (S, batch)
            loss = smooth_l1_loss(chosen, targets, reduction="none").mean(1)  # (S,)
            self.step(loss, takes_part)
            losses = torch.where(takes_part, loss.detach(), losses)
            self.target_weights.lerp_(self.weights[0], settings["target_rate"] * takes_part[:, None].float())
        return {"loss": losses}

    def step(self, loss: torch.Tensor, takes_part: torch.Tensor) -> None:
        """The same, for the seeds that take part, bool (S,)."""
        (gradient,), rows = self.gradients(loss), self.optimizer.param_groups[0]["params"]
        for row, its_gradient, learns in zip(rows, gradient, takes_part.tolist(), strict=True):
            row.grad = its_gradient if learns else None
        nn.utils.clip_grad_value_(rows, 100)
        self.optimizer.step()

    def keep_optimizer(self, positions: Sequence[int]) -> None:
        (group,), (weights,) = self.optimizer.param_groups, self.weights
        states = [self.optimizer.state.pop(group["params"][position]) for position in positions]
        group["params"] = list(weights.unbind())
        self.optimizer.state.clear()
        self.optimizer.state.update(zip(group["params"], states, strict=True))
        self.target = only(self.target, positions)
        self.target_weights = flat(self.target)
        self.pushed, self.updates_due = self.pushed[positions], self.updates_due[positions]
        capacity = self.settings["capacity"]
        self.memory = Transition(*(field.unflatten(0, (-1, capacity))[positions].flatten(0, 1) for field in self.memory))


def entropies(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean entropy of each seed, (S,)."""
    return (weights * each_step(vmap(mean_entropy))(logits)).mean(1)


def chunk(parts: int) -> Callable[[np.ndarray], np.ndarray]:
    """Where the parts begin and end into which `torch.chunk` cuts counts (S, 1): (S, parts + 1)."""
    return lambda counts: np.minimum(np.arange(parts + 1) * -(-counts // parts), counts)


def split(parts: int) -> Callable[[np.ndarray], np.ndarray]:
    """Where the parts begin and end into which `torch.tensor_split` cuts counts (S, 1): (S, parts + 1)."""
    return lambda counts: np.arange(parts + 1) * (counts // parts) + np.minimum(np.arange(parts + 1), counts % parts)


def minibatches(
    generators: Sequence[np.random.Generator], real: torch.Tensor, epochs: int, cut: Callable, *tensors: torch.Tensor
) -> Iterator[tuple[torch.Tensor, ...]]:
    """In each epoch every seed's real steps in an order drawn by its own generator, cut into parts: weights (S, batch) and the tensors.

    real: bool (S, steps); tensors: (S, steps, ...). The weights of a seed have mean 1, and are 0 where its part is smaller than another's.
    """
    seeds, steps = real.shape
    counts = real.sum(1, keepdim=True).numpy()  # (S, 1)
    bounds = cut(counts)[:, :, None]  # (S, parts + 1, 1)
    sizes = bounds[:, 1:] - bounds[:, :-1]  # (S, parts, 1)
    # As wide as the largest part could be, so that how a seed's numbers are added does not depend on the others.
    place = np.arange(np.diff(cut(np.array([[steps]]))).max())  # (batch,)
    ranks = np.minimum(bounds[:, :-1] + place, steps - 1).reshape(seeds, -1)  # (S, parts * batch)
    weights = torch.from_numpy(((place < sizes) * (len(place) / sizes)).astype(np.float32).transpose(1, 0, 2).copy())  # (parts, S, batch)
    keys = np.full((seeds, epochs, steps), np.inf, dtype=np.float32)
    for of_seed, its_real, generator in zip(keys, real.numpy(), generators, strict=True):
        of_seed[:, its_real] = generator.random((epochs, its_real.sum()), np.float32)
    orders = keys.argsort(2).swapaxes(0, 1)  # (epochs, S, steps)
    rows = [tensor.flatten(0, 1) for tensor in tensors]
    for order in orders:
        chosen = np.take_along_axis(order, ranks, axis=1) + np.arange(seeds)[:, None] * steps  # (S, parts * batch)
        index = torch.from_numpy(chosen.reshape(seeds, -1, len(place)).swapaxes(0, 1).ravel())
        yield from zip(weights, *(row.index_select(0, index).unflatten(0, weights.shape) for row in rows), strict=True)


STACKED = {"policy_gradient": PolicyGradient, "actor_critic": ActorCritic, "ppo": PPO, "gaussian_reinforce": GaussianReinforce, "dqn": DQN}


def check_stackable(lesson: str, env_id: str, settings: Mapping[str, Any]) -> None:
    """`InvalidInput` where the seeds of this training cannot learn side by side."""

    def refuse(what: str) -> None:
        raise InvalidInput(f"{what}: change that, or choose another backend.")

    if lesson not in STACKED:
        refuse(f"Only seeds of {', '.join(STACKED)} can be stacked, not those of {shown(lesson)}")
    if settings["device"] != "cpu":
        refuse(f"Stacked seeds learn on the CPU, but got device={settings['device']!r}")
    if settings.get("method") == "blended_targets":
        refuse("Stacked seeds of policy_gradient need method='score_function', but got 'blended_targets'")
    if not isinstance(make_envs(env_id, 1, actions=STACKED[lesson].actions), CartPoleVectorEnv):
        refuse(f"Stacked seeds need CartPole's own vector environment, but {env_id} has another")
    parts = settings.get("minibatches", 1)
    if lesson == "ppo" and parts * (parts - 1) >= settings["num_envs"] * settings["steps_per_update"] // 2:
        # Then a seed whose every second step is one of autoreset might have fewer minibatches than the others.
        refuse(f"So few steps may not fill {parts} minibatches for every stacked seed")
    if lesson == "gaussian_reinforce" and parts > settings["episodes_per_update"]:
        refuse(f"So few episodes may not fill {parts} minibatches for every stacked seed")
    if lesson == "dqn" and settings["capacity"] < settings["num_envs"] * settings["steps_per_round"]:
        refuse("Stacked seeds need a capacity for all steps of a round")
    if lesson == "dqn" and settings["learning_starts"] < settings["batch_size"]:
        refuse("Stacked seeds need learning_starts to be at least batch_size")


def train_stacked(
    lesson: str,
    seeds: Iterable[int],
    *,
    env_id: str | None = None,
    max_steps: int | None = None,
    stop_when_perfect: bool = True,
    **hyperparameters: Any,
) -> Iterator[tuple[int, Result | InvalidAction]]:
    """Train all seeds side by side, and yield each as it leaves: its result, or what was wrong with its weights.

    The keywords are those of the lesson's `train`. `InvalidInput`, before anything runs, on what that does not allow, or cannot be stacked.
    """
    train = load_lesson(lesson).train
    if lesson not in STACKED:
        check_stackable(lesson, "", {})
    defaults = inspect.signature(train).parameters
    env_id = env_spec(defaults["env_id"].default if env_id is None else env_id).id
    max_steps = check_value("max_steps", defaults["max_steps"].default if max_steps is None else max_steps, MaxSteps)
    stop_when_perfect = check_value("stop_when_perfect", stop_when_perfect, bool)
    settings = check_hyperparameters(train, hyperparameters, lesson)
    check_stackable(lesson, env_id, settings)
    seeds = list(dict.fromkeys(check_seed(seed) for seed in seeds))
    # What @training was given for the lesson stands nowhere else.
    evaluate_every = inspect.getclosurevars(train).nonlocals["evaluate_every"]
    return _training(lesson, seeds, env_id, max_steps, stop_when_perfect, settings, evaluate_every)


def _training(
    lesson: str, seeds: list[int], env_id: str, max_steps: int, stop_when_perfect: bool, settings: dict[str, Any], evaluate_every: int
) -> Iterator[tuple[int, Result | InvalidAction]]:
    clocks = time.perf_counter(), time.process_time()
    with course_arithmetic():
        stack = STACKED[lesson](seeds, env_id, settings, evaluate_every)
    while stack.learners:
        learners = stack.learners
        # Between two rounds torch's settings are as they were: somebody else has the results then.
        with course_arithmetic():
            broken = one_round(stack)
            done = verdicts_due(stack, broken, evaluate_every, max_steps, stop_when_perfect)
            best = [stack.network(learner.best_state) for learner in done]
            verdicts = evaluated(stack, done, best, "result")
            broken = [learner for learner in broken if learner not in done]
            if done or broken:
                stack.keep([position for position, learner in enumerate(learners) if learner not in done and learner not in broken])
        now = time.perf_counter(), time.process_time()
        for learner in learners:
            learner.seconds += (now[0] - clocks[0]) / len(learners)
            learner.cpu_seconds += (now[1] - clocks[1]) / len(learners)
        for learner in broken:
            yield learner.seed, InvalidAction(NOT_FINITE)
        for learner, policy, evaluation in zip(done, best, verdicts, strict=True):
            result = Result(
                lesson=lesson,
                env_id=env_id,
                seed=learner.seed,
                hyperparameters=settings,
                policy=policy,
                history=learner.history,
                env_steps=learner.env_steps,
                seconds=learner.seconds,
                evaluation=evaluation,
                cpu_seconds=learner.cpu_seconds,
                evaluation_seconds=learner.evaluation_seconds,
                evaluation_steps=learner.evaluation_steps,
            )
            yield learner.seed, result
        clocks = time.perf_counter(), time.process_time()


def one_round(stack: StackedLesson) -> list[Learner]:
    """Collect, learn and record; the learners whose policies are of no use any more."""
    collected = stack.collect()
    metrics = {name: values.tolist() for name, values in stack.update(collected).items()}
    for position, (learner, tally) in enumerate(zip(stack.learners, stack.tallies(collected), strict=True)):
        learner.record(*tally, {name: values[position] for name, values in metrics.items()})
    finite = torch.stack([weights.flatten(1).isfinite().all(1) for weights in stack.policy.parameters()]).all(0).tolist()
    return [learner for learner, is_finite in zip(stack.learners, finite, strict=True) if not is_finite]


def verdicts_due(
    stack: StackedLesson, broken: Sequence[Learner], evaluate_every: int, max_steps: int, stop_when_perfect: bool
) -> list[Learner]:
    """See who is due for an evaluation; the learners that are done.

    A policy that is due is put aside, and waits for those that soon will be, as long as its learner does not have the next one, since many
    at once cost little more than one. What a learner does meanwhile is forgotten if it turns out to have been done before.
    """
    reached = {
        position: learner
        for position, learner in enumerate(stack.learners)
        if learner not in broken and learner.env_steps >= min(learner.next_evaluation, max_steps)
    }
    cannot_wait = broken or any(learner.due for learner in reached.values())
    done = judge(stack, max_steps, stop_when_perfect) if cannot_wait else []
    for position, learner in reached.items():
        if learner not in done:
            learner.due = learner.env_steps, state_of(stack.policy, position)
            learner.next_evaluation = learner.env_steps + evaluate_every
    if all(learner.due or learner in done or learner in broken for learner in stack.learners):
        done += judge(stack, max_steps, stop_when_perfect)
    return done


def judge(stack: StackedLesson, max_steps: int, stop_when_perfect: bool) -> list[Learner]:
    """Evaluate the policies that are due; the learners that are perfect, and confirmed to be so, or out of steps."""
    due = [learner for learner in stack.learners if learner.due is not None]
    policies = {learner: stack.network(learner.due[1]) for learner in due}
    evaluations = evaluated(stack, due, list(policies.values()), "evaluation")
    for learner, evaluation in zip(due, evaluations, strict=True):
        env_steps, state = learner.due
        learner.history.evaluations.append((env_steps, evaluation.mean))
        if evaluation.mean >= learner.best_mean:
            learner.best_mean, learner.best_state = evaluation.mean, state
    hopeful = [learner for learner, evaluation in zip(due, evaluations, strict=True) if stop_when_perfect and evaluation.perfect]
    confirmations = zip(hopeful, evaluated(stack, hopeful, [policies[learner] for learner in hopeful], "confirmation"), strict=True)
    passed = [learner for learner, confirmation in confirmations if confirmation.perfect]
    done = [learner for learner in due if learner in passed or learner.due[0] >= max_steps]
    for learner in done:
        learner.go_back_to(learner.due[0])
    for learner in due:
        learner.due = None
    return done


def evaluated(stack: StackedLesson, learners: Sequence[Learner], policies: Sequence[Policy], purpose: str) -> list[Evaluation]:
    """An evaluation of each learner's policy, in episodes of its own."""
    if not learners:
        return []
    started = time.perf_counter()
    evaluations = evaluate_each(stacked(policies), [learner.evaluation_seed(purpose) for learner in learners], stack.env_id)
    for learner, evaluation in zip(learners, evaluations, strict=True):
        learner.evaluation_seconds += (time.perf_counter() - started) / len(learners)
        learner.evaluation_steps += evaluation.steps
    return evaluations
