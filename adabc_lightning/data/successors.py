"""The action that followed a logged step."""

from dataclasses import replace

import numpy as np
import torch

from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.errors import UserError


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
