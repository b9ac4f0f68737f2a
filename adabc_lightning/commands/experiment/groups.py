"""Which seeds train in one process: those that have begun as they did, the others as asked."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from adabc_lightning.errors import UserError
from adabc_lightning.run.record import RECORD, load_json


def name_of(seeds: range) -> str:
    """Their folder's name: ``seed3``, ``seeds`` from 0 on, ``seeds3-4`` behind others."""
    if len(seeds) == 1:
        return f"seed{seeds[0]}"
    return f"seeds{seeds[0]}-{seeds[-1]}" if seeds[0] else "seeds"


def groups(
    places: Sequence[tuple[Path, str]],
    seeds: int,
    together: bool,
    stored: Collection[Path] = (),
) -> list[range]:
    """Seeds ``0`` to ``seeds - 1`` by process, in their order.

    Args:
        places: folders in which those that have begun lie, with what their names begin with.
        seeds: how many there shall be.
        together: whether the others share processes.
        stored: files of a run store, as if they lay here.

    Raises: UserError: a process has made more of them than there shall be, or two the same.
    """
    made = {
        group: path for folder, prefix in places for group, path in _made(folder, prefix, stored)
    }
    order: list[range] = []
    for group in sorted(made, key=lambda each: (each.start, each.stop)):
        if group.start >= seeds:
            continue
        reached = order[-1].stop if order else 0
        if group.start < reached:
            raise UserError(
                f"{made[group]} and {made[order[-1]]} hold the same seeds, made by other "
                "processes; choose another --out"
            )
        if group.stop > seeds:
            raise UserError(
                f"{made[group]} holds seeds {group[0]} to {group[-1]}, made by one process; "
                f"--seeds {group.stop} is the least, or choose another --out"
            )
        order += [*_new(range(reached, group.start), together), group]
    return [*order, *_new(range(order[-1].stop if order else 0, seeds), together)]


def _new(seeds: range, together: bool) -> list[range]:
    if together and seeds:
        return [seeds]
    return [range(seed, seed + 1) for seed in seeds]


def _made(folder: Path, prefix: str, stored: Collection[Path]) -> Iterator[tuple[range, Path]]:
    """What has begun in a folder, here or in the store."""
    here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    there = {path.parent.name for path in stored if path.parent.parent == folder}
    for name in sorted(here | there):
        path = folder / name
        known = re.fullmatch(r"seed(?:(\d+)|s(?:(\d+)-(\d+))?)", name.removeprefix(prefix))
        files = {path / RECORD, path / "config.yaml"}
        begun = not files.isdisjoint(stored) or any(file.is_file() for file in files)
        if known is None or not name.startswith(prefix) or not begun:
            continue
        alone, first, last = known.groups()
        if alone is not None:
            yield range(int(alone), int(alone) + 1), path
        elif group := range(int(first), int(last) + 1) if first else range(_replicas(path, stored)):
            yield group, path


def _replicas(path: Path, stored: Collection[Path]) -> int:
    """How many there are in a process's folder: by its record, or by their folders."""
    count = load_json(path / RECORD).get("settings", {}).get("model.replicas")
    inside = {file.parent for file in stored if file.parent.parent == path}
    inside |= set(path.iterdir()) if path.is_dir() else set()
    found = sum(re.fullmatch(r"replica_\d+", each.name) is not None for each in inside)
    return count if isinstance(count, int) else found
