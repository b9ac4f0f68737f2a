"""From blocks of a log's vectors to the rows where they belong, block by block."""

import numpy as np

from adabc_lightning.data.formats.source import Source
from adabc_lightning.env.observations import column_names, labelled
from adabc_lightning.errors import UserError

FINE = 1e-3  # range below which changes that float32 does not hold are noise


class Target:
    """Where rows of a column go: ``out[:] = column[source]``, from blocks of the column in order.

    Args:
        out: ``[K, N]``.
        place_K: the place that each row of ``out`` is filled from.
        order_T: row of the log at each place; None: the same.
    """

    def __init__(self, out: np.ndarray, place_K: np.ndarray, order_T: np.ndarray | None) -> None:
        self.out = out
        self.to_K: np.ndarray | None = None
        self.source_K = place_K
        if order_T is not None:
            row_K = order_T[place_K]
            self.to_K = np.argsort(row_K, kind="stable").astype(place_K.dtype)
            self.source_K = row_K[self.to_K].astype(place_K.dtype)

    def take(self, block: np.ndarray, start: int) -> None:
        """Copies from the rows ``[n, N]`` that begin at ``start``."""
        ends = np.array((start, start + len(block)), self.source_K.dtype)
        found = slice(*np.searchsorted(self.source_K, ends))
        to = found if self.to_K is None else self.to_K[found]
        self.out[to] = block.reshape(len(block), -1)[self.source_K[found] - start]


def fill(
    source: Source, targets: dict[str, list[Target]], total: int, block_rows: int
) -> tuple[str, ...]:
    """Copies every vector to its targets.

    Returns: names of the columns whose changes float32 does not hold.
    """
    start = 0
    lost: dict[str, _Lost] = {}
    for block in source.blocks(tuple(targets), block_rows):
        rows = len(next(iter(block.values())))
        for key, wanted in targets.items():
            values = np.asarray(block[key])
            if values.shape[1:] != (source.widths[key],):
                raise UserError(
                    f"{source.where}: {source.place(start)} has {key!r} of "
                    f"{int(np.prod(values.shape[1:]))} numbers, the rows before "
                    f"{source.widths[key]}"
                )
            small = as_float32(source, key, values, start)
            if key != "next_observations" and values.dtype.itemsize > 4:
                lost.setdefault(key, _Lost(values.shape[1])).add(values, small)
            for target in wanted:
                target.take(small, start)
        start += rows
    if start != total:
        raise UserError(f"{source.where} changed while it was read")
    found = [
        f"{key.removesuffix('s')}_{i}" for key, counts in lost.items() for i in counts.columns()
    ]
    if found:
        named = [labelled(column, source.observation_parts) for column in found]
        source.notes.append(
            f"{source.where}: float32, which networks compute in, cannot tell the values of "
            f"{', '.join(named)} apart: subtract the first value (a Unix time), or leave it out"
        )
    return tuple(found)


def as_float32(source: Source, key: str, values: np.ndarray, start: int = 0) -> np.ndarray:
    """The values ``[n]`` or ``[n, N]`` in float32, where all of them are finite.

    Args:
        source: the log, for the message.
        key: of the column.
        values: a block of its rows.
        start: row of the log that the block begins with.
    Raises: UserError: a number is not.
    """
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
        small = values.astype(np.float32, copy=False)
    wrong = ~np.isfinite(small)
    if wrong.any():
        row, *column = np.argwhere(wrong)[0]
        inside = f" in column {column[0]}" if column else ""
        if key != "actions" and column and source.observation_parts is not None:
            inside += f" ({column_names(source.observation_parts)[column[0]]})"
        raise UserError(
            f"{source.where}: {key!r} must be finite in float32, but "
            f"{source.place(start + int(row))} is {small[(row, *column)]}{inside}; leave the row "
            "out, and flag the one before it as a timeout, or log step"
        )
    return small


class _Lost:
    """Counts the changes from row to row that float32 does not hold, by column."""

    def __init__(self, width: int) -> None:
        self.changes, self.held = np.zeros(width, np.int64), np.zeros(width, np.int64)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, values: np.ndarray, small: np.ndarray) -> None:
        """Counts the next rows ``[n, N]``."""
        self.changes += (values[1:] != values[:-1]).sum(0)
        self.held += (small[1:] != small[:-1]).sum(0)
        np.minimum(self.low, values.min(0), out=self.low)
        np.maximum(self.high, values.max(0), out=self.high)

    def columns(self) -> list[int]:
        """Those that lose more than half of them, though they range over more than noise."""
        lost = (self.changes > 2 * self.held) & (self.high - self.low > FINE)
        return [int(i) for i in np.flatnonzero(lost)]
