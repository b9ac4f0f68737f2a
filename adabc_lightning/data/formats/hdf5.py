"""HDF5 in general, and D4RL's own layout: arrays of all rows beside each other."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from adabc_lightning.data.formats.columns import Between, array_source
from adabc_lightning.data.formats.source import Reading, Source, row_place
from adabc_lightning.data.formats.tables import coded, episode_code
from adabc_lightning.data.names import VECTORS, assign
from adabc_lightning.env.observations import is_parts
from adabc_lightning.errors import UserError
from adabc_lightning.run.limits import check_claims

PARTS = "observation_parts"
"""Attribute of a file of flat arrays: names and sizes of the observations' parts, in JSON."""
_LONGEST = 1000  # characters of an id or a name
# Texts of any length that are read at once: each of them may be the same one, as long as the file.
_TEXTS = 256
_GROUPS = tuple(name for names in VECTORS.values() for name in names)


def inside(group: h5py.Group, name: str, where: str) -> Any:
    """What a group has of this name: an array or a group that lies in the same file.

    No other file is ever opened, whatever this one says: no links, no external storage.

    Raises: UserError: it is a link, or an array that is kept elsewhere.
    """
    is_link = not isinstance(group.get(name, getlink=True), h5py.HardLink)
    item = None if is_link else group[name]
    if isinstance(item, h5py.Group):
        return item
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise UserError(f"{where}: {name!r} must be an array in this file, no link and no group")
    return item


def array(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    """The same, an array.

    Raises: UserError: it is anything else.
    """
    item = inside(group, name, where)
    if isinstance(item, h5py.Group):
        raise UserError(f"{where}: {name!r} must be an array in this file, no link and no group")
    return item


def texts(item: h5py.Dataset, what: str, stored: int) -> Iterator[tuple[int, list[str]]]:
    """An array of texts in blocks, each with its first row; never many long ones at once.

    Args:
        item: ``[n]`` or ``[n, 1]``.
        what: file and array, for messages.
        stored: bytes of the file.
    Raises: UserError: it holds anything else, more than the file can hold, or texts that are longer
        than names are.
    """
    kind, shape = h5py.check_string_dtype(item.dtype), tuple(item.shape or ())
    if kind is None or (len(shape) != 1 and shape[1:] != (1,)):
        raise UserError(f"{what} must be texts, one in each row")
    check_claims([item], stored, what)
    most = max(_TEXTS, _TEXTS * _LONGEST // kind.length) if kind.length else _TEXTS
    for start in range(0, shape[0], most):
        rows = item.asstr("utf-8", errors="replace")[start : start + most]
        block = rows.reshape(-1).tolist()
        lengths = list(map(len, block))
        if (longest := max(lengths)) > _LONGEST:
            raise UserError(
                f"{what} has a text of {longest:,} characters in "
                f"{row_place(start + lengths.index(longest))}; a name may have {_LONGEST:,}"
            )
        yield start, block


def attribute(item: h5py.HLObject, name: str) -> Any:
    """An attribute that is one value; None for several, which is not read, and for none.

    Several texts may all be the same one, as long as the file.
    """
    single = name in item.attrs and item.attrs.get_id(name).shape == ()
    return item.attrs[name] if single else None


def parts(group: h5py.Group, name: str, where: str) -> dict[str, h5py.Dataset]:
    """All arrays of a group of arrays and of the groups in it, ``a.b`` for ``b`` in ``a``.

    Raises: UserError: one is a link or kept elsewhere.
    """
    outer = inside(group, name, where)
    if not isinstance(outer, h5py.Group):
        raise UserError(f"{where}: {name!r} must be a group of arrays")
    return dict(_leaves(outer, "", where, {outer}))


def _leaves(
    group: h5py.Group, prefix: str, where: str, seen: set[h5py.Group]
) -> Iterator[tuple[str, h5py.Dataset]]:
    for name in group:
        item = inside(group, name, where)
        if isinstance(item, h5py.Dataset):
            yield f"{prefix}{name}", item
            continue
        if item in seen:  # hard links may go in circles
            raise UserError(f"{where}: the group {prefix}{name} is in the file under two names")
        seen.add(item)
        yield from _leaves(item, f"{prefix}{name}.", where, seen)


def flat_source(file: h5py.File, path: Path, reading: Reading) -> Source:
    """D4RL's layout, and d3rlpy's of version 1: arrays of all rows, observations maybe by parts.

    Raises: UserError: a key is a link, of the wrong type or shape, or claims more than the file or
        the memory can hold.
    """
    where, present = str(path), sorted(file)
    known = assign(present, where)
    arrays: dict[str, Any] = {}
    for name in present:
        if name in _GROUPS and isinstance(inside(file, name, where), h5py.Group):
            found = parts(file, name, where)
            arrays |= {f"{name}/{part}": item for part, item in found.items()}
        elif name in known.single.values():
            arrays[name] = array(file, name, where)
            if name == known.single.get("episode") and h5py.check_string_dtype(arrays[name].dtype):
                arrays[name] = _ids(arrays[name], f"{where}: {name!r}", path.stat().st_size)
    if PARTS in file.attrs:
        _split(arrays, known.single, attribute(file, PARTS), where)
    source = array_source(where, arrays, reading)
    check_claims(_read(arrays, source.read), path.stat().st_size, where)
    groups = {name.partition("/")[0] for name in arrays if "/" in name}
    source.names = [name for name in dict.fromkeys([*present, *arrays]) if name not in groups]
    env_id = attribute(file, "env_id")
    source.env_id = env_id if isinstance(env_id, str) else None
    source.stored = path.stat().st_size
    return source


def _ids(item: h5py.Dataset, what: str, stored: int) -> np.ndarray:
    """Texts as numbers, as other formats have them: an array of texts is as wide as its longest."""
    found = [np.empty(0)]
    for start, block in texts(item, what, stored):
        found.append(coded(what, episode_code, block, partial(_behind, start)))
    return np.concatenate(found)


def _behind(start: int, row: int) -> str:
    return row_place(start + row)


def _split(arrays: dict[str, Any], names: Mapping[str, str], text: Any, where: str) -> None:
    """Puts an array's parts in its place, as the files of ``collect`` say what they are."""
    try:
        parts = json.loads(text)
        right = is_parts(parts)
    except (TypeError, ValueError, RecursionError):
        right = False
    if not right:
        raise UserError(
            f"{where}: its attribute {PARTS!r} must be a list of names and sizes in JSON, such as "
            '[["goal", 2], ["position", 4]]; remove it, or write it again'
        )
    for key in ("observations", "next_observations"):
        if key not in names or len(getattr(arrays[names[key]], "shape", ())) != 2:
            continue
        whole = arrays.pop(names[key])
        ends = list(accumulate(size for _, size in parts))
        if ends[-1] != whole.shape[1]:
            raise UserError(
                f"{where}: its attribute {PARTS!r} is about {ends[-1]} numbers, but {key!r} has "
                f"{whole.shape[1]} columns; remove it, or write it again"
            )
        for (part, size), end in zip(parts, ends, strict=True):
            arrays[f"{names[key]}/{part}"] = Between(whole, end - size, end)


def _read(arrays: dict[str, Any], names: Iterable[str]) -> list[h5py.Dataset]:
    found = [getattr(arrays[name], "array", arrays[name]) for name in names]
    return list(dict.fromkeys(array for array in found if isinstance(array, h5py.Dataset)))
