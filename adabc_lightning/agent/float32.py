"""Which library multiplies float32 matrices on a CPU: the faster one of those that are exact here.

PyTorch gives a product to MKL, or with ``torch.set_float32_matmul_precision("medium")`` to oneDNN.
Where the processor has matrix units for bfloat16 (Intel's AMX) oneDNN rounds the operands to its 8
bits; elsewhere it is as exact as MKL, and faster on processors that MKL has no fast path for. What
a processor says about itself does not tell which holds, so both are tried on products of the
critics' sizes.
"""

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from adabc_lightning.agent.products import ROUNDS, SHAPE
from adabc_lightning.run.processor import fingerprint, processor

LIBRARIES = {"highest": "MKL", "medium": "oneDNN"}
"""``torch.set_float32_matmul_precision``'s words → what multiplies on a CPU."""

_EXACT = 4.0  # times the usual error, which differs by the order of adding; bfloat16 has thousands
_WORTH = 1.5  # times as fast: a busy machine shows 1.1 where there is nothing


class Choice(NamedTuple):
    """What was found."""

    precision: str
    """``"highest"`` or ``"medium"``."""
    speed: float
    """Of oneDNN's product, × MKL's."""
    error: float
    """Of oneDNN's product, × MKL's: the largest against float64's."""

    def __str__(self) -> str:
        return (
            f"{LIBRARIES[self.precision]}: oneDNN makes float32 products at {self.speed:.2g} × "
            f"MKL's speed with {self.error:.2g} × its error"
        )


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Within it float32 products are as ``torch.set_float32_matmul_precision`` names them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def choose(device: torch.device, before: str | None = None) -> str:
    """What ``model.matmul_precision`` auto is.

    Args:
        device: that trains; on another than a CPU ``"highest"``.
        before: what the run had before it was interrupted, which it keeps where that is exact; None
            for a new one.
    Returns: a key of :data:`LIBRARIES`.
    """
    if device.type != "cpu" or before not in (None, "medium"):
        return "highest"
    if before == "medium" and exact():
        return "medium"
    return measured().precision


def exact() -> bool:
    """Whether oneDNN's float32 products are float32's in this process."""
    return error() <= _EXACT


@cache
def measured() -> Choice:
    """Speed and error of oneDNN's float32 product beside MKL's, with this process's threads.

    The error is looked at in each process: variables of the environment decide about it. The speed
    is measured once for a processor, a number of threads and a version of PyTorch, some hundredths
    of a second, and kept in the user's cache (``XDG_CACHE_HOME``), so that later runs have the same
    bits; where nothing can be kept there it is measured again.
    """
    return chosen(_kept_speed(), error())


def chosen(speed: float, error: float) -> Choice:
    """What follows from oneDNN's speed and error, both × MKL's."""
    exact_and_faster = error <= _EXACT and speed >= _WORTH
    return Choice("medium" if exact_and_faster else "highest", speed, error)


@cache
def error() -> float:
    """Of oneDNN's product, × MKL's: the largest against float64's."""
    a, b = _operands()
    right = torch.bmm(a.double(), b.double())
    usual, other = (float((_product(name, a, b) - right).abs().max()) for name in LIBRARIES)
    return other / usual


def _kept_speed() -> float:
    key = f"{processor()} {fingerprint()} {torch.get_num_threads()} {torch.__version__}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = folder / "adabc_lightning" / f"onednn_speed_{name}.txt"
    with suppress(OSError, ValueError):
        return float(path.read_text())
    speed = _speed()
    with suppress(OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
            file.write(f"{speed}\n")
            file.flush()
            with suppress(FileExistsError):  # whoever was first has said it for all
                os.link(file.name, path)
        return float(path.read_text())
    return speed


def _speed() -> float:
    a, b = _operands()
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    ratios = []
    for number in range(ROUNDS + 1):  # in turn: what else the machine does falls on both
        ends = [clock()]
        for name in LIBRARIES:
            _product(name, a, b)
            ends.append(clock())
        if number:  # the first round warms up
            ratios.append((ends[1] - ends[0]) / (ends[2] - ends[1]))
    return statistics.median(ratios)


def _operands() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)


def _product(precision: str, a: Tensor, b: Tensor) -> Tensor:
    with multiplying(precision):
        return torch.bmm(a, b)
