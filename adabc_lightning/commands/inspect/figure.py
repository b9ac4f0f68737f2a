"""The data card as a figure."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from adabc_lightning.commands.figures import STYLE, save
from adabc_lightning.commands.inspect.card import CELLS, plane
from adabc_lightning.data.offline import OfflineDataset

mpl.use("Agg")  # needs no display
import matplotlib.pyplot as plt

BLUE, RED, BINS = "#0072b2", "#d55e00", 40


def draw(dataset: OfflineDataset, card: dict[str, Any], limit: int | None, path: Path) -> None:
    """Returns, lengths, rewards, returns in the order logged, actions, coverage.

    Args:
        dataset: what was logged.
        card: of :func:`~adabc_lightning.commands.inspect.card.data_card`.
        limit: time limit in steps, None for none.
        path: ``.svg``, ``.png`` or ``.pdf``.
    Raises: UserError: it cannot be written.
    """
    rows, columns = dataset.rows.numpy(), dataset.layout.columns
    returns, lengths = dataset.episode_return_E.numpy(), dataset.episode_length_E.numpy()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(10, 5.5), layout="constrained")
        figure.suptitle(
            f"{card['name']}: {card['transitions']:,} transitions, {card['episodes']:,} episodes",
            parse_math=False,  # a file's name
        )
        (ax_returns, ax_lengths, ax_rewards), (ax_order, ax_actions, ax_cover) = axes
        ax_returns.hist(returns, BINS, color=BLUE)
        ax_returns.set(title="returns", xlabel="return", ylabel="episodes")
        ax_lengths.hist(lengths, BINS, color=BLUE)
        if limit is not None:
            ax_lengths.axvline(limit, color=RED, label="time limit")
            ax_lengths.legend()
        ax_lengths.set(title="lengths of episodes", xlabel="steps")
        ax_rewards.hist(rows[:, columns["reward"]], BINS, color=BLUE)
        ax_rewards.set(title="rewards", xlabel="reward per step", ylabel="rows", yscale="log")
        ax_order.plot(returns, ".", markersize=2, color=BLUE)
        ax_order.set(title="returns in the order logged", xlabel="episode", ylabel="return")
        _actions(ax_actions, rows[:, columns["action"]], card)
        observations = plane(rows[:, columns["observation"]])
        low, high = np.percentile(observations, (0.5, 99.5), axis=0)
        high = np.where(high > low, high, low + 1)
        ax_cover.hist2d(
            *observations.T, bins=CELLS, range=list(zip(low, high, strict=True)), norm="log"
        )
        ax_cover.set(
            title=f"observations: {100 * card['coverage']:.0f} % of the cells",
            xlabel="first component", ylabel="second component",
        )  # fmt: skip
        save(figure, path)
        plt.close(figure)


def _actions(axis: Any, actions: np.ndarray, card: dict[str, Any]) -> None:
    """Histograms of the columns ``[T, A]`` beside each other, in units of their bounds."""
    low, high = np.array(card["action_low"]), np.array(card["action_high"])
    span = np.where(high > low, high - low, 1)
    scaled = 2 * (actions - low) / span - 1
    counts = [np.histogram(column, BINS, (-1, 1))[0] / len(column) for column in scaled.T]
    axis.imshow(
        np.array(counts).T, origin="lower", aspect="auto", extent=(-0.5, len(counts) - 0.5, -1, 1)
    )
    axis.set(title="actions", xlabel="action", ylabel="from bound to bound")
    axis.xaxis.get_major_locator().set_params(integer=True)
