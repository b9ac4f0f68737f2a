"""Text: CSV and TSV with a header, JSON Lines; plain, gzip or zstd. Read a block at a time."""

import csv
import gzip
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.data.formats.tables import (
    MISSING,
    Column,
    coded,
    episode_code,
    moment,
    table_source,
)
from adabc_lightning.data.names import SCALARS
from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run.limits import amount

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LONGEST = 1 << 20  # characters of a line
# What numbers as text are packed to is a third to a twentieth; a hundredth is no log.
_PACKED, _SMALL = 200, 64 << 20
_FLAGS = {name for key in ("terminals", "timeouts", "dones") for name in SCALARS[key]}


def open_text(path: Path, reading: Reading) -> Source:
    """A log as text; the first character tells JSON Lines from CSV.

    Args:
        path: the file, packed or not.
        reading: what the user knows.
    Raises: UserError: it is damaged, packed beyond belief, or is no log.
    """
    with _opened(path) as file:
        line = _line(file, path)
    if line.lstrip().startswith("{"):
        return _json_lines(path, line, reading)
    if line.lstrip().startswith("["):
        raise UserError(f"{path} is one JSON array; write an object a line (JSON Lines)")
    return _csv(path, line, reading)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
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
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8; a CSV file must be") from error
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be unpacked: {one_line(str(error))}") from error
    except Exception as error:  # zlib's own
        if type(error).__module__ != "zlib":
            raise
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


def _line(file: TextIO, path: Path) -> str:
    line = file.readline(_LONGEST)
    if len(line) >= _LONGEST:
        raise UserError(f"{path} has a line of more than {amount(_LONGEST)}: it is no table")
    return line


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := _line(file, path):
        yield line


# ---- CSV ---------------------------------------------------------------------------------------


def _csv(path: Path, line: str, reading: Reading) -> Source:
    delimiter = max(",;\t", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    place = {name: index for index, name in enumerate(names)}

    def read(wanted: Sequence[str], most: int) -> Iterator[dict[str, np.ndarray]]:
        indices = [place[name] for name in wanted]
        converters = _converters(wanted, indices)
        start = 0
        with _opened(path) as file:
            lines = _lines(file, path)
            next(lines)
            while True:
                values = _rows(path, lines, names, delimiter, indices, converters, most, start)
                if not len(values):
                    return
                start += len(values)
                yield {name: values[:, i] for i, name in enumerate(wanted)}

    return table_source(str(path), dict.fromkeys(names, Column()), names, read, reading)


def _rows(
    path: Path,
    lines: Iterator[str],
    names: list[str],
    delimiter: str,
    indices: list[int],
    converters: dict[int | str, Callable[[str], float]],
    most: int,
    start: int,
) -> np.ndarray:
    """The next rows of a CSV file, ``[n, len(indices)]``; n = 0 at its end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no rows: refused later
            return np.loadtxt(
                lines,
                delimiter=delimiter,
                usecols=indices,
                converters=converters,
                comments=None,
                quotechar='"',
                ndmin=2,
                max_rows=most,
            )
    except (UserError, UnicodeDecodeError):
        raise
    except ValueError as error:
        raise UserError(f"{path}: {_located(str(error), names, start)}") from error


def _converters(
    wanted: Sequence[str], indices: list[int]
) -> dict[int | str, Callable[[str], float]]:
    converters: dict[int | str, Callable[[str], float]] = {}
    for name, index in zip(wanted, indices, strict=True):
        if name.lower() in SCALARS["episode"]:
            converters[index] = episode_code
        elif name.lower() in _FLAGS:
            converters[index] = _flag
        elif name.lower() in SCALARS["success"]:
            converters[index] = _known_flag
        elif name.lower() in SCALARS["time"]:
            converters[index] = moment
    return converters


def _flag(text: str) -> float:
    word = text.strip().lower()
    return float(word == "true") if word in ("true", "false") else float(word)


def _known_flag(text: str) -> float:
    """Success is often known at the end only."""
    return np.nan if text.strip().lower() in MISSING else _flag(text)


def _located(message: str, names: list[str], start: int) -> str:
    """NumPy's message with the line as editors count and the column by its name."""

    def line(match: re.Match[str]) -> str:
        column = int(match[2]) - 1
        name = names[column] if 0 <= column < len(names) else match[2]
        return f"line {start + int(match[1]) + 2}, column {one_line(name)}"

    text = re.sub(r"row (\d+), column (\d+)", line, message.partition(";")[0])
    # Here NumPy counts rows from 1.
    ragged = re.sub(
        r"invalid column index (\d+) at row (\d+) with (\d+) columns",
        lambda m: (
            f"line {start + int(m[2]) + 1} has {m[3]} values, but {one_line(names[int(m[1])])} is "
            f"number {int(m[1]) + 1}"
        ),
        text,
    )
    return ragged.rstrip(".")


# ---- JSON Lines --------------------------------------------------------------------------------


def _json_lines(path: Path, line: str, reading: Reading) -> Source:
    first = _object(path, line, 1)
    columns = {name: _column(value) for name, value in first.items()}

    def read(wanted: Sequence[str], most: int) -> Iterator[dict[str, np.ndarray]]:
        start = 0
        with _opened(path) as file:
            lines = (line for line in _lines(file, path) if line.strip())
            while chunk := list(islice(lines, most)):
                rows = [_object(path, text, start + i + 1) for i, text in enumerate(chunk)]
                yield {
                    name: _values(path, name, columns[name].width, rows, start) for name in wanted
                }
                start += len(rows)

    return table_source(str(path), columns, list(columns), read, reading)


def _object(path: Path, line: str, number: int) -> dict[str, Any]:
    """A line's object, with the parts of objects in it as ``observation.position``."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is no JSON: {one_line(str(error))}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: line {number} must be a JSON object, as line 1 is")
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _column(value: Any) -> Column:
    if isinstance(value, list):
        numeric = bool(value) and all(isinstance(v, int | float) for v in value)
        return Column(len(value), numeric, f"a list such as {str(value)[:40]}")
    numeric = isinstance(value, int | float) or value is None
    return Column(0, numeric, f"such as {str(value)[:40]!r}")


def _values(
    path: Path, name: str, width: int, rows: list[dict[str, Any]], start: int
) -> np.ndarray:
    """``[n]`` or ``[n, width]`` float64; what is missing is NaN, and refused when checked."""
    values = [row.get(name) for row in rows]
    what = f"column {one_line(name)}"
    try:
        if name.lower() in SCALARS["episode"]:
            return coded(f"{path}: {what}", episode_code, values, "line", start + 1)
        if name.lower() in SCALARS["time"]:
            return coded(f"{path}: {what}", moment, values, "line", start + 1)
        if width:
            wrong = next(
                (i for i, v in enumerate(values) if not isinstance(v, list) or len(v) != width),
                None,
            )
            if wrong is not None:
                raise UserError(
                    f"{path}: {what} has {width} numbers in line 1, but in line "
                    f"{start + wrong + 1} is {str(values[wrong])[:40]}"
                )
            values = list(chain.from_iterable(values))  # type: ignore[arg-type]
        strange = {type(v) for v in values} - {int, float, bool, type(None)}
        if not strange:
            array = np.array([np.nan if v is None else v for v in values], np.float64)
            return array.reshape(-1, width) if width else array
        wrong = next(i for i, v in enumerate(values) if type(v) in strange) // max(1, width)
        raise UserError(f"{path}: {what} must be numeric, but line {start + wrong + 1} is not")
    except UserError:
        raise
    except OverflowError as error:
        raise UserError(f"{path}: {what} has a number that is too large") from error
