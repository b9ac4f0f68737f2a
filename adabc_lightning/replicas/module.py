"""All agents as one LightningModule."""

import copy
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from adabc_lightning.agent.engines import Engine
from adabc_lightning.agent.method import Method
from adabc_lightning.agent.one_pass import check_trainer
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.data import Batches
from adabc_lightning.replicas.group import Group
from adabc_lightning.replicas.stacked import Stacked, stackable


class ReplicasModule(LightningModule):
    """All agents for Lightning; their updates are one where their equations are known to stack.

    Args:
        group: of the replicas.
    """

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._group = group
        self._stacked: Stacked | None = None

    @property
    def gradient_updates(self) -> int:
        """Of each replica."""
        return self._group.replicas[0].lightning_module.gradient_updates

    @property
    def method(self) -> Method:
        """That of all."""
        return self._group.replicas[0].lightning_module.method

    @property
    def running_engine(self) -> Engine:
        """See :attr:`OffToOnModule.running_engine`; one for all."""
        return self._group.replicas[0].lightning_module.running_engine

    @running_engine.setter
    def running_engine(self, engine: Engine) -> None:
        for replica in self._group.replicas:
            replica.lightning_module.running_engine = engine
        if self._stacked is not None:
            self._stacked.engine = engine

    @property
    def alpha(self) -> Tensor:
        """Mean over the replicas, a scalar."""
        replicas = self._group.replicas
        return torch.stack([replica.lightning_module.alpha for replica in replicas]).mean()

    def setup(self, stage: str) -> None:
        """See :meth:`OffToOnModule.setup`."""
        if stage == "fit":
            check_trainer(self.trainer)
        for replica in self._group.each():
            replica.lightning_module.setup(stage)

    def configure_optimizers(self) -> list[Optimizer]:
        """Those of each replica."""
        optimizers = []
        for replica in self._group.each():
            # Not submodules: what is saved is each replica's own content.
            replica.lightning_module.to(self.device)
            replica.optimizers = replica.lightning_module.configure_optimizers()
            optimizers += replica.optimizers
        return optimizers

    def on_fit_start(self) -> None:
        """See :meth:`OffToOnModule.on_fit_start`; and the optimisers, before any callback acts."""
        for replica in self._group.each():
            replica.lightning_module.on_fit_start()
            replica.restore_adams()

    def on_train_start(self) -> None:
        """Makes one update of all, on the run's engine."""
        modules = []
        for replica in self._group.each():
            replica.lightning_module.on_train_start()
            modules.append(replica.lightning_module)
        self.running_engine = modules[0].running_engine  # makes the updates of all
        if all(map(stackable, modules)):
            self._stacked = Stacked(modules, self.running_engine)
        else:
            method = type(modules[0].method).__name__
            rank_zero_warn(
                f"the replicas are updated one after the other: of model.method {method} and "
                "model.target_rule it is not known whether they work on a stack of agents"
            )

    def training_step(self, batch: Batches, batch_idx: int) -> None:
        """G updates of each replica."""
        if self._stacked is not None and batch[0].batch_size[0]:
            self._stacked(batch)
            return
        for replica in self._group.each():
            replica.lightning_module.training_step(batch[replica.index], batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint of each, whole; Lightning's own entries hold nothing of them."""
        checkpoint["replicas"] = [replica.signed_content() for replica in self._group.each()]
        checkpoint["optimizer_states"] = []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse; the end of a single run's pre-training does for all of them, too.

        Raises: UserError: the checkpoint is of another number of replicas, or of one agent's
            fine-tuning.
        """
        replicas = self._group.replicas
        contents = checkpoint.get("replicas", [checkpoint] * len(replicas))
        if len(contents) != len(replicas):
            raise UserError(
                f"the checkpoint is of {len(contents)} replicas, model.replicas is "
                f"{len(replicas)}; they must be the same"
            )
        first = contents[0]
        if first is checkpoint and first["ReplayDataModule"]["collector"]["env_steps"]:
            raise UserError(
                "the checkpoint is of one agent's fine-tuning; set model.replicas to 1, or give "
                "one from before the hand-over (pretrained.ckpt)"
            )
        for replica, content in zip(self._group.each(), contents, strict=True):
            # An optimiser keeps the very tensors that it is given, and no two may have the same.
            own = copy.deepcopy({name: content[name] for name in content if name != "loops"})
            # Lightning reads the loops of the whole, and the module may correct them.
            replica.restore({**own, "loops": checkpoint["loops"]})
        checkpoint.update(state_dict={}, optimizer_states=[], callbacks={})
