"""A rule for α of one's own: Eq. 2 with a quantile of the log's returns as its target."""

from typing import Any

from lightning import LightningModule, Trainer

from adabc_lightning import OffToOnModule, UserError
from adabc_lightning.callbacks import AlphaController, record


class QuantileTarget(AlphaController):
    """Aims at what the better episodes of the log have earned.

    Args:
        quantile: of the episodes' raw returns, from 0 to 1.
        options: of AlphaController.
    """

    columns = ("control/target",)  # of metrics.csv

    def __init__(self, quantile: float = 0.9, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= quantile <= 1:
            raise UserError(f"quantile is {quantile}; it must be between 0 and 1")
        self.quantile = quantile

    def on_hand_over(self, data: Any, agent: OffToOnModule) -> None:
        """The log is at hand for the last time."""
        super().on_hand_over(data, agent)
        target = data.dataset.episode_return_E.quantile(self.quantile).item()
        self.target = data.reference.fraction(target)

    def state_dict(self) -> dict[str, Any]:
        """In checkpoints, for a run that goes on."""
        return {**super().state_dict(), "target": self.target}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse."""
        super().load_state_dict(state_dict)
        self.target = state_dict.get("target", self.target)  # a packaged controller's has none

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Eq. 2, and a column."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.datamodule.env_steps:
            record(trainer, {"control/target": self.target})
