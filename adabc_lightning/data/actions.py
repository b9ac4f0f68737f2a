"""Whether logged data and an environment are of one task, and their actions in one unit."""

import math

import numpy as np
import torch

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.exchange import FAR, PREFIX, ROUNDING
from adabc_lightning.env.observations import Parts, agree, described
from adabc_lightning.errors import UserError, key_of, warn

# Rounding, and here and there an outlier, is clipped; whatever is outside by more than FAR of
# the range in more than MANY of the rows was logged in other units.
MANY = 0.01
# Thousandths, degrees, 16 bits with sign, 8 bits with and without, percent, tenths, and back.
FACTORS = (
    *(1e-6, 1e-3, 1e-2, 1e-1, 10.0, 100.0, 1000.0, 1e6),
    *(math.pi / 180, 180 / math.pi, 1 / 127, 1 / 255, 1 / 32767),
)
"""What logs in other units are multiplied with."""
_NAMES = {1e-3: " (thousandths)", 1e-2: " (percent)", math.pi / 180: " (degrees)"}
FILLED = 0.2  # of its range, that an action should use of it


def clip_actions(rows: torch.Tensor, layout: Layout, spec: EnvironmentSpec, name: str) -> None:
    """Clips actions outside the space, in place, and says how many; in-range rows stay as they are.

    Args:
        rows: ``[T, layout.width]``, finite.
        layout: columns of a row.
        spec: the environment's bounds ``[A]``.
        name: the dataset's, for the messages.
    Raises: UserError: more than :data:`MANY` of the rows lie outside by more than
        :data:`~adabc_lightning.env.exchange.FAR` of the range.
    """
    action_TA = rows[:, layout.columns["action"]]
    low_A, high_A = torch.tensor(spec.action_low), torch.tensor(spec.action_high)
    beyond_TA = torch.maximum(low_A - action_TA, action_TA - high_A)
    outside = int((beyond_TA > 0).any(1).sum())
    if not outside:
        return
    # An action that is fixed has no range, but is rounded like any other.
    slack_A = torch.maximum(FAR * (high_A - low_A), ROUNDING * low_A.abs().clamp(min=1))
    far = int((beyond_TA > slack_A).any(1).sum())
    row, column = divmod(int(beyond_TA.argmax()), len(low_A))
    furthest = (
        f"the furthest is {float(action_TA[row, column]):.6g} in column {column}, where "
        f"{spec.action_low[column]:.6g} to {spec.action_high[column]:.6g} is allowed"
    )
    if far > MANY * len(rows):
        factor = fitting_factor(action_TA.numpy(), low_A.numpy(), high_A.numpy())
        remedy = "scale them to its units, or clip them in the file"
        if factor is not None:
            remedy = (
                f"they would fit times {factor:.6g}{_NAMES.get(factor, '')}: if that is their "
                f"unit, multiply {key_of('action_scale')} (1 by default) by it, otherwise by what "
                "is theirs, or scale or clip them in the file"
            )
        raise UserError(
            f"dataset {name!r}: {far} of {len(rows)} actions lie outside the action space of "
            f"{spec.env_id!r}, {furthest}; {remedy}"
        )
    action_TA.copy_(torch.minimum(torch.maximum(action_TA, low_A), high_A))
    warn(
        f"dataset {name!r}: {outside} of {len(rows)} actions lay outside the action space and were "
        f"clipped; {furthest}"
    )


def scale_actions(dataset: OfflineDataset, factor: float) -> None:
    """Multiplies the actions, in place.

    Args:
        dataset: as it was logged.
        factor: ``data.action_scale``.
    Raises: UserError: one is not finite any more.
    """
    action_TA = dataset.rows[:, dataset.layout.columns["action"]]
    action_TA.mul_(factor)
    if not torch.isfinite(action_TA).all():
        raise UserError(
            f"dataset {dataset.name!r}: an action times {key_of('action_scale')} {factor} is not "
            "finite"
        )


def fitting_factor(action_TA: np.ndarray, low_A: np.ndarray, high_A: np.ndarray) -> float | None:
    """A usual factor between units that brings actions to where they fill their range.

    Args:
        action_TA: logged ``[T, A]``, in whatever unit; an outlier here and there does not count.
        low_A, high_A: bounds ``[A]``.
    Returns: the largest of :data:`FACTORS` with which every dimension is in its range and one
        fills a good part of it; None where none does.
    """
    ends = np.quantile(action_TA, (MANY, 1 - MANY), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of each dimension on both sides, how much larger its actions may be.
        room = np.where(ends < 0, low_A / ends, np.where(ends > 0, high_A / ends, np.inf))
    most = float(room.min())
    fitting = [factor for factor in FACTORS if factor <= most * (1 + FAR)]
    if not fitting or not math.isfinite(most) or max(fitting) < FILLED * most:
        return None
    scaled = ends * max(fitting)
    slack_A = FAR * (high_A - low_A)
    fits = (scaled >= low_A - slack_A).all() and (scaled <= high_A + slack_A).all()
    return max(fitting) if fits else None


def _check_parts(ours: Parts | None, spec: EnvironmentSpec, name: str, size: int) -> None:
    """Raises: UserError: the parts of observations are others, or there and not of the same size.

    Parts of a dataset beside a flat observation of their size are taken for what it is made of.
    """
    theirs = spec.observation_parts
    if ours and theirs and not agree(ours, theirs):
        raise UserError(
            f"dataset {name!r} has observations of {described(ours)}, environment {spec.env_id!r} "
            f"of {described(theirs)}; choose by {key_of('observation_keys')} what both have"
        )
    if bool(ours) != bool(theirs) and size != spec.observation_size:
        of_parts = f"observations of {described(ours or theirs or ())}"
        flat = f"flat observations of {spec.observation_size if ours else size} numbers"
        has, has_not = (of_parts, flat) if ours else (flat, of_parts)
        raise UserError(
            f"dataset {name!r} has {has}, environment {spec.env_id!r} has {has_not}; choose parts "
            f"of that size by {key_of('observation_keys')}, or give data of the environment"
        )


def check_task(dataset: OfflineDataset, spec: EnvironmentSpec) -> None:
    """Refuses data of other sizes than the environment's, and warns where it is another one.

    Args:
        dataset: its actions are clipped to the action space, in place.
        spec: the environment's sizes and bounds.
    Raises: UserError: sizes or action bounds do not agree.
    """
    name, sizes = dataset.name, (dataset.layout.observation_size, dataset.layout.action_size)
    _check_parts(dataset.observation_parts, spec, name, sizes[0])
    if sizes != (spec.observation_size, spec.action_size):
        raise UserError(
            f"dataset {name!r} has observations of {sizes[0]} and actions of {sizes[1]} "
            f"numbers, environment {spec.env_id!r} has {spec.observation_size} and "
            f"{spec.action_size}; they must be of the same task"
        )
    clip_actions(dataset.rows, dataset.layout, spec, name)
    logged_in = dataset.env_id and dataset.env_id.rpartition(":")[2]  # without the module
    same = logged_in in (None, spec.env_id.rpartition(":")[2])
    if not same and not spec.env_id.startswith(PREFIX):  # a log has no name of its own
        warn(
            f"dataset {name!r} says that it was logged in {dataset.env_id!r}; "
            f"{key_of('env_id')}, where fine-tuning and evaluation take place, is {spec.env_id!r}"
        )
