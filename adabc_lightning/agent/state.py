"""What an update reads and writes: an agent's named parts, and the constants.

A part is a network with, where it is trained, its Adam, and, where it has one, its target network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from adabc_lightning.agent.losses import TargetRule
from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.norm import Norm

Draws = dict[str, Tensor]
"""The named random numbers of one update, or ``[G, …]`` those of G, on the agent's device."""

Coefficients = dict[str, Tensor]
"""Named scalars that weigh terms of losses and change while a run goes on, such as α."""

Metrics = dict[str, Tensor]
"""Name → scalar, without gradient."""


class AdamState(NamedTuple):
    """The tensors of a ``torch.optim.Adam``, in the order of its parameters."""

    first_moments: list[Tensor]
    second_moments: list[Tensor]
    steps: list[Tensor]
    learning_rate: float
    weight_decay: float = 0.0

    @classmethod
    def of(
        cls, optimizer: Optimizer, learning_rate: float, weight_decay: float = 0.0
    ) -> "AdamState":
        """The live state of an optimiser, created as its first step would where missing.

        The rate is given, because a resumed optimiser holds that of its checkpoint.
        """
        (group,) = optimizer.param_groups
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [optimizer.state[parameter] for parameter in group["params"]]
        return cls(
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["step"] for state in states],
            learning_rate,
            weight_decay,
        )


class Part(NamedTuple):
    """The live tensors of a part; an ensemble's are stacked ``[N, …]``."""

    weights: Weights
    adam: AdamState | None = None
    """None where nothing trains it."""
    target: Weights | None = None
    """Weights of the network that follows it slowly; None where there is none."""


AgentState = dict[str, Part]
"""Name → part: everything an update reads and writes."""


@dataclass(frozen=True)
class UpdateOptions:
    """The constants of an update; see :class:`adabc_lightning.agent.module.OffToOnModule`."""

    gamma: float
    tau: float
    target_rule: TargetRule
    action_low: Tensor
    """``[A]``, action units."""
    action_high: Tensor
    """``[A]``, action units."""
    free_actions: Tensor | None = None
    """Which action dimensions ``[A]`` can vary; None: all."""
    fixed_count: int = 0
    """How many cannot."""
    critic_norm: Norm | None = None
    """Where the critics' hidden layers are normalised, if they are."""
    online: bool = False
    """Whether the hand-over is past."""
    products: torch.dtype | None = None
    """Of the networks' products; None: of their weights (:mod:`adabc_lightning.agent.products`)."""
    average: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None
    """Means over several processes (:meth:`adabc_lightning.run.ranks.Ranks.average`)."""

    @property
    def free_count(self) -> int:
        """How many action dimensions can vary: those that an entropy is measured of."""
        return self.action_low.shape[-1] - self.fixed_count

    @property
    def limit_A(self) -> Tensor:
        """What actions around the middle of their range are divided by: half of it, ``[A]``.

        Infinite where an action is fixed, so that it is 0 in action limits.
        """
        half_A = (self.action_high - self.action_low) / 2
        return half_A if self.free_actions is None else half_A.where(half_A > 0, torch.inf)


def add_to(sums: Metrics, totals: Metrics) -> None:
    """Adds scalars, or one of each replica ``[R]``, to sums of the same names, in place."""
    if old := [name for name in totals if name in sums]:
        torch._foreach_add_([sums[name] for name in old], [totals[name] for name in old])
    sums.update({name: total.clone() for name, total in totals.items() if name not in sums})


def tensors(state: Any) -> list[Tensor]:
    """All tensors of an :data:`AgentState` or a part of it, of any shape ``[*]``, in order."""
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


def learnt(state: AgentState) -> list[Tensor]:
    """Weights, targets and Adam's moments, of any shape ``[*]``, in order.

    Not its counts of steps, which only correct the moments' bias at a run's beginning, and which
    agents that go in step may share.
    """
    found: list[Tensor] = []
    for part in state.values():
        found += [*part.weights, *(part.target or ())]
        if part.adam is not None:
            found += [*part.adam.first_moments, *part.adam.second_moments]
    return found


def snapshot(state: AgentState) -> Tensor:
    """A copy of what :func:`learnt` finds, in one row ``[P]``."""
    return torch.cat([live.detach().flatten() for live in learnt(state)])


@torch.no_grad()
def put_back(state: AgentState, taken: Tensor) -> None:
    """Makes the state what it was at a :func:`snapshot` ``[P]``."""
    live = learnt(state)
    sizes = [tensor.numel() for tensor in live]
    for tensor, part in zip(live, taken.to(live[0].device).split(sizes), strict=True):
        tensor.copy_(part.view_as(tensor))


def copied(state: AgentState) -> list[Tensor]:
    """Copies of its tensors, for :func:`restore`."""
    return [tensor.detach().clone() for tensor in tensors(state)]


@torch.no_grad()
def restore(state: AgentState, before: list[Tensor]) -> None:
    """Undoes what happened since :func:`copied`."""
    for tensor, saved in zip(tensors(state), before, strict=True):
        tensor.copy_(saved)
