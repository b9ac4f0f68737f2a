"""HDF5 in general, and D4RL's own layout: arrays of all rows beside each other."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py

from adabc_lightning.data.formats.columns import array_source
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.data.names import VECTORS, assign
from adabc_lightning.errors import UserError
from adabc_lightning.run.limits import check_claims

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
    """All arrays of a group of arrays, by name, and of the groups in it; deeper is left out.

    Raises: UserError: one is a link or kept elsewhere.
    """
    outer, found = inside(group, name, where), {}
    if not isinstance(outer, h5py.Group):
        raise UserError(f"{where}: {name!r} must be a group of arrays")
    for part in outer:
        item = inside(outer, part, where)
        if isinstance(item, h5py.Dataset):
            found[part] = item
        else:  # one level of Gymnasium's nested spaces
            found |= {
                f"{part}.{inner}": leaf
                for inner in item
                if isinstance(leaf := inside(item, inner, where), h5py.Dataset)
            }
    return found


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
    source = array_source(where, arrays, reading)
    check_claims(_read(arrays, source.read), path.stat().st_size, where)
    source.names = [*present, *(name for name in arrays if name not in present)]
    env_id = file.attrs.get("env_id")
    source.env_id = env_id if isinstance(env_id, str) else None
    return source


def _read(arrays: dict[str, h5py.Dataset], names: Iterable[str]) -> list[h5py.Dataset]:
    return [arrays[name] for name in names if isinstance(arrays[name], h5py.Dataset)]
