"""A run's checkpoint as a whole: what agent, data module, callbacks and Lightning save."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from adabc_lightning.agent.saved import SavedAgent
from adabc_lightning.callbacks.alpha import SavedAlpha
from adabc_lightning.callbacks.balanced import SavedBalancedReplay
from adabc_lightning.callbacks.best import SavedCheckpointing
from adabc_lightning.callbacks.evaluation import SavedEvaluation
from adabc_lightning.callbacks.guard import SavedGuard
from adabc_lightning.callbacks.handover import SavedDiagnostics
from adabc_lightning.callbacks.metrics import SavedMetrics
from adabc_lightning.callbacks.summary import SavedSummary
from adabc_lightning.callbacks.trials_state import SavedTrials
from adabc_lightning.data.saved import saved_data
from adabc_lightning.run.saved import (
    Count,
    Listing,
    Named,
    Saved,
    Text,
    absent,
    disagree,
    nested_counts,
    one_of,
)


class SavedCallbacks(Saved):
    """By their ``state_key``; a run may lack some and have others."""

    AlphaController: SavedAlpha = absent()
    Guard: SavedGuard = absent()
    Evaluation: SavedEvaluation = absent()
    HandoverDiagnostics: SavedDiagnostics = absent()
    Metrics: SavedMetrics = absent()
    Summary: SavedSummary = absent()
    Checkpointing: SavedCheckpointing = absent()
    BalancedReplay: SavedBalancedReplay = absent()
    Trials: SavedTrials = absent()


class _Loops(Saved):
    fit_loop: Named[nested_counts(8)]  # type: ignore[valid-type]


class SavedLoops(Saved):
    """Lightning's own entries."""

    version: Text = Field(alias="pytorch-lightning_version")
    lr_schedulers: Listing[Count]
    loops: _Loops


class SavedRun(SavedAgent, SavedLoops):
    """Of one agent."""

    ReplayDataModule: Annotated[Any, one_of(saved_data)]
    callbacks: SavedCallbacks

    @model_validator(mode="after")
    def _kept_rows(self) -> "SavedRun":
        data, balanced = self.ReplayDataModule, self.callbacks.BalancedReplay
        kept = balanced.offline_rows if balanced and data.collector.env_steps else 0
        if kept and kept >= len(data.replay.rows):
            disagree(
                f"callbacks/BalancedReplay/offline_rows is {kept}, but the ring has "
                f"{len(data.replay.rows)} rows"
            )
        return self
