"""ReBRAC (Tarasov et al. 2023): TD3+BC with a penalty on actor and critic, each with its weight."""

import torch
from tensordict import TensorDict

from adabc_lightning.agent.constraints import penalised_actor_loss, squared_distance
from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.initialisation import uniform_end
from adabc_lightning.agent.losses import behavior_cloning, minimum, td_target
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.networks import policy, q_values
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.update import (
    frozen,
    gradient_step,
    mean_abs,
    members,
    polyak_update,
    smoothed,
    step_critics,
)
from adabc_lightning.run.types import Fraction, Limit, NonNegative, Positive, declared


@declared("model.method")
class ReBRAC(Method):
    """As its authors' code, fine-tuning included; the critics' LayerNorm is ``model.critic_norm``.

    The target of the critics loses β₂ times the squared distance of a′ from the action that
    followed in the data, where one is known; the actor has β₁ times that of π(s) from a, both
    summed over the action dimensions in action limits, and the smallest of all critics. Fine-tuning
    lets β₁ fall linearly to a floor and takes another β₂. The actor's target follows the actor from
    before its step. Adam goes on as it is at the hand-over. α has no part in it.

    Args:
        actor_weight: β₁.
        actor_weight_end: floor of its decay in fine-tuning, a share of β₁; 1 for a β₁ that stays.
        decay_updates: gradient updates of fine-tuning after which a decay without a floor would
            end at 0; None for all that the schedule has.
        critic_weight: β₂ in pre-training, units of Q.
        critic_weight_online: β₂ in fine-tuning.
        target_noise, target_noise_clip: σ_policy and its clip, in action limits.
    Raises: UserError: a value outside its range.
    """

    stacks = True
    columns = ("next_action",)

    def __init__(
        self,
        actor_weight: NonNegative = 0.01,
        actor_weight_end: Fraction = 0.5,
        decay_updates: Positive | None = None,
        critic_weight: NonNegative = 0.01,
        critic_weight_online: NonNegative = 0.0,
        target_noise: NonNegative = 0.2,
        target_noise_clip: Limit = 0.5,
    ) -> None:
        self.actor_weight, self.actor_weight_end = actor_weight, actor_weight_end
        self.decay_updates = decay_updates
        self.critic_weight, self.critic_weight_online = critic_weight, critic_weight_online
        self.target_noise, self.target_noise_clip = target_noise, target_noise_clip

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Actor and critics, each with a target; hidden biases start at 0.1."""
        rate, decay = shape.learning_rate, shape.actor_weight_decay
        actor = shape.actor(None, uniform_end(1e-3, hidden_bias=0.1))
        return {
            "actor": Trained(actor, rate, decay, target=True),
            "critics": Trained(
                shape.critics(uniform_end(3e-3, hidden_bias=0.1)), rate, target=True
            ),
        }

    def draw(self, random: Random, shape: Shape) -> Draws:
        """Noise of the target's action, and the critics drawn for the target."""
        return {
            "target_noise": random.normal(),
            "subset": random.subset(shape.subset_size, shape.num_critics),
        }

    def coefficients_at(self, online_updates: int | None, planned: int) -> dict[str, float]:
        """β₁ and β₂; t updates after the hand-over β₁ · max(floor, 1 − t/T)."""
        if online_updates is None:
            return {"actor_weight": self.actor_weight, "critic_weight": self.critic_weight}
        over = self.decay_updates or max(1, planned)
        left = max(self.actor_weight_end, 1 - online_updates / over)
        return {
            "actor_weight": self.actor_weight * left,
            "critic_weight": self.critic_weight_online,
        }

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves every critic towards the shared target, less β₂ times the distance of a′."""
        actor, critics = state["actor"], state["critics"]
        assert actor.target is not None
        assert critics.target is not None
        low, high = options.action_low, options.action_high
        next_observation_BO = batch["next_observation"]
        with torch.no_grad():
            next_action_BA = smoothed(
                policy(next_observation_BO, actor.target, low, high), draws, self, options
            )
            limit_A = options.limit_A
            distance_B = squared_distance(next_action_BA / limit_A, batch["next_action"] / limit_A)
            # Of each replica, where there are some.
            weight = coefficients["critic_weight"].unsqueeze(-1)
            penalty_B = weight * batch["next_action_known"] * distance_B
            drawn = members(critics.target, draws["subset"])
            norm = options.critic_norm
            next_q_MB = q_values(next_observation_BO, next_action_BA, drawn, norm)
            target_B = td_target(
                batch["reward"],
                batch["terminated"],
                next_q_MB - penalty_B.unsqueeze(-2),
                options.gamma,
                options.target_rule,
            )
        return step_critics(critics, batch, target_B, options)

    def delayed(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """The targets take a step, the actor's towards the actor as it is; then moves the actor."""
        actor, critics = state["actor"], state["critics"]
        polyak_update(actor, options)
        polyak_update(critics, options)
        observation_BO, action_BA = batch["observation"], batch["action"]
        low, high = options.action_low, options.action_high
        policy_action_BA = policy(observation_BO, actor.weights, low, high)
        weights = frozen(critics.weights)
        q_B = minimum(q_values(observation_BO, policy_action_BA, weights, options.critic_norm))
        limit_A = options.limit_A
        unit_BA, policy_unit_BA = action_BA / limit_A, policy_action_BA / limit_A
        distance_B = squared_distance(policy_unit_BA, unit_BA)
        loss = penalised_actor_loss(
            q_B, mean_abs(q_B, options), distance_B, coefficients["actor_weight"]
        )
        metrics = {
            "loss/actor": loss.detach(),
            "loss/behavior_cloning": behavior_cloning(
                policy_unit_BA.detach(), unit_BA, options.free_actions
            ),
            "q/policy": q_B.detach().mean(-1),
        }
        return gradient_step(actor, loss, metrics, options)
