"""D4RL's columns, from an HDF5 file or a Minari dataset, checked before anything is read."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run.limits import amount, check_claims, check_memory

VECTORS = ("observations", "actions", "next_observations")
SCALARS = ("rewards", "terminals", "timeouts")
OPTIONAL = ("timeouts", "next_observations")
_LISTED = 20  # keys in a message


def hdf5_columns(file: h5py.File, path: Path) -> dict[str, Any]:
    """The file's known keys: arrays stored inside it, numeric, not empty, of agreeing shapes.

    Returns: key → HDF5 dataset, not read yet; those of :data:`OPTIONAL` may be absent.
    Raises: UserError: a key is missing, a link, of the wrong type or shape, or claims more than
        the file or the memory can hold.
    """
    present = sorted(file)
    columns: dict[str, h5py.Dataset] = {}
    for key in (*VECTORS, *SCALARS):
        if key not in present:
            continue
        # No other file is ever opened, whatever this one says: no links, no external storage.
        is_link = not isinstance(file.get(key, getlink=True), h5py.HardLink)
        column = None if is_link else file[key]
        if not isinstance(column, h5py.Dataset) or column.external or column.is_virtual:
            raise UserError(f"{path}: {key!r} must be an array in this file, no link and no group")
        columns[key] = column
    check_columns(columns, present, str(path))
    check_claims(columns.values(), path.stat().st_size, str(path))
    check_room(columns, str(path))
    return columns


def check_columns(columns: Mapping[str, Any], present: Sequence[str], where: str) -> None:
    """Refuses a missing key, and types, shapes and sizes that do not agree.

    Args:
        columns: key → array or HDF5 dataset, ``[T]`` or ``[T, N]``; nothing is read.
        present: names of all there is, for the message.
        where: the file, for the message.
    Raises: UserError: as said.
    """
    for key in (*VECTORS, *SCALARS):
        if key not in columns and key in OPTIONAL:
            continue
        if key not in columns:
            names = ", ".join(map(one_line, present[:_LISTED])) + (
                ", …" if len(present) > _LISTED else ""
            )
            raise UserError(f"{where} has no {key!r}; it has: {names or 'nothing'}")
        column = columns[key]
        if column.dtype.kind not in "biuf":
            raise UserError(f"{where}: {key!r} must be numeric, but has type {column.dtype}")
        shape = column.shape or ()
        fits = len(shape) == 2 if key in VECTORS else len(shape) == 1 or shape[1:] == (1,)
        if not fits or 0 in shape:
            wanted = "[rows, columns]" if key in VECTORS else "[rows]"
            raise UserError(f"{where}: {key!r} must be {wanted}, not empty, but is {list(shape)}")
    rows, size = columns["observations"].shape
    for key, column in columns.items():
        if column.shape[0] != rows:
            raise UserError(
                f"{where}: {key!r} has {column.shape[0]} rows, but 'observations' {rows}"
            )
        if key == "next_observations" and column.shape[1] != size:
            raise UserError(f"{where}: {key!r} must be as wide as 'observations', {size} columns")


def check_room(columns: Mapping[str, Any], where: str) -> None:
    """Raises: UserError: no memory for the dataset's packed rows, and the ring's copy of them."""
    (rows, size), actions = columns["observations"].shape, columns["actions"].shape[1]
    check_memory(2 * rows * Layout(size, actions).width, where)


def check_minari_file(path: Path) -> None:
    """The same for Minari's HDF5 file, all of which Minari reads: no links, no absurd claims.

    Raises: UserError: it links elsewhere, is kept elsewhere or claims more than it can hold.
    """
    arrays: list[h5py.Dataset] = []
    with h5py.File(path, "r") as file:

        def elsewhere(name: str, link: Any) -> str | None:
            """The name of what is not in this file, which ends the visit."""
            item = file[name] if isinstance(link, h5py.HardLink) else None
            if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
                arrays.append(item)
                return None
            return None if isinstance(item, h5py.Group) else name

        if (name := file.visititems_links(elsewhere)) is not None:
            raise UserError(f"{path}: {name!r} must be in this file, no link to elsewhere")
        check_claims(arrays, path.stat().st_size, str(path))
        check_memory(sum(math.prod(array.shape or ()) for array in arrays), str(path))


_SPACES = {"observation_space": "observation", "action_space": "action"}
_TYPES = tuple(f"{kind}{bits}" for kind in ("float", "int", "uint") for bits in (8, 16, 32, 64))


def check_minari_metadata(path: Path) -> None:
    """Refuses what Minari would act upon when it opens a dataset.

    Without a space it makes the environment that the file describes, entry point included, so
    that the file could run any code; and it makes an array of as many numbers as it is told.

    Raises: UserError: no JSON mapping, spaces that are no flat boxes, or absurd counts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        spaces = {key: json.loads(content[key]) for key in _SPACES}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise UserError(f"{path} has no {error}, without which no dataset can be read") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not the metadata of a Minari dataset: {error}") from error
    for key, space in spaces.items():
        kind = space.get("type") if isinstance(space, dict) else space
        shape = space.get("shape") if kind == "Box" else None
        if not isinstance(shape, list) or len(shape) != 1:
            raise UserError(f"{path} needs a flat Box {_SPACES[key]} space, not {kind!s:.40}")
        ends = [space.get(end) for end in ("low", "high")]
        if space.get("dtype") not in _TYPES or any(
            not isinstance(end, list) or [len(end)] != shape for end in ends
        ):
            raise UserError(f"{path}: {key!r} needs a dtype and bounds for each of its numbers")
    stored = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
    for key in ("total_episodes", "total_steps"):
        count = content.get(key)
        if not isinstance(count, int) or not 0 <= count <= stored:
            raise UserError(
                f"{path}: {key!r} must be a whole number that {amount(stored)} can hold"
            )


def minari_columns(source: Any, name: str) -> dict[str, Any]:
    """The episodes joined end to end, in the shape of a D4RL v2 file.

    Returns: every key of :data:`VECTORS` and :data:`SCALARS` → array.
    Raises: UserError: no steps.
    """
    episodes = [episode for episode in source.iterate_episodes() if len(episode) > 0]
    if not episodes:
        raise UserError(f"Minari dataset {name!r} has no steps")
    parts = {
        "observations": [episode.observations[:-1] for episode in episodes],
        "actions": [episode.actions for episode in episodes],
        "next_observations": [episode.observations[1:] for episode in episodes],
        "rewards": [episode.rewards for episode in episodes],
        "terminals": [episode.terminations for episode in episodes],
        # Whatever was not terminated was cut off at its last step, marked as truncated or not.
        "timeouts": [np.arange(len(episode)) == len(episode) - 1 for episode in episodes],
    }
    return {key: np.concatenate(part) for key, part in parts.items()}
