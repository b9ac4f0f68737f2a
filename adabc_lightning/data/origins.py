"""Of several datasets: which rows came from which, and how much of each a hand-over keeps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adabc_lightning.run.saved import Count, Saved, Text


class Origin(NamedTuple):
    """One dataset of several, whose rows lie one after the other.

    Args:
        name: as the user gave it.
        rows: its transitions, filtered.
        episodes: those they are of.
    """

    name: str
    rows: int
    episodes: int


class SavedOrigin(Saved):
    """An entry of :func:`kept_of_each`."""

    name: Text
    transitions: Count
    episodes: Count
    kept_transitions: Count
    kept_episodes: Count


def kept_of_each(
    origins: Sequence[Origin], episode_T: Tensor, kept_K: Tensor | None
) -> list[dict[str, Any]]:
    """How much of each dataset fine-tuning begins with.

    Args:
        origins: in the order of the rows; empty where there is only one dataset.
        episode_T: ``[T]`` int64, each row's episode, counted through all datasets.
        kept_K: ``[K]`` int64, the rows that are kept; None for all.
    Returns: of each dataset ``name``, ``transitions``, ``episodes``, ``kept_transitions`` (a row
        that was drawn twice is two) and ``kept_episodes`` (those of the kept rows).
    """
    kept_K = torch.arange(len(episode_T)) if kept_K is None else kept_K.cpu()
    entries, row = [], 0
    for name, rows, episodes in origins:
        mine_K = kept_K[(kept_K >= row) & (kept_K < row + rows)]
        entries.append({
            "name": name,
            "transitions": rows,
            "episodes": episodes,
            "kept_transitions": len(mine_K),
            "kept_episodes": len(episode_T[mine_K].unique()),
        })  # fmt: skip
        row += rows
    return entries


def in_words(kept: Sequence[Mapping[str, Any]]) -> str:
    """The same as a line for a terminal."""
    parts = [
        f"{entry['kept_transitions']:,} of {entry['transitions']:,} transitions "
        f"({entry['kept_episodes']:,} of {entry['episodes']:,} episodes) of {entry['name']}"
        for entry in kept
    ]
    return f"the hand-over keeps {', '.join(parts)}"
