"""From rows as they happened to rows as they are learnt from, offline and online alike.

Rewards are scale · r + shift, observations are normalised last. The ring has the rows in this form,
so that nobody who reads it need think of it.
"""

from typing import Literal

from torch import Tensor

from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.data.faults import FEW
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError

RANGE: Literal["return_range"] = "return_range"
"""In place of a scale: the one by which the returns of a dataset's episodes span 1,000."""


class Learnt:
    """What is done to rows, in place.

    Args:
        scale, shift: of rewards; the scale a number or :data:`RANGE`.
        normalizes: whether observations are normalised.
    """

    def __init__(
        self, scale: float | Literal["return_range"], shift: float, normalizes: bool
    ) -> None:
        self.of_range = scale == RANGE
        self.scale = 1.0 if scale == RANGE else scale
        """With :data:`RANGE` that of the offline episodes, once they are known."""
        self.shift, self.normalizes = shift, normalizes
        self.normalization: Normalization | None = None
        """That of the offline rows, once they are known; a checkpoint's stays what it is."""

    def reward(self, raw: float) -> float:
        """A reward as it is learnt from."""
        return raw * self.scale + self.shift

    def offline(self, dataset: OfflineDataset) -> None:
        """All rows of a dataset; they say how rewards are scaled and observations normalised.

        Raises: UserError: the scale is that of its returns, which are all the same.
        """
        if self.of_range:
            self.scale = scale_of_range(dataset)
        if self.normalizes:
            observation_TO = dataset.rows[:, dataset.layout.columns["observation"]]
            self.normalization = Normalization.of_rows(observation_TO)
        self.apply(dataset.rows, dataset.layout)

    def doubts(self, dataset: OfflineDataset) -> list[str]:
        """A sentence where a scale is made of returns that have no range to speak of."""
        returns = dataset.episode_return_E.unique().tolist()
        if not self.of_range or len(returns) > 2 or len(dataset.episode_return_E) < FEW:
            return []
        low, high = returns[0], returns[-1]
        return [
            f"data.reward_scale {RANGE} multiplies rewards by {self.scale:g}: its episodes earn "
            f"{low:g} or {high:g}. It is for dense rewards; IQL's authors shift sparse ones and do "
            "not scale them (data.reward_scale 1, data.reward_shift -1)"
        ]

    def same_as(self, other: "Learnt") -> None:
        """Takes what another one has learnt of the same rows."""
        self.scale, self.normalization = other.scale, other.normalization

    def apply(self, rows: Tensor, layout: Layout) -> None:
        """Scales and normalises rows in place, ``[width]`` or ``[T, width]``, of either phase."""
        if (self.scale, self.shift) != (1.0, 0.0):
            rows[..., layout.columns["reward"]] *= self.scale
            rows[..., layout.columns["reward"]] += self.shift
        if self.normalization is not None:
            for name in ("observation", "next_observation"):
                self.normalization.apply(rows[..., layout.columns[name]])


def scale_of_range(dataset: OfflineDataset) -> float:
    """1,000 / (largest − smallest return of an episode), IQL's for locomotion (its authors' code).

    Raises: UserError: they are all the same.
    """
    low, high = (float(end) for end in dataset.episode_return_E.aminmax())
    if not high - low > 1e-6 * max(abs(low), abs(high)):  # of equal rewards, in another order
        count = len(dataset.episode_return_E)
        raise UserError(
            f"data.reward_scale is {RANGE}, but dataset {dataset.name!r} has no range of returns: "
            + (f"all {count} episodes earned {low:g}" if count > 1 else "it is one episode")
            + "; give a number"
        )
    return 1000 / (high - low)
