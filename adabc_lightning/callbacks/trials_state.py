"""What is known of the trials so far, how each outcome changes it, and how it is saved."""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from torch import Tensor

from adabc_lightning.run.saved import FLOATS, Count, Listing, Number, Saved, tensor

COUNTS = ("promotions", "holds", "retreats", "env_steps")
"""Trials that were won and lost, ways back, and environment steps made in trials."""


class SavedTrials(Saved):
    """See :meth:`TrialsState.content`."""

    returns: Listing[Number]
    snapshot: Annotated[Tensor, tensor(1, *FLOATS)]
    alpha: Number
    lost: Count
    newest: Count
    promotions: Count
    holds: Count
    retreats: Count
    env_steps: Count
    since: Count
    starts: Listing[Count]


@dataclass(frozen=True)
class TrialsState:
    """What the next trial is compared with, and what follows from it.

    Args:
        returns: raw, the incumbent's.
        starts: what the starts that they are from follow from: the seed, and the time limit in
            steps, 0 for none.
        snapshot: of the learner at the last promotion, ``[P]``; None before the hand-over.
        alpha: at the last promotion.
        lost: trials in a row.
        newest: environment steps of training before the newest trial.
        since: those before the last promotion; 0 for the pre-trained policy.
        promotions, holds, retreats, env_steps: see :data:`COUNTS`.
    """

    returns: list[float] = field(default_factory=list)
    snapshot: Tensor | None = None
    alpha: float = 0.0
    lost: int = 0
    newest: int = 0
    since: int = 0
    starts: list[int] = field(default_factory=list)
    promotions: int = 0
    holds: int = 0
    retreats: int = 0
    env_steps: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """By their names in :data:`COUNTS`."""
        return {name: getattr(self, name) for name in COUNTS}

    def tried(self, newest: int, steps: int) -> "TrialsState":
        """After a trial's episodes: environment steps of training before it, and its own."""
        return replace(self, newest=newest, env_steps=self.env_steps + steps)

    def promoted(
        self, returns: list[float], starts: list[int], snapshot: Tensor, alpha: float
    ) -> "TrialsState":
        """After a trial that was won, with the candidate's returns and a snapshot ``[P]``."""
        new = replace(self, returns=returns, starts=starts, snapshot=snapshot, alpha=alpha)
        promotions = self.promotions + 1
        return replace(new, since=self.newest, lost=0, promotions=promotions)

    def held(self) -> "TrialsState":
        """After a trial that was lost."""
        return replace(self, lost=self.lost + 1, holds=self.holds + 1)

    def retreated(self) -> "TrialsState":
        """After the learner went back."""
        return replace(self, lost=0, retreats=self.retreats + 1)

    def content(self) -> dict[str, Any]:
        """A checkpoint's; nothing before the hand-over: that serves without trials, too."""
        return {} if self.snapshot is None else dict(vars(self))

    @classmethod
    def of(cls, content: dict[str, Any]) -> "TrialsState":
        """The inverse of :meth:`content`."""
        return cls(**{entry.name: content[entry.name] for entry in fields(cls)})
