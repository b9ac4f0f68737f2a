"""Text files, plain or packed with gzip or zstd, a line at a time and never absurdly much."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run.limits import amount

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LONGEST = 1 << 20  # characters of a line
# What numbers as text are packed to is a third to a twentieth; a two-hundredth is no log.
_PACKED, _SMALL = 200, 64 << 20


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The file as text, unpacked on the way."""
    try:
        with path.open("rb") as raw:
            magic = raw.read(4)
            raw.seek(0)
            packed: Any = raw
            if magic.startswith(GZIP):
                packed = gzip.GzipFile(fileobj=raw)
            elif magic == ZSTD:
                packed = _zstd(path)
            if packed is not raw:
                packed = io.BufferedReader(_Bounded(packed, path))
            with io.TextIOWrapper(packed, "utf-8-sig", newline="") as text:
                yield text
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8; a log as text must be") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked: {one_line(str(error))}") from error


def _zstd(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UserError(
            f"{path}: zstd needs pyarrow: pip install 'adabc_lightning[tables]'"
        ) from error
    return pyarrow.input_stream(str(path), compression="zstd")


class _Bounded(io.RawIOBase):
    """Reads on while what comes out is not absurdly more than what went in."""

    def __init__(self, packed: Any, path: Path) -> None:
        self._packed, self._path = packed, path
        self._left = max(_SMALL, _PACKED * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._packed.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UserError(
                f"{self._path} has {amount(self._path.stat().st_size)} and unpacks to more than "
                f"{_PACKED} times that: it was made to fill your memory"
            )
        buffer[: len(data)] = data
        return len(data)


def line_of(file: TextIO, path: Path) -> str:
    """The next line, "" at the end.

    Raises: UserError: it is longer than any table's.
    """
    line = file.readline(_LONGEST)
    if len(line) >= _LONGEST:
        raise UserError(f"{path} has a line of more than {amount(_LONGEST)}: it is no table")
    return line


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """All lines that are left.

    Raises: UserError: as above.
    """
    while line := line_of(file, path):
        yield line


def line_places(path: Path, header: int, empty: Callable[[str], bool]) -> Callable[[int], str]:
    """Index of a row, from 0 → the line of the file that it stands in, as editors count: from 1.

    The file is read for it again: whoever asks has stopped to read.

    Args:
        path: the file.
        header: lines before the first row.
        empty: whether a line is none of the rows.
    """

    def place(row: int) -> str:
        with opened(path) as file:
            full = (n for n, line in enumerate(lines_of(file, path), 1) if not empty(line))
            return f"line {next(islice(full, header + row, None), header + row + 1)}"

    return place
