"""The matrix products of an update, without anything around them: no update can be faster."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_KINDS = (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm, torch.ops.aten.baddbmm)


class _Recorded(TorchDispatchMode):
    """Notes the operands of each product."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function.overloadpacket in _KINDS:
            left, right = args[-2:]
            self.pairs.append((left, right))
        return function(*args, **(kwargs or {}))


def products_of(make: Callable[[], None]) -> Callable[[], None]:
    """A function that makes the same matrix products again, in their order, and nothing else.

    Args:
        make: some updates of plain PyTorch. Operands of the same layout are the same ones then, so
            that the caches serve the products no worse than within the updates.
    """
    with _Recorded() as recorded:
        make()
    operands: dict[Any, tuple[Tensor, Tensor]] = {}
    calls = []
    for pair in recorded.pairs:
        layout = tuple((each.shape, each.stride(), each.dtype) for each in pair)
        left, right = operands.setdefault(layout, (_like(pair[0]), _like(pair[1])))
        calls.append((torch.bmm if left.dim() == 3 else torch.mm, left, right))

    def again() -> None:
        for product, left, right in calls:
            product(left, right)

    return again


def _like(given: Tensor) -> Tensor:
    """Other numbers in the same layout."""
    steps = zip(given.shape, given.stride(), strict=True)
    numbers = torch.randn(1 + sum((size - 1) * step for size, step in steps), device=given.device)
    return numbers.to(given.dtype).as_strided(given.shape, given.stride())
