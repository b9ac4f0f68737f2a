"""From rows as they happened to rows as they are learnt from, offline and online alike.

Rewards are scale · r + shift, observations are normalised last. The ring has the rows in this form,
so that nobody who reads it need think of it.
"""

from torch import Tensor

from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.data.transitions import Layout


class Learnt:
    """What is done to rows, in place.

    Args:
        scale, shift: of rewards.
        normalizes: whether observations are normalised.
    """

    def __init__(self, scale: float, shift: float, normalizes: bool) -> None:
        self.scale, self.shift, self.normalizes = scale, shift, normalizes
        self.normalization: Normalization | None = None
        """That of the offline rows, once they are known; a checkpoint's stays what it is."""

    def reward(self, raw: float) -> float:
        """A reward as it is learnt from."""
        return raw * self.scale + self.shift

    def offline(self, rows: Tensor, layout: Layout) -> None:
        """All rows ``[T, width]`` of a dataset; their observations say how all are normalised."""
        if self.normalizes:
            self.normalization = Normalization.of_rows(rows[:, layout.columns["observation"]])
        self.online(rows, layout)

    def online(self, rows: Tensor, layout: Layout) -> None:
        """Steps of fine-tuning, ``[width]`` or ``[T, width]``."""
        if (self.scale, self.shift) != (1.0, 0.0):
            rows[..., layout.columns["reward"]] *= self.scale
            rows[..., layout.columns["reward"]] += self.shift
        if self.normalization is not None:
            for name in ("observation", "next_observation"):
                self.normalization.apply(rows[..., layout.columns[name]])
