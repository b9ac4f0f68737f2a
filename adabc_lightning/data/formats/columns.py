"""Arrays by their names, as D4RL's columns: what npz files and flat HDF5 files have in common."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from adabc_lightning.data.formats.source import Reading, Source, slices
from adabc_lightning.data.names import SCALARS, VECTORS, Named, assign
from adabc_lightning.env.observations import Parts, choose
from adabc_lightning.errors import UserError

_LENIENT = ("success", "step", "time")  # common words: arrays of other shapes mean other things


class Beside:
    """Columns ``[T, N_i]`` or ``[T]`` side by side, as one of ``[T, ΣN]``; nothing is read yet.

    Args:
        columns: those to join, in order.
        names: what they are called where they are parts.
    """

    def __init__(self, columns: Sequence[Any], names: Sequence[str] = ()) -> None:
        self.columns = columns
        widths = [column.shape[1] if len(column.shape) > 1 else 1 for column in columns]
        self.parts: Parts | None = tuple(zip(names, widths, strict=True)) if names else None
        self.shape = (columns[0].shape[0], sum(widths))
        self.dtype = np.result_type(*(column.dtype for column in columns))

    def __getitem__(self, rows: slice) -> np.ndarray:
        parts = [np.asarray(column[rows]) for column in self.columns]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


class Behind:
    """A column ``[T + 1]`` from its second row on; nothing is read yet.

    Args:
        column: the whole of it.
    """

    def __init__(self, column: Any) -> None:
        self.column, self.shape, self.dtype = column, (column.shape[0] - 1,), column.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.column[rows.start + 1 : rows.stop + 1])


class Between:
    """Some columns of an array ``[T, N]``, one or more; nothing is read yet.

    Args:
        array: anything with ``shape``, ``dtype`` and slices.
        start, stop: the first column, and the one behind the last.
    """

    def __init__(self, array: Any, start: int, stop: int) -> None:
        self.array, self._start, self._stop = array, start, stop
        self.shape, self.dtype = (array.shape[0], stop - start), array.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.array[rows, self._start : self._stop])


def array_source(where: str, arrays: Mapping[str, Any], reading: Reading) -> Source:
    """A log of named arrays ``[T]`` or ``[T, N]``, checked.

    Args:
        where: the file, for messages.
        arrays: all that are there: anything with ``shape``, ``dtype`` and slices of rows.
        reading: what the user knows.
    Raises: UserError: two names for one thing; types, shapes or sizes that do not agree.
    """
    named = assign(list(arrays), where)
    columns, read = named_columns(where, arrays, named, reading)
    check_columns(columns, where)
    rows = columns["observations"].shape[0] if "observations" in columns else 0
    return Source(
        where=where,
        names=list(arrays),
        read=read,
        widths={key: columns[key].shape[1] for key in VECTORS if key in columns},
        scalars=[key for key in SCALARS if key in columns],
        blocks=slices(columns, rows),
        rows=rows,
        observation_parts=getattr(columns.get("observations"), "parts", None),
    )


def named_columns(
    where: str, arrays: Mapping[str, Any], named: Named, reading: Reading
) -> tuple[dict[str, Any], list[str]]:
    """Key → array or several of them side by side, and the names that are read."""
    columns, read = {}, []
    for key, name in named.single.items():
        if key not in _LENIENT or _is_scalar_column(arrays[name]):
            columns[key] = arrays[name]
            read.append(name)
    for key, names in named.numbered.items():
        columns[key] = Beside([arrays[name] for name in names])
        read += names
    for key, parts in named.parts.items():
        single = [name for name in parts.values() if len(arrays[name].shape or ()) == 1]
        groups = numbers_together(parts, single)
        flat = {
            part: names
            for part, names in groups.items()
            if all(is_flat(arrays[name]) for name in names)
        }
        chosen = chosen_parts(where, key, flat, groups, reading)
        wholes = [[arrays[name] for name in flat[part]] for part in chosen]
        columns[key] = Beside([w[0] if len(w) == 1 else Beside(w) for w in wholes], chosen)
        read += [name for part in chosen for name in flat[part]]
    return columns, read


def numbers_together(parts: Mapping[str, str], single: Collection[str]) -> dict[str, list[str]]:
    """Part → its column, or its columns in order: ``pose_0`` and ``pose_1`` are two of ``pose``.

    They are where all from 0 on are there, two or more, and each is a column of one number.

    Args:
        parts: part → name of its column.
        single: names of the columns of one number.
    """
    stems: dict[str, dict[int, str]] = {}
    for part, name in parts.items():
        found = re.fullmatch(r"(.+)_(0|[1-9]\d{0,5})", part)
        if found and name in single:
            stems.setdefault(found[1], {})[int(found[2])] = part
    groups = {part: [name] for part, name in parts.items()}
    for stem, numbers in stems.items():
        if stem not in parts and len(numbers) > 1 and set(numbers) == set(range(len(numbers))):
            ordered = [numbers[place] for place in range(len(numbers))]
            for part in ordered:
                del groups[part]
            groups[stem] = [parts[part] for part in ordered]
    return groups


def chosen_parts(
    where: str,
    key: str,
    flat: Mapping[str, Any],
    parts: Mapping[str, Any],
    reading: Reading,
) -> list[str]:
    """Which parts of a vector that has parts are read, in order.

    Args:
        where: the file, for the message.
        key: which vector.
        flat: the parts that can be read: of one dimension, numeric.
        parts: all of them.
        reading: what the user chose.
    Raises: UserError: one that was chosen is not there or not flat, or there is none.
    """
    wanted = None if key == "actions" else reading.observation_keys
    return choose(flat, parts, wanted, where, key)


def is_flat(array: Any) -> bool:
    """Whether it can be a vector or a part of one: numbers, of one or two dimensions."""
    return len(array.shape or ()) in (1, 2) and array.dtype.kind in "biuf"


def _is_scalar_column(array: Any) -> bool:
    shape = array.shape or ()
    return array.dtype.kind in "biuf" and (len(shape) == 1 or shape[1:] == (1,))


def check_columns(columns: Mapping[str, Any], where: str) -> None:
    """Refuses types, shapes and sizes that do not agree.

    Args:
        columns: key → array or HDF5 dataset, ``[T]`` or ``[T, N]``; nothing is read.
        where: the file, for the message.
    Raises: UserError: as said.
    """
    if columns and all(column.shape and not column.shape[0] for column in columns.values()):
        raise UserError(f"{where} has no rows")
    for key in (*VECTORS, *SCALARS):
        if key not in columns:
            continue
        column, kinds = columns[key], "biufSU" if key == "episode" else "biuf"
        if column.dtype.kind not in kinds:
            raise UserError(f"{where}: {key!r} must be numeric, but has type {column.dtype}")
        shape = column.shape or ()
        fits = len(shape) == 2 if key in VECTORS else len(shape) == 1 or shape[1:] == (1,)
        if not fits or 0 in shape:
            wanted = "[rows, columns]" if key in VECTORS else "[rows]"
            raise UserError(f"{where}: {key!r} must be {wanted}, not empty, but is {list(shape)}")
    if "observations" not in columns:
        return
    rows, size = columns["observations"].shape
    for key, column in columns.items():
        if column.shape[0] != rows:
            raise UserError(
                f"{where}: {key!r} has {column.shape[0]} rows, but 'observations' {rows}"
            )
        if key == "next_observations" and column.shape[1] != size:
            raise UserError(f"{where}: {key!r} must be as wide as 'observations', {size} columns")
