"""Offline-to-online reinforcement learning with adaptive behaviour cloning.

The public names load on first use, so that ``--help`` need not import PyTorch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "ConfiguredRun": "adabc_lightning.commands.configured",
    "OffToOnModule": "adabc_lightning.agent.module",
    "Replicas": "adabc_lightning.replicas",
    "ReplayDataModule": "adabc_lightning.data.module",
    "Robot": "adabc_lightning.env.robot",
    "Schedule": "adabc_lightning.run.schedule",
    "UserError": "adabc_lightning.errors",
    "load_dataset": "adabc_lightning.data.datasets",
    "load_policy": "adabc_lightning.env.policy",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
