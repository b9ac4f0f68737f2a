"""HDF5 in general, and D4RL's own layout: arrays of all rows beside each other."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py

from adabc_lightning.data.formats.columns import Between, array_source
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.data.names import VECTORS, assign
from adabc_lightning.env.observations import is_parts
from adabc_lightning.errors import UserError
from adabc_lightning.run.limits import check_claims

PARTS = "observation_parts"
"""Attribute of a file of flat arrays: names and sizes of the observations' parts, in JSON."""
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
                check_claims([arrays[name]], path.stat().st_size, where)
                arrays[name] = arrays[name].asstr(errors="replace")[()].astype(str)
    if PARTS in file.attrs:
        _split(arrays, known.single, file.attrs[PARTS], where)
    source = array_source(where, arrays, reading)
    check_claims(_read(arrays, source.read), path.stat().st_size, where)
    groups = {name.partition("/")[0] for name in arrays if "/" in name}
    source.names = [name for name in dict.fromkeys([*present, *arrays]) if name not in groups]
    env_id = file.attrs.get("env_id")
    source.env_id = env_id if isinstance(env_id, str) else None
    return source


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
