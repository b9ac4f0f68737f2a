"""The data card: what a dataset holds, as numbers and as lines."""

from typing import Any

import numpy as np

from adabc_lightning.commands.collect.card import library_versions, return_statistics
from adabc_lightning.commands.inspect.environment import RandomEpisodes
from adabc_lightning.data.formats.source import LOGGED
from adabc_lightning.data.names import listed
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.env.observations import described, labelled

AT_BOUND = 1e-3  # of the range
CELLS = 20  # along each of the two axes of the coverage
_LISTED = 24  # columns of observations or actions


def data_card(
    dataset: OfflineDataset, limit: int | None, trial: RandomEpisodes | None
) -> dict[str, Any]:
    """Statistics of a dataset.

    Args:
        dataset: what was logged.
        limit: time limit in steps, None for none.
        trial: random episodes in the environment, None where none was given.
    Returns: name → number, text, list of numbers (one for each column), or None where unknown:
        counts, episodes, returns (raw), rewards (per step), ``observation_*`` and ``action_*`` by
        column, ``action_at_bound`` (share of the rows at a bound, by column), ``*_directions``
        (participation ratio of the principal components, 1 to the number of columns), ``coverage``
        (share of cells of the plane of largest variance that hold a row), and reference returns to
        begin with.
    """
    rows, columns = dataset.rows.numpy(), dataset.layout.columns
    observations, actions = rows[:, columns["observation"]], rows[:, columns["action"]]
    returns, lengths = dataset.episode_return_E.numpy(), dataset.episode_length_E.numpy()
    low, high = actions.min(0), actions.max(0)
    if trial is not None:
        low, high = (
            np.array(b, np.float32) for b in (trial.spec.action_low, trial.spec.action_high)
        )
    margin = AT_BOUND * (high - low)
    at_bound = ((actions <= low + margin) | (actions >= high - margin)).mean(0)
    rewards = rows[:, columns["reward"]]
    horizon = limit or int(lengths.max())
    parts = dataset.observation_parts or (trial.spec.observation_parts if trial else None)
    return {
        "name": dataset.name,
        "env_id": trial.spec.env_id if trial else dataset.env_id,
        "max_episode_steps": limit,
        "transitions": len(rows),
        "steps_logged": int(lengths.sum()),
        "episodes": len(returns),
        "terminals": dataset.terminals,
        "timeouts": dataset.timeouts,
        "cut_every": dataset.cut_every,
        "joins": dataset.joins,
        "unread": list(dataset.unread),
        "steps_min": int(lengths.min()),
        "steps_median": float(np.median(lengths)),
        "steps_max": int(lengths.max()),
        **return_statistics(returns),
        "return_median": float(np.median(returns)),
        "reward_source": dataset.reward,
        "reward_min": float(rewards.min()),
        "reward_mean": float(rewards.mean(dtype=np.float64)),
        "reward_max": float(rewards.max()),
        "observation_parts": parts,
        **_column_statistics("observation", observations),
        **_column_statistics("action", actions),
        "action_low": low.tolist(),
        "action_high": high.tolist(),
        "action_at_bound": np.where(high > low, at_bound, 0).tolist(),
        "observation_directions": directions(observations),
        "action_directions": directions(actions),
        "coverage": coverage(observations),
        "random_return_mean": float(trial.returns.mean()) if trial else None,
        "random_return_std": float(trial.returns.std()) if trial else None,
        "reference_min": float(trial.returns.mean() if trial else returns.min()),
        "reference_max": max(float(rewards.max()) * horizon, float(returns.max())),
    }


def _column_statistics(name: str, values: np.ndarray) -> dict[str, list[float]]:
    return {
        f"{name}_{statistic}": getattr(values, statistic)(0, **exact).tolist()
        for statistic, exact in (
            ("min", {}),
            ("mean", {"dtype": np.float64}),
            ("max", {}),
            ("std", {"dtype": np.float64}),
        )
    }


def standardized(values: np.ndarray) -> np.ndarray:
    """The columns ``[T, ≤ N]`` that vary at all, with mean 0 and standard deviation 1."""
    values = values.astype(np.float64)
    std = values.std(0)
    varies = std > 1e-9 * np.maximum(1, np.abs(values).max(0))
    return np.asarray((values[:, varies] - values[:, varies].mean(0)) / std[varies])


def directions(values: np.ndarray) -> float:
    """(Σλ)² / Σλ² of the principal components of columns ``[T, N]``: in how many they spread."""
    scaled = standardized(values)
    if not scaled.shape[1]:
        return 0.0
    variances = np.linalg.eigvalsh(scaled.T @ scaled / len(scaled))
    return float(variances.sum() ** 2 / (variances**2).sum())


def plane(values: np.ndarray) -> np.ndarray:
    """Rows ``[T, N]`` in the plane of largest variance ``[T, 2]``, 0 where there is no axis."""
    scaled = standardized(values)
    axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :2]
    projected = scaled @ axes
    return np.pad(projected, ((0, 0), (0, 2 - projected.shape[1])))


def coverage(values: np.ndarray) -> float:
    """Share of the cells of the plane of rows ``[T, N]``, between its percentiles, with a row."""
    projected = plane(values)
    low, high = np.percentile(projected, (0.5, 99.5), axis=0)
    span = np.where(high > low, high - low, 1)
    cell = np.clip((projected - low) / span * CELLS, 0, CELLS - 1).astype(int)
    axes = int((high > low).sum())
    return len(np.unique(cell, axis=0)) / CELLS**axes


def file_card(card: dict[str, Any]) -> dict[str, Any]:
    """What a converted file says about itself, as the files of ``collect`` do."""
    kept = ("transitions", "episodes", "terminals", "timeouts")
    limit = card["max_episode_steps"]
    about = {} if card["env_id"] is None else {"env_id": card["env_id"].rpartition(":")[2]}
    return {
        "description": f"{card['name']}, converted by adabc_lightning inspect",
        **({} if card["reward_source"] == LOGGED else {"reward_source": card["reward_source"]}),
        **about,
        "max_episode_steps": -1 if limit is None else limit,
        **{name: card[name] for name in kept},
        **{name: value for name, value in card.items() if name.startswith("return_")},
        **library_versions(),
    }


def to_lines(card: dict[str, Any]) -> list[str]:
    """The card for a terminal."""
    unfinished = card["episodes"] - card["terminals"] - card["timeouts"]
    lines = [
        f"{card['name']}: {card['transitions']:,} transitions, {card['episodes']:,} episodes",
        f"episodes      {card['terminals']:,} end in a terminal, {card['timeouts']:,} at a time "
        f"limit, {unfinished:,} unfinished",
        f"steps         shortest {card['steps_min']:,}, median {card['steps_median']:,.0f}, "
        f"longest {card['steps_max']:,}",
        f"returns       {card['return_mean']:.2f} ± {card['return_std']:.2f}; worst "
        f"{card['return_min']:.2f}, median {card['return_median']:.2f}, best "
        f"{card['return_max']:.2f}",
        f"rewards       per step {card['reward_min']:.4g} to {card['reward_max']:.4g}, mean "
        f"{card['reward_mean']:.4g}"
        + ("" if card["reward_source"] == LOGGED else f"; from {card['reward_source']}"),
        f"coverage      observations spread in {card['observation_directions']:.1f} of "
        f"{len(card['observation_min'])} directions, actions in {card['action_directions']:.1f} of "
        f"{len(card['action_min'])}; {100 * card['coverage']:.0f} % of the cells",
    ]
    limit = card["max_episode_steps"]
    if card["random_return_mean"] is not None:
        lines.append(
            f"environment   {card['env_id']}, time limit {limit or 'none'}; random actions return "
            f"{card['random_return_mean']:.2f} ± {card['random_return_std']:.2f}"
        )
    if card["cut_every"] is not None:
        lines.append(
            "ends          no column says where episodes end (timeouts, episode): cut every "
            f"{card['cut_every']:,} steps, the time limit"
        )
    if card["joins"] and card["terminals"]:
        lines.append(
            "ends          no column says where episodes end but at terminals: one that was cut "
            "off is joined to the next; log timeout or episode, or give --env-id"
        )
    if card["unread"]:
        lines.append(f"not read      {listed(card['unread'])}")
    if card["observation_parts"]:
        lines.append(f"parts         {described(card['observation_parts'])}")
    shown = range(min(len(card["observation_min"]), _LISTED))
    parts = card["observation_parts"]
    wide = max(14, *(len(labelled(f"observation_{i}", parts)) + 1 for i in shown))
    low = "random actions" if card["random_return_mean"] is not None else "worst episode"
    high = "best episode" if card["reference_max"] == card["return_max"] else "r_max·T"
    lines.append(
        f"references    --data.reference_min {card['reference_min']:.6g} ({low}) "
        f"--data.reference_max {card['reference_max']:.6g} ({high})"
    )
    worst, best = card["reference_min"], card["reference_max"]
    if best <= worst:
        lines.append(f"{'':14}these are no scale: {low} reach what should count as 100")
    if card["return_max"] < (worst + best) / 2 < best:
        lines.append(
            f"{'':14}no episode came near that, the best returned {card['return_max']:.6g}; where "
            "episodes end once the task is done, give what a good one returns"
        )
    lines += [
        "",
        f"{'column':<{wide}}       min       mean        max        std   at a bound",
    ]
    for name in ("observation", "action"):
        keys = [f"{name}_{statistic}" for statistic in ("min", "mean", "max", "std")]
        size = len(card[keys[0]])
        for i in range(min(size, _LISTED)):
            numbers = "".join(f"{card[key][i]:11.4g}" for key in keys)
            share = f"{100 * card['action_at_bound'][i]:10.1f} %" if name == "action" else ""
            label = labelled(f"{name}_{i}", parts)
            lines.append(f"{label:<{wide}}{numbers}{share}".rstrip())
        if size > _LISTED:
            lines.append(f"… {size - _LISTED} more")
    return lines
