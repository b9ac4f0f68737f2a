"""Implicit Q-learning (Kostrikov et al. 2021)."""

from typing import Annotated

import torch
from pydantic import Field
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.constraints import expectile_loss, exponential_advantage_loss
from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.initialisation import orthogonal
from adabc_lightning.agent.losses import behavior_cloning, gaussian_log_prob, td_target
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.mlp import Weights, dropped_mlp, mlp
from adabc_lightning.agent.networks import q_values, state_values
from adabc_lightning.agent.state import (
    AgentState,
    Coefficients,
    Draws,
    Metrics,
    Part,
    UpdateOptions,
)
from adabc_lightning.agent.update import gradient_step, members, polyak_update, step_critics
from adabc_lightning.errors import UserError
from adabc_lightning.run.types import AboveZero, Real, Share, declared


@declared("model.method")
class IQL(Method):
    """As its authors' JAX code: no action that is not in the data is ever evaluated.

    V(s) is an expectile of the critics' target values of the data's actions, Q learns from
    r + γ V(s′), the policy imitates the data weighted by exp(β A): value, policy, critics, then the
    critics' target, in every update. A Gaussian around a tanh mean whose standard deviation does
    not depend on the state; samples act, the mean is evaluated. One learning rate for all, constant
    in both phases. α has no part in it.

    Args:
        beta: inverse temperature of the advantage weights, per unit of Q.
        expectile: of the value, in (0, 1); 0.5 is the mean.
        largest_weight: of an advantage.
        log_std_range: of the policy's log standard deviation, in action limits; it starts at 0.
        dropout: probability with which a hidden unit of the actor is dropped in the policy's
            loss, never while acting.
    Raises: UserError: a value outside its range.
    """

    stacks = True
    metrics = ("loss/value",)

    def __init__(
        self,
        beta: AboveZero = 3.0,
        expectile: Annotated[Real, Field(gt=0, lt=1)] = 0.7,
        largest_weight: AboveZero = 100.0,
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        dropout: Share = 0.0,
    ) -> None:
        if not -float("inf") < log_std_range[0] <= 0 <= log_std_range[1] < float("inf"):
            raise UserError(
                f"model.method.log_std_range is {list(log_std_range)}; it must hold 0, from which "
                "log σ starts"
            )
        self.beta, self.expectile, self.largest_weight = beta, expectile, largest_weight
        self.log_std_range, self.dropout = log_std_range, dropout

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Actor and value without a target, critics with one."""
        rate, decay = shape.learning_rate, shape.actor_weight_decay
        return {
            "actor": Trained(shape.actor(self.log_std_range, orthogonal), rate, decay),
            "critics": Trained(shape.critics(orthogonal), rate, target=True),
            "value": Trained(shape.value(orthogonal), rate),
        }

    def draw(self, random: Random, shape: Shape) -> Draws:
        """The critics drawn for the value, and which units of the actor are kept."""
        draws = {"subset": random.subset(shape.subset_size, shape.num_critics)}
        if self.dropout:
            draws["kept"] = random.kept(self.dropout, sum(shape.actor_hidden_sizes))
        return draws

    def exploration_scale(self, actor: Weights) -> Tensor:
        """The policy's own standard deviation."""
        return actor[-1].detach().clamp(*self.log_std_range).exp()

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves the value, the actor, every critic, and the critics' targets."""
        critics, value = state["critics"], state["value"]
        assert critics.target is not None
        observation_BO, action_BA = batch["observation"], batch["action"]
        drawn = members(critics.target, draws["subset"])
        q_B = options.target_rule(q_values(observation_BO, action_BA, drawn, options.critic_norm))
        advantage_B = q_B - state_values(observation_BO, value.weights)
        loss = expectile_loss(advantage_B, self.expectile)
        metrics = gradient_step(value, loss, {"loss/value": loss.detach()}, options)
        with torch.no_grad():  # the value that has just moved, of both states at once
            both_SO = torch.cat([observation_BO, batch["next_observation"]], -2)
            value_B, next_value_B = state_values(both_SO, value.weights).chunk(2, -1)
        metrics |= self._step_actor(state["actor"], batch, draws, q_B - value_B, options)
        target_B = td_target(
            batch["reward"], batch["terminated"], next_value_B.unsqueeze(-2), options.gamma
        )
        metrics |= step_critics(critics, batch, target_B, options)
        polyak_update(critics, options)
        return metrics

    def _step_actor(
        self,
        actor: Part,
        batch: TensorDict,
        draws: Draws,
        advantage_B: Tensor,
        options: UpdateOptions,
    ) -> Metrics:
        *layers, log_std_A = actor.weights
        observation_BO, action_BA = batch["observation"], batch["action"]
        if self.dropout:
            mean_BA = torch.tanh(dropped_mlp(observation_BO, tuple(layers), draws["kept"]))
        else:
            mean_BA = torch.tanh(mlp(observation_BO, tuple(layers)))
        middle_A = (options.action_high + options.action_low) / 2
        # In action limits, so that the likelihood does not depend on the action's unit.
        unit_BA, free_A = (action_BA - middle_A) / options.limit_A, options.free_actions
        log_std_A = log_std_A.clamp(*self.log_std_range)
        log_prob_B = gaussian_log_prob(unit_BA, mean_BA, log_std_A, free_A)
        loss = exponential_advantage_loss(log_prob_B, advantage_B, self.beta, self.largest_weight)
        metrics = {
            "loss/actor": loss.detach(),
            "loss/behavior_cloning": behavior_cloning(mean_BA.detach(), unit_BA, free_A),
        }
        return gradient_step(actor, loss, metrics, options)
