"""Warm-start reinforcement learning (Zhou et al. 2025)."""

import math
from typing import Any

from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.gaussian import GaussianOptions
from adabc_lightning.agent.initialisation import Initialisation, orthogonal_small_hidden
from adabc_lightning.agent.method import Shape
from adabc_lightning.agent.methods.cql import CQL
from adabc_lightning.agent.methods.sac import SAC
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.temperature import SoftplusScalar
from adabc_lightning.agent.update import as_one
from adabc_lightning.run.types import Positive, declared


@declared("model.method")
class WSRL(CQL):
    """CQL or Cal-QL before the hand-over, SAC without offline data after it.

    With frozen steps between the two (``schedule.frozen_env_steps``) and an empty ring
    (``downsampling.keep`` 0). After the hand-over actor and temperature move once per environment
    step, on all rows of its batches. As its authors' code the actor is normalised, critics are
    drawn with replacement, and the temperature is a softplus.

    Args:
        max_target_backup, heads: see :class:`~adabc_lightning.agent.methods.CQL`.
        options: its other arguments.
    """

    stacks = True
    gathers = True
    returns_online = False  # it is SAC by then
    initialise: Initialisation = staticmethod(orthogonal_small_hidden)
    gaussian = GaussianOptions((math.log(1e-5), math.log(10.0)), norm="before")
    entropy_weight = SoftplusScalar

    def __init__(
        self, max_target_backup: bool = True, heads: Positive | None = 2, **options: Any
    ) -> None:
        super().__init__(max_target_backup=max_target_backup, heads=heads, **options)

    def some(self, random: Random, count: int, of: int) -> Tensor:
        """``count`` critics of so many, ``[G, count]``; one may come twice."""
        return random.with_replacement(count, of)

    def draw(self, random: Random, shape: Shape) -> Draws:
        """CQL's random numbers, then SAC's."""
        return SAC.draw(self, random, shape) if random.online else super().draw(random, shape)

    def delayed_after(
        self, first: int, count: int, policy_delay: int, online: bool
    ) -> tuple[bool, ...]:
        """None before the hand-over, then after the last update of an environment step."""
        if not online:
            return super().delayed_after(first, count, policy_delay, online)
        return (False,) * (count - 1) + (True,)

    def entropy_scale(self, raw: Tensor) -> Tensor:
        """α itself, before the hand-over as well."""
        return SAC.entropy_scale(self, raw)

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """All steps of CQL, then the critics' of SAC."""
        method = SAC if options.online else CQL
        return method.update(self, state, batch, draws, coefficients, options)

    def delayed(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """SAC's steps of actor and temperature, on the rows of G updates."""
        dims = batch.batch_dims
        observation_BO = as_one(batch["observation"], dims)
        rows = TensorDict({"observation": observation_BO}, observation_BO.shape[:-1])
        noise_BA = as_one(draws["policy_noise"], dims)
        return SAC.delayed(self, state, rows, {"policy_noise": noise_BA}, coefficients, options)
