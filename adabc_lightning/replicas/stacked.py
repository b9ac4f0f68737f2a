"""The gradient update of R agents as one, on tensors ``[R, …]`` that hold them all."""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.engine import Draws, Engine
from adabc_lightning.agent.losses import minimum, minimum_of_group_means
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.objectives import AWAC, TD3BC
from adabc_lightning.agent.update import AdamState, AgentState


def stackable(module: OffToOnModule) -> bool:
    """Whether an agent's equations are known to keep replicas apart; others may do anything."""
    rules = (minimum, minimum_of_group_means)
    return type(module.objective) in (TD3BC, AWAC) and module.target_rule in rules


class Stacked:
    """Makes the updates of R agents that go in step.

    Their weights, Adam's moments, α and the sums of their metrics become views of the stacked
    tensors, so that each of them still reads, saves and changes its own.

    Args:
        modules: R agents of the same shapes and constants on one device.
        engine: how the updates run.
    """

    def __init__(self, modules: Sequence[OffToOnModule], engine: Engine) -> None:
        self._modules, self._engine = modules, engine
        states = [module.agent_state() for module in modules]
        self._state = AgentState(
            tuple(_stack_each([state.actor for state in states])),
            tuple(_stack_each([state.actor_target for state in states])),
            tuple(_stack_each([state.critics for state in states])),
            tuple(_stack_each([state.critic_targets for state in states])),
            _stack_adam([state.actor_adam for state in states]),
            _stack_adam([state.critic_adam for state in states]),
        )
        for module in modules:  # Adam's count of steps is the same for all: there is one
            adams = self._state.critic_adam, self._state.actor_adam
            for optimizer, adam in zip(module.optimizers(False), adams, strict=True):  # type: ignore[arg-type]
                for state, steps in zip(optimizer.state.values(), adam.steps, strict=True):
                    state["step"] = steps
        self._alpha = stack([module.alpha for module in modules])
        self._sums = {
            name: stack([module.sums[name] for module in modules]) for name in modules[0].sums
        }

    def __call__(self, batches: Sequence[TensorDict]) -> None:
        """The G updates of a training step, with a batch ``[G, B]`` for each agent."""
        works = [
            module.work(batch, self._state)
            for module, batch in zip(self._modules, batches, strict=True)
        ]
        policy_noise = [work.draws.policy_noise_GBA for work in works]
        draws = Draws(
            torch.stack([work.draws.noise_GBA for work in works], 1),
            None if policy_noise[0] is None else torch.stack(policy_noise, 1),  # type: ignore[arg-type]
            torch.stack([work.draws.subset_GM for work in works], 1),
        )
        stacked = works[0]._replace(
            batch=torch.stack([work.batch for work in works], 1),
            draws=draws,
            alpha=self._alpha,
        )
        self._engine(stacked, self._add)
        for module in self._modules:
            module.gradient_updates += len(stacked.moves)

    def _add(self, name: str, total_R: Tensor, count: int) -> None:
        """One sum ``[R]`` for all; they take their metrics in step, and it starts anew."""
        if name in self._modules[0].sums:
            self._sums[name] += total_R
        else:
            self._sums[name] = total_R.clone()
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


def _stack_adam(adams: Sequence[AdamState]) -> AdamState:
    return adams[0]._replace(
        first_moments=_stack_each([adam.first_moments for adam in adams]),
        second_moments=_stack_each([adam.second_moments for adam in adams]),
    )
