"""The column ``mc_return``: what a row's episode still earned, discounted, from that row on.

G_t = r_t + γ G_{t+1}, from 0 behind the last row of an episode (Cal-QL, Nakamoto et al. 2023), of
scaled rewards. An episode that is cut off counts as if it earned nothing afterwards: with rewards
of 0 or more that is a lower bound of its value, a loose one near its end; with negative ones it is
none.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule


def returns_to_go(
    reward_T: np.ndarray, end_T: np.ndarray, gamma: float, failure: float | None = None
) -> np.ndarray:
    """Discounted returns of consecutive episodes.

    Args:
        reward_T: scaled rewards, in order.
        end_T: whether a row is its episode's last one.
        gamma: discount per environment step.
        failure: scaled reward of a step that has not succeeded: an episode of nothing else has
            the return failure / (1 − γ) all along, as if it failed for ever; None for no such rule.
    Returns: float64 ``[T]``.
    """
    reward_T = np.asarray(reward_T, np.float64)
    returns, following = [0.0] * len(reward_T), 0.0
    rewards, ends = reward_T.tolist(), np.asarray(end_T, bool).tolist()
    for t in reversed(range(len(rewards))):
        following = rewards[t] + (0.0 if ends[t] else gamma * following)
        returns[t] = following
    return_T = np.array(returns)
    if failure is not None and len(rewards):
        start_E = np.flatnonzero(np.append(True, np.asarray(end_T, bool)[:-1]))
        failed_T = np.isclose(reward_T, failure, rtol=1e-6, atol=1e-6)
        failed_E = np.minimum.reduceat(failed_T, start_E)
        length_E = np.diff(start_E, append=len(rewards))
        return_T[np.repeat(failed_E, length_E)] = failure / (1 - gamma)
    return return_T


def episode_ends(dataset: OfflineDataset) -> np.ndarray:
    """Which rows ``[T]`` are an episode's last, bool: by terminal, timeout, id or missing rows.

    Args:
        dataset: of rows as they were logged, see :meth:`OfflineDataset.torn`.
    """
    end_T = dataset.terminal_T
    end_T[:-1] |= dataset.torn() | (np.diff(dataset.episode_T.numpy()) != 0)
    end_T[-1:] = True
    return end_T


def check_in_time(schedule: Schedule, limit: int | None, ranks: int, method: str) -> None:
    """Whether each rank is sure to have finished an episode before the first update online.

    Args:
        schedule: of the run.
        limit: of an episode, in environment steps; None for none.
        ranks: processes that step at the same time.
        method: who needs it, for the message.
    Raises: UserError: it is not.
    """
    steps = schedule.frozen_env_steps
    if not schedule.online_env_steps or (limit is not None and steps >= limit * ranks):
        return
    wanted = "data.max_episode_steps, and as many" if limit is None else f"{limit * ranks} or more"
    raise UserError(
        f"schedule.frozen_env_steps is {steps}; model.method {method} learns from an episode when "
        f"it has ended, so one must be over before the first update: set {wanted}"
    )


def with_returns(
    dataset: OfflineDataset, end_T: np.ndarray, unfinished: "Unfinished", why: str
) -> OfflineDataset:
    """The dataset with the column ``mc_return``.

    Args:
        dataset: of scaled rewards.
        end_T: its :func:`episode_ends`.
        unfinished: computes the returns of online rows.
        why: who needs it, for the message.
    Raises: UserError: most of its rows are not followed by the next step of their episode.
    """
    inside_T = np.diff(dataset.episode_T.numpy()) == 0
    torn = int((inside_T & end_T[:-1]).sum())
    if torn > inside_T.sum() / 2:
        raise UserError(
            f"dataset {dataset.name!r}: {why} needs what an episode earned from each step on, and "
            f"{torn:,} of {int(inside_T.sum()):,} next observations are not those of the rows "
            "behind; give the rows in the order in which they were taken"
        )
    layout = replace(dataset.layout, extras=(*dataset.layout.extras, "mc_return"))
    return_T = unfinished.returns(dataset.rows, end_T)
    rows = torch.cat([dataset.rows, return_T.unsqueeze(1)], 1)
    return replace(dataset, layout=layout, rows=rows)


def doubts(dataset: OfflineDataset, failure: float | None, method: str) -> list[str]:
    """A sentence where the returns of episodes that were cut off are no lower bounds.

    Args:
        dataset: of rewards as they are learnt from.
        failure: see :func:`returns_to_go`.
        method: whose bound it is.
    """
    reward_T = dataset.rows[:, dataset.layout.columns["reward"]]
    if failure is not None or not dataset.timeouts or float((reward_T < 0).float().mean()) <= 0.5:
        return []
    return [
        f"model.method {method} bounds values from below by what episodes earned, and most rewards "
        "are negative as they are learnt from: of an episode that was cut off that is no bound; "
        "where a step without success costs, and failing goes on for ever, set "
        "data.failure_reward to what such a step has in the log"
    ]


class Unfinished:
    """The rows of the episode under way, whose returns are not known yet; one rank's.

    Args:
        layout: has the column.
        gamma, failure: see :func:`returns_to_go`.
    Raises: UserError: γ is 1 and rewards are sparse.
    """

    def __init__(self, layout: Layout, gamma: float, failure: float | None) -> None:
        self._column: Any = layout.columns["mc_return"]
        self._reward: Any = layout.columns["reward"]
        if failure is not None and gamma == 1:
            raise UserError(
                "data.failure_reward is given and model.gamma is 1: an episode that fails for ever "
                "has no finite return; set data.failure_reward to null"
            )
        self._gamma, self._failure = gamma, failure
        self.of: list[float | None] = [gamma, failure]
        """What the returns in a ring depend on beside its rewards."""
        self.rows = torch.empty(0, layout.width)

    def add(self, row: Tensor, ended: bool) -> Tensor:
        """Takes the next row ``[width]``.

        Returns: all rows ``[T, width]`` of the episode, if it ended, with their returns.
        """
        self.rows = torch.cat([self.rows, row.unsqueeze(0)])
        return self.finish() if ended else self.rows[:0]

    def finish(self) -> Tensor:
        """Ends the episode where it is; returns its rows ``[T, width]`` with their returns."""
        rows, self.rows = self.rows, self.rows[:0]
        rows[:, self._column] = self.returns(rows, np.arange(len(rows)) == len(rows) - 1)
        return rows

    def returns(self, rows: Tensor, end_T: np.ndarray) -> Tensor:
        """The column ``[T]`` of rows ``[T, width]``, given which are an episode's last."""
        reward_T = rows[:, self._reward].numpy()
        return_T = returns_to_go(reward_T, end_T, self._gamma, self._failure)
        return torch.from_numpy(return_T).float()
