"""What every policy of the course has in common: it looks at observations, and acts."""

import copy
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from cartpole_lessons.errors import InvalidAction, InvalidInput, in_short

#: CartPole's observation: cart position [m], cart velocity [m/s], pole angle [rad], pole angular velocity [rad/s].
OBSERVATION_SIZE = 4


class Policy(nn.Module):
    """A network that acts. A lesson's policy writes `forward` and `actions`; `act` is what everybody else calls."""

    device = torch.device("cpu")  #: where the weights are, and therefore where observations have to go

    def _apply(self, fn: Callable, recurse: bool = True) -> "Policy":
        # Every way of moving a module (`to`, `cuda`, `cpu`) comes through here. Asking the weights where they are at every
        # step instead would be a tenth of the step's time.
        super()._apply(fn, recurse)
        self.device = next(self.parameters(), torch.empty(0)).device
        return self

    def check_weights(self) -> None:
        """`InvalidAction` where weights or buffers are NaN or infinite. The greedy action among NaN is a number like any other, so whoever
        is about to play whole episodes asks once before them: at every step it would cost too much."""
        if not all(weights.isfinite().all() for weights in itertools.chain(self.parameters(), self.buffers())):
            raise InvalidAction("The policy's weights have become NaN or infinite: look for a learning rate that is too high.") from None

    def actions(self, observations: torch.Tensor, deterministic: bool, **exploration: Any) -> torch.Tensor:
        """Actions (n,) for observations float32 (n, 4): the best ones, or (deterministic=False) drawn as in training.

        exploration: what drawing depends on, where a policy has such a thing (`epsilon`, for one).
        """
        raise NotImplementedError(f"{type(self).__name__} must say how it acts: write actions(observations, deterministic).")

    def act(self, observations: np.ndarray | torch.Tensor, deterministic: bool = True, **exploration: Any) -> np.ndarray | torch.Tensor:
        """Observations float32 (n, 4) or (4,) [m, m/s, rad, rad/s] -> actions (n,) or a scalar, without gradients.

        NumPy in, NumPy out; tensors in, tensors out, on the policy's own device. `InvalidInput` on any other shape or dtype, and on NaN or infinity;
        `InvalidAction` where the weights are NaN or infinite and nothing can be drawn.
        """
        return self._act(self, observations, deterministic, exploration)

    def acting(self, deterministic: bool = True, **exploration: Any) -> Callable:
        """`act` as a function, for a whole rollout with the weights as they are now: the same actions, in a third of the time.

        `InvalidAction` where weights or buffers are NaN or infinite.
        """
        self.check_weights()
        network = _in_numpy_too(self) if self.device.type == "cpu" else self
        return lambda observations: self._act(network, observations, deterministic, exploration)

    @torch.no_grad()
    def _act(self, network: Any, observations: Any, deterministic: bool, exploration: dict[str, Any]) -> Any:
        """`act`, asking `network`: this policy itself, or what stands in for it."""
        batch = (
            torch.from_numpy(observations) if isinstance(observations, np.ndarray) and observations.dtype == np.float32 else observations
        )
        if not isinstance(batch, torch.Tensor) or batch.dtype != torch.float32:
            kind = getattr(observations, "dtype", type(observations).__name__)
            raise InvalidInput(
                f"Observations are a float32 array, but got {kind}: convert them with np.asarray(observations, dtype=np.float32)."
            )
        if batch.ndim not in (1, 2) or batch.shape[-1] != OBSERVATION_SIZE:
            raise InvalidInput(f"Observations have shape (4,) or (n, 4), but got {tuple(batch.shape)}.")
        # One sum instead of a test per element: it is not finite exactly when an observation is not (or is absurdly large).
        if not math.isfinite(batch.sum()):
            raise InvalidInput(
                "Observations hold NaN or infinity: look at the environment's last step, or at what was done to its observations."
            )
        if batch.ndim == 1:
            batch = batch[None]
        try:
            chosen = network.actions(batch.to(self.device), deterministic, **exploration)
        except RuntimeError:  # torch draws nothing from probabilities that are NaN
            self.check_weights()
            raise
        if observations.ndim == 1:
            chosen = chosen[0]
        return chosen if isinstance(observations, torch.Tensor) else chosen.cpu().numpy()[()]


def _in_numpy_too(policy: Policy) -> Policy:
    """A copy of the policy on the same weights, whose linear layers are computed by NumPy.

    With so few observations and units torch needs longer to get ready than to compute.
    """
    twin = copy.copy(policy)
    for name, module in policy.named_children():
        function = _in_numpy(module)
        if function is not None:  # an attribute of the object itself is found before a module of that name
            vars(twin)[name] = lambda inputs, function=function: torch.from_numpy(function(inputs.numpy()))
    return twin


def _in_numpy(module: nn.Module) -> Callable[[np.ndarray], np.ndarray] | None:
    """What `module` computes as a function of an array float32 (n, inputs); None where this is not known for its kind.

    Only kinds with which the published trainings come out the same: the wide ReLU layers of lesson 06 would be rounded otherwise.
    """
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks:  # somebody looks on, and would see nothing
        return None
    if kind is nn.Sequential:
        layers = [_in_numpy(layer) for layer in module]
        return None if None in layers else lambda inputs: functools.reduce(lambda x, layer: layer(x), layers, inputs)
    if kind is nn.Linear and module.bias is not None and module.weight.dtype == torch.float32:
        weight, bias = module.weight.detach().numpy().T, module.bias.detach().numpy()
        return lambda inputs: inputs @ weight + bias
    if kind is nn.Tanh:
        return np.tanh
    if kind is nn.Identity or (kind is nn.Dropout and not module.training):
        return lambda inputs: inputs
    return None


def action_function(policy: Policy | Callable, *, exploration: dict[str, Any] | None = None) -> Callable:
    """The function from observations to actions behind `policy`: how it acts, or itself where it is a plain function.

    exploration: what its drawing depends on ({} where that is nothing), for who collects; None: it acts greedily.
    `InvalidAction` where the policy's weights are NaN or infinite.
    """
    drawing = {} if exploration is None else {"deterministic": False, **exploration}
    if isinstance(policy, Policy) and type(policy).act is Policy.act:
        return policy.acting(**drawing)
    if hasattr(policy, "act"):
        return functools.partial(policy.act, **drawing)
    if not callable(policy):
        raise InvalidInput(
            f"A policy is a function of the observations or has a method act(observations), but got {type(policy).__name__}."
        )
    return policy


def check_actions(actions: np.ndarray | torch.Tensor, space: spaces.Space) -> np.ndarray:
    """Return `actions` as an array that `space`, a batched action space, can execute; `InvalidAction` where it cannot."""
    if isinstance(actions, tuple) and len(actions) == 2 and np.ndim(actions[0]) > 0:
        raise InvalidAction(
            "The policy returned a pair in place of actions: return its first part alone, for example lambda observations: predict(observations)[0]."
        )
    try:
        array = np.asarray(actions.detach().cpu() if isinstance(actions, torch.Tensor) else actions)
    except (TypeError, ValueError) as error:
        raise InvalidAction(
            f"The policy returned {type(actions).__name__} that is no array ({in_short(error)}): return one action each."
        ) from None
    if array.shape != space.shape:
        raise InvalidAction(
            f"The policy returned actions of shape {array.shape}, but {space.shape[0]} observations need shape {space.shape}."
        )
    if isinstance(space, spaces.MultiDiscrete):
        if not np.issubdtype(array.dtype, np.integer):
            raise InvalidAction(
                f"The policy returned {array.dtype} actions, but this environment takes whole numbers: return for example logits.argmax(-1)."
            )
        if (array < 0).any() or (array >= space.nvec).any():
            raise InvalidAction(
                f"The policy returned actions {np.unique(array).tolist()[:5]}, but this environment knows 0 to {space.nvec[0] - 1}."
            )
    elif not np.isfinite(array).all():
        raise InvalidAction("The policy returned NaN or infinite actions: look for a learning rate that is too high.")
    return array
