"""TD3+BC with an ensemble of critics: REDQ+AdaptiveBC, TD3+BC, TD3, REDQ, and what lies between."""

from typing import Literal

import torch
from tensordict import TensorDict

from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.losses import actor_loss, behavior_cloning
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.networks import policy, q_values
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.update import (
    ensemble_target,
    frozen,
    gradient_step,
    mean_abs,
    polyak_update,
    smoothed,
    step_critics,
)
from adabc_lightning.run.types import Limit, NonNegative, declared


@declared("model.method")
class TD3BC(Method):
    """Deterministic policy, value of all critics plus α times behaviour cloning (Eqs. 1, 3, 4).

    Args:
        target_noise, target_noise_clip: σ_policy and its clip, in action limits.
        normalizer: what divides Q: ``"policy"``, mean|Q(s, π(s))| (authors' code), or
            ``"data"``, mean|Q(s, a)| (paper, Eq. 1).
    Raises: UserError: a value outside its range.
    """

    uses_alpha = True
    stacks = True

    def __init__(
        self,
        target_noise: NonNegative = 0.2,
        target_noise_clip: Limit = 0.5,
        normalizer: Literal["policy", "data"] = "policy",
    ) -> None:
        self.target_noise, self.target_noise_clip = target_noise, target_noise_clip
        self.normalizer = normalizer

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Actor and critics, each with a target."""
        rate, decay = shape.learning_rate, shape.actor_weight_decay
        return {
            "actor": Trained(shape.actor(), rate, decay, target=True),
            "critics": Trained(shape.critics(), rate, target=True),
        }

    def draw(self, random: Random, shape: Shape) -> Draws:
        """Noise of the target's action, and the critics drawn for the target."""
        return {
            "target_noise": random.normal(),
            "subset": random.subset(shape.subset_size, shape.num_critics),
        }

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves every critic towards the shared target of Eq. 3, with a smoothed target action."""
        actor, critics = state["actor"], state["critics"]
        assert actor.target is not None
        low, high = options.action_low, options.action_high
        with torch.no_grad():
            target_action_BA = policy(batch["next_observation"], actor.target, low, high)
            next_action_BA = smoothed(target_action_BA, draws, self, options)
        target_B = ensemble_target(critics, batch, next_action_BA, draws["subset"], options)
        return step_critics(critics, batch, target_B, options)

    def delayed(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves the actor down Eq. 4 (Eq. 1 with an ensemble), then both targets."""
        actor, critics = state["actor"], state["critics"]
        observation_BO, action_BA = batch["observation"], batch["action"]
        policy_action_BA = policy(
            observation_BO, actor.weights, options.action_low, options.action_high
        )
        weights, norm = frozen(critics.weights), options.critic_norm
        q_NB = q_values(observation_BO, policy_action_BA, weights, norm)
        if self.normalizer == "policy":
            normalizer_q_NB = q_NB
        else:
            normalizer_q_NB = q_values(observation_BO, action_BA, weights, norm)
        normalizer = mean_abs(normalizer_q_NB.detach().mean(-2), options)
        # In action limits, so that α weighs the same whatever unit an environment's actions have.
        unit_BA, policy_unit_BA = action_BA / options.limit_A, policy_action_BA / options.limit_A
        free_A = options.free_actions
        alpha = coefficients["alpha"]
        loss = actor_loss(q_NB, normalizer, policy_unit_BA, unit_BA, alpha, free_A)
        metrics = {
            "loss/actor": loss.detach(),
            "loss/behavior_cloning": behavior_cloning(policy_unit_BA.detach(), unit_BA, free_A),
            "q/policy": q_NB.detach().mean((-2, -1)),
        }
        metrics = gradient_step(actor, loss, metrics, options)
        polyak_update(actor, options)
        polyak_update(critics, options)
        return metrics
