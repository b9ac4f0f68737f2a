"""In which order the rows of a log were taken, as episode ids, steps and times tell."""

from typing import Any, NamedTuple

import numpy as np

from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.errors import UserError, key_of

GAPS = 0.2  # share of steps: jumps of a step counter are missing rows where they are this rare
JITTER = 5.0  # periods: times that lie further apart are worth a word


class Order(NamedTuple):
    """The places of a log's rows; None for what the log does not say, or what changes nothing."""

    order_T: np.ndarray | None = None
    """Row at each place."""
    end_T: np.ndarray | None = None
    """Ends of episodes at each place, bool: by ids, or by steps that begin again."""
    gap_T: np.ndarray | None = None
    """Whether rows are missing behind each place, which ends an episode as well."""
    count_T: np.ndarray | None = None
    """Where rows are missing: the number of each place, with those that their steps tell of."""


def order(
    source: Source,
    scalars: dict[str, np.ndarray],
    flags: dict[str, np.ndarray],
    reading: Reading,
) -> Order:
    """What ids, steps and times tell.

    Args:
        source: the log; what was found goes to its notes.
        scalars: its scalar columns ``[T]``, whole.
        flags: ``[T]`` bool, ``terminals`` and maybe ``timeouts``.
        reading: what the user knows.
    Raises: UserError: rows that cannot be put in order.
    """
    by = next((key for key in ("step", "time") if key in scalars), None)
    value_T = None if by is None else _values(source, by, scalars[by])
    order_T = end_T = None
    if "episode" in scalars:
        code_T, comes_back = _codes(source, scalars["episode"])
        if value_T is not None and by is not None:
            order_T = _sorted(source, by, code_T, value_T, comes_back)
        elif comes_back is not None:
            raise UserError(
                f"{source.where}: {_called(scalars['episode'][comes_back])} comes back in "
                f"{source.place(comes_back)}, after another one; without a column step, frame or "
                "time its rows cannot be put in order"
            )
        if order_T is not None:
            code_T = code_T[order_T]
        end_T = np.append(code_T[1:] != code_T[:-1], True)
    elif value_T is not None and by is not None:
        order_T, end_T = _without_ids(source, by, value_T, flags)
    if value_T is not None and by is not None:
        if order_T is not None:
            value_T = value_T[order_T]
        return _gaps(source, by, value_T, Order(order_T, end_T), flags, reading)
    return Order(order_T, end_T)


def _values(source: Source, key: str, value_T: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(value_T))
    if len(wrong):
        place = source.place(int(wrong[0]))
        raise UserError(
            f"{source.where}: {key!r} must be finite, but {place} is {value_T[wrong[0]]}"
        )
    return value_T


def _codes(source: Source, id_T: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Episodes numbered as they first appear, and the first row of one that comes back."""
    if id_T.dtype.kind == "f" and np.isnan(id_T).any():
        place = source.place(int(np.isnan(id_T).argmax()))
        raise UserError(f"{source.where}: 'episode' has no value in {place}")
    start_R = np.flatnonzero(np.append(True, id_T[1:] != id_T[:-1]))
    _, first_U, which_R = np.unique(id_T[start_R], return_index=True, return_inverse=True)
    rank_U = np.empty(len(first_U), np.int64)
    rank_U[np.argsort(first_U)] = np.arange(len(first_U))
    back_R = first_U[which_R] != np.arange(len(start_R))
    length_R = np.diff(start_R, append=len(id_T))
    code_T = np.repeat(rank_U[which_R].astype(np.int32), length_R)
    return code_T, int(start_R[back_R.argmax()]) if back_R.any() else None


def _called(code: Any) -> str:
    """An episode by its id, where that is one to show."""
    if isinstance(code, np.number):
        return f"episode {code:g}" if abs(code) < 2**31 else "an episode"
    return f"episode {str(code)[:40]!r}"


def _sorted(
    source: Source, by: str, code_T: np.ndarray, value_T: np.ndarray, comes_back: int | None
) -> np.ndarray | None:
    """The order by episode and step or time; None where the rows are in it."""
    same_T = code_T[1:] == code_T[:-1]
    falls_T = same_T & (value_T[1:] < value_T[:-1])
    if comes_back is None and not falls_T.any():
        if by == "step" and (again := same_T & (value_T[1:] == value_T[:-1])).any():
            _twice(source, by, value_T, int(again.argmax()), int(again.argmax()) + 1)
        return None
    order_T = np.lexsort((value_T, code_T))
    code, value = code_T[order_T], value_T[order_T]
    again = (code[1:] == code[:-1]) & (value[1:] == value[:-1])
    if again.any():
        _twice(source, by, value_T, *sorted(map(int, order_T[again.argmax() :][:2])))
    if not source.turned:
        source.notes.append(
            f"{source.where}: rows are not in the order of their episodes; they were put in order "
            f"by their {by}"
        )
    return order_T


def _twice(source: Source, by: str, value_T: np.ndarray, row: int, other: int) -> None:
    raise UserError(
        f"{source.where}: {source.place(row)} and {source.place(other)} are of one episode and "
        f"both have {by} {value_T[row]:g}: they cannot be put in order; give each episode an id "
        "of its own"
    )


def _without_ids(
    source: Source, by: str, value_T: np.ndarray, flags: dict[str, np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Steps or times alone: they begin again where an episode does, or are those of all rows."""
    back_T = value_T[1:] <= value_T[:-1] if by == "step" else value_T[1:] < value_T[:-1]
    flagged_T = flags["terminals"][:-1] | flags.get("timeouts", flags["terminals"])[:-1]
    torn = np.flatnonzero(back_T & ~flagged_T)
    if not len(torn):
        return None, None
    if len(np.unique(value_T)) == len(value_T):
        source.notes.append(f"{source.where}: rows are not in order; they were put so by {by}")
        return np.argsort(value_T, kind="stable"), None
    first = value_T.min()
    bad = torn[value_T[torn + 1] > first]
    if len(bad):
        row = int(bad[0]) + 1
        raise UserError(
            f"{source.where}: {by} goes from {value_T[row - 1]:g} to {value_T[row]:g} in "
            f"{source.place(row)} without an end of an episode before; without a column episode "
            "the rows cannot be put in order"
        )
    source.notes.append(
        f"{source.where}: {by} begins again in {source.place(int(torn[0]) + 1)}"
        + (f" and {len(torn) - 1} more" if len(torn) > 1 else "")
        + ", where no end is flagged; each is taken for a new episode after a time limit"
    )
    end_T = np.zeros(len(value_T), bool)
    end_T[torn] = True
    if "timeouts" not in flags:  # then steps say it, not the environment's limit
        end_T[-1] = True
    return None, end_T


def _gaps(
    source: Source,
    by: str,
    value_T: np.ndarray,
    found: Order,
    flags: dict[str, np.ndarray],
    reading: Reading,
) -> Order:
    """Where rows are missing, beside what was found; values are in order."""
    most = JITTER if reading.max_time_gap is None else reading.max_time_gap
    if "next_observations" in source.widths or len(value_T) < 3:
        return found
    order_T, end_T = found.order_T, found.end_T
    ends_T = flags["terminals"] | flags.get("timeouts", flags["terminals"])
    ends_T = ends_T if order_T is None else ends_T[order_T]
    inside_T = ~(ends_T if end_T is None else ends_T | end_T)[:-1]
    ahead_T = np.diff(value_T.astype(np.float64))
    if not inside_T.any():
        return found
    period = float(np.median(ahead_T[inside_T]))
    gap_T = inside_T & (ahead_T > period * (most if by == "time" else 1) * (1 + 1e-6))
    if not gap_T.any() or (by == "step" and gap_T.sum() > GAPS * inside_T.sum()):
        return found
    at = int(gap_T.argmax())
    row = at + 1 if order_T is None else int(order_T[at + 1])
    jump = f"{by} goes from {value_T[at]:g} to {value_T[at + 1]:g} in {source.place(row)}" + (
        f", and {int(gap_T.sum()) - 1} more times" if gap_T.sum() > 1 else ""
    )
    if by == "time" and reading.max_time_gap is None:
        source.notes.append(
            f"{source.where}: {jump}, where its rows are {period:g} apart: rows are missing, or "
            f"an episode ends there; {key_of('max_time_gap')} {most:g} cuts it there"
        )
        return found
    source.notes.append(f"{source.where}: rows are missing: {jump}; episodes are cut there")
    count_T = None
    if by == "step":  # what was not logged was made
        count_T = np.rint((value_T - value_T[0]) / period).astype(np.int64)
    return found._replace(gap_T=np.append(gap_T, False), count_T=count_T)
