"""From the blocks of a log to packed rows, in two passes, so that nothing is there twice.

The first pass reads the scalars, which say where episodes end; the second one the vectors, block by
block into the rows where they belong.
"""

from typing import Literal

import numpy as np
import torch

from adabc_lightning.data.episodes import Steps, arrange, check_needed
from adabc_lightning.data.filling import Target, as_float32, fill
from adabc_lightning.data.formats.source import LOGGED, SUCCESS, Reading, Source
from adabc_lightning.data.names import known_ends, misspelt, unread_ends
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.rewards import read_rewards
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError, key_of, one_line
from adabc_lightning.run.limits import check_memory, check_rows

AtLimit = Literal["terminal", "timeout"]
"""What an episode's end is that is flagged ``terminals`` at exactly the time limit."""
# So many of the episodes that end at the limit make it improbable that their terminals are true.
SUSPICIOUS_SHARE, SUSPICIOUS_EPISODES = 0.9, 2
BLOCK_NUMBERS = 1 << 24  # of vectors read at once: where rows are wide, they are fewer
SUCCESSES = ("success", "later_success")


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
    check_needed(source, reading)
    _name_unread(source)
    layout = Layout(source.widths["observations"], source.widths["actions"])
    if source.rows is not None:
        _check_room(source, source.rows, layout)
    scalars = _scalars(source, block_rows)
    total = len(next(iter(scalars.values())))
    if not total:
        raise UserError(f"{where} has no rows")
    _check_room(source, total, layout)
    reward_T, stands_in = read_rewards(source, scalars, reading.reward)
    scalars["rewards"] = reward_T
    if not stands_in:
        as_float32(source, "rewards", reward_T)  # all are finite; their sums are of float64
    steps = arrange(source, scalars, limit, reading)
    scalars = {key: scalars[key] for key in SUCCESSES if key in scalars}
    assumed = steps.assumed
    terminal_S, timeout_S, end_S = steps.terminal_S, steps.timeout_S, steps.end_S
    if not len(end_S):
        raise UserError(f"{where} has no steps")
    start_E = np.flatnonzero(np.append(True, end_S[:-1]))
    length_E = np.diff(start_E, append=len(end_S))
    _at_limit(source, limit, at_limit, start_E, length_E, terminal_S, timeout_S)
    reward_S = steps.of_rows(reward_T)
    return_E = np.add.reduceat(reward_S, start_E)
    reward_S = reward_S.astype(np.float32)
    del reward_T
    success_S, success_E = _successes(scalars, steps, start_E)
    terminals, timeouts = int(terminal_S.sum()), int(timeout_S.sum())
    kept_K: np.ndarray = _usable(source, steps).astype(_index(total))
    if reading.reward == SUCCESS:
        _name_lost(source, reward_S, kept_K)
    episode_T = np.repeat(np.arange(len(start_E)), length_E)[kept_K]

    packed = np.zeros((len(kept_K), layout.width), np.float32)
    out = {field: packed[:, column] for field, column in layout.columns.items()}
    out["terminated"][:] = terminal_S[kept_K]
    out["reward"][:] = reward_S[kept_K]
    targets = _targets(source, out, steps, kept_K)
    del reward_S, terminal_S, timeout_S, end_S, steps  # the second pass needs none of them
    width = sum(source.widths[key] for key in targets)
    unresolved = fill(source, targets, total, max(1, min(block_rows, BLOCK_NUMBERS // width)))
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
        unread=tuple(name for name in source.names if name not in set(source.read)),
        cut_every=limit if assumed else None,
        joins=assumed and limit is None,
        success_E=None if success_E is None else torch.from_numpy(success_E),
        success_T=None if success_S is None else torch.from_numpy(success_S[kept_K]),
        reward=reading.reward or LOGGED,
        observation_parts=source.observation_parts,
    )


def _check_room(source: Source, rows: int, layout: Layout) -> None:
    """Raises: UserError: so many rows are more than the file is worth, or than the memory has."""
    if source.stored is not None:
        check_rows(rows * layout.width, source.stored, source.where)
    check_memory(2 * rows * layout.width, source.where)  # packed, and the ring's copy


def _successes(
    scalars: dict[str, np.ndarray], steps: Steps, start_E: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Steps ``[S]`` and episodes ``[E]`` with success, bool; None where the log does not say."""
    success_S, later_S = (_at_steps(scalars.get(key), steps) for key in SUCCESSES)
    if success_S is None:
        return None, None
    in_any_S = success_S if later_S is None else success_S | later_S
    return success_S, np.logical_or.reduceat(in_any_S, start_E)


def _follows(steps: Steps) -> np.ndarray:
    """Steps ``[S]`` whose next observation is the next place's."""
    return ~steps.end_S if steps.final_S is None else ~steps.end_S | steps.final_S


def _usable(source: Source, steps: Steps) -> np.ndarray:
    """Steps ``[K]`` that become rows.

    Without a stored next state there is none after the end of an episode: such a step is dropped,
    unless it is a terminal, where Eq. 3 never bootstraps and its own one will do.
    """
    has_next = "next_observations" in source.widths
    kept_K = np.flatnonzero(has_next | steps.terminal_S | _follows(steps))
    if not len(kept_K):
        raise UserError(
            f"{source.where} has no step with a known next observation: each episode has one step, "
            "and no terminal; log next_observations"
        )
    return kept_K


def _targets(
    source: Source, out: dict[str, np.ndarray], steps: Steps, kept_K: np.ndarray
) -> dict[str, list[Target]]:
    """Where the columns' vectors go; one of observations may also be the next of the row before."""
    place_K = kept_K if steps.place_S is None else steps.place_S[kept_K].astype(kept_K.dtype)
    targets = {
        "actions": [Target(out["action"], place_K, steps.order_T)],
        "observations": [Target(out["observation"], place_K, steps.order_T)],
    }
    if "next_observations" in source.widths:
        target = Target(out["next_observation"], place_K, steps.order_T)
        targets["next_observations"] = [target]
    else:
        next_K = place_K + _follows(steps)[kept_K]
        targets["observations"].append(Target(out["next_observation"], next_K, steps.order_T))
    return targets


def _at_steps(flag_T: np.ndarray | None, steps: Steps) -> np.ndarray | None:
    """Flags of rows as flags of steps ``[S]`` bool; what is no 1, NaN too, is none."""
    if flag_T is None:
        return None
    return np.asarray(steps.of_rows(flag_T) == 1)


def _index(rows: int) -> type:
    return np.int32 if rows < 2**31 - 1 else np.int64


def _name_unread(source: Source) -> None:
    ends = unread_ends(source.names, source.read)
    for name, right in misspelt(source.names, source.read):
        if name not in ends:
            source.notes.append(
                f"{source.where}: {one_line(name)!r} is not read; did you mean {right!r}?"
            )
    for name in ends:
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
