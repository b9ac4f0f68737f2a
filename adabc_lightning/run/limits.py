"""How much a file may claim to hold, before any of it is read."""

import math
from collections.abc import Iterable
from pathlib import Path

import h5py

from adabc_lightning.errors import UserError

# Bytes that one stored byte can stand for at most: the limit of deflate (gzip), see "Maximum
# Compression Factor" in zlib's technical details. Constant columns come close to it, and
# datasets stay below 10, unless they are sparse.
DEFLATE = 1032
SMALL = 1 << 30
"""Bytes of rows that are no harm, however small the file: what is sparse takes next to nothing."""


def check_claims(arrays: Iterable[h5py.Dataset], stored: int, where: str) -> None:
    """Refuses more bytes than the file can hold: unwritten rows, or a compression bomb.

    Args:
        arrays: all that will be read.
        stored: bytes of the file.
        where: the file, for the message.
    Raises: UserError: they are more than :data:`DEFLATE` times the file.
    """
    check_bytes(sum(_bytes(array) for array in arrays), stored, where)


def check_bytes(claimed: int, stored: int, where: str) -> None:
    """Refuses bytes that ``stored`` bytes of a file cannot stand for; the rest as above."""
    if claimed > DEFLATE * stored:
        raise UserError(
            f"{where} says that it holds {amount(claimed)}, but has {amount(stored)}: it is "
            "damaged, or was made to fill your memory"
        )


def check_rows(values: int, stored: int, where: str) -> None:
    """Refuses rows that take far more memory than their file is worth.

    A file of bytes or of runs of one value may claim no more than it can hold, and still become
    many times that: rows are float32, and hold each observation twice.

    Args:
        values: float32 numbers of the packed rows.
        stored: bytes of the file or files.
        where: the file, for the message.
    Raises: UserError: they are more than :data:`DEFLATE` times the file, and not a few.
    """
    if 4 * values > max(SMALL, DEFLATE * stored):
        raise UserError(
            f"{where} has {amount(stored)}, and its rows would take {amount(4 * values)}, more "
            f"than {DEFLATE:,} times that: either it was made to fill your memory, or it is very "
            "sparse; store it without compression"
        )


def check_memory(values: int, what: str) -> None:
    """Refuses what does not fit, before it is tried.

    Args:
        values: float32 numbers.
        what: a file or a key with its value, for the message.
    Raises: UserError: the machine has not so much memory to give, where that is known.
    """
    needed, free = 4 * values, available()
    if free is not None and needed > free:
        raise UserError(
            f"{what} needs {amount(needed)} of memory, {amount(free)} are free; use less"
        )


def _bytes(array: h5py.Dataset) -> int:
    """Declared bytes; at least those of a chunk, which is read as a whole."""
    size, chunk = (math.prod(map(int, shape)) for shape in (array.shape or (), array.chunks or ()))
    return max(size, chunk) * array.dtype.itemsize


def available() -> int | None:
    """Linux's estimate of the bytes that can be had without swapping; elsewhere None."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def amount(count: int) -> str:
    """``"1.2 GB"``."""
    power = min(5, max(0, (len(str(count)) - 1) // 3))
    unit = ("bytes", "kB", "MB", "GB", "TB", "PB")[power]
    return f"{count} bytes" if not power else f"{count / 1000**power:,.1f} {unit}"
