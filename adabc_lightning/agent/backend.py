"""Which library multiplies float32 matrices on a CPU: the faster one of those that are exact here.

PyTorch gives a product to MKL, or with ``torch.set_float32_matmul_precision("medium")`` to oneDNN.
Where the processor has matrix units for bfloat16 (Intel's AMX) oneDNN rounds the operands to its 8
bits; elsewhere it is as exact as MKL, and faster on processors that MKL has no fast path for. What
a processor says about itself does not tell which holds, so both are tried on products of the
critics' sizes: once on a machine, whose next runs then have the same bits. (A product that
PyTorch's compiler writes itself was 2.2 times slower than MKL's on such an Intel:
docs/performance.md.)
"""

import json
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from adabc_lightning.run.atomic import NotWritten, replace_text
from adabc_lightning.run.processor import fingerprint, processor

LIBRARIES = {"highest": "MKL", "medium": "oneDNN"}
"""``torch.set_float32_matmul_precision``'s words → what multiplies on a CPU."""

_SHAPE = (10, 256, 256)  # members, batch and units: those of the paper's critics
_ROUNDS = 9
_EXACT = 4.0  # times the usual error, which differs by the order of adding; bfloat16 has thousands
_WORTH = 1.1  # times as fast: what noise might show is no reason to be special


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


def choose(device: torch.device, before: str | None = None) -> str:
    """What ``model.matmul_precision`` auto is.

    Args:
        device: that trains; on another than a CPU ``"highest"``.
        before: what the run had before it was interrupted, which it keeps where that is exact.
    Returns: a key of :data:`LIBRARIES`.
    """
    if device.type != "cpu" or before == "highest":
        return "highest"
    choice = measured()
    return "medium" if before and choice.error <= _EXACT else choice.precision


@cache
def measured() -> Choice:
    """Speed and error of oneDNN's float32 product beside MKL's, with this process's threads.

    A few hundredths of a second, once on a machine: kept in ``adabc_lightning/products.json`` of
    the user's cache (``XDG_CACHE_HOME``), by processor, threads and version of PyTorch. A file that
    cannot be read or written changes nothing but that it is measured again.
    """
    path = _cache() / "products.json"
    threads = f"{torch.get_num_threads()} threads"
    key = f"{processor()} ({fingerprint()}), {threads}, torch {torch.__version__}"
    known: dict[str, list[object]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):  # none, or not of ours
        found = json.loads(path.read_text(encoding="utf-8"))
        known = dict(found)
        precision, speed, error = known[key]
        if precision in LIBRARIES:
            return Choice(str(precision), float(speed), float(error))  # type: ignore[arg-type]
    choice = _measure()
    with suppress(NotWritten, OSError):
        replace_text(path, json.dumps(known | {key: list(choice)}, indent=2) + "\n")
    return choice


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given or Path("~/.cache").expanduser()) / "adabc_lightning"


def _measure() -> Choice:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_SHAPE, generator=generator) for _ in range(2))
    exact = torch.bmm(a.double(), b.double())
    seconds: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    errors = {}
    before = torch.get_float32_matmul_precision()
    try:
        for number in range(_ROUNDS + 1):  # in turn: what else the machine does falls on both
            for name in LIBRARIES:
                torch.set_float32_matmul_precision(name)
                start = time.perf_counter()
                product = torch.bmm(a, b)
                if number:  # the first one warms up
                    seconds[name].append(time.perf_counter() - start)
                errors[name] = float((product - exact).abs().max())
    finally:
        torch.set_float32_matmul_precision(before)
    speed = min(seconds["highest"]) / min(seconds["medium"])
    return chosen(speed, errors["medium"] / errors["highest"])


def chosen(speed: float, error: float) -> Choice:
    """What follows from oneDNN's speed and error, both × MKL's."""
    exact_and_faster = error <= _EXACT and speed >= _WORTH
    return Choice("medium" if exact_and_faster else "highest", speed, error)
