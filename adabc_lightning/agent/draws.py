"""The random numbers of G updates, by name."""

from typing import NamedTuple

import torch
from torch import Tensor


class Random(NamedTuple):
    """Draws on the CPU, whatever the device: so a run's numbers do not depend on it.

    Every rank draws the same, for the whole batch: the noise of its own part is taken from that,
    and what belongs to no row is the same everywhere.
    """

    generator: torch.Generator
    """The run's, of the updates."""
    updates: int
    """G."""
    batch_size: int
    """B, rows of this rank."""
    action_size: int
    """A."""
    rank: int = 0
    ranks: int = 1
    online: bool = False
    """Whether the hand-over is past."""

    def normal(self, *size: int) -> Tensor:
        """Standard normal ``[G, B, *size]``; ``size`` is A where none is given."""
        return self._mine(torch.randn(self._shape(size), generator=self.generator))

    def uniform(self, *size: int) -> Tensor:
        """Uniform in [0, 1) ``[G, B, *size]``; ``size`` is A where none is given."""
        return self._mine(torch.rand(self._shape(size), generator=self.generator))

    def kept(self, rate: float, units: int) -> Tensor:
        """Dropout: 0 with probability ``rate``, else 1 / (1 − rate), ``[G, B, units]``."""
        return (self.uniform(units) >= rate) / (1 - rate)

    def subset(self, count: int, of: int) -> Tensor:
        """``count`` different numbers below ``of``, ``[G, count]``; with both the same, in order.

        In order, because a target rule may tell groups apart.
        """
        if count == of:
            return torch.arange(of).expand(self.updates, -1)
        order_GN = torch.rand((self.updates, of), generator=self.generator)
        return order_GN.topk(count).indices

    def with_replacement(self, count: int, of: int) -> Tensor:
        """As :meth:`subset`, but one number may come more than once, unless all are asked for."""
        if count == of:
            return self.subset(count, of)
        return torch.randint(of, (self.updates, count), generator=self.generator)

    def _shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return self.updates, self.batch_size * self.ranks, *(size or (self.action_size,))

    def _mine(self, drawn: Tensor) -> Tensor:
        return drawn[:, self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
