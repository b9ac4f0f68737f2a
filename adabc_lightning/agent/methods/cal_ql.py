"""Calibrated Q-learning (Nakamoto et al. 2023)."""

from typing import Any

from adabc_lightning.agent.methods.cql import CQL


class CalQL(CQL):
    """CQL whose critics are not pushed below what the behaviour is known to earn.

    Before and after the hand-over, as its authors' code has it; the column ``mc_return``
    (:mod:`adabc_lightning.data.returns`) is that of finished episodes alone.

    Args:
        max_target_backup: see :class:`~adabc_lightning.agent.methods.CQL`.
        options: its other arguments.
    """

    stacks = True

    def __init__(self, max_target_backup: bool = True, **options: Any) -> None:
        super().__init__(max_target_backup=max_target_backup, calibrate=True, **options)
