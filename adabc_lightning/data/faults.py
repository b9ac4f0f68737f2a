"""What in a dataset makes training wrong: ends that are none or missing, numbers out of scale."""

import numpy as np

from adabc_lightning.agent.normalization import EPSILON
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.packing import SUSPICIOUS_SHARE
from adabc_lightning.env.observations import Parts, labelled
from adabc_lightning.errors import key_of

FEW = 5  # episodes: of fewer nothing is said
COMMON = 0.1  # share of all episodes
LARGE, SMALL = 100.0, 1e-3  # standard deviations of an observation that networks hardly learn from
FINE = 0.01  # of an action, whose bounds a policy is to use
OFFSET = 100.0  # standard deviations, that a mean lies away from 0
OTHER_REWARDS = 30.0  # ratio of nearly all rewards of a log and of an environment
ENOUGH_REWARDS = 20  # of each, to say that one has two values and the other has not
NAMED = 3  # columns in a sentence


def faults(
    dataset: OfflineDataset,
    limit: int | None,
    parts: Parts | None = None,
    normalized: bool = False,
) -> list[str]:
    """One sentence for each; ``fit`` says them before it trains, ``inspect`` among its findings.

    Args:
        dataset: what was logged, before any normalisation.
        limit: the environment's time limit in steps, None where none is known.
        parts: of the observations, for their names; None where they have none.
        normalized: whether networks will see the observations by ``data.normalize_observations``.
    """
    torn_T = dataset.torn()
    return [
        *_no_ends(dataset),
        *(_inverted(dataset, torn_T) or _staying(dataset, torn_T)),
        *_limits_as_terminals(dataset, limit),
        *_too_long(dataset, limit),
        *_torn(dataset, torn_T),
        *_out_of_scale(dataset, parts, normalized),
        *_actions_out_of_scale(dataset),
    ]


def in_other_units(one_T: np.ndarray, other_S: np.ndarray) -> bool:
    """Whether rewards ``[T]`` and ``[S]`` of one task can hardly be in the same units.

    Nearly all of one, nine in ten, are :data:`OTHER_REWARDS` times as large as nearly all of the
    other. The largest say nothing: a success may bring a hundred times what a step costs, and
    random actions never see it. Nor do zeros. Or one has two values at most (successes, flagged by
    0 and 1), and nine in ten of the other are neither.
    """
    if not len(one_T) or not len(other_S):
        return False
    one_T, other_S = one_T.astype(np.float32), other_S.astype(np.float32)
    (one_low, one_high), (other_low, other_high) = (
        np.quantile(np.abs(rewards), (0.1, 0.9)) for rewards in (one_T, other_S)
    )
    return bool(
        one_low > OTHER_REWARDS * other_high > 0
        or other_low > OTHER_REWARDS * one_high > 0
        or _flagged(one_T, other_S)
        or _flagged(other_S, one_T)
    )


def _flagged(one_T: np.ndarray, other_S: np.ndarray) -> bool:
    """Whether the first has two values at most and the second hardly ever one of them."""
    values = np.unique(one_T)
    enough = min(len(one_T), len(other_S)) >= ENOUGH_REWARDS
    dense = len(np.unique(other_S)) > 2 and np.isin(other_S, values).mean() < 0.1
    return enough and len(values) <= 2 and bool(dense)


def terminal_episodes(dataset: OfflineDataset) -> np.ndarray:
    """Which episodes ``[E]`` end in a terminal."""
    terminal_E = np.zeros(len(dataset.episode_length_E), bool)
    terminal_E[dataset.episode_T.numpy()[dataset.terminal_T]] = True
    return terminal_E


def _no_ends(dataset: OfflineDataset) -> list[str]:
    if dataset.terminals + dataset.timeouts:
        return []
    length_E = dataset.episode_length_E
    count = len(length_E)
    return [
        f"no end of an episode is flagged: {count} episode{'s' * (count > 1)}, "
        f"{int(length_E.sum()):,} steps in all; log where episodes end in timeout, or a number of "
        "each in episode; without either they end at the environment's time limit "
        f"({key_of('max_episode_steps')})"
    ]


def _inverted(dataset: OfflineDataset, torn_T: np.ndarray) -> list[str]:
    """More terminals than other rows, as where masks, 1 − done, were logged."""
    ended_T = dataset.terminal_T
    if dataset.success_T is not None:  # a log may go on behind a success that ends an episode
        ended_T &= ~dataset.success_T.numpy()
    if ended_T.sum() < FEW or ended_T.sum() <= 0.5 * len(ended_T):
        return []
    goes_on = int((ended_T[:-1] & ~torn_T).sum())
    where = f", and {goes_on:,} of the next begin where they ended" if goes_on else ""
    return [
        f"{int(ended_T.sum()):,} of {len(ended_T):,} rows are terminals{where}: probably inverted "
        "(masks, 1 − done), unless one decision is all of an episode"
    ]


def _staying(dataset: OfflineDataset, torn_T: np.ndarray) -> list[str]:
    """Terminals behind terminals of an episode that went on: of a goal that is reached and kept."""
    ended_T = dataset.terminal_T
    again_T = ended_T[:-1] & ended_T[1:] & ~torn_T
    if again_T.sum() < max(FEW, COMMON * len(dataset.episode_length_E)):
        return []
    return [
        f"{int(again_T.sum()):,} of {int(ended_T.sum()):,} terminals begin where the terminal "
        "before them ended: each is an episode of one step; flag the first of them alone and leave "
        "the steps behind it out"
    ]


def _limits_as_terminals(dataset: OfflineDataset, limit: int | None) -> list[str]:
    """Nearly all terminals at one same step, or there and one step after: a limit of the logger's.

    At the environment's own limit it is said when the dataset is read.
    """
    length_E, terminal_E = dataset.episode_length_E.numpy(), terminal_episodes(dataset)
    steps, counts = np.unique(length_E[terminal_E], return_counts=True)
    if not len(steps):
        return []
    after = np.array([counts[steps == step + 1].sum() for step in steps])
    best = int(np.argmax(counts))
    step, count = int(steps[best]), int(counts[best] + after[best])
    longer = (length_E > step + 1).mean()
    if (
        count < max(FEW, SUSPICIOUS_SHARE * terminal_E.sum(), COMMON * len(length_E))
        or step in (1, limit)
        or longer > COMMON
    ):
        return []
    where = f"step {step:,}" + (f" or {step + 1:,}" if after[best] else "")
    return [
        f"{count:,} of {int(terminal_E.sum()):,} terminals are at {where} of their episodes: "
        "probably a time limit, which must not stop bootstrapping; flag these ends as timeouts"
    ]


def _too_long(dataset: OfflineDataset, limit: int | None) -> list[str]:
    length_E = dataset.episode_length_E.numpy()
    if limit is None or not (longer := int((length_E > limit).sum())):
        return []
    return [
        f"{longer:,} episodes are longer than the time limit of {limit:,} steps (the longest "
        f"has {int(length_E.max()):,}): the ends of some are not flagged, or the limit is "
        "another one"
    ]


def _torn(dataset: OfflineDataset, torn_T: np.ndarray) -> list[str]:
    inside = dataset.episode_T[1:].numpy() == dataset.episode_T[:-1].numpy()
    torn = inside & torn_T
    if not torn.any():
        return []
    row = int(torn.argmax())
    episode = int(dataset.episode_T[row])
    step = row - int((dataset.episode_T < episode).sum())
    return [
        f"{int(torn.sum()):,} next observations inside episodes are not the next row's "
        f"observation (the first at step {step:,} of episode {episode:,}, counted from 0): ends of "
        "episodes are not flagged, or rows are missing or shuffled"
    ]


def _actions_out_of_scale(dataset: OfflineDataset) -> list[str]:
    """Actions that are far from order one: nothing is done to them before critics see them."""
    rows = dataset.rows[:, dataset.layout.columns["action"]].cpu().numpy()
    largest_A = np.abs(rows).max(0)
    far = [
        f"action_{i} (up to {largest:.4g})"
        for i, largest in enumerate(largest_A.tolist())
        if largest > LARGE or 0 < largest < FINE
    ]
    if not far:
        return []
    return [
        f"{_are(far)} far from order one, where critics learn: rescale actions in the environment "
        f"(gymnasium.wrappers.RescaleAction) and in the log ({key_of('action_scale')})"
    ]


def _out_of_scale(dataset: OfflineDataset, parts: Parts | None, normalized: bool) -> list[str]:
    """Observations that are far from order one as networks see them."""
    rows = dataset.rows[:, dataset.layout.columns["observation"]].cpu().numpy()
    far = []
    for i, column in enumerate(rows.T):
        if f"observation_{i}" in dataset.unresolved:
            continue  # said when it was read
        mean, std = float(column.mean(dtype=np.float64)), float(column.std(dtype=np.float64))
        largest = float(np.abs(column).max())
        varies = std > 1e-6 * largest  # more than float32 rounds
        center, scale = (mean, std + EPSILON) if normalized else (0.0, 1.0)
        largest, spread = float(np.abs(column - center).max()) / scale, std / scale
        offset = not normalized and abs(mean) > max(10, OFFSET * std)
        if largest > 10 * LARGE or spread > LARGE or (varies and (spread < SMALL or offset)):
            name = labelled(f"observation_{i}", parts)
            far.append(f"{name} (mean {mean:.4g}, standard deviation {std:.4g})")
    if not far:
        return []
    remedy = "set data.normalize_observations to true, or scale them in log and environment"
    if normalized:  # and is no help
        remedy = "scale them in log and environment"
    return [
        f"{_are(far)} far from order one, where networks learn: {remedy}",
    ]


def _are(columns: list[str]) -> str:
    """The beginning of a sentence about columns, of which the first are named."""
    more = f" and {len(columns) - NAMED} more" if len(columns) > NAMED else ""
    return f"{', '.join(columns[:NAMED])}{more} {'is' if len(columns) == 1 else 'are'}"
