"""Columns that a method may want beside those that all have."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.returns import Unfinished, with_returns
from adabc_lightning.errors import UserError

EXTRAS = ("next_action", "mc_return")
"""Their names: the action that followed a logged step, and what its episode still earned."""


def with_extras(
    dataset: OfflineDataset,
    extras: Sequence[str],
    end_T: np.ndarray,
    why: str,
    unfinished: Unfinished | None,
) -> OfflineDataset:
    """The dataset with the columns that a method wants beside the common ones.

    Args:
        dataset: of scaled rewards.
        extras: names of the columns.
        end_T: its :func:`~adabc_lightning.data.returns.episode_ends`.
        why: who wants them, for the message.
        unfinished: computes returns, where ``mc_return`` is wanted.
    Raises: UserError: the log does not say what one needs.
    """
    for name in extras:
        if name == "next_action":
            dataset = with_next_actions(dataset, end_T, why)
        else:
            assert unfinished is not None
            dataset = with_returns(dataset, end_T, unfinished, why)
    return dataset


def with_next_actions(dataset: OfflineDataset, end_T: np.ndarray, why: str) -> OfflineDataset:
    """The dataset with the column ``next_action``, known where an episode goes on.

    Args:
        dataset: rows of the common layout.
        end_T: its :func:`~adabc_lightning.data.returns.episode_ends`.
        why: who needs it, for the message.
    Raises: UserError: of no step is the next action known.
    """
    follows_T = torch.from_numpy(~end_T)
    if not follows_T.any():
        raise UserError(
            f"dataset {dataset.name!r}: {why} needs the action that followed a step, and no row is "
            "followed by the next step of its episode: all have one step, or next_observations are "
            "not the observations of the rows behind"
        )
    layout = replace(dataset.layout, extras=(*dataset.layout.extras, "next_action"))
    rows = torch.zeros(len(dataset.rows), layout.width)
    rows[:, : dataset.layout.width] = dataset.rows
    rows[:, layout.columns["next_action_known"]] = follows_T.to(rows.dtype)
    action_TA = dataset.rows[:, layout.columns["action"]]
    rows[:-1, layout.columns["next_action"]] = action_TA[1:] * follows_T[:-1].unsqueeze(1)
    return replace(dataset, layout=layout, rows=rows)
