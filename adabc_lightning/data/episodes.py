"""Where the episodes of a log begin and end, and in which order its steps were taken.

One set of rules for all formats. Terminals and timeouts are flags; an episode id ends an episode
where it changes; a step, frame or time column puts rows in order. A time limit is never a terminal.
"""

from dataclasses import dataclass

import numpy as np

from adabc_lightning.data.formats.source import FINAL, LOGGED, SUCCESS, Reading, Source
from adabc_lightning.data.names import listed
from adabc_lightning.data.order import order
from adabc_lightning.errors import UserError, key_of


@dataclass
class Steps:
    """The steps of a log in the order that they were taken; S of them in T rows.

    Args:
        order_T: row at each place; None: the rows are in order.
        place_S: each step's place; None: each place is a step.
        terminal_S, timeout_S: flags, ``[S]`` bool; no step has both.
        end_S: whether it is the last one of its episode, ``[S]`` bool.
        assumed: whether nothing says where episodes end but terminals and the time limit.
        final_S: whether a row without an action follows, its next observation; None: none has one.
    """

    order_T: np.ndarray | None
    place_S: np.ndarray | None
    terminal_S: np.ndarray
    timeout_S: np.ndarray
    end_S: np.ndarray
    final_S: np.ndarray | None
    assumed: bool = False

    def of_rows(self, value_T: np.ndarray) -> np.ndarray:
        """Values ``[T]`` of the log's rows as those of steps ``[S]``."""
        value_T = value_T if self.order_T is None else value_T[self.order_T]
        return value_T if self.place_S is None else value_T[self.place_S]


def arrange(
    source: Source, scalars: dict[str, np.ndarray], limit: int | None, reading: Reading
) -> Steps:
    """Finds the episodes.

    Args:
        source: the log; what was found goes to its notes.
        scalars: its scalar columns ``[T]``, whole.
        limit: the environment's time limit in steps, which ends episodes where nothing says
            otherwise; None: there is none.
        reading: what the user knows.
    Raises: UserError: flags that are none, rows that cannot be put in order, names that contradict
        each other.
    """
    flags = _flags(source, scalars, reading)
    success_T, ended_T = _success(source, scalars, reading), flags["terminals"]
    if success_T is not None:
        flags["terminals"] = ended_T | success_T
    terminal_T, timeout_T = flags["terminals"], flags.get("timeouts")
    order_T, end_T, gap_T, count_T = order(source, scalars, flags, reading)
    if order_T is not None:
        terminal_T, ended_T = terminal_T[order_T], ended_T[order_T]
        timeout_T = None if timeout_T is None else timeout_T[order_T]
        success_T = None if success_T is None else success_T[order_T]
        flags = {}
    place_S = final_S = None
    if FINAL in scalars:
        final_T = scalars[FINAL]
        place_S = np.flatnonzero(~final_T)
        final_S = np.append(final_T[1:], False)[place_S]
        terminal_T, ended_T = terminal_T[place_S], ended_T[place_S]
        success_T = None if success_T is None else success_T[place_S]
        # What has a last observation of its own ends there.
        timeout_T = final_S | (timeout_T[place_S] if timeout_T is not None else False)
        end_T = gap_T = None
    assumed = timeout_T is None and end_T is None
    # What goes on behind a success was not reset by it, either: the limit's count goes on, too.
    goes_on = success_T is not None and bool((success_T[1:] & success_T[:-1] & ~ended_T[:-1]).any())
    reset_T = ended_T if goes_on else terminal_T
    if assumed and not {"step", "time"} & scalars.keys():
        timeout_T = _of_files(source, limit, reset_T)
    elif assumed:
        timeout_T = _every(limit, reset_T, gap_T, count_T)
    elif end_T is not None:
        timeout_T = end_T if timeout_T is None else timeout_T | end_T
    assert timeout_T is not None
    if gap_T is not None:
        timeout_T = timeout_T | gap_T
    if success_T is not None:
        lasting_S = _lasting(source, success_T, ended_T | timeout_T)
        if lasting_S.any():
            taken_S = ~lasting_S
            place_S = np.flatnonzero(taken_S) if place_S is None else place_S[taken_S]
            final_S = None if final_S is None else final_S[taken_S]
            terminal_T, timeout_T = terminal_T[taken_S], timeout_T[taken_S]
    timeout_S = timeout_T & ~terminal_T
    end_S = terminal_T | timeout_S
    if len(end_S):
        end_S[-1] = True  # the last episode may be unfinished
    return Steps(order_T, place_S, terminal_T, timeout_S, end_S, final_S, assumed)


def _success(source: Source, scalars: dict[str, np.ndarray], reading: Reading) -> np.ndarray | None:
    """Flags of success ``[T]``, bool, where they end episodes; None where they do not."""
    if not reading.success_terminates:
        return None
    if "success" not in scalars:
        raise UserError(
            f"{key_of('success_terminates')} is set, but {source.where} has no 'success'; it is "
            "read from a column success or is_success"
        )
    return successes(source, scalars["success"])


def _lasting(source: Source, success_S: np.ndarray, end_S: np.ndarray) -> np.ndarray:
    """Steps ``[S]`` behind a success that lasts, which has ended the episode; bool.

    Args:
        source: the log; how many there are goes to its notes.
        success_S: flags of success.
        end_S: where something else ends an episode.
    """
    lasting_S = np.append(False, success_S[1:] & success_S[:-1] & ~end_S[:-1])
    if lasting_S.any():
        source.notes.append(
            f"{source.where}: {int(lasting_S.sum()):,} steps behind a success that lasts are left "
            f"out: the first one ends the episode ({key_of('success_terminates')})"
        )
    return lasting_S


def _needs_no_terminals(source: Source, reading: Reading) -> bool:
    """Whether ends of episodes are known without a column for terminals."""
    has_dones = "dones" in source.scalars and (
        reading.done_means is not None or "timeouts" in source.scalars
    )
    return has_dones or source.ends_known


def check_needed(source: Source, reading: Reading) -> None:
    """Refuses a log that lacks what every log needs.

    Args:
        source: the log.
        reading: what the user knows: only logged rewards must be there.
    Raises: UserError: with the names of all there is.
    """
    optional = _needs_no_terminals(source, reading)
    if not source.names:
        raise UserError(f"{source.where} is empty: it has no {source.kind}")
    words = {key: f"'{key}'" for key in ("observations", "actions", "rewards", "terminals")}
    if source.kind == "columns":
        words = dict(zip(words, ("observation_0", "action_0", "reward", "terminal"), strict=True))
        words = {key: f"column {word}" for key, word in words.items()}
    for key, word in words.items():
        if key in source.widths or key in source.scalars or (key == "terminals" and optional):
            continue
        more = ""
        if key == "rewards":
            if reading.reward not in (None, LOGGED):
                continue
            more = f"; set {key_of('reward')} to a function of yours, module:name"
            if "success" in source.scalars:
                more += f", or to {SUCCESS} for its flags of success"
        if key == "terminals" and "dones" in source.scalars:
            more = (
                "; its 'dones' are ends of episodes, and only you know whether as true terminals "
                f"or at time limits: set {key_of('done_means')} to terminal or timeout"
            )
        elif key == "terminals":
            more = (
                "; of a task that no step ends give one of zeros, and timeouts or episodes, or the "
                "environment's time limit, say where episodes end"
            )
        names = sorted(source.names) if source.kind == "arrays" else source.names
        raise UserError(f"{source.where} has no {word}; it has: {listed(list(names))}{more}")


def _flags(
    source: Source, scalars: dict[str, np.ndarray], reading: Reading
) -> dict[str, np.ndarray]:
    """``terminals`` and maybe ``timeouts``, ``[T]`` bool, from whatever says so."""
    where, means = source.where, reading.done_means
    flags: dict[str, np.ndarray] = {
        key: flag(source, key, scalars[key])
        for key in ("terminals", "timeouts", "dones")
        if key in scalars
    }
    done_T = flags.pop("dones", None)
    if means is not None:
        key = {"terminal": "terminals", "timeout": "timeouts"}[means]
        if done_T is None:
            raise UserError(
                f"{key_of('done_means')} is {means}, but {where} has no 'dones'; leave it out"
            )
        if key in flags:
            raise UserError(
                f"{where} has 'dones', which {key_of('done_means')} says are {key}, and {key!r} as "
                "well; leave it out"
            )
        flags[key] = done_T
    elif done_T is not None and "terminals" not in flags and "timeouts" in flags:
        # Gym's done: terminated or truncated. Stable-Baselines3's buffers say it so.
        flags["terminals"] = done_T & ~flags["timeouts"]
    elif done_T is not None and done_T.any():
        source.notes.append(
            f"{where}: 'dones' looks like ends of episodes and is not read"
            + (", so that no episode ends in a terminal" if "terminals" not in flags else "")
            + f"; {key_of('done_means')} says whether it means terminals or timeouts"
        )
    rows = len(next(iter(scalars.values())))
    flags["terminals"] = flags.get("terminals", np.zeros(rows, bool))
    return flags


def flag(source: Source, key: str, flag_T: np.ndarray) -> np.ndarray:
    """``[T]`` bool from whatever type the flags ``[T]`` are stored in.

    Args:
        source: the log, for the message.
        key: what they flag.
        flag_T: 0 or 1.
    Raises: UserError: one is neither.
    """
    wrong = np.flatnonzero((flag_T != 0) & (flag_T != 1))
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"{source.where}: {key!r} must be 0 or 1, but {source.place(int(row))} is {flag_T[row]}"
        )
    return np.asarray(flag_T == 1)


def successes(source: Source, success_T: np.ndarray) -> np.ndarray:
    """Flags of success ``[T]`` as bool; an empty one (NaN) is none.

    Where it is known at the end of an episode only, it is not yet before.
    """
    return flag(source, "success", np.nan_to_num(success_T))


def _of_files(source: Source, limit: int | None, terminal_T: np.ndarray) -> np.ndarray:
    """``[T]`` bool: as :func:`_every`, and where a file ends; that is said where it tells more."""
    of_file_T = np.zeros_like(terminal_T)
    of_file_T[np.array(source.files, np.int64) - 1] = True
    timeout_T = _every(limit, terminal_T, of_file_T)
    if more := int((of_file_T & ~timeout_T & ~terminal_T).sum()):
        source.notes.append(
            f"{source.where}: no column says where episodes end (timeouts, episode, step); each of "
            f"its {len(source.files) + 1:,} files ends one, too, {more:,} of them before a time "
            "limit or a terminal"
        )
    return timeout_T | of_file_T


def _every(
    limit: int | None,
    terminal_T: np.ndarray,
    gap_T: np.ndarray | None = None,
    count_T: np.ndarray | None = None,
) -> np.ndarray:
    """``[T]`` bool: every ``limit``-th step since the last terminal; never without a limit.

    Missing rows count where their steps do (``count_T``); elsewhere counting begins anew behind
    them (``gap_T``).
    """
    if limit is None:
        return np.zeros_like(terminal_T)
    restart_T = terminal_T
    if count_T is None:
        count_T = np.arange(len(terminal_T))
        restart_T = terminal_T if gap_T is None else terminal_T | gap_T
    first_T = np.append(0, count_T[:-1] + 1)  # where an episode began, if one does here
    start_T = np.maximum.accumulate(np.where(np.append(True, restart_T[:-1]), first_T, 0))
    return np.asarray((count_T - start_T) % limit == limit - 1)
