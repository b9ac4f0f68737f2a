"""Several files as one log: shards, each with the same columns."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from adabc_lightning.data.formats.source import Block, Reading, Source
from adabc_lightning.errors import UserError, one_line

Open = Callable[[Path, Reading, ExitStack], Source]


def in_order(paths: Sequence[Path]) -> list[Path]:
    """By name, numbers in names by their value: ``part-2`` before ``part-10``."""
    return sorted(paths, key=lambda path: [
        (int(word), "") if word.isdecimal() else (-1, word)
        for word in re.split(r"(\d{1,18})", path.as_posix())
    ])  # fmt: skip


def files_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files below a folder with one of these suffixes, in order, hidden ones left out.

    Raises: UserError: one is a link to elsewhere.
    """
    root, found = folder.resolve(), []
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        hidden = any(part.startswith((".", "_")) for part in inner.parts)
        if hidden or not path.name.lower().endswith(tuple(suffixes)):
            continue
        if not path.resolve().is_relative_to(root):
            raise UserError(
                f"{path} is a link out of its folder, which is not followed; give a folder that "
                "holds the files themselves"
            )
        if path.is_file():
            found.append(path)
    return in_order(found)


def open_shards(folder: Path, paths: Sequence[Path], reading: Reading, open_one: Open) -> Source:
    """Files one after the other; one is open at a time.

    Args:
        folder: for messages.
        paths: at least one.
        reading: what the user knows.
        open_one: opens one of them.
    Raises: UserError: one cannot be read, or has other columns than the first one.
    """
    where = str(folder)
    starts = [0]  # of the files that have been read, in rows
    begins: list[int] = []  # of those but the first, once all are read
    shards: list[Source] = []  # those, and the one that is being read
    with ExitStack() as stack:
        first = open_one(paths[0], reading, stack)

    def blocks(keys: Sequence[str], most: int) -> Iterator[Block]:
        del starts[1:], shards[:]
        episodes = 0  # of the files before, where readers number them file by file
        for path in paths:
            with ExitStack() as stack:
                shard = open_one(path, reading, stack)
                _compare(first, shard)
                shards.append(shard)
                rows, before = 0, episodes
                for block in shard.blocks(keys, most):
                    rows += len(next(iter(block.values())))
                    if shard.own_ids and "episode" in block:
                        block["episode"] = block["episode"] + before
                        episodes = max(episodes, int(block["episode"].max()) + 1)
                    yield block
                starts.append(starts[-1] + rows)
        begins[:] = [start for start in starts[1:-1] if start]

    def place(row: int) -> str:
        index = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{shards[index].place(row - starts[index])} of {paths[index].name}"

    return Source(
        where=where,
        names=first.names,
        read=first.read,
        widths=first.widths,
        scalars=first.scalars,
        blocks=blocks,
        stored=None if first.stored is None else sum(path.stat().st_size for path in paths),
        place=place,
        kind=first.kind,
        ends_known=first.ends_known,
        turned=first.turned,
        observation_parts=first.observation_parts,
        files=begins,
        notes=first.notes,
    )


def _compare(first: Source, other: Source) -> None:
    missing = [key for key in (*first.widths, *first.scalars)
               if key not in other.widths and key not in other.scalars]  # fmt: skip
    more = [key for key in (*other.widths, *other.scalars)
            if key not in first.widths and key not in first.scalars]  # fmt: skip
    if missing or more:
        key, has, lacks = (missing[0], first, other) if missing else (more[0], other, first)
        raise UserError(f"{lacks.where} has no {key!r}, but {has.where} has; they must agree")
    for key, width in first.widths.items():
        if other.widths[key] != width:
            raise UserError(
                f"{other.where}: {key!r} has {other.widths[key]} columns, but {width} in "
                f"{first.where}"
            )
    if sorted(first.read) != sorted(other.read):
        names = one_line(", ".join(sorted(set(first.read) ^ set(other.read))))
        raise UserError(f"{other.where} has other columns than {first.where}: {names}")
