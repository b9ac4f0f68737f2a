"""The number type of an update's matrix products: that of its weights, or bfloat16.

With bfloat16 the operands and results of a network's hidden layers are rounded to 8 bits, and what
is between the layers stays so (with LayerNorm or dropout only the products are rounded); a product
adds in float32. Weights, Adam, targets, losses and a network's last layer, which makes values and
actions, keep the weights' type. So does whatever is computed outside of an update: acting,
evaluation, exports.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

TYPES: dict[str, torch.dtype | None] = {"float32": None, "bf16": torch.bfloat16}
"""``model.precision`` → type of the products; None for that of the weights."""

SHAPE = (10, 256, 256)
"""Of what is timed: members, batch and units, those of the paper's critics."""
ROUNDS = 9
"""How often, in turn."""

_chosen: torch.dtype | None = None


@contextmanager
def products_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Within it networks multiply in a type; None for that of their weights."""
    global _chosen
    before, _chosen = _chosen, dtype
    try:
        yield
    finally:
        _chosen = before


def of(weight: Tensor) -> torch.dtype:
    """The type in which a network of such weights (any shape ``[*]``) multiplies now."""
    return weight.dtype if _chosen is None else _chosen


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, in the type of :func:`of` and given back in that of ``b``, a network's weights.

    Args:
        a: ``[*, B, I]``.
        b: ``[*, I, H]``.
    Returns: ``[*, B, H]``.
    """
    dtype = of(b)
    return torch.matmul(a.to(dtype), b.to(dtype)).to(b.dtype)


@cache
def gain(dtype: torch.dtype, device: torch.device) -> float:
    """How many times as fast as in float32 a batched product of the critics' sizes is here.

    By the fastest of a few tries each, in turn; some hundredths of a second, once a process.
    """

    def seconds(operands: tuple[Tensor, Tensor]) -> float:
        start = time.perf_counter()
        torch.bmm(*operands)[0, 0, 0].item()  # waits for an accelerator
        return time.perf_counter() - start

    weights = torch.full(SHAPE, 0.5, device=device)
    full, small = (weights, weights), (weights.to(dtype), weights.to(dtype))
    pairs = [(seconds(full), seconds(small)) for _ in range(ROUNDS)]
    return min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs)
