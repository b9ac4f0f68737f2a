"""When to trim, adapt, evaluate, record and save; the agent's gradients are not theirs."""

from adabc_lightning.callbacks.alpha import AlphaController
from adabc_lightning.callbacks.balanced import BalancedReplay
from adabc_lightning.callbacks.checkpointing import Checkpointing
from adabc_lightning.callbacks.downsampling import Downsampling
from adabc_lightning.callbacks.evaluation import Evaluation
from adabc_lightning.callbacks.guard import Guard
from adabc_lightning.callbacks.handover import HandoverDiagnostics
from adabc_lightning.callbacks.metrics import Metrics, record
from adabc_lightning.callbacks.progress import Progress
from adabc_lightning.callbacks.summary import Summary
from adabc_lightning.callbacks.trials import Trials
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO

__all__ = [
    "AlphaController",
    "AtomicCheckpointIO",
    "BalancedReplay",
    "Checkpointing",
    "Downsampling",
    "Evaluation",
    "Guard",
    "HandoverDiagnostics",
    "Metrics",
    "Progress",
    "RunCallback",
    "Summary",
    "Trials",
    "record",
]
