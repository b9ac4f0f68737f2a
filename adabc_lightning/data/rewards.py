"""Rewards that a log does not have, or not as they are wanted: from a function, or from success.

    data.reward: my_package.rewards:near_goal

names a function of many transitions at once, ``(observation [T, O], action [T, A],
next_observation [T, O])`` → ``[T]``: float32 arrays in the units of the log, before any
normalisation, the actions times ``data.action_scale``. At a terminal without a stored next
observation the observation itself stands for it.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from adabc_lightning.data.episodes import successes
from adabc_lightning.data.formats.source import LOGGED, SUCCESS, Source
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import EnvironmentFailure, UserError, key_of, one_line
from adabc_lightning.run.allowed import check_module, check_origin

BLOCK = 131_072  # rows that a function gets at once
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class Reward:
    """A user's reward function, whose answers are checked.

    Args:
        name: ``module:function``.
    Raises: UserError: there is none, or its module may not be imported.
    """

    def __init__(self, name: str) -> None:
        self.name, self.what = name, f"{key_of('reward')} {name!r}"
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{self.what} must be a function as module:name, {SUCCESS}, {LOGGED} or null"
            )
        module, _, function = name.partition(":")
        check_module(module, self.what)
        try:
            found = getattr(import_module(module), function, None)
        except Exception as error:  # whatever a module raises that is imported
            raise UserError(f"{self.what}: {module} cannot be imported: {_said(error)}") from error
        if not callable(found):
            missing = "is no function" if found is not None else f"is not in {module}"
            raise UserError(f"{self.what}: {function} {missing}")
        check_origin(found, self.what)
        self._function: Callable[..., object] = found

    def __call__(self, rows: Tensor, layout: Layout) -> Tensor:
        """Rewards ``[T]`` of packed rows ``[T, width]``, float32.

        Raises: UserError: the function fails, or gives another shape or something else than
            numbers. Whether they are finite is for the caller to check.
        """
        values = rows.numpy()
        observation, action, following = (
            values[:, layout.columns[name]].copy()  # the function's to do with as it likes
            for name in ("observation", "action", "next_observation")
        )
        try:
            with np.errstate(all="ignore"):  # what comes of it is looked at below, row by row
                answer = np.asarray(self._function(observation, action, following))
        except Exception as error:  # whatever a user's function raises
            raise UserError(
                f"{self.what} fails on {len(rows)} transition{'s' * (len(rows) > 1)} of "
                f"{layout.observation_size} and {layout.action_size} numbers: {_said(error)}"
            ) from error
        if answer.dtype.kind not in "biuf":
            raise UserError(f"{self.what} must give numbers, but gives {answer.dtype}")
        if answer.shape != (len(rows),):
            raise UserError(
                f"{self.what} must give one reward for each of {len(rows)} transitions, "
                f"[{len(rows)}], but gives {list(answer.shape)}"
            )
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
            return torch.from_numpy(answer.astype(np.float32))

    def of_step(self, row: Tensor, layout: Layout) -> Tensor:
        """The reward (scalar) of one packed row ``[width]``, a step of the environment.

        Raises: EnvironmentFailure: as above, or it is not finite.
        """
        try:
            reward = self(row[None], layout)[0]
        except UserError as error:
            raise EnvironmentFailure(str(error)) from error
        if not torch.isfinite(reward):
            raise EnvironmentFailure(f"{self.what} is {reward:g} for a step of the environment")
        return reward


def check_reward(name: str | None) -> None:
    """Whether it can be a value of ``data.reward``: imports the function, if it is one.

    Raises: UserError: it is not.
    """
    if name not in (None, LOGGED, SUCCESS):
        Reward(name)


def read_rewards(
    source: Source, scalars: dict[str, np.ndarray], reward: str | None
) -> tuple[np.ndarray, bool]:
    """The rewards of a log's rows, and whether they stand in for those of a function to come.

    Args:
        source: the log.
        scalars: its scalar columns ``[T]``, whole.
        reward: see ``data.reward``.
    Returns: float64 ``[T]``.
    Raises: UserError: flags of success are wanted, and there are none, or they are none.
    """
    if reward in (None, LOGGED):
        return scalars["rewards"], False
    if reward != SUCCESS:
        return np.zeros(len(next(iter(scalars.values())))), True
    if "success" not in scalars:
        raise UserError(
            f"{key_of('reward')} is {SUCCESS}, but {source.where} has no 'success'; it is read "
            "from a column success or is_success, from Minari's infos, and from robomimic's "
            "rewards where the file says that they are sparse; give a function as module:name "
            "instead"
        )
    return successes(source, scalars["success"]).astype(np.float64), False


def relabelled(dataset: OfflineDataset, reward: Reward) -> OfflineDataset:
    """The dataset with a function's rewards and the returns that they make.

    Args:
        dataset: its rows are changed in place.
        reward: the function.
    Returns: its episodes have the returns of the rows that are kept: what was dropped for lack of
        a next observation has no reward.
    Raises: UserError: the function fails, or gives what no rewards may be.
    """
    rows, layout = dataset.rows, dataset.layout
    reward_T: Tensor = rows[:, layout.columns["reward"]]
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        found = reward(block, layout)
        wrong = (~torch.isfinite(found)).nonzero()
        if len(wrong):
            row = start + int(wrong[0])
            raise UserError(
                f"{reward.what} must be finite in float32, but is {found[row - start]:g} for "
                f"transition {row} (of episode {int(dataset.episode_T[row])}, both counted "
                f"from 0) of dataset {dataset.name!r}"
            )
        reward_T[start : start + BLOCK] = found
    _check_alone(dataset, reward)
    return_E = np.bincount(
        dataset.episode_T.numpy(), reward_T.double().numpy(), len(dataset.episode_return_E)
    )
    return replace(dataset, episode_return_E=torch.from_numpy(return_E), reward=reward.name)


def _check_alone(dataset: OfflineDataset, reward: Reward) -> None:
    """A reward that depends on the other rows of a call is another one at every step online."""
    last = len(dataset.rows) - 1
    reward_T = dataset.rows[:, dataset.layout.columns["reward"]]
    alone, among = float(reward(dataset.rows[last:], dataset.layout)[0]), float(reward_T[last])
    tolerance = 1e-4 * max(1e-2, float(reward_T.abs().max()))
    if not abs(alone - among) <= tolerance:  # also catches NaN
        raise UserError(
            f"{reward.what} gives {among:g} for the last transition of dataset {dataset.name!r} "
            f"among others and {alone:g} for it alone; it must compute each row by itself"
        )


def _said(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")[:300]
