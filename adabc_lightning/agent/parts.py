"""The parts of an agent, their optimisers, and the sums of what the updates say."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from adabc_lightning.agent.contract import check_parts
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.state import AdamState, AgentState, Metrics, Part, add_to
from adabc_lightning.errors import UserError
from adabc_lightning.run.seeding import stream_seed


class Parts(LightningModule):
    """Named networks with their optimisers and targets, and running sums of metrics.

    Args:
        method: states the parts.
        shape: of their networks.
        seed: of their first weights, among others.
    """

    def __init__(self, method: Method, shape: Shape, seed: int) -> None:
        super().__init__()
        self.method, self.shape, self.seed = method, shape, seed
        self.parts: dict[str, Trained] = {}
        """Name → part, in the order of the optimisers."""
        self.of_method: tuple[str, ...] = ()
        """Names of those that a method states; callbacks may add others."""
        self.deployed = "actor"
        """Name of the part that is evaluated, kept and exported as the policy."""
        self.sums: Metrics = {}
        """Of the updates' metrics (scalars, on the device) since they were last taken."""
        self._counts: dict[str, int] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "weights"))
            parts = method.parts(shape)
            check_parts(parts, method)
            for name, part in parts.items():
                self.add_part(name, part)
        self.of_method = tuple(self.parts)

    @property
    def policy(self) -> Actor:
        """The network that is deployed."""
        return self.get_submodule(self.deployed)  # type: ignore[return-value]

    def add_part(self, name: str, part: Trained) -> None:
        """One more network, as an attribute of that name, and its target as ``NAME_target``.

        Callbacks may add what they train beside the method from the hand-over on, before the
        optimisers are made: it is saved, resumed, moved and watched like the others.

        Args:
            name: no attribute's yet.
            part: the network.
        Raises: UserError: there is such a part, of an earlier fit.
        """
        if hasattr(self, name):
            raise UserError(
                f"this module has a part {name} from an earlier fit; make a new one and give "
                "fit(..., ckpt_path=...) to go on"
            )
        self.parts[name] = part
        self.add_module(name, part.network)
        if part.target:
            self.add_module(f"{name}_target", copy.deepcopy(part.network).requires_grad_(False))

    @property
    def added_parts(self) -> list[str]:
        """Of :attr:`trained_parts` those that are not the method's."""
        return [name for name in self.trained_parts if name not in self.of_method]

    @property
    def added_copies(self) -> list[str]:
        """Added parts that nothing trains."""
        known = (*self.of_method, *self.added_parts)
        return [name for name in self.parts if name not in known]

    @property
    def trained_parts(self) -> list[str]:
        """Names of the parts that have an optimiser, in the optimisers' order."""
        return [name for name, part in self.parts.items() if part.learning_rate is not None]

    def part(self, name: str) -> Part:
        """The live tensors of one part."""
        trained = self.parts[name]
        adam = target = None
        if trained.learning_rate is not None:
            adam = AdamState.of(self._optimizer(name), trained.learning_rate, trained.weight_decay)
        if trained.target:
            target = tuple(self.get_submodule(f"{name}_target").weights)  # type: ignore[arg-type]
        # Tuples: a method's own network may have any sequence, which a pytree may not know.
        return Part(tuple(trained.network.weights), adam, target)  # type: ignore[arg-type]

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        optimizers: Any = self.optimizers(use_pl_optimizer=False)  # one alone is no list
        every = optimizers if isinstance(optimizers, list) else [optimizers]
        return every[self.trained_parts.index(name)]

    def share_steps(self, name: str, steps: Sequence[Tensor]) -> None:
        """Lets a part's Adam count its steps in tensors (scalars) that others have as well."""
        for state, shared in zip(self._optimizer(name).state.values(), steps, strict=True):
            state["step"] = shared

    def agent_state(self) -> AgentState:
        """The live tensors that the method's updates read and write."""
        return {name: self.part(name) for name in self.of_method}

    @property
    def snapshot_size(self) -> int:
        """P of :func:`~adabc_lightning.agent.state.snapshot`, also before there are optimisers."""
        numbers = 0
        for part in (self.parts[name] for name in self.of_method):
            copies = 1 + part.target + 2 * (part.learning_rate is not None)
            numbers += copies * sum(weight.numel() for weight in part.network.weights)  # type: ignore[union-attr]
        return numbers

    @property
    def trained_weights(self) -> dict[str, Sequence[Tensor]]:
        """The parameters, of any shape ``[*]``, of each of :attr:`trained_parts`."""
        return {name: self.parts[name].network.weights for name in self.trained_parts}  # type: ignore[misc]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for each part that is trained (AdamW where it has a decay), default β and ε."""
        trained = [self.parts[name] for name in self.trained_parts]
        return [
            torch.optim.AdamW(
                part.network.weights,  # type: ignore[arg-type]
                lr=part.learning_rate or 0.0,
                weight_decay=part.weight_decay,
                fused=True,
            )
            for part in trained
        ]

    def add_metrics(self, totals: Metrics, count: int = 1) -> None:
        """Adds to running sums on the device; nothing is fetched until someone asks.

        Args:
            totals: scalars, each the sum of ``count`` values.
            count: how many values.
        """
        add_to(self.sums, totals)
        for name in totals:
            self._counts[name] = self._counts.get(name, 0) + count

    def share_metric(self, name: str, total: Tensor, count: int) -> None:
        """Counts more values of a sum that somebody else keeps and adds to.

        Args:
            name: of the metric.
            total: scalar, the sum by now; what the metric had is dropped.
            count: how many values have come to it.
        """
        self.sums[name] = total
        self._counts[name] = self._counts.get(name, 0) + count

    def take_metrics(self) -> dict[str, float]:
        """Means of the update metrics since the last call."""
        means = {name: (total / self._counts[name]).item() for name, total in self.sums.items()}
        self.sums, self._counts = {}, {}
        return means

    def sums_state(self) -> dict[str, Any]:
        """What a checkpoint holds of the sums."""
        return {"sums": dict(self.sums), "counts": dict(self._counts)}

    def load_sums(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`sums_state`."""
        self.sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def move_sums(self) -> None:
        """To the device; a checkpoint is loaded before the module is moved there."""
        self.sums = {name: value.to(self.device) for name, value in self.sums.items()}
