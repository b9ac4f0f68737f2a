"""What layouts have in common that store each episode's arrays by themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adabc_lightning.data.formats.columns import Beside, chosen_parts, is_flat
from adabc_lightning.data.formats.source import FINAL, Block, Reading, Source, row_place
from adabc_lightning.data.names import SCALARS, VECTORS
from adabc_lightning.errors import UserError, one_line


@dataclass(frozen=True)
class EpisodeArrays:
    """One episode's arrays, not read yet.

    Args:
        label: what it is called in the file.
        columns: key → array ``[T]``, ``[T, 1]`` or ``[T, N]``; a vector may be several, by name.
    """

    label: str
    columns: dict[str, Any]


def episodic_source(
    where: str,
    episodes: Sequence[EpisodeArrays],
    names: Sequence[str],
    reading: Reading,
    last_observation: bool,
) -> Source:
    """A log of whole episodes.

    Args:
        where: the file, for messages.
        episodes: in order; those without steps are left out.
        names: of all that episodes have, for messages.
        reading: what the user knows.
        last_observation: each has one observation more than actions.
    Raises: UserError: no steps, or an episode whose arrays do not agree with each other or with
        those of the first one.
    """
    more = int(last_observation)
    parts = _parts(where, episodes, reading)
    checked = [_checked(where, episode, parts, more) for episode in episodes]
    checked = [episode for episode in checked if episode.columns["actions"].shape[0]]
    if not checked:
        raise UserError(f"{where} has no steps")
    first = checked[0]
    widths = {key: first.columns[key].shape[1] for key in VECTORS if key in first.columns}
    scalars = [key for key in SCALARS if key in first.columns and key != "episode"]
    for episode in checked:
        for key in (*widths, *scalars):
            if key not in episode.columns:
                raise UserError(f"{where}: {episode.label} has no {key!r}, others have")
        for key, width in widths.items():
            if (found := episode.columns[key].shape[1]) != width:
                raise UserError(
                    f"{where}: {key!r} has {found} columns in {episode.label}, but {width} in "
                    f"{first.label}"
                )
    lengths = np.array([episode.columns["actions"].shape[0] + more for episode in checked])
    ends = np.cumsum(lengths)

    def place(row: int) -> str:
        index = int(np.searchsorted(ends, row, side="right"))
        inside = row - int(ends[index] - lengths[index])
        return f"{row_place(inside)} of {checked[index].label}"

    return Source(
        where=where,
        names=names,
        read=names,
        widths=widths,
        scalars=[*scalars, FINAL if last_observation else "episode"],
        blocks=_blocks(checked, lengths, widths, more),
        rows=int(ends[-1]),
        place=place,
        ends_known=True,
        own_ids=True,
        observation_parts=getattr(first.columns["observations"], "parts", None),
    )


def _parts(where: str, episodes: Sequence[EpisodeArrays], reading: Reading) -> dict[str, list[str]]:
    """Which parts of each vector are read: as the first episode has them."""
    chosen = {}
    for key in VECTORS:
        found = episodes[0].columns.get(key) if episodes else None
        if isinstance(found, Mapping):
            flat = {name: part for name, part in found.items() if is_flat(part)}
            chosen[key] = chosen_parts(where, key, flat, found, reading)
    return chosen


def _checked(
    where: str, episode: EpisodeArrays, parts: Mapping[str, Sequence[str]], more: int
) -> EpisodeArrays:
    """The episode with each vector as one column, its lengths and types checked."""
    columns: dict[str, Any] = {}
    for key, column in episode.columns.items():
        if isinstance(column, Mapping):
            missing = [name for name in parts.get(key, ()) if name not in column]
            if missing or key not in parts:
                raise UserError(
                    f"{where}: {episode.label} has no {one_line(str([*missing, key][0]))!r} in "
                    f"{key!r}, others have"
                )
            chosen = [column[name] for name in parts[key]]
            for part in chosen:
                _check(where, episode.label, key, part)
            if len({part.shape[0] for part in chosen}) > 1:
                raise UserError(f"{where}: parts of {key!r} in {episode.label} differ in length")
            columns[key] = Beside(chosen, parts[key])
        else:
            _check(where, episode.label, key, column)
            columns[key] = column
            if key in VECTORS and len(column.shape) == 1:  # one number
                columns[key] = Beside([column])
    for key in ("observations", "actions"):
        if key not in columns:
            have = ", ".join(map(one_line, episode.columns)) or "nothing"
            raise UserError(f"{where}: {episode.label} has no {key!r}; it has: {have}")
    steps = columns["actions"].shape[0]
    for key, column in columns.items():
        extra = more if key == "observations" else 0
        if column.shape[0] != steps + extra:
            wanted = f"{steps + extra}, one more than its actions" if extra else f"{steps}"
            raise UserError(
                f"{where}: {key!r} of {episode.label} has {column.shape[0]} rows, but must have "
                f"{wanted}" + ("" if extra else ", as many as its actions")
            )
    return EpisodeArrays(episode.label, columns)


def _check(where: str, label: str, key: str, column: Any) -> None:
    shape = column.shape or ()
    if column.dtype.kind not in "biuf":
        raise UserError(f"{where}: {key!r} of {label} must be numeric, but has type {column.dtype}")
    fits = len(shape) in (1, 2) if key in VECTORS else len(shape) == 1 or shape[1:] == (1,)
    if not fits:
        wanted = "[rows, columns]" if key in VECTORS else "[rows]"
        raise UserError(f"{where}: {key!r} of {label} must be {wanted}, but is {list(shape)}")


def _blocks(
    episodes: Sequence[EpisodeArrays],
    lengths: np.ndarray,
    widths: Mapping[str, int],
    more: int,
) -> Callable[[Sequence[str], int], Iterator[Block]]:
    def blocks(keys: Sequence[str], most: int) -> Iterator[Block]:
        for index, episode in enumerate(episodes):
            rows = int(lengths[index])
            for start in range(0, rows, most):
                stop = min(rows, start + most)
                yield {key: column(index, episode, key, start, stop, rows) for key in keys}

    def column(
        index: int, episode: EpisodeArrays, key: str, start: int, stop: int, rows: int
    ) -> np.ndarray:
        if key == FINAL:
            return np.arange(start, stop) == rows - 1
        if key == "episode":
            return np.full(stop - start, index)
        end = stop if key == "observations" else min(stop, rows - more)
        values = np.asarray(episode.columns[key][start:end])
        values = values.reshape(-1, widths[key]) if key in widths else values.reshape(-1)
        if len(values) < stop - start:  # in the row without an action
            values = np.concatenate(
                [values, np.zeros_like(values[:1], shape=(1, *values.shape[1:]))]
            )
        return values

    return blocks
