"""What in a dataset is probably not meant so, one sentence each."""

from typing import Any

import numpy as np

from adabc_lightning.commands.inspect.environment import RandomEpisodes
from adabc_lightning.data.actions import fitting_factor
from adabc_lightning.data.faults import faults, in_other_units, terminal_episodes
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.packing import SUSPICIOUS_EPISODES, SUSPICIOUS_SHARE
from adabc_lightning.env.observations import labelled

SATURATED = 0.5  # share of rows at a bound
UNUSED = 0.05  # share of the action range that the log stays within
DUPLICATES = 0.05  # share of the rows
OTHER_UNITS = 30.0  # ratio of the spreads of an observation in log and environment
LOST = 0.01  # share of the steps
FEW = 1000  # transitions


def findings(
    dataset: OfflineDataset, card: dict[str, Any], limit: int | None, trial: RandomEpisodes | None
) -> list[str]:
    """Everything suspicious.

    Args:
        dataset: what was logged.
        card: of :func:`~adabc_lightning.commands.inspect.card.data_card`.
        limit: time limit in steps, None for none.
        trial: random episodes in the environment, None where none was given.
    """
    found = [
        *faults(dataset, limit, card["observation_parts"]),
        *_time_limits(dataset, limit),
        *_duplicates(dataset),
        *_rewards(dataset, card),
        *_actions(dataset, card, trial),
        *_observations(card, dataset.unresolved),
        *(_environment(dataset, card, trial) if trial else []),
    ]
    if card["transitions"] < FEW:
        found.append(f"{card['transitions']:,} transitions are few; batches of 256 repeat them")
    dropped = card["steps_logged"] - card["transitions"]
    if dropped > LOST * card["steps_logged"]:
        found.append(
            f"{dropped:,} steps at the end of episodes have no next observation and are left out; "
            "log next_observation to keep them"
        )
    return found


def _time_limits(dataset: OfflineDataset, limit: int | None) -> list[str]:
    length_E = dataset.episode_length_E.numpy()
    terminal_E = terminal_episodes(dataset)
    if not dataset.terminals + dataset.timeouts:
        return []
    found = []
    longest = limit or int(length_E.max())
    full_E = length_E == longest
    ended = int((full_E & terminal_E).sum())
    # Without a known limit the longest episodes speak for one only if there are many of them.
    many = max(SUSPICIOUS_EPISODES, SUSPICIOUS_SHARE * full_E.sum())
    if ended >= many and (limit is not None or full_E.mean() > 0.1):
        found.append(
            f"{ended:,} of {int(full_E.sum()):,} episodes of exactly {longest:,} steps end flagged "
            "as terminals: probably the time limit, which must not stop bootstrapping; give "
            "--terminals-at-limit timeout"
        )
    early = int(((length_E < longest) & ~terminal_E).sum()) - 1  # the last may be unfinished
    if limit is not None and early > 0.1 * len(length_E):
        found.append(
            f"{early:,} of {len(length_E):,} episodes were cut off before the time limit of "
            f"{limit:,} steps; if they failed or succeeded there, flag them as terminals"
        )
    return found


def _duplicates(dataset: OfflineDataset) -> list[str]:
    rows = dataset.rows.numpy()
    width = dataset.layout.observation_size + dataset.layout.action_size
    keys = np.ascontiguousarray(rows[:, :width]).view(np.dtype((np.void, 4 * width))).ravel()
    repeated = len(rows) - len(np.unique(keys))
    if repeated <= DUPLICATES * len(rows):
        return []
    return [
        f"{repeated:,} of {len(rows):,} rows repeat the observation and action of another one; "
        "the same episodes may be in the file twice"
    ]


def _rewards(dataset: OfflineDataset, card: dict[str, Any]) -> list[str]:
    found = []
    if card["reward_min"] == card["reward_max"]:
        found.append(
            f"every reward is {card['reward_min']:.4g}: there is nothing to learn from, except how "
            "to end episodes sooner or later"
        )
    if len(dataset.episode_return_E) > 1 and card["return_std"] == 0:
        found.append("all episodes have the same return: nothing says which are better")
    return found


def _actions(
    dataset: OfflineDataset, card: dict[str, Any], trial: RandomEpisodes | None
) -> list[str]:
    found = []
    factor = None
    if trial is not None:
        values = dataset.rows[:, dataset.layout.columns["action"]].numpy()
        low_A, high_A = np.array(trial.spec.action_low), np.array(trial.spec.action_high)
        factor = fitting_factor(values, low_A, high_A)
    for i, share in enumerate(card["action_at_bound"]):
        if share > SATURATED:
            bound = "a bound" if trial else "its smallest or largest value"
            found.append(
                f"action_{i} is at {bound} in {100 * share:.0f} % of the rows: a switching or "
                "saturated controller; a policy that imitates it hardly learns in between"
            )
    for i, (low, high) in enumerate(zip(card["action_min"], card["action_max"], strict=True)):
        if trial is not None and trial.spec.action_low[i] == trial.spec.action_high[i]:
            continue  # the environment fixes it
        if trial is not None and _normalised(low, high) and factor is None:
            least, most = trial.spec.action_low[i], trial.spec.action_high[i]
            if least < -1.1 or most > 1.1:
                found.append(
                    f"action_{i} goes from {low:.4g} to {high:.4g}, its bounds are {least:g} and "
                    f"{most:g}: if the log has it normalised, give it in the environment's units"
                )
        if low == high:
            found.append(
                f"action_{i} is always {low + 0.0:.4g}: its effect cannot be learnt from this"
            )
        elif trial is not None:
            width = trial.spec.action_high[i] - trial.spec.action_low[i]
            if high - low < UNUSED * width:
                remedy = ""
                if factor is not None and factor > 1:
                    remedy = f"; times {factor:.6g}, which --action-scale does, all would fit"
                found.append(
                    f"action_{i} stays within {100 * (high - low) / width:.1f} % of its range; it "
                    f"may be logged in other units than the environment's{remedy}"
                )
    return found


def _normalised(low: float, high: float) -> bool:
    """Whether values span [−1, 1] or [0, 1] and no more."""
    return min(abs(low), abs(low + 1)) < 0.02 and abs(high - 1) < 0.02


def _observations(card: dict[str, Any], unresolved: tuple[str, ...]) -> list[str]:
    constant = []
    for i, (low, high) in enumerate(
        zip(card["observation_min"], card["observation_max"], strict=True)
    ):
        if f"observation_{i}" in unresolved:
            continue
        if low == high:
            constant.append(labelled(f"observation_{i}", card["observation_parts"]))
    found = []
    if unresolved:
        named = [labelled(column, card["observation_parts"]) for column in unresolved]
        found.append(
            f"float32 cannot tell the values of {first_few(named)} apart: subtract the "
            "first value (a Unix time), or leave it out"
        )
    if constant:
        found.append(f"{first_few(constant)} never changes; leave it out where it says nothing")
    return found


def _environment(dataset: OfflineDataset, card: dict[str, Any], trial: RandomEpisodes) -> list[str]:
    observations = dataset.rows[:, dataset.layout.columns["observation"]].numpy()
    slack = 1e-4 * np.maximum(1, np.abs(observations).max(0))
    outside = (observations < trial.observation_low - slack) | (
        observations > trial.observation_high + slack
    )
    found, parts = [], card["observation_parts"]
    if outside.any():
        where = [labelled(f"observation_{i}", parts) for i in np.flatnonzero(outside.any(0))]
        found.append(
            f"{int(outside.any(1).sum()):,} rows are outside the environment's observation space, "
            f"in {first_few(where)}"
        )
    rewards = dataset.rows[:, dataset.layout.columns["reward"]].numpy()
    if in_other_units(rewards, trial.rewards):
        found.append(
            f"a step's reward is {rewards.min():.4g} to {rewards.max():.4g} in the log, "
            f"{trial.rewards.min():.4g} to {trial.rewards.max():.4g} where random actions act in "
            "the environment: units or an offset may differ, and fine-tuning learns from both"
        )
    elif dataset.terminals and _above(trial.returns, card["return_mean"]):
        found.append(
            f"random actions return {trial.returns.mean():.4g}, more than the log's mean of "
            f"{card['return_mean']:.4g}: an episode that ends early may lose what the rest of it "
            "would have brought, so that the task's end is what the rewards punish"
        )
    unlike_it = unlike(observations, trial.observations)
    if unlike_it:
        other = [labelled(f"observation_{i}", parts) for i in unlike_it]
        found.append(
            f"{first_few(other)} of the log is unlike what random actions lead to in the "
            "environment; units or order of the columns may differ"
        )
    return found


def _above(returns_E: np.ndarray, other: float) -> bool:
    """Whether returns ``[E]`` are larger than a number by more than they vary or are rounded."""
    mean = float(returns_E.mean())
    return mean - max(float(returns_E.std()), 1e-3 * abs(mean)) > other


def unlike(one: np.ndarray, other: np.ndarray) -> list[int]:
    """Columns of ``[T, N]`` and ``[S, N]`` that lie apart, or spread over other magnitudes."""
    found = []
    for i in range(one.shape[1]):
        a, b = one[:, i], other[:, i]
        apart = a.min() > b.max() or a.max() < b.min()
        spreads = float(a.std()), float(b.std())
        ratio = max(spreads) / min(spreads) if min(spreads) > 0 else 1.0
        if apart or ratio > OTHER_UNITS:
            found.append(i)
    return found


def first_few(names: list[str]) -> str:
    """The first few of them."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
