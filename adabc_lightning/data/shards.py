"""The rings of several ranks: dealt out in turn, together the one that a single rank would have.

Row i of the whole belongs to rank i mod K, and each rank draws its part of a batch from its own
rows: every row is as likely as with one rank.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def oldest_first(ring: dict[str, Any]) -> Tensor:
    """Rows ``[T, width]`` of a ring's :meth:`ReplayRing.state_dict`, in the order they came."""
    rows: Tensor = ring["rows"]
    if len(rows) < ring["capacity"]:
        return rows
    return rows.roll(-ring["writer"]["_cursor"], 0)


def merged(rings: Sequence[dict[str, Any]]) -> Tensor:
    """All rows of several ranks' saved rings, ``[T, width]``, the oldest first.

    The newest rows of all ranks count as equally old, in the order of the ranks.
    """
    parts = [oldest_first(ring) for ring in rings]
    to_come = torch.cat([torch.arange(len(part), 0, -1) for part in parts])
    return torch.cat(parts)[torch.argsort(to_come, descending=True, stable=True)]
