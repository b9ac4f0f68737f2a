"""The squashed Gaussian policy: a = tanh(u), u ~ N(μ(s), σ(s)²), scaled to the action range.

Densities are those of actions in action limits, [−1, 1] in each dimension, so that they do not
depend on the action's unit. Dimensions: B batch, A action; in front of them there may be others.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from adabc_lightning.agent.initialisation import Initialisation, uniform
from adabc_lightning.agent.mlp import Weights, mlp
from adabc_lightning.agent.networks import Actor


class GaussianOptions(NamedTuple):
    """What a squashed Gaussian is beside its weights."""

    log_std_range: tuple[float, float] = (-20.0, 2.0)
    """Of log σ, in action limits before the tanh; what RLPD's and CQL's codes have."""
    log_std_start: float = 0.0
    """What log σ starts from."""
    scalars: bool = False
    """Whether log σ is c · x + o of the network's x, with c and o learnt (CQL's code)."""
    norm: Literal["before"] | None = None
    """Whether hidden layers are normalised, before their activation: what a stored policy knows."""


class SquashedActor(Actor):
    """A policy whose noise depends on the state; without noise it is tanh(μ(s)), like any actor.

    Args:
        observation_size, action_low, action_high, hidden_sizes, initialise: see
            :class:`~adabc_lightning.agent.networks.Actor`.
        gaussian: what it is beside its weights.
    """

    log_std_range: Tensor

    def __init__(
        self,
        observation_size: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        hidden_sizes: Sequence[int],
        initialise: Initialisation = uniform,
        gaussian: GaussianOptions = GaussianOptions(),  # noqa: B008  nothing changes it
    ) -> None:
        super().__init__(
            observation_size, action_low, action_high, hidden_sizes, None, initialise, gaussian.norm
        )
        self.gaussian = gaussian
        self.log_std_head = nn.Linear(hidden_sizes[-1], len(action_low))
        initialise(nn.Sequential(self.log_std_head))
        nn.init.constant_(
            self.log_std_head.bias, 0.0 if gaussian.scalars else gaussian.log_std_start
        )
        self.scalars = nn.ParameterList()
        if gaussian.scalars:
            numbers = 1.0, gaussian.log_std_start
            self.scalars.extend(nn.Parameter(torch.tensor([number])) for number in numbers)
        # With the weights, so that whoever reads them knows what they stand for.
        self.register_buffer("log_std_range", torch.tensor(gaussian.log_std_range))

    @property
    def weights(self) -> Weights:
        """The live parameters: μ's layers in order, weight and bias of log σ, then c and o."""
        return (*super().weights, *self.log_std_head.parameters(), *self.scalars)


def mean_and_log_std(
    observation_BO: Tensor, weights: Weights, gaussian: GaussianOptions
) -> tuple[Tensor, Tensor]:
    """μ(s) and log σ(s), before the tanh, of a :class:`SquashedActor`'s weights and options.

    Returns: ``[B, A]`` each.
    """
    if gaussian.scalars:
        *layers, factor, offset = weights
    else:
        layers = list(weights)
    *trunk, weight, bias, std_weight, std_bias = layers
    both = torch.cat([weight, std_weight], -2), torch.cat([bias, std_bias], -1)  # one product
    mean_BA, log_std_BA = mlp(observation_BO, (*trunk, *both), gaussian.norm).chunk(2, -1)
    if gaussian.scalars:
        log_std_BA = log_std_BA * factor.unsqueeze(-1) + offset.unsqueeze(-1)
    return mean_BA, log_std_BA.clamp(*gaussian.log_std_range)


def sample(
    mean_BA: Tensor, log_std_BA: Tensor, noise_BA: Tensor, free_A: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The action of a standard normal draw, and the logarithm of its density.

        a = tanh(u),  u = μ + σ ε,  log π = Σ_A [−ε²/2 − log σ − log √(2π) − log(1 − tanh² u)]

    The last term as 2 (log 2 − u − softplus(−2u)): exact where tanh u rounds to ±1.

    Args:
        mean_BA, log_std_BA: μ, log σ.
        noise_BA: ε.
        free_A: which dimensions can vary; the others have no share of the density. None: all.
    Returns: action ``[B, A]`` in action limits, and ``[B]``.
    """
    raw_BA = mean_BA + log_std_BA.exp() * noise_BA
    squash_BA = 2 * (math.log(2) - raw_BA - softplus(-2 * raw_BA))
    normal_BA = -0.5 * noise_BA.square() - log_std_BA - 0.5 * math.log(2 * math.pi)
    log_prob_BA = normal_BA - squash_BA
    if free_A is not None:
        log_prob_BA = torch.where(free_A, log_prob_BA, 0)
    return raw_BA.tanh(), log_prob_BA.sum(-1)


def scaled(unit_BA: Tensor, low_A: Tensor, high_A: Tensor) -> Tensor:
    """An action ``[B, A]`` in action limits as one in action units, within the bounds."""
    action_BA = unit_BA * ((high_A - low_A) / 2) + (high_A + low_A) / 2
    return action_BA.clamp(low_A, high_A)  # rounding alone leaves the box
