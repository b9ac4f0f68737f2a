"""Sampling in proportion to priorities.

TorchRL's own ``PrioritizedSampler`` needs C++ symbols that do not load with torch 2.13.
"""

from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import Number, Saved, absent, tensor


class SavedPriorities(Saved):
    """Of a ring with priorities; uniform draws save nothing."""

    priorities: Annotated[Tensor, tensor(1, torch.float64)] = absent()
    entry_priority: Number = absent()
    largest: Number = absent()


class PrioritySampler:
    """Draws row i with probability p_i / Σp, with replacement.

    The rows that a ring begins with have priority 1; a row added later has ``entry_priority``
    or the largest priority so far, if that is greater (Balanced Replay, Lee et al. 2021).
    """

    def __init__(self) -> None:
        self.entry_priority = 1.0
        self.largest = 1.0
        self._storage = np.empty(0)
        self._size = 0

    @property
    def priorities(self) -> np.ndarray:
        """``[T]`` float64, in the order of the ring's storage; a view."""
        return self._storage[: self._size]

    def begin(self, rows: int) -> None:
        """So many are in the ring at the start."""
        self._size = rows
        self._storage = np.ones(max(1, 2 * self._size))

    def added(self, index: int) -> None:
        """A row appended to the ring, or written over its oldest."""
        if index >= len(self._storage):
            self._storage = np.resize(self._storage, max(1024, 2 * len(self._storage)))
        self._size = max(self._size, index + 1)
        self.largest = max(self.entry_priority, self.largest)
        self._storage[index] = self.largest

    def update_priority(self, index_B: Tensor, priority_B: Tensor) -> None:
        """Sets the priorities of rows; of a row named twice the last one counts."""
        # NumPy, because with PyTorch it is not defined which one counts.
        self._storage[index_B.numpy()] = priority_B.numpy()
        self.largest = max(self.largest, float(priority_B.max()))

    def draw(self, rows: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices ``[count]`` by inversion of the cumulative sum."""
        cumulative_T = self.priorities.cumsum()
        draw_B = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
        index_B = np.searchsorted(cumulative_T, draw_B * cumulative_T[-1], side="right")
        # The product may round up to the total itself.
        return torch.from_numpy(index_B.clip(max=self._size - 1))

    def state_dict(self) -> dict[str, Any]:
        """Priorities and what the next row enters with; plain tensors and numbers."""
        return {
            "priorities": torch.tensor(self.priorities),
            "entry_priority": self.entry_priority,
            "largest": self.largest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises: UserError: the ring that was saved had no priorities.
        """
        if "priorities" not in state:
            raise UserError(
                "the checkpoint's replay ring has no priorities; go on without them, or from "
                "before the hand-over (pretrained.ckpt)"
            )
        self._storage = state["priorities"].numpy().copy()
        self._size = len(self._storage)
        self.entry_priority = state["entry_priority"]
        self.largest = state["largest"]
