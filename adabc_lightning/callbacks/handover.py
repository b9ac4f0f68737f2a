"""How far the policy has left what its critics know: at the hand-over and at every evaluation."""

from typing import Annotated, Any

import numpy as np
import torch
from lightning import Trainer
from pydantic import Field
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.evaluation import Evaluation
from adabc_lightning.callbacks.lines import say
from adabc_lightning.callbacks.metrics import record
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.run.saved import Listing, Number, Saved, Text, tensor
from adabc_lightning.run.seeding import torch_generator
from adabc_lightning.run.trainer import find
from adabc_lightning.run.types import Positive, Real, declared

SATURATED = 0.99
"""From here on, in action limits, an action counts as saturated."""
NEAR = 0.01
"""No policy is nearer to the data than this, in action limits: it is what distances are compared
with where a log of constant or saturated actions is met exactly."""


@torch.no_grad()
def measure(
    agent: OffToOnModule, batch: TensorDict | None, visited_VO: Tensor | None
) -> dict[str, float]:
    """The diagnostics of an agent; nothing in it changes, and no random number is drawn.

    Args:
        agent: its actor, without noise, and its N critics.
        batch: ``[B]`` transitions; None where there are no data.
        visited_VO: states that the policy visited, as the environment gave them; None where it
            has not been run.
    Returns: of the batch ``q_gap``, mean Q of the policy's actions minus that of the data's, and
        ``disagreement_data`` and ``disagreement_policy``, the standard deviation over the critics
        for both kinds of actions, mean over the batch, all in units of Q; ``action_distance``, root
        mean square of π(s) − a in action limits, per dimension; ``saturated``, the share of the
        policy's actions at a limit; both without actions that are fixed. Of the visited states
        ``disagreement_online``, as ``disagreement_policy``.
    """
    values: dict[str, float] = {}
    low_A, high_A = agent.actor.action_low, agent.actor.action_high
    half_A, middle_A = (high_A - low_A) / 2, (high_A + low_A) / 2
    # What is fixed is 0 below, and its share of a mean is taken out: a factor of 1 without any.
    limit_A = torch.where(half_A > 0, half_A, torch.inf)
    share = len(half_A) / int((half_A > 0).sum())
    if batch is not None:
        observation_BO, action_BA = batch["observation"], batch["action"]
        policy_action_BA = agent.actor(observation_BO)
        data_q_NB = agent.critics(observation_BO, action_BA)
        policy_q_NB = agent.critics(observation_BO, policy_action_BA)
        distance_BA = (policy_action_BA - action_BA) / limit_A
        at_limit_BA = ((policy_action_BA - middle_A) / limit_A).abs() > SATURATED
        values = {
            "q_gap": float(policy_q_NB.mean() - data_q_NB.mean()),
            "action_distance": float((share * distance_BA.square().mean()).sqrt()),
            "disagreement_data": float(data_q_NB.std(0, correction=0).mean()),
            "disagreement_policy": float(policy_q_NB.std(0, correction=0).mean()),
            "saturated": share * float(at_limit_BA.float().mean()),
        }
    if visited_VO is not None:
        visited_VO = agent.actor.normalized(visited_VO)
        q_NV = agent.critics(visited_VO, agent.actor(visited_VO))
        values["disagreement_online"] = float(q_NV.std(0, correction=0).mean())
    return {f"diagnostics/{name}": value for name, value in values.items()}


class SavedDiagnostics(Saved):
    """See :meth:`HandoverDiagnostics.state_dict`."""

    smallest: Number | None
    visited: Annotated[Tensor, tensor(2, torch.float32)] | None
    warnings: Listing[Text]


@declared("diagnostics")
class HandoverDiagnostics(RunCallback):
    """Measures :func:`measure` and says one sentence when a collapse is to be expected.

    Data are the rows that the agent learns from: the dataset, at the hand-over the part of it that
    is kept, then the ring. Online states are those of the evaluation that was just made. What the
    sentence is worth: ``docs/diagnostics.md``.

    Place it after ``Evaluation`` and before ``Metrics``.

    Args:
        rows: transitions, and visited states, that are measured; drawn alike every time.
        distance_ratio: warns, once, when the action distance exceeds this times the smallest
            since the hand-over, or α is 0 there; None for never.
    Raises: UserError: a value outside its range.
    """

    before_rows = True

    def __init__(
        self,
        rows: Annotated[Positive, Field(le=1_000_000)] = 1024,
        distance_ratio: Annotated[Real, Field(gt=1)] | None = 1.1,
    ) -> None:
        self.rows, self.distance_ratio = rows, distance_ratio
        self.warnings: list[str] = []
        self._smallest: float | None = None
        self._visited_VO: Tensor | None = None

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """With the rows that are kept and the α that fine-tuning starts from."""
        assert data.trainer is not None
        if self._visited_VO is None:  # a run without pre-training has just been evaluated
            self._visited_VO = self._newest_states(data.trainer)
        values = self._measure(data, agent)
        record(data.trainer, values)
        self._smallest = values.get("diagnostics/action_distance")
        if self._smallest is None or agent.alpha > 0:
            return
        self._warn(
            data.trainer,
            agent,
            "α is 0 at the hand-over, so nothing holds the policy near the data any more: expect a "
            f"collapse{_whose(agent)} (docs/diagnostics.md); alpha.initial, up to alpha.ceiling, "
            "is the α to start from",
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measures what was just evaluated."""
        data = data_of(trainer)
        if not data.schedule.evaluation_due(pl_module.gradient_updates, data.env_steps):
            return
        self._visited_VO = self._newest_states(trainer)
        values = self._measure(data, pl_module)
        record(trainer, values)
        distance = values.get("diagnostics/action_distance")
        if self._smallest is None or distance is None:  # before the hand-over; without data
            return
        best = max(self._smallest, NEAR)
        if self.distance_ratio is not None and distance > self.distance_ratio * best:
            self._warn(
                trainer,
                pl_module,
                "the policy leaves the data: its actions are "
                f"{distance / best:.2f} times as far from them as at best since the "
                f"hand-over (environment step {data.env_steps:,}, α {pl_module.alpha.item():.3f}): "
                f"a collapse{_whose(pl_module)} may follow (docs/diagnostics.md); a larger α holds "
                "it back",
            )
        self._smallest = min(self._smallest, distance)

    def _measure(self, data: ReplayDataModule, agent: OffToOnModule) -> dict[str, float]:
        replay, kept = data.replay, data.kept
        batch = None
        if replay.total if kept is None else len(kept):
            # A generator of its own, anew each time: no other stream moves, none has to be saved.
            generator = torch_generator(data.seed, "diagnostics")
            if kept is None:
                rows = replay.some(self.rows, generator)
            else:
                index_B = torch.randint(len(kept), (self.rows,), generator=generator)
                rows = replay.rows[kept[index_B]]
            batch = data.layout.unpack(rows.to(agent.device))
        visited_VO = self._visited_VO
        return measure(agent, batch, None if visited_VO is None else visited_VO.to(agent.device))

    def _newest_states(self, trainer: Trainer) -> Tensor | None:
        """As many states of the newest evaluation, evenly spaced."""
        evaluation = find(trainer, Evaluation)
        if evaluation is None or not len(evaluation.visited):
            return None
        count = min(self.rows, len(evaluation.visited))
        index_V = np.linspace(0, len(evaluation.visited) - 1, count).astype(int)
        return torch.from_numpy(evaluation.visited[index_V].astype(np.float32))

    def _warn(self, trainer: Trainer, agent: OffToOnModule, text: str) -> None:
        # Of methods without α nothing is known.
        off = self.distance_ratio is None or not agent.method.uses_alpha
        if off or self.warnings:
            return
        self.warnings.append(text)
        say(trainer, f"warning: {text}")

    def state_dict(self) -> dict[str, Any]:
        """What the next measurement is compared with, and the states for that at the hand-over."""
        return {
            "smallest": self._smallest,
            "visited": self._visited_VO,
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._smallest, self._visited_VO = state_dict["smallest"], state_dict["visited"]
        self.warnings = list(state_dict["warnings"])


def _whose(agent: OffToOnModule) -> str:
    """Of two policies the one that acts in training falls, where another is deployed."""
    return " of the learner (not of what is deployed)" if "incumbent" in agent.parts else ""
