"""Observations as networks see them: minus their mean, by their standard deviation."""

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-3
"""Added to the standard deviation; TD3+BC's code has it (Fujimoto & Gu 2021)."""
BLOCK = 131_072  # rows at once


class Normalization(NamedTuple):
    """(s − mean) / scale, both ``[O]`` float32 and fixed once they are known."""

    mean: Tensor
    scale: Tensor
    """Standard deviation and :data:`EPSILON`."""

    @classmethod
    def of_rows(cls, observation_TO: Tensor) -> "Normalization":
        """Of the observations of a dataset, ``[T, O]`` with T ≥ 1; sums in float64."""
        total = torch.zeros(observation_TO.shape[1], dtype=torch.float64)
        for block_BO in observation_TO.split(BLOCK):
            total += block_BO.double().sum(0)
        mean = total / len(observation_TO)
        squares = torch.zeros_like(mean)
        for block_BO in observation_TO.split(BLOCK):
            squares += (block_BO.double() - mean).square().sum(0)
        std = (squares / len(observation_TO)).sqrt()
        return cls(mean.float(), (std + EPSILON).float())

    def __call__(self, observation_BO: Tensor) -> Tensor:
        """Observations ``[*, O]``, normalised."""
        return (observation_BO - self.mean) / self.scale

    def apply(self, observation_TO: Tensor) -> None:
        """The same in place."""
        observation_TO.sub_(self.mean).div_(self.scale)
