"""Batches with an exact share of offline rows: RLPD's symmetric sampling (Ball et al. 2023)."""

import math
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.transfer import sent


class SymmetricRing(ReplayRing):
    """A ring of online rows, beside offline rows that stay as they are.

    Args:
        layout: columns of a row.
        offline: ``[M, width]`` rows that are kept, of which each batch has its share.
        fraction: of a batch that is offline rows; they come first in it.
        rows: ``[T, width]`` rows of the ring to begin with, the oldest first.
        capacity: rows of the ring.
        generator: draws the samples.
        device: where the rows are kept and the batches made.
    """

    def __init__(
        self,
        layout: Layout,
        offline: Tensor,
        fraction: float,
        rows: Tensor,
        capacity: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(layout, rows, capacity, generator, device=device)
        self.offline, self.fraction = offline.to(device), fraction

    @property
    def stores(self) -> tuple[Tensor, ...]:
        """The offline rows and the ring's."""
        return self.offline, self.rows

    def some(self, count: int, generator: torch.Generator) -> Tensor:
        """Offline rows, their share of ``[count, width]``, then the ring's, if it has any."""
        share = round(self.fraction * count) if len(self) else count
        index = torch.randint(len(self.offline), (share,), generator=generator)
        rows = self.offline[sent(index, self.device)]
        return torch.cat([rows, super().some(count - share, generator)]) if len(self) else rows

    def sample(self, updates: int, batch_size: int) -> TensorDict:
        """Draws with replacement, independent for each update.

        Returns: TensorDict ``[updates, batch_size]`` (see :meth:`Layout.unpack`).
        """
        if not updates:
            return super().sample(updates, batch_size)
        share = round(self.fraction * batch_size)
        index = torch.randint(len(self.offline), (updates, share), generator=self.generator)
        online, _ = self._drawn(updates * (batch_size - share))
        rows = [self.offline[sent(index, self.device)], online.view(updates, -1, self.layout.width)]
        return self.layout.unpack(torch.cat(rows, 1))

    def state_dict(self) -> dict[str, Any]:
        """The ring's, and the offline rows."""
        return {**super().state_dict(), "offline": self.offline.to("cpu", copy=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state)
        self.offline = state["offline"].to(self.device)


def check_share(fraction: float, batch_size: int, ranks: int) -> None:
    """Whether every rank's batches can have exactly that share of offline rows.

    Raises: UserError: they cannot.
    """
    each = batch_size // ranks
    if (
        not math.isclose(fraction * each, round(fraction * each))
        or not 0 < round(fraction * each) < each
    ):
        where = f" on each of {ranks} devices" if ranks > 1 else ""
        raise UserError(
            f"data.offline_fraction is {fraction}, which of {each} transitions{where} is "
            f"{fraction * each:g}; it must be a whole number of rows, 1 or more of each kind"
        )
