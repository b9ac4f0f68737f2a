"""What tables have in common, of text or Parquet: a column per number, or lists of numbers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from adabc_lightning.data.formats.columns import chosen_parts, numbers_together
from adabc_lightning.data.formats.source import Block, Blocks, Reading, Source, row_place
from adabc_lightning.data.names import VECTORS, assign
from adabc_lightning.env.observations import Parts
from adabc_lightning.errors import UserError, one_line

ReadColumns = Callable[[Sequence[str], int], Iterator[dict[str, np.ndarray]]]
"""(names, at most so many rows) → arrays ``[n]`` or ``[n, N]`` of these columns, in order."""


MISSING = ("", "nan", "na", "null", "none")
_EXACT = 2**52


def episode_code(text: str) -> float:
    """A number for an episode's id, the same for the same text in whatever file.

    Raises: ValueError: it is none.
    """
    text = text.strip()
    if text.lower() in MISSING:
        raise ValueError("no value")
    try:
        number = float(text)
    except ValueError:
        number = _EXACT
    if abs(number) < _EXACT:
        return number
    return -float(_EXACT + int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()))


def moment(text: str) -> float:
    """Seconds, from a number or a date and time as ISO 8601 has it (without zone: UTC).

    Raises: ValueError: it is neither.
    """
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def coded(
    what: str, code: Callable[[str], float], values: Sequence[Any], place: Callable[[int], str]
) -> np.ndarray:
    """Texts as numbers ``[n]`` float64.

    Args:
        what: file and column, for the message.
        code: :func:`episode_code` or :func:`moment`.
        values: texts or numbers, None where there is no value.
        place: index of a value → where that is, for the message.
    Raises: UserError: one has no value, or none that can be understood.
    """
    known: dict[Any, float] = {}
    for index, value in enumerate(values):
        try:
            if value not in known:
                known[value] = code("" if value is None else str(value))
        except (ValueError, OverflowError, TypeError) as error:
            shown = "no value" if value is None else f"the value {one_line(str(value))[:40]!r}"
            raise UserError(f"{what} has {shown} in {place(index)}") from error
    return np.array([known[value] for value in values])


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        width: numbers in a row; 0 for a number, not a list.
        numeric: whether it can be part of a vector.
        kind: its type, for messages.
    """

    width: int = 0
    numeric: bool = True
    kind: str = "number"


def table_source(
    where: str,
    columns: Mapping[str, Column],
    names: Sequence[str],
    read: ReadColumns,
    reading: Reading,
    rows: int | None = None,
    place: Callable[[int], str] = row_place,
) -> Source:
    """A log of columns by name.

    Args:
        where: the file, for messages.
        columns: name → what is known of it.
        names: in order; may have a name twice.
        read: reads columns.
        reading: what the user knows.
        rows: T, where it is known.
        place: index of a row → where that is, for messages.
    Raises: UserError: two names for one thing, or a column of the wrong type.
    """
    named = assign(names, where, "columns")
    vectors: dict[str, list[str]] = dict(named.numbered)
    scalars: dict[str, str] = {}
    for key, name in named.single.items():
        if key in VECTORS:
            vectors[key] = [name]
        else:
            scalars[key] = name
    observation_parts: Parts | None = None
    for key, parts in named.parts.items():
        groups = numbers_together(parts, [n for n in parts.values() if not columns[n].width])
        flat = {p: names for p, names in groups.items() if all(columns[n].numeric for n in names)}
        chosen = chosen_parts(where, key, flat, groups, reading)
        vectors[key] = [name for part in chosen for name in flat[part]]
        if key == "observations":
            observation_parts = tuple(
                (part, sum(max(1, columns[name].width) for name in flat[part])) for part in chosen
            )
    for key, group in (*vectors.items(), *((key, [name]) for key, name in scalars.items())):
        for name in group:
            column = columns[name]
            if not column.numeric and key not in ("episode", "time"):
                raise UserError(
                    f"{where}: column {one_line(name)} must be numeric, but is {column.kind}"
                )
            if column.width and key in scalars:
                raise UserError(
                    f"{where}: column {one_line(name)} must be a number in each row, but is "
                    f"{column.kind}"
                )
    widths = {
        key: sum(max(1, columns[name].width) for name in group) for key, group in vectors.items()
    }
    if widths.get("next_observations", widths.get("observations")) != widths.get("observations"):
        raise UserError(
            f"{where}: 'next_observations' must be as wide as 'observations', "
            f"{widths.get('observations')} columns"
        )

    return Source(
        where=where,
        names=names,
        read=[*(name for group in vectors.values() for name in group), *scalars.values()],
        widths=widths,
        scalars=list(scalars),
        blocks=_blocks(read, vectors, scalars),
        kind="columns",
        rows=rows,
        place=place,
        # LeRobot's episodes are told by their index; whether one failed or succeeded is not.
        ends_known="episode" in scalars and "observations" in named.parts,
        observation_parts=observation_parts,
    )


def _blocks(read: ReadColumns, vectors: dict[str, list[str]], scalars: dict[str, str]) -> Blocks:
    def blocks(keys: Sequence[str], most: int) -> Iterator[Block]:
        groups = {key: vectors[key] if key in vectors else [scalars[key]] for key in keys}
        wanted = [name for group in groups.values() for name in group]
        for found in read(wanted, most):
            block = {}
            for key, group in groups.items():
                if key in scalars or (len(group) == 1 and found[group[0]].ndim == 2):
                    block[key] = found[group[0]]
                else:
                    parts = [found[name] for name in group]
                    block[key] = np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1)
            yield block

    return blocks
