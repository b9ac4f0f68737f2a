"""The training step: what G updates need, an engine that makes them, what is counted."""

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.acting import ActingAgent
from adabc_lightning.agent.contract import check_draws, check_follows
from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.engines import Eager, Engine, Work
from adabc_lightning.agent.method import Method, Shape
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, UpdateOptions
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.seeding import torch_generator
from adabc_lightning.run.transfer import sent


class Learning(ActingAgent):
    """An agent that learns from batches of transitions.

    Args:
        method, shape, seed: see :class:`~adabc_lightning.agent.parts.Parts`.
        policy_delay: see :class:`~adabc_lightning.agent.module.OffToOnModule`.
        alpha: what that coefficient is at first.
        constants: those of :class:`~adabc_lightning.agent.state.UpdateOptions` that a run's config
            says, by name.
    """

    alpha: Tensor

    def __init__(
        self,
        method: Method,
        shape: Shape,
        seed: int,
        policy_delay: int,
        alpha: float,
        constants: Mapping[str, Any],
    ) -> None:
        super().__init__(method, shape, seed)
        self.automatic_optimization = False
        self.policy_delay, self.constants = policy_delay, constants
        free_A = self.actor.action_low < self.actor.action_high
        self._fixed_count = int((~free_A).sum())
        self._free_actions: Tensor | None
        self.register_buffer("_free_actions", None if free_A.all() else free_A, persistent=False)
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        first = method.coefficients_at(None, 0)
        for name, value in first.items():
            self.register_buffer(name, torch.tensor(float(value)))
        self._coefficient_names = ("alpha", *first)
        self.online = False
        self.gradient_updates = self.online_updates = self.planned_updates = 0
        self.generator = torch_generator(seed, "updates")
        # What for: G, B, and whether online; the generator's state before; the draws.
        self._ahead: tuple[tuple[int, int, bool], Tensor, Draws] | None = None
        self.running_engine: Engine = Eager()
        """What makes the updates, from the start of a fit on; another one may take its place."""
        self._ranks = Ranks()
        # Cached between training steps: the tensors stay, their contents change. Collecting them
        # takes as long as two environment steps.
        self._state: AgentState | None = None
        self._options: UpdateOptions | None = None

    def training_step(self, batch: TensorDict, batch_idx: int) -> None:
        """One gradient update per slice of a ``[G, B]`` batch, in order.

        The optimisers are stepped inside :mod:`adabc_lightning.agent.update`, so Lightning's
        ``global_step`` stays 0; ``gradient_updates`` is the counter that everything keys on.
        """
        if not batch.batch_size[0]:  # G = 0: collect only
            return
        if self._state is None:
            self._state = self.agent_state()
        work = self.work(batch, self._state)
        self.running_engine(work, self.add_metrics)
        self.count(len(work.delayed_after))
        if self.device.type == "cuda":
            self.draw_ahead(*batch.batch_size)

    def work(self, batch: TensorDict, state: AgentState) -> Work:
        """What the updates on a batch ``[G, B]`` need; their random numbers are drawn here."""
        num_updates, batch_size = batch.batch_size
        (share,) = self._ranks.average([batch["online"].mean()])
        self.add_metrics({"online/fraction": share})
        return Work(
            self.method,
            state,
            batch,
            self._drawn(num_updates, batch_size),
            self.coefficients,
            self._update_options(),
            self._delayed_after(num_updates),
        )

    def draw_ahead(self, updates: int, batch_size: int) -> None:
        """The draws of another step such as the last, which a GPU is still at work on.

        Args:
            updates: G.
            batch_size: B, of this rank.
        """
        step, before = (updates, batch_size, self.online), self.generator.get_state()
        self._ahead = step, before, self._draw(updates, batch_size)

    def _drawn(self, updates: int, batch_size: int) -> Draws:
        if self._ahead is not None:
            step, before, draws = self._ahead
            self._ahead = None
            if step == (updates, batch_size, self.online):
                return draws
            self.generator.set_state(before)
        return self._draw(updates, batch_size)

    @property
    def generator_state(self) -> Tensor:
        """Of the generator ``[bytes]``, without the draws of steps to come."""
        return self.generator.get_state() if self._ahead is None else self._ahead[1]

    @generator_state.setter
    def generator_state(self, state: Tensor) -> None:
        self._ahead = None
        self.generator.set_state(state)

    def _draw(self, updates: int, batch_size: int) -> Draws:
        random = Random(
            self.generator,
            updates,
            batch_size,
            self.shape.spec.action_size,
            self._ranks.rank,
            self._ranks.count,
            self.online,
        )
        drawn = self.method.draw(random, self.shape)
        check_draws(drawn, updates, self.method)
        return {name: sent(numbers, self.device) for name, numbers in drawn.items()}

    def _update_options(self) -> UpdateOptions:
        options = self._options
        if options is None or options.online != self.online:
            options = self._options = UpdateOptions(
                **self.constants,
                action_low=self.actor.action_low,
                action_high=self.actor.action_high,
                free_actions=self._free_actions,
                fixed_count=self._fixed_count,
                online=self.online,
                average=self._ranks.average if self._ranks.count > 1 else None,
            )
        return options

    def _delayed_after(self, count: int) -> tuple[bool | None, ...]:
        """What follows each of the next updates; see :attr:`Work.delayed_after`."""
        done, method = self.gradient_updates, self.method
        steps = self._ranks.count if self.online else 1  # environment steps, asked one by one
        each = count // steps
        follows: tuple[bool, ...] = ()
        for first in range(done + 1, done + 1 + count, each):
            answers = tuple(method.delayed_after(first, each, self.policy_delay, self.online))
            check_follows(answers, each, method)
            follows += answers
        preparing = 0 if self.online else min(count, max(0, method.preparation - done))
        return (None,) * preparing + follows[preparing:]

    def count(self, updates: int) -> None:
        """Takes note of updates that were made."""
        self.gradient_updates += updates
        if self.online:
            self.online_updates += updates
        self._set_coefficients()

    def hand_over(self) -> None:
        """From now on it learns from its environment as well."""
        self.online = True
        self._set_coefficients()

    def _set_coefficients(self) -> None:
        """Sets the method's own coefficients to what they are at this point of the run."""
        online_updates = self.online_updates if self.online else None
        now = self.method.coefficients_at(online_updates, self.planned_updates)
        for name, value in now.items():
            self.get_buffer(name).fill_(value)

    @property
    def coefficients(self) -> Coefficients:
        """The live scalars that updates read."""
        return {name: getattr(self, name) for name in self._coefficient_names}
