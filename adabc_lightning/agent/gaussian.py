"""The squashed Gaussian policy: a = tanh(u), u ~ N(μ(s), σ(s)²), scaled to the action range.

Densities are those of actions in action limits, [−1, 1] in each dimension, so that they do not
depend on the action's unit. Dimensions: B batch, A action; in front of them there may be others.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from adabc_lightning.agent.initialisation import Initialisation
from adabc_lightning.agent.networks import Actor, Weights, mlp

LOG_STD_RANGE = -20.0, 2.0
"""Of log σ; what RLPD's and CQL's codes have."""


class SquashedActor(Actor):
    """A policy whose noise depends on the state; without noise it is tanh(μ(s)), like any actor.

    Args:
        observation_size, action_low, action_high, hidden_sizes, initialise: see
            :class:`~adabc_lightning.agent.networks.Actor`.
        log_std_bias: what log σ starts from, in action limits before the tanh.
    """

    def __init__(
        self,
        observation_size: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        hidden_sizes: Sequence[int],
        initialise: Initialisation | None = None,
        log_std_bias: float = 0.0,
    ) -> None:
        super().__init__(
            observation_size, action_low, action_high, hidden_sizes, initialise=initialise
        )
        self.log_std_head = nn.Linear(hidden_sizes[-1], len(action_low))
        if initialise is not None:
            initialise(nn.Sequential(self.log_std_head))
        nn.init.constant_(self.log_std_head.bias, log_std_bias)

    @property
    def weights(self) -> Weights:
        """The live parameters: μ's layers in order, then weight and bias of log σ."""
        return (*super().weights, *self.log_std_head.parameters())

    @torch.no_grad()
    def explore(self, observation: np.ndarray, noise_A: np.ndarray) -> np.ndarray:
        """The action ``[A]`` for an observation ``[O]`` and a standard normal draw ``[A]``."""
        device = self.action_low.device
        observation_BO = torch.from_numpy(observation.astype(np.float32)[None]).to(device)
        observation_BO = self.normalized(observation_BO)
        mean_BA, log_std_BA = mean_and_log_std(observation_BO, self.weights)
        noise_BA = torch.from_numpy(noise_A.astype(np.float32)[None]).to(device)
        unit_BA, _ = sample(mean_BA, log_std_BA, noise_BA)
        return scaled(unit_BA, self.action_low, self.action_high)[0].cpu().numpy()


def mean_and_log_std(observation_BO: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """μ(s) and log σ(s), before the tanh, of a :class:`SquashedActor`'s weights.

    Returns: ``[B, A]`` each.
    """
    *trunk, weight, bias, std_weight, std_bias = weights
    both = torch.cat([weight, std_weight], -2), torch.cat([bias, std_bias], -1)  # one product
    mean_BA, log_std_BA = mlp(observation_BO, (*trunk, *both)).chunk(2, -1)
    return mean_BA, log_std_BA.clamp(*LOG_STD_RANGE)


def sample(mean_BA: Tensor, log_std_BA: Tensor, noise_BA: Tensor) -> tuple[Tensor, Tensor]:
    """The action of a standard normal draw, and the logarithm of its density.

        a = tanh(u),  u = μ + σ ε,  log π = Σ_A [−ε²/2 − log σ − log √(2π) − log(1 − tanh² u)]

    The last term as 2 (log 2 − u − softplus(−2u)): exact where tanh u rounds to ±1.

    Args:
        mean_BA, log_std_BA: μ, log σ.
        noise_BA: ε.
    Returns: action ``[B, A]`` in action limits, and ``[B]``.
    """
    raw_BA = mean_BA + log_std_BA.exp() * noise_BA
    squash_BA = 2 * (math.log(2) - raw_BA - softplus(-2 * raw_BA))
    normal_BA = -0.5 * noise_BA.square() - log_std_BA - 0.5 * math.log(2 * math.pi)
    return raw_BA.tanh(), (normal_BA - squash_BA).sum(-1)


def scaled(unit_BA: Tensor, low_A: Tensor, high_A: Tensor) -> Tensor:
    """An action ``[B, A]`` in action limits as one in action units, within the bounds."""
    action_BA = unit_BA * ((high_A - low_A) / 2) + (high_A + low_A) / 2
    return action_BA.clamp(low_A, high_A)  # rounding alone leaves the box
