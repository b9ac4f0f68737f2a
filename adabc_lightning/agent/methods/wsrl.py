"""Warm-start reinforcement learning (Zhou et al. 2025)."""

from typing import Any

from tensordict import TensorDict

from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.method import Shape
from adabc_lightning.agent.methods.cql import CQL
from adabc_lightning.agent.methods.sac import SAC
from adabc_lightning.agent.state import AgentState, Dials, Draws, Metrics, UpdateOptions


class WSRL(CQL):
    """CQL or Cal-QL before the hand-over, SAC without offline data after it.

    With frozen steps between the two (``schedule.frozen_env_steps``) and an empty ring
    (``downsampling.keep`` 0). After the hand-over actor and temperature move once per environment
    step, on the last of its batches; the authors' code has them move on all of them at once. Its
    normalised actor and its softplus of the temperature are not here.

    Args:
        max_target_backup, heads: see :class:`~adabc_lightning.agent.methods.CQL`.
        options: its other arguments.
    """

    stacks = True

    def __init__(
        self, max_target_backup: bool = True, heads: int | None = 2, **options: Any
    ) -> None:
        super().__init__(max_target_backup=max_target_backup, heads=heads, **options)

    def draw(self, random: Random, shape: Shape) -> Draws:
        """CQL's random numbers, then SAC's."""
        return SAC.draw(self, random, shape) if random.online else super().draw(random, shape)

    def moves(self, first: int, count: int, policy_delay: int, online: bool) -> tuple[bool, ...]:
        """After the last update of an environment step."""
        if not online:
            return super().moves(first, count, policy_delay, online)
        return (*[False] * (count - 1), True) if count else ()

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        dials: Dials,
        options: UpdateOptions,
    ) -> Metrics:
        """All steps of CQL, then the critics' of SAC."""
        method = SAC if options.online else CQL
        return method.update(self, state, batch, draws, dials, options)

    def delayed(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        dials: Dials,
        options: UpdateOptions,
    ) -> Metrics:
        """SAC's steps of actor and temperature."""
        return SAC.delayed(self, state, batch, draws, dials, options)
