"""A run whose matrix products take bfloat16 operands, on a processor that has no such products.

What ``torch.set_float32_matmul_precision("medium")`` computes where the hardware has them: operands
rounded to bfloat16, sums in float32. Here the rounding is done by hand, so it shows what becomes
of learning, not of speed. ``python benchmarks/precision.py fit --config quick --model.replicas 3``
takes the words of ``python -m adabc_lightning``.
"""

import sys
from typing import Any

import torch
from torch import Tensor

from adabc_lightning.__main__ import main
from adabc_lightning.agent import networks


class _Rounding:
    """PyTorch, but for its matrix products."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def matmul(left: Tensor, right: Tensor) -> Tensor:
        """The product of both, rounded to bfloat16 first."""
        return torch.matmul(left.bfloat16().float(), right.bfloat16().float())


if __name__ == "__main__":
    networks.torch = _Rounding()  # type: ignore[assignment]
    sys.exit(main(sys.argv[1:]))
