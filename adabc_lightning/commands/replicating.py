"""Replicas from one config: of each the parts that a single run with its seed would have."""

from collections.abc import Callable
from pathlib import Path

from jsonargparse import Namespace
from lightning import Callback
from lightning.pytorch.cli import LightningArgumentParser

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import Summary
from adabc_lightning.callbacks.folder import ReplicaFolder
from adabc_lightning.commands.callbacks import take_places
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.replicas import Replicas

Parts = tuple[OffToOnModule, ReplayDataModule, list[Callback]]
"""Module, data module and callbacks of a single run."""


def replicate(
    parser: LightningArgumentParser,
    config: Namespace,
    first: Parts,
    summary: Callable[[str], Summary],
    resumes: bool,
) -> Replicas:
    """Makes as many replicas as ``model.replicas`` says.

    Args:
        parser: of the config.
        config: of all of them, parsed.
        first: parts of the first one, which are made already.
        summary: makes the summary of another one, by the name of its folder.
        resumes: whether the folder's own run goes on.
    Raises: UserError: see :class:`~adabc_lightning.replicas.Replicas`.
    """
    parts = []
    for index in range(config.model.replicas):
        own = config_of(config, index)
        module, data, callbacks = first
        if index:
            module, data, callbacks = _make(parser, own)
            callbacks.append(summary(f"replica_{index}"))
        folder = ReplicaFolder(parser.dump(own, skip_unset=False), resumes)
        parts.append((module, data, [folder, *callbacks]))
    return Replicas(parts)


def config_of(config: Namespace, index: int) -> Namespace:
    """The config of the single run that a replica is like: its seed, and its folder.

    Args:
        config: of all replicas.
        index: of one of them, from 0.
    """
    own = config.clone()
    for keys in (own.model, own.data):
        keys.seed += index
    own.seed_everything += index
    own.model.replicas = 1
    own.trainer.default_root_dir = str(Path(own.trainer.default_root_dir, f"replica_{index}"))
    return own


def _make(parser: LightningArgumentParser, config: Namespace) -> Parts:
    made = parser.instantiate_classes(config)
    given = made.trainer.callbacks or []
    given = given if isinstance(given, list) else [given]
    callbacks = [*given, *(made[key] for key in parser.callback_keys)]
    take_places(callbacks)
    return made.model, made.data, callbacks
