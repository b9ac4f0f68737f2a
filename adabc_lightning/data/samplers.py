"""What says which rows of a ring are drawn.

TorchRL's ``Sampler`` is not the base: it asks for methods that TorchRL's buffers alone call, and
those that derive from it draw from TorchRL's storages, which the ring is not.
"""

from typing import Any, Protocol

import torch
from torch import Tensor


class Sampler(Protocol):
    """Draws rows of a ring, by what it has been told of them."""

    def begin(self, rows: int) -> None:
        """So many are in the ring at the start, at indices from 0 on."""

    def added(self, index: int) -> None:
        """A row was appended to the ring, or written over its oldest."""

    def draw(self, rows: int, count: int, generator: torch.Generator) -> Tensor:
        """Draws with replacement.

        Args:
            rows: in the ring, 1 or more.
            count: of the draws.
            generator: on the CPU, wherever the rows are.
        Returns: indices ``[count]`` int64, on the CPU.
        """

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""


class UniformSampler:
    """Draws every row with the same probability; it remembers nothing of them.

    TorchRL's ``RandomSampler`` draws on the device of the rows; a generator of the CPU cannot.
    """

    def begin(self, rows: int) -> None:
        """Nothing to do."""

    def added(self, index: int) -> None:
        """Nothing to do."""

    def draw(self, rows: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices ``[count]``."""
        return torch.randint(0, rows, (count,), generator=generator)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do, also where the ring that was saved had priorities."""
