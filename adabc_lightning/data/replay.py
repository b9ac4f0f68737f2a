"""The ring the agent learns from: one tensor, whose rows a sampler draws.

TorchRL's ``ReplayBuffer`` is not used: it does more for each row than is needed here.
"""

import copy
import math
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.data.priorities import SavedPriorities
from adabc_lightning.data.samplers import Sampler, UniformSampler
from adabc_lightning.data.transitions import Layout
from adabc_lightning.run.saved import Count, Generator, Saved, absent, disagree, shown, tensor
from adabc_lightning.run.transfer import sent


class SavedDraws(Saved):
    """Of a ring of the offline rows, which are in their dataset."""

    generator: Generator


class _Writer(Saved):
    cursor: Count = Field(alias="_cursor")
    written: Count = Field(alias="_write_count")


class SavedRing(SavedDraws):
    """Rows, cursor and capacity are those of one ring."""

    rows: Annotated[Tensor, tensor(2, torch.float32)]
    offline: Annotated[Tensor, tensor(2, torch.float32)] = absent()
    """Beside the ring, where batches have a share of them."""
    pending: Annotated[Tensor, tensor(2, torch.float32)] = absent()
    """Of the episode under way, where returns are wanted."""
    capacity: Count
    writer: _Writer
    sampler: SavedPriorities

    @model_validator(mode="after")
    def _one_ring(self) -> "SavedRing":
        rows, capacity, written = len(self.rows), self.capacity, self.writer.written
        waiting = 0 if self.pending is None else len(self.pending)
        if rows + waiting == 0 or rows != min(written, capacity):
            disagree(
                f"{{where}} has {rows} rows and room for {capacity}, but {written} were written"
            )
        if self.writer.cursor != written % capacity:
            disagree(
                f"{{where}}/writer/_cursor is {self.writer.cursor}; after {written} rows in a ring "
                f"of {capacity} it must be {written % capacity}"
            )
        priorities = self.sampler.priorities
        if priorities is None:
            return self
        if len(priorities) != rows or not bool((priorities >= 0).all()):  # also catches NaN
            disagree(
                f"{{where}}/sampler/priorities is {shown(priorities)}; it must be {rows} numbers, "
                "0 or more"
            )
        if not 0 < float(priorities.sum()) < math.inf:
            disagree("{where}/sampler/priorities have no positive, finite sum")
        return self


class ReplayRing:
    """Packed transitions; the oldest row is overwritten when the ring is full.

    Args:
        layout: columns of a row.
        rows: ``[T, width]`` rows to begin with, the oldest first.
        capacity: rows of the ring, at least T.
        generator: draws the samples; its state is saved with the ring.
        sampler: which rows are drawn; None for uniform draws with replacement.
        device: where the rows are kept and the batches made.
    Raises: ValueError: more rows than capacity.
    """

    def __init__(
        self,
        layout: Layout,
        rows: Tensor,
        capacity: int,
        generator: torch.Generator,
        sampler: Sampler | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(rows) > capacity:
            raise ValueError(f"{len(rows)} rows do not fit into a ring of {capacity}")
        self.layout = layout
        self.capacity = capacity
        self.generator = generator
        self.sampler: Sampler = UniformSampler() if sampler is None else sampler
        self.device = torch.device(device)
        self._nothing: TensorDict | None = None
        # The system gives a page of it when a row is written there.
        self._memory = torch.empty(capacity, layout.width, device=device)
        self._count = self._cursor = self._written = 0
        self._newest: int | None = None  # of the rows that were added
        self._begin(rows)

    def _begin(self, rows: Tensor) -> None:
        """Rows ``[T, width]`` of a ring that is empty."""
        count = len(rows)
        if count:
            self._memory[:count] = rows
            self._cursor, self._count, self._written = count % self.capacity, count, count
            self.sampler.begin(count)

    def reader(self, generator: torch.Generator) -> "ReplayRing":
        """A second ring of the same rows, in the same memory, with draws of its own.

        Args:
            generator: draws its samples. To neither of the two may a row be added.
        """
        other = copy.copy(self)
        assert isinstance(self.sampler, UniformSampler)  # which remembers nothing
        other.generator = generator
        return other

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Tensor:
        """The filled part of the storage ``[T, width]``, a view in storage order."""
        return self._memory[: self._count]

    @property
    def stores(self) -> tuple[Tensor, ...]:
        """All that batches are drawn from, ``[T, width]`` each, views."""
        return (self.rows,)

    @property
    def total(self) -> int:
        """Rows of all of them."""
        return sum(map(len, self.stores))

    def some(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows ``[count, width]`` as a batch mixes them, drawn uniformly by another generator."""
        return self.rows[sent(torch.randint(len(self), (count,), generator=generator), self.device)]

    def add(self, row: Tensor, continues: bool = False) -> None:
        """Appends one row.

        Args:
            row: ``[width]``.
            continues: whether it followed the row added before it, whose next action is its own.
        """
        if continues and self._newest is not None and "next_action" in self.layout.extras:
            columns = self.layout.columns
            before = self._memory[self._newest]
            before[columns["next_action"]] = sent(row[columns["action"]], self.device)
            before[columns["next_action_known"]] = 1.0
        self._newest = self._cursor
        self._memory[self._cursor] = sent(row, self.device)
        self._cursor = (self._cursor + 1) % self.capacity
        self._count = min(self._count + 1, self.capacity)
        self._written += 1
        self.sampler.added(self._newest)

    def sample(self, updates: int, batch_size: int) -> TensorDict:
        """Draws with replacement, independent for each update.

        Returns: TensorDict ``[updates, batch_size]`` (see :meth:`Layout.unpack`), and the rows'
            ``index`` in storage order.
        """
        if not updates:
            return self._no_batch(batch_size)
        # One draw for all updates: a third of the cost of one draw each.
        rows, index = self._drawn(updates * batch_size)
        return self.layout.unpack(
            rows.view(updates, batch_size, self.layout.width), index.view(updates, batch_size)
        )

    def _drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """So many rows ``[count, width]`` and their places ``[count]``, on the CPU."""
        index = self.sampler.draw(len(self), count, self.generator)
        return self._memory.index_select(0, sent(index, self.device)), index

    def _no_batch(self, batch_size: int) -> TensorDict:
        """``[0, batch_size]``; takes as long to make as a batch: once is enough."""
        nothing = self._nothing
        if nothing is None or nothing.batch_size[1] != batch_size:
            rows = torch.empty(0, batch_size, self.layout.width, device=self.device)
            index = torch.empty(0, batch_size, dtype=torch.int64)
            nothing = self._nothing = self.layout.unpack(rows, index)
        return nothing

    def state_dict(self) -> dict[str, Any]:
        """Rows in storage order, cursor and generator: plain tensors and numbers."""
        return {
            "rows": self.rows.to("cpu", copy=True),  # a view would save the whole storage
            "capacity": self.capacity,
            "writer": {"_cursor": self._cursor, "_write_count": self._written},
            "sampler": self.sampler.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`, into a ring that is still empty.

        What never overwrote a row may go on in a larger ring.
        """
        rows = state["rows"]
        self._begin(rows)
        writer = state["writer"]
        self._cursor, self._written = writer["_cursor"], writer["_write_count"]
        if state["capacity"] == len(rows) < self.capacity and self._cursor == 0:
            self._cursor = len(rows)  # it was full, now it is not
        self._newest = (self._cursor - 1) % len(rows) if len(rows) else None
        self.sampler.load_state_dict(state["sampler"])
        self.generator.set_state(state["generator"])
