"""Scalars that are learnt: the entropy's weight, and the multiplier of a constraint."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from adabc_lightning.agent.mlp import Weights


class LogScalar(nn.Module):
    """A positive number by its logarithm.

    Args:
        start: the logarithm's first value.
    """

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        # Not a scalar: compiled updates would leave one as it is, without a word (torch 2.13).
        self.log = nn.Parameter(torch.tensor([start]))

    @property
    def weights(self) -> Weights:
        """The live logarithm, ``[1]``."""
        return (self.log,)

    @staticmethod
    def value(log: Tensor) -> Tensor:
        """The number, ``[1]``, of :attr:`weights`."""
        return log.exp()


class SoftplusScalar(nn.Module):
    """A positive number x = log(1 + exp(u)) that starts at 1 (WSRL's code)."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor([math.log(math.e - 1)]))  # as LogScalar, no scalar

    @property
    def weights(self) -> Weights:
        """The live u, ``[1]``."""
        return (self.raw,)

    @staticmethod
    def value(raw: Tensor) -> Tensor:
        """The number, ``[1]``, of :attr:`weights`."""
        return softplus(raw)


def temperature_loss(scale: Tensor, entropy: Tensor, target: float) -> Tensor:
    """L = scale · (H − H̄): raises the temperature while the entropy is below its target.

    Args:
        scale: α (Haarnoja et al. 2018b, Eq. 18, RLPD, WSRL) or log α (CQL's code), ``[1]``.
        entropy: H, mean of −log π of the actor's step, no gradient.
        target: H̄.
    Returns: scalar.
    """
    return scale.squeeze(-1) * (entropy.detach() - target)
