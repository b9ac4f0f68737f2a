"""Which seeds train in one process: those that have run as they did, the others as asked."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from adabc_lightning.errors import UserError
from adabc_lightning.run.record import RECORD


def name_of(seeds: range) -> str:
    """Their folder's name: ``seed3``, ``seeds`` from 0 on, ``seeds3-4`` behind others."""
    if len(seeds) == 1:
        return f"seed{seeds[0]}"
    return f"seeds{seeds[0]}-{seeds[-1]}" if seeds[0] else "seeds"


def groups(places: Sequence[tuple[Path, str]], seeds: int, together: bool) -> list[range]:
    """Seeds ``0`` to ``seeds - 1`` by process, in their order.

    Args:
        places: folders in which those that have run lie, with what their names begin with.
        seeds: how many there shall be.
        together: whether the others share processes.

    Raises: UserError: a process has made more of them than there shall be, or two the same.
    """
    made = {group: path for folder, prefix in places for group, path in _made(folder, prefix)}
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


def _made(folder: Path, prefix: str) -> Iterator[tuple[range, Path]]:
    """What has begun in a folder."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = re.fullmatch(r"seed(?:(\d+)|s(?:(\d+)-(\d+))?)", path.name.removeprefix(prefix))
        begun = (path / RECORD).is_file() or (path / "config.yaml").is_file()
        if name is None or not path.name.startswith(prefix) or not begun:
            continue
        alone, first, last = name.groups()
        if alone is not None:
            yield range(int(alone), int(alone) + 1), path
        elif first is not None:
            yield range(int(first), int(last) + 1), path
        elif count := sum(1 for _ in path.glob("replica_*")):
            yield range(count), path
