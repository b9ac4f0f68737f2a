"""The sizes that the cost of an update depends on."""

from dataclasses import dataclass
from typing import Any

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.bench.overlays import model_of


@dataclass(frozen=True)
class Shapes:
    """What an update costs depends on these alone.

    Args:
        observation_size, action_size: O, A.
        num_critics: N.
        batch_size: B.
        hidden: units of each hidden layer of the actor and the critics.
        rows: transitions to sample from.
        method: overlay of a packaged method; None for the default one.
        precision: of the packaged engines' products, ``model.precision``.
    """

    observation_size: int = 11
    action_size: int = 3
    num_critics: int = 10
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    rows: int = 1_000_000
    method: str | None = None
    precision: str = "float32"

    @property
    def model(self) -> dict[str, Any]:
        """Keyword arguments of the module."""
        if self.method is not None:
            model = model_of(self.method, self.num_critics, max(self.hidden))
            return {**model, "precision": self.precision}
        return {
            "precision": self.precision,
            "num_critics": self.num_critics,
            "subset_size": self.subset_size,
            "hidden_sizes": self.hidden,
        }

    @property
    def subset_size(self) -> int:
        """M."""
        return min(2, self.num_critics)

    @property
    def spec(self) -> EnvironmentSpec:
        """An environment of these sizes with actions in [−1, 1]."""
        size = self.action_size
        return EnvironmentSpec("bench", self.observation_size, (-1.0,) * size, (1.0,) * size, 1000)
