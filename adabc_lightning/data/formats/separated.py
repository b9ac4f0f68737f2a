"""CSV and TSV: a header, and a column per number; read a block of rows at a time."""

import csv
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from adabc_lightning.data.formats.packed import line_places, lines_of, opened
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.data.formats.tables import (
    MISSING,
    Column,
    episode_code,
    moment,
    table_source,
)
from adabc_lightning.data.names import SCALARS
from adabc_lightning.errors import UserError, one_line

_FLAGS = {name for key in ("terminals", "timeouts", "dones") for name in SCALARS[key]}


def csv_source(path: Path, line: str, reading: Reading) -> Source:
    """A log in columns.

    Args:
        path: the file.
        line: its first one.
        reading: what the user knows.
    Raises: UserError: two names for one thing; the rest as it is read.
    """
    if not line.strip():
        raise UserError(f"{path}: line 1 is empty; it must have the names of the columns")
    delimiter = max(",;\t", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    indices_of = {name: index for index, name in enumerate(names)}
    place = line_places(path, 1, lambda line: not line.strip("\r\n"))  # as NumPy skips them

    def read(wanted: Sequence[str], most: int) -> Iterator[dict[str, np.ndarray]]:
        indices = [indices_of[name] for name in wanted]
        converters = _converters(wanted, indices)
        start = 0

        def located(message: str) -> str:
            return _located(message, names, lambda row: place(start + row))

        with opened(path) as file:
            lines = _no_wider(lines_of(file, path), path, delimiter, len(names))
            next(lines)
            while True:
                values = _rows(path, lines, delimiter, indices, converters, most, located)
                if not len(values):
                    return
                start += len(values)
                yield {name: values[:, i] for i, name in enumerate(wanted)}

    columns = dict.fromkeys(names, Column())
    return table_source(str(path), columns, names, read, reading, place=place)


def _no_wider(lines: Iterator[str], path: Path, delimiter: str, width: int) -> Iterator[str]:
    """All lines; NumPy sees to those that have too few values, but not to those with too many.

    Raises: UserError: one has more than the first has names, and not only blank ones.
    """
    within = False  # a quoted text that spans lines
    for number, line in enumerate(lines, 1):
        odd = '"' in line and line.count('"') % 2 == 1
        if not (within or odd) and line.count(delimiter) >= width:
            try:
                values = next(csv.reader([line], delimiter=delimiter))
            except csv.Error:  # a text that is longer than its limit
                values = []
            if any(value.strip() for value in values[width:]):
                decimal = ", or decimal commas" if delimiter == "," else ""
                raise UserError(
                    f"{path}: line {number} has {len(values)} values, the first line names "
                    f"{width} columns; a row is broken{decimal}"
                )
        within ^= odd
        yield line


def _rows(
    path: Path,
    lines: Iterator[str],
    delimiter: str,
    indices: list[int],
    converters: dict[int | str, Callable[[str], float]],
    most: int,
    located: Callable[[str], str],
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
        raise UserError(f"{path}: {located(str(error))}") from error


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


def _located(message: str, names: list[str], place: Callable[[int], str]) -> str:
    """NumPy's message with the line as editors count and the column by its name."""

    def line(match: re.Match[str]) -> str:
        column = int(match[2]) - 1
        name = names[column] if 0 <= column < len(names) else match[2]
        return f"{place(int(match[1]))}, column {one_line(name)}"

    text = re.sub(r"row (\d+), column (\d+)", line, message.partition(";")[0])
    # Here NumPy counts rows from 1.
    ragged = re.sub(
        r"invalid column index (\d+) at row (\d+) with (\d+) columns",
        lambda m: (
            f"{place(int(m[2]) - 1)} has {m[3]} values, but {one_line(names[int(m[1])])} is "
            f"number {int(m[1]) + 1}"
        ),
        text,
    )
    if re.search(r"string '-?\d+,\d", ragged):
        ragged += "; decimals are written with a point"
    return ragged.rstrip(".")
