"""A method of one's own: TD3+BC whose target is lower where the critics disagree."""

from typing import Any

import torch
from tensordict import TensorDict

from adabc_lightning.agent.losses import td_target
from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.agent.networks import policy, q_values
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.update import smoothed, step_critics


class CautiousTD3BC(TD3BC):
    """The target is the mean of all target critics minus ``caution`` standard deviations.

    Args:
        caution: in standard deviations over the ensemble.
        options: of TD3BC.
    """

    metrics = ("q/caution",)  # a column of metrics.csv
    stacks = True  # replicas stand in front, [R, …], and no reduction below crosses them

    def __init__(self, caution: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.caution = caution

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves every critic towards it."""
        actor, critics = state["actor"], state["critics"]
        low, high = options.action_low, options.action_high
        with torch.no_grad():
            action_BA = policy(batch["next_observation"], actor.target, low, high)
            action_BA = smoothed(action_BA, draws, self, options)
            q_NB = q_values(
                batch["next_observation"], action_BA, critics.target, options.critic_norm
            )
            lower_B = self.caution * q_NB.std(-2)
            target_B = td_target(
                batch["reward"],
                batch["terminated"],
                (q_NB.mean(-2) - lower_B).unsqueeze(-2),
                options.gamma,
            )
        metrics = step_critics(critics, batch, target_B, options)
        return {**metrics, "q/caution": lower_B.mean(-1)}
