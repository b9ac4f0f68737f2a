"""What ``fit`` makes of configs and keys, for Python."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import Evaluation
from adabc_lightning.commands.command_line import CommandLine
from adabc_lightning.commands.fit import train
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.allowed import take_allowed
from adabc_lightning.run.config_files import resolve
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.trainer import find


class ConfiguredRun:
    """A run as ``fit --config NAME … --KEY VALUE …`` makes it, whose parts can be looked at first.

    A method is its config: ``ConfiguredRun("hopper", "method/rlpd")`` has RLPD's critics, batches
    and updates per step, where ``OffToOnModule(method=RLPD())`` has its losses alone. The run's
    folder is one that ``report``, ``validate``, ``export`` and ``fit`` know.

    Args:
        configs: names of packaged configs, or paths; later ones win.
        keys: dotted key → value, which win over the configs, as options do.
        allow: packages that configs may import (``--allow``). They, and jsonargparse's refusal of
            all others, stay in force until the process ends.
    Raises: UserError: anything wrong with them.
    """

    def __init__(
        self,
        *configs: str | PathLike[str],
        keys: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        if not configs:
            raise UserError("a run needs a config, such as 'hopper'")
        if isinstance(allow, str):
            raise UserError(f"allow is {allow!r}; give a list of packages, [{allow!r}]")
        words = [f"--config={os.fspath(config)}" for config in configs]
        words += [f"--{key}={_text(key, value)}" for key, value in (keys or {}).items()]
        words = take_allowed([*words, *(f"--allow={package}" for package in allow)])
        self._lock, self._fitted = FolderLock("a run", "trainer.default_root_dir"), False
        # Others may use the folder until training begins.
        with self._lock, warnings.catch_warnings():
            # Lightning 2.6 still uses what jsonargparse 4.49 deprecates, and would have no words.
            warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.cli")
            self._line = CommandLine("fit", *resolve("fit", words), self._lock)

    @property
    def agent(self) -> OffToOnModule:
        """The module; of several replicas, what stands for all."""
        return self._line.model

    @property
    def data(self) -> ReplayDataModule:
        """The data module; of several replicas, likewise."""
        return self._line.datamodule

    @property
    def trainer(self) -> Trainer:
        """Lightning's, with all callbacks; one more of your own goes to ``trainer.callbacks``."""
        return self._line.trainer

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self._line.folder

    def fit(self) -> list[dict[str, Any]]:
        """Trains, once; a folder that holds the run already goes on with ``ckpt_path`` ``last``.

        Returns: the evaluations, as :attr:`adabc_lightning.callbacks.Evaluation.history`; none of
            several replicas, which have one each.
        Raises: UserError, NotWritten: as the command; or it has trained already.
        """
        if self._fitted:
            raise UserError(
                "this run has trained; another ConfiguredRun of the same folder with ckpt_path "
                "'last' goes on with it"
            )
        self._fitted = True
        with self._lock:
            train(self._line)
        evaluation = find(self.trainer, Evaluation)
        return [] if evaluation is None else evaluation.history


def _text(key: str, value: Any) -> str:
    """A value as a command line has it."""

    def plain(other: Any) -> Any:
        if isinstance(other, PathLike):
            return os.fspath(other)
        if isinstance(other, np.generic | np.ndarray):
            return other.tolist()
        raise UserError(f"{key} is a {type(other).__name__}; a config has numbers, texts and lists")

    if isinstance(value, PathLike):  # JSON would quote it
        return os.fspath(value)
    return value if isinstance(value, str) else json.dumps(value, default=plain)
