"""What Weights & Biases keeps of a run beside its curves: a checkpoint and the dataset's card."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
from lightning.pytorch.loggers import Logger, WandbLogger

from adabc_lightning.data.formats.hdf5 import attribute
from adabc_lightning.data.formats.source import LOGGED
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.checkpoint_files import BEST, FOLDER, LAST

CARD = Path("wandb", "dataset-card.json")  # in the run's folder


def dataset_card(dataset: OfflineDataset) -> dict[str, Any]:
    """What is known of a dataset: its file's own card, counts, and returns of its episodes.

    Returns: name → number or text, named as in the card that ``collect`` writes.
    """
    returns = dataset.episode_return_E
    return {
        **_attributes(Path(dataset.name).expanduser()),
        "name": dataset.name,
        **({"sources": {o.name: o.rows for o in dataset.sources}} if dataset.sources else {}),
        **({} if dataset.reward == LOGGED else {"reward_source": dataset.reward}),
        "env_id": dataset.env_id,
        "transitions": len(dataset.rows),
        "episodes": len(returns),
        "terminals": dataset.terminals,
        "timeouts": dataset.timeouts,
        "return_mean": returns.mean().item(),
        "return_std": returns.std(correction=0).item(),
        "return_min": returns.min().item(),
        "return_max": returns.max().item(),
        "fingerprint": dataset.fingerprint(),
    }


def _attributes(path: Path) -> dict[str, Any]:
    """Numbers and texts that an HDF5 file says about itself; files of other kinds say nothing."""
    if not h5py.is_hdf5(path):
        return {}
    with h5py.File(path) as file:
        values = {name: attribute(file, name) for name in file.attrs}
    found = {name: getattr(v, "tolist", lambda v=v: v)() for name, v in values.items()}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def log_artifacts(loggers: Iterable[Logger], folder: Path, card: dict[str, Any] | None) -> None:
    """Hands the best checkpoint of fine-tuning (else the last) and the card to Weights & Biases.

    The files stay where they are: an offline run's are read when it is synchronised.

    Args:
        loggers: of the run; others than W&B's are left alone.
        folder: of the run; of one with replicas it has no best, but the last of all.
        card: of the dataset; None where none was loaded.
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        run = logger.experiment
        checkpoints = [folder / FOLDER / name for name in (BEST, LAST)]
        if path := next(filter(Path.is_file, checkpoints), None):
            _log(run, f"checkpoint-{run.id}", "model", path, {"file": path.name})
        if card is not None:
            replace_text(folder / CARD, json.dumps(card, indent=2) + "\n")
            name = re.sub(r"[^\w.-]+", "-", f"dataset-{card['name']}")[-120:]
            _log(run, name, "dataset", folder / CARD, card)


def _log(run: Any, name: str, kind: str, path: Path, metadata: dict[str, Any]) -> None:
    import wandb

    artifact = wandb.Artifact(name, kind, metadata=metadata)
    # Absolute: read by its service, or by `wandb sync`, wherever that is called.
    artifact.add_file(str(path.absolute()), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)
