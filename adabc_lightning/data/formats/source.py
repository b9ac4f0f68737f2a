"""The one interface of all readers: a log as blocks of D4RL's columns, read in order."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from adabc_lightning.env.observations import Parts
from adabc_lightning.env.scores import Reference
from adabc_lightning.errors import UserError, key_of

DoneMeans = Literal["terminal", "timeout"]
"""What an array called ``dones`` flags."""
Block = dict[str, np.ndarray]
Blocks = Callable[[Sequence[str], int], Iterator[Block]]
LOGGED, SUCCESS = "logged", "success"
"""Values of ``data.reward`` that name no function."""
FINAL = "final"
"""Scalar of a source: the row is an episode's last observation, without an action."""


@dataclass(frozen=True)
class Reading:
    """What only the user knows of a log; names and meanings as the keys below ``data``.

    Args:
        observation_keys: which parts of observations that have parts, in this order; None: all
            of one dimension (:mod:`adabc_lightning.env.observations`).
        done_means: what ``dones`` flags.
        success_terminates: whether a step flagged as success is a terminal; those behind it that
            are flagged, too, are left out.
        max_time_gap: two steps further apart than so many of the log's periods, by its times, are
            not of one episode; None: any gap is.
        mask: name of a filter that the file holds (robomimic's ``mask/NAME``).
        reward: where rewards come from: the log (None or ``logged``), its flags of ``success``, or
            a function (:mod:`adabc_lightning.data.rewards`).
        action_scale: what logged actions are multiplied with.
    Raises: UserError: a value is out of its range.
    """

    observation_keys: tuple[str, ...] | None = None
    done_means: DoneMeans | None = None
    success_terminates: bool = False
    max_time_gap: float | None = None
    mask: str | None = None
    reward: str | None = None
    action_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.max_time_gap is not None and not 1 <= self.max_time_gap < math.inf:
            raise UserError(
                f"{key_of('max_time_gap')} is {self.max_time_gap}; it must be 1 period or more"
            )
        if self.observation_keys is not None and not self.observation_keys:
            raise UserError(
                f"{key_of('observation_keys')} is empty; name at least one, or leave it out"
            )
        if not 0 < self.action_scale < math.inf:  # also catches NaN
            raise UserError(
                f"{key_of('action_scale')} is {self.action_scale}; it must be a positive number"
            )
        keys = [key.lower() for key in self.observation_keys or ()]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise UserError(f"{key_of('observation_keys')} has {twice!r} twice; name it once")


def row_place(row: int) -> str:
    """Where a row of an array or a Parquet table is, for messages."""
    return f"row {row} (counted from 0)"


@dataclass
class Source:
    """A log, opened but not read.

    Args:
        where: file or folder, for messages.
        names: of all that is in it, read or not.
        read: those of them that are read.
        widths: ``observations``, ``actions`` and maybe ``next_observations`` → numbers in a row.
        scalars: keys of :data:`~adabc_lightning.data.names.SCALARS`, and maybe :data:`FINAL`.
        blocks: (keys, at most so many rows) → the columns of these keys, ``[n]`` or ``[n, N]``,
            from the first row to the last; can be called again.
        rows: T, where it is known before anything is read.
        stored: bytes of its files, where few can stand for many rows; None: they cannot.
        place: index of a row → where that is, for messages: ``row 3 (counted from 0)`` of arrays,
            ``line 5`` of text files, whose header is line 1.
        kind: what its columns are, for messages.
        ends_known: where episodes end is known without flags, so terminals may be missing; without
            them no end is a terminal.
        own_ids: its episodes are numbered by the reader, from 0 in each file; two files have none
            in common.
        turned: its rows are in another order on purpose, which is not worth a word.
        observation_parts: name and size of each part of the observations, in order; None where
            they have none.
        env_id: the environment that it says it was logged in.
        reference: its own score references.
        files: rows at which its second file and those after it begin, once all are read.
        notes: what was found on the way that the user should know, a sentence each.
    """

    where: str
    names: Sequence[str]
    read: Sequence[str]
    widths: Mapping[str, int]
    scalars: Sequence[str]
    blocks: Blocks
    rows: int | None = None
    stored: int | None = None
    place: Callable[[int], str] = row_place
    kind: Literal["arrays", "columns"] = "arrays"
    ends_known: bool = False
    own_ids: bool = False
    turned: bool = False
    observation_parts: Parts | None = None
    env_id: str | None = None
    reference: Reference | None = None
    files: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def slices(columns: Mapping[str, Any], rows: int) -> Blocks:
    """Blocks of columns that can be sliced: arrays, HDF5 datasets.

    Args:
        columns: key → ``[T]``, ``[T, 1]`` or ``[T, N]``.
        rows: T.
    """

    def blocks(keys: Sequence[str], most: int) -> Iterator[Block]:
        for start in range(0, rows, most):
            yield {key: columns[key][start : start + most] for key in keys}

    return blocks
