"""The action that followed a logged step."""

from dataclasses import replace

import torch
from torch import Tensor

from adabc_lightning.data.datasets import OfflineDataset
from adabc_lightning.errors import UserError

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6
"""An observation is another one than the next of the row before beyond this."""


def follows(dataset: OfflineDataset) -> Tensor:
    """Whether each row is followed by the next step of its episode, ``[T]``.

    Not behind a terminal, at the end of an episode, or across a gap: where the next row's
    observation is another one than this row's next.
    """
    rows, columns = dataset.rows, dataset.layout.columns
    follows_T = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    episode_T = dataset.episode_T.to(rows.device)
    same_T = (episode_T[1:] == episode_T[:-1]) & (rows[:-1, columns["terminated"]] == 0)
    next_TO, after_TO = rows[:-1, columns["next_observation"]], rows[1:, columns["observation"]]
    close_T = torch.isclose(next_TO, after_TO, rtol=_RELATIVE, atol=_ABSOLUTE).all(1)
    follows_T[:-1] = same_T & close_T
    return follows_T


def with_next_actions(dataset: OfflineDataset, why: str) -> OfflineDataset:
    """The dataset with the column ``next_action``.

    Args:
        dataset: rows of the common layout.
        why: who needs it, for the message.
    Raises: UserError: of no step is the next action known.
    """
    follows_T = follows(dataset)
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
