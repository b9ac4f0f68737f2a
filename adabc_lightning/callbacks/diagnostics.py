"""diagnostics.json: what a run looked like when its numbers or its environment went wrong."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adabc_lightning.callbacks.summary import versions
from adabc_lightning.data.transitions import Layout
from adabc_lightning.run.atomic import replace_text


def tensor_statistics(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Shape, count of non-finite numbers, norm and largest magnitude of each, ``[*]``."""
    return {
        name: {
            "shape": list(tensor.shape),
            "non_finite": int((~torch.isfinite(tensor)).sum()),
            "norm": float(tensor.double().norm()),
            "largest": float(tensor.abs().max()) if tensor.numel() else 0.0,
        }
        for name, tensor in tensors.items()
    }


def column_statistics(layout: Layout, stores: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """Smallest, largest and count of non-finite numbers of each column of packed rows.

    Args:
        layout: names the columns.
        stores: one or more of ``[T, width]``, T may be 0.
    Returns: ``observation[0]``, …, ``reward``, … → ``min`` and ``max`` of what is finite, None
        where nothing is, and ``non_finite``.
    """
    statistics = {}
    for name, column in layout.columns.items():
        vector = isinstance(column, slice)
        first = column.start if isinstance(column, slice) else column
        last = column.stop if isinstance(column, slice) else column + 1
        for index in range(first, last):  # one by one: a copy of all rows may not fit
            values = torch.cat([rows[:, index] for rows in stores])
            finite = values[torch.isfinite(values)]
            statistics[f"{name}[{index - first}]" if vector else name] = {
                "min": float(finite.min()) if len(finite) else None,
                "max": float(finite.max()) if len(finite) else None,
                "non_finite": len(values) - len(finite),
            }
    return statistics


def write(path: Path, content: dict[str, Any]) -> None:
    """Strict JSON (NaN and infinities as texts), whole or not at all.

    Raises: NotWritten: the system refused.
    """
    content = {**content, "versions": versions()}
    replace_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
