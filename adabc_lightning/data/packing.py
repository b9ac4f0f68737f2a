"""From the blocks of a log to packed rows, in two passes, so that nothing is there twice.

The first pass reads the scalars, which say where episodes end; the second one the vectors, block by
block into the rows where they belong.
"""

from typing import Literal

import numpy as np
import torch

from adabc_lightning.data.episodes import Steps, arrange, needs_no_terminals
from adabc_lightning.data.formats.columns import check_needed, check_room
from adabc_lightning.data.formats.source import LOGGED, SUCCESS, Reading, Source
from adabc_lightning.data.names import known_ends, unread_ends
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.rewards import read_rewards
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.observations import column_names, labelled
from adabc_lightning.errors import UserError, key_of

AtLimit = Literal["terminal", "timeout"]
"""What an episode's end is that is flagged ``terminals`` at exactly the time limit."""
# So many of the episodes that end at the limit make it improbable that their terminals are true.
SUSPICIOUS_SHARE, SUSPICIOUS_EPISODES = 0.9, 2
SUCCESSES = ("success", "later_success")
FINE = 1e-3  # range below which changes that float32 does not hold are noise


def pack(
    name: str,
    source: Source,
    limit: int | None,
    at_limit: AtLimit,
    reading: Reading,
    block_rows: int,
) -> OfflineDataset:
    """Finds the episodes and packs what is usable.

    Args:
        name: the dataset's.
        source: the log; what the user should know goes to its notes.
        limit: the environment's time limit in steps, None for none.
        at_limit: what terminals at it are.
        reading: what the user knows of the log.
        block_rows: rows read at once.
    Raises: UserError: its contents are not what they should be.
    """
    where = source.where
    check_needed(source, needs_no_terminals(source, reading), reading.reward)
    _name_unread(source)
    layout = Layout(source.widths["observations"], source.widths["actions"])
    if source.rows is not None:
        check_room(source.rows, layout.observation_size, layout.action_size, where)
    scalars = _scalars(source, block_rows)
    total = len(next(iter(scalars.values())))
    if not total:
        raise UserError(f"{where} has no rows")
    check_room(total, layout.observation_size, layout.action_size, where)
    reward_T, stands_in = read_rewards(source, scalars, reading.reward)
    scalars.pop("rewards", None)
    if not stands_in:
        _finite(source, "rewards", reward_T)
    steps = arrange(source, scalars | {"rewards": reward_T}, limit, reading)
    scalars = {key: scalars[key] for key in SUCCESSES if key in scalars}
    terminal_S, timeout_S, end_S = steps.terminal_S, steps.timeout_S, steps.end_S
    if not len(end_S):
        raise UserError(f"{where} has no steps")
    start_E = np.flatnonzero(np.append(True, end_S[:-1]))
    length_E = np.diff(start_E, append=len(end_S))
    _at_limit(source, limit, at_limit, start_E, length_E, terminal_S, timeout_S)
    reward_S = reward_T if steps.order_T is None else reward_T[steps.order_T]
    reward_S = reward_S if steps.place_S is None else reward_S[steps.place_S]
    return_E = np.add.reduceat(reward_S, start_E)
    reward_S = reward_S.astype(np.float32)
    del reward_T
    success_S, later_S = (_at_steps(scalars.get(key), steps) for key in SUCCESSES)
    success_E = None
    if success_S is not None:
        in_any_S = success_S if later_S is None else success_S | later_S
        success_E = torch.from_numpy(np.logical_or.reduceat(in_any_S, start_E))
    terminals, timeouts = int(terminal_S.sum()), int(timeout_S.sum())

    # Without a stored next state there is none after the end of an episode: such a row is
    # dropped, unless it is a terminal, where Eq. 3 never bootstraps and its own one will do.
    has_next = "next_observations" in source.widths
    follows_S = ~end_S if steps.final_S is None else ~end_S | steps.final_S
    kept_K: np.ndarray = np.flatnonzero(has_next | terminal_S | follows_S).astype(_index(total))
    if len(kept_K) == 0:
        raise UserError(
            f"{where} has no step with a known next observation: each episode has one step, and no "
            "terminal; log next_observations"
        )
    if reading.reward == SUCCESS:
        _name_lost(source, reward_S, kept_K)
    episode_T = np.repeat(np.arange(len(start_E)), length_E)[kept_K]

    packed = np.zeros((len(kept_K), layout.width), np.float32)
    out = {field: packed[:, column] for field, column in layout.columns.items()}
    out["terminated"][:] = terminal_S[kept_K]
    out["reward"][:] = reward_S[kept_K]
    del reward_S
    place_K = kept_K if steps.place_S is None else steps.place_S[kept_K].astype(kept_K.dtype)
    targets = {
        "actions": [_Target(out["action"], place_K, steps.order_T)],
        "observations": [_Target(out["observation"], place_K, steps.order_T)],
    }
    if has_next:
        target = _Target(out["next_observation"], place_K, steps.order_T)
        targets["next_observations"] = [target]
    else:
        next_K = place_K + follows_S[kept_K]
        targets["observations"].append(_Target(out["next_observation"], next_K, steps.order_T))
    del terminal_S, timeout_S, end_S, follows_S, steps
    unresolved = _fill(source, targets, total, block_rows)
    return OfflineDataset(
        name=name,
        layout=layout,
        rows=torch.from_numpy(packed),
        episode_T=torch.from_numpy(episode_T),
        episode_return_E=torch.from_numpy(return_E),
        episode_length_E=torch.from_numpy(length_E),
        terminals=terminals,
        timeouts=timeouts,
        reference=source.reference,
        env_id=source.env_id,
        unresolved=unresolved,
        success_E=success_E,
        success_T=None if success_S is None else torch.from_numpy(success_S[kept_K]),
        reward=reading.reward or LOGGED,
        observation_parts=source.observation_parts,
    )


class _Target:
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


def _at_steps(flag_T: np.ndarray | None, steps: Steps) -> np.ndarray | None:
    """Flags of rows as flags of steps ``[S]`` bool; what is no 1, NaN too, is none."""
    if flag_T is None:
        return None
    flag_T = flag_T if steps.order_T is None else flag_T[steps.order_T]
    return (flag_T if steps.place_S is None else flag_T[steps.place_S]) == 1


def _index(rows: int) -> type:
    return np.int32 if rows < 2**31 - 1 else np.int64


def _name_unread(source: Source) -> None:
    for name in unread_ends(source.names, source.read):
        source.notes.append(
            f"{source.where}: {name!r} looks like ends of episodes and is not read; names that "
            f"are: {known_ends()}"
        )


def _name_lost(source: Source, reward_S: np.ndarray, kept_K: np.ndarray) -> None:
    """Success at the last step of an episode has no next observation, and is dropped with it."""
    lost = int((reward_S > 0).sum() - (reward_S[kept_K] > 0).sum())
    if lost:
        source.notes.append(
            f"{source.where}: {lost} of {int((reward_S > 0).sum())} steps with success are the "
            "last of their episodes, have no next observation and are left out; log "
            f"next_observation, or set {key_of('success_terminates')}, to learn from them"
        )


def _scalars(source: Source, block_rows: int) -> dict[str, np.ndarray]:
    """Every scalar column, whole; the rewards in float64, as the sums are to be those logged."""
    room: dict[str, np.ndarray] = {}
    count = 0
    for block in source.blocks(tuple(source.scalars), block_rows):
        rows = len(next(iter(block.values())))
        for key, column in block.items():
            values = np.asarray(column).reshape(-1)
            if key not in room:
                kind = np.float64 if key == "rewards" else values.dtype
                room[key] = np.empty(source.rows or rows, kind)
            # Pieces of any number, but no list of them: small ones are not given back.
            kind = np.result_type(room[key], values)
            if count + rows > len(room[key]) or kind != room[key].dtype:
                larger = np.empty(max(2 * count, count + rows), kind)
                larger[:count] = room[key][:count]
                room[key] = larger
            room[key][count : count + rows] = values
        count += rows
    return {key: room[key][:count] if count else np.empty(0) for key in source.scalars}


def _at_limit(
    source: Source,
    limit: int | None,
    at_limit: AtLimit,
    start_E: np.ndarray,
    length_E: np.ndarray,
    terminal_S: np.ndarray,
    timeout_S: np.ndarray,
) -> None:
    """Terminals at the time limit: made time limits, or named."""
    if limit is None:
        return
    last_L = (start_E + length_E - 1)[length_E == limit]
    flagged_L = last_L[terminal_S[last_L]]
    if at_limit == "timeout":
        terminal_S[flagged_L], timeout_S[flagged_L] = False, True
    elif len(flagged_L) >= max(SUSPICIOUS_EPISODES, SUSPICIOUS_SHARE * len(last_L)):
        source.notes.append(
            f"{source.where}: {len(flagged_L)} of {len(last_L)} episodes of exactly {limit} steps, "
            "the time limit, end flagged as terminals, which stops bootstrapping there; if the "
            f"limit ended them, set {key_of('terminals_at_limit')} to timeout"
        )


def _finite(source: Source, key: str, block: np.ndarray, start: int = 0) -> np.ndarray:
    """The block, if all of it is finite in float32."""
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
        small = block.astype(np.float32, copy=False)
    wrong = ~np.isfinite(small)
    if wrong.any():
        row, *column = np.argwhere(wrong)[0]
        inside = f" in column {column[0]}" if column else ""
        if key != "actions" and column and source.observation_parts is not None:
            inside += f" ({column_names(source.observation_parts)[column[0]]})"
        raise UserError(
            f"{source.where}: {key!r} must be finite in float32, but "
            f"{source.place(start + int(row))} is {small[(row, *column)]}{inside}"
        )
    return block


def _fill(
    source: Source, targets: dict[str, list[_Target]], total: int, block_rows: int
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
            _finite(source, key, values, start)
            small = values.astype(np.float32, copy=False)
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
