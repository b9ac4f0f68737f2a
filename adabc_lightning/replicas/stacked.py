"""The gradient update of R agents as one, on tensors ``[R, …]`` that hold them all."""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.engines import Engine
from adabc_lightning.agent.losses import minimum, minimum_of_group_means
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.state import Metrics, Part, add_to


def stackable(module: OffToOnModule) -> bool:
    """Whether an agent's equations are known to keep replicas apart; others may do anything."""
    # Of the class itself: what a subclass changes, nobody knows.
    stacks = vars(type(module.method)).get("stacks", False)
    return stacks and module.target_rule in (minimum, minimum_of_group_means)


class Stacked:
    """Makes the updates of R agents that go in step.

    Their weights, Adam's moments, α and the sums of their metrics become views of the stacked
    tensors, so that each of them still reads, saves and changes its own.

    Args:
        modules: R agents of the same shapes and constants on one device.
        engine: how the updates run.
    """

    def __init__(self, modules: Sequence[OffToOnModule], engine: Engine) -> None:
        self._modules, self.engine = modules, engine
        states = [module.agent_state() for module in modules]
        self._state = {name: _stack_part([state[name] for state in states]) for name in states[0]}
        for module in modules:  # Adam's count of steps is the same for all: there is one
            for name, part in self._state.items():
                if part.adam is not None:
                    module.share_steps(name, part.adam.steps)
        names = modules[0].coefficients
        self._coefficients = {
            name: stack([module.coefficients[name] for module in modules]) for name in names
        }
        self._sums = {
            name: stack([module.sums[name] for module in modules]) for name in modules[0].sums
        }

    def __call__(self, batches: Sequence[TensorDict]) -> None:
        """The G updates of a training step, with a batch ``[G, B]`` for each agent."""
        works = [
            module.work(batch, self._state)
            for module, batch in zip(self._modules, batches, strict=True)
        ]
        draws = {
            name: torch.stack([work.draws[name] for work in works], 1) for name in works[0].draws
        }
        stacked = works[0]._replace(
            batch=torch.stack([work.batch for work in works], 1),
            draws=draws,
            coefficients=self._coefficients,
        )
        self.engine(stacked, self._add)
        for module, work in zip(self._modules, works, strict=True):
            module.count(len(work.delayed_after))
            if module.device.type == "cuda":
                module.draw_ahead(*work.batch.batch_size)

    def _add(self, totals: Metrics, count: int) -> None:
        """One sum ``[R]`` for all; they take their metrics in step, and it starts anew."""
        taken = totals.keys() - self._modules[0].sums.keys()
        self._sums = {name: total for name, total in self._sums.items() if name not in taken}
        add_to(self._sums, totals)
        for name in totals:
            for module, total in zip(self._modules, self._sums[name].unbind(), strict=True):
                module.share_metric(name, total, count)


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """``[R, *]``, of which the given tensors ``[*]`` become views; they must be different ones."""
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    together = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, together.unbind(), strict=True):
        tensor.data = part
    return together.requires_grad_(tensors[0].requires_grad)


def _stack_each(lists: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [stack(same) for same in zip(*lists, strict=True)]


def _stack_part(parts: Sequence[Part]) -> Part:
    """The parts of one name as one."""
    _, adam, target = parts[0]
    weights = tuple(_stack_each([part.weights for part in parts]))
    if target is not None:
        target = tuple(_stack_each([part.target or () for part in parts]))
    if adam is not None:
        adams = [part.adam for part in parts if part.adam is not None]
        adam = adam._replace(
            first_moments=_stack_each([adam.first_moments for adam in adams]),
            second_moments=_stack_each([adam.second_moments for adam in adams]),
        )
    return Part(weights, adam, target)
