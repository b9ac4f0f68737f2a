"""JSON Lines: an object a line, of numbers and lists of numbers."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from adabc_lightning.data.formats.packed import line_places, lines_of, opened
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.data.formats.tables import Column, coded, episode_code, moment, table_source
from adabc_lightning.data.names import SCALARS
from adabc_lightning.errors import UserError, one_line


def json_source(path: Path, line: str, reading: Reading) -> Source:
    """A log of objects, which all have what the first one has.

    Args:
        path: the file.
        line: its first one.
        reading: what the user knows.
    Raises: UserError: two names for one thing; the rest as it is read.
    """
    first = _object(path, line, 1)
    columns = {name: _column(value) for name, value in first.items()}

    def read(wanted: Sequence[str], most: int) -> Iterator[dict[str, np.ndarray]]:
        with opened(path) as file:
            lines = (line for line in enumerate(lines_of(file, path), 1) if line[1].strip())
            while chunk := list(islice(lines, most)):
                numbers = [number for number, _ in chunk]
                rows = [_object(path, text, number) for number, text in chunk]
                yield {
                    name: _values(path, name, columns[name].width, rows, numbers) for name in wanted
                }

    place = line_places(path, 0, lambda line: not line.strip())
    return table_source(str(path), columns, list(columns), read, reading, place=place)


def _object(path: Path, line: str, number: int) -> dict[str, Any]:
    """A line's object, with the parts of objects in it as ``observation.position``."""
    try:
        content = json.loads(line)
        flat = dict(_leaves(content, "")) if isinstance(content, dict) else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is no JSON: {one_line(str(error))}") from error
    if flat is None:
        raise UserError(f"{path}: line {number} must be a JSON object, as line 1 is")
    return flat


def _leaves(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _column(value: Any) -> Column:
    if isinstance(value, list):
        numeric = bool(value) and all(isinstance(v, int | float) for v in value)
        return Column(len(value), numeric, f"a list such as {str(value)[:40]}")
    numeric = isinstance(value, int | float) or value is None
    return Column(0, numeric, f"such as {str(value)[:40]!r}")


def _values(
    path: Path, name: str, width: int, rows: list[dict[str, Any]], numbers: list[int]
) -> np.ndarray:
    """``[n]`` or ``[n, width]`` float64; what is missing is NaN, and refused when checked."""
    values = [row.get(name) for row in rows]
    what = f"column {one_line(name)}"

    def place(row: int) -> str:
        return f"line {numbers[row]}"

    try:
        if name.lower() in SCALARS["episode"]:
            return coded(f"{path}: {what}", episode_code, values, place)
        if name.lower() in SCALARS["time"]:
            return coded(f"{path}: {what}", moment, values, place)
        if width:
            wrong = next(
                (i for i, v in enumerate(values) if not isinstance(v, list) or len(v) != width),
                None,
            )
            if wrong is not None:
                raise UserError(
                    f"{path}: {what} has {width} numbers in line 1, but in {place(wrong)} is "
                    f"{str(values[wrong])[:40]}"
                )
            values = list(chain.from_iterable(values))  # type: ignore[arg-type]
        strange = {type(v) for v in values} - {int, float, bool, type(None)}
        if not strange:
            array = np.array([np.nan if v is None else v for v in values], np.float64)
            return array.reshape(-1, width) if width else array
        wrong = next(i for i, v in enumerate(values) if type(v) in strange) // max(1, width)
        raise UserError(f"{path}: {what} must be numeric, but {place(wrong)} is not")
    except OverflowError as error:
        raise UserError(f"{path}: {what} has a number that is too large") from error
