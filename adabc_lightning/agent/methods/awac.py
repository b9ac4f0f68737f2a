"""Advantage-weighted actor-critic (Nair et al. 2020)."""

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.initialisation import orthogonal
from adabc_lightning.agent.losses import (
    advantage_weighted_loss,
    behavior_cloning,
    gaussian_log_prob,
    share_of_softmax,
)
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.networks import policy, q_values
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.update import ensemble_target, gradient_step, polyak_update, step_critics
from adabc_lightning.run.types import AboveZero, declared

_LOG_STD_RANGE = -10.0, 2.0  # jaxrl's


@declared("model.method")
class AWAC(Method):
    """As the JAX implementation that the paper ran (jaxrl); α has no part in it.

    A Gaussian around a tanh mean whose standard deviation does not depend on the state, the
    current policy (no target network) for a′, one sampled action for the state's value. Sampled
    actions are clipped to the action range, as the environment does with them.

    Args:
        beta: temperature of the advantage weights, units of Q.
    Raises: UserError: a value outside its range.
    """

    stacks = True

    def __init__(self, beta: AboveZero = 2.0) -> None:
        self.beta = beta

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Actor, and critics with a target."""
        rate, decay = shape.learning_rate, shape.actor_weight_decay
        return {
            "actor": Trained(shape.actor(_LOG_STD_RANGE, orthogonal), rate, decay),
            "critics": Trained(shape.critics(orthogonal), rate, target=True),
        }

    def draw(self, random: Random, shape: Shape) -> Draws:
        """Noise of the target's action and of the sampled one, and the critics of the target."""
        return {
            "target_noise": random.normal(),
            "policy_noise": random.normal(),
            "subset": random.subset(shape.subset_size, shape.num_critics),
        }

    def exploration_scale(self, actor: Weights) -> Tensor:
        """The policy's own standard deviation."""
        return actor[-1].detach().clamp(*_LOG_STD_RANGE).exp()

    def sample(
        self, actor: Weights, observation_BO: Tensor, noise_BA: Tensor, options: UpdateOptions
    ) -> Tensor:
        """One action of the policy for each observation, ``[B, A]``, clipped to the range."""
        low, high = options.action_low, options.action_high
        mean_BA = policy(observation_BO, actor[:-1], low, high)
        std_A = self.exploration_scale(actor).unsqueeze(-2) * (high - low) / 2
        return torch.minimum(torch.maximum(mean_BA + std_A * noise_BA, low), high)

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves every critic towards the shared target, of a sample of the current policy."""
        with torch.no_grad():
            next_action_BA = self.sample(
                state["actor"].weights, batch["next_observation"], draws["target_noise"], options
            )
        critics = state["critics"]
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
        """Moves the actor towards the data's actions, weighted by their advantage; the target."""
        actor, critics = state["actor"], state["critics"]
        observation_BO, action_BA = batch["observation"], batch["action"]
        low, high = options.action_low, options.action_high
        with torch.no_grad():
            sampled_BA = self.sample(actor.weights, observation_BO, draws["policy_noise"], options)
            weights, norm = critics.weights, options.critic_norm
            value_B = options.target_rule(q_values(observation_BO, sampled_BA, weights, norm))
            q_B = options.target_rule(q_values(observation_BO, action_BA, weights, norm))
        mean_BA = policy(observation_BO, actor.weights[:-1], low, high)
        limit_A, middle_A = options.limit_A, (high + low) / 2
        # In action limits, so that the likelihood does not depend on the action's unit.
        unit_BA, mean_unit_BA = (action_BA - middle_A) / limit_A, (mean_BA - middle_A) / limit_A
        log_std_A, free_A = actor.weights[-1].clamp(*_LOG_STD_RANGE), options.free_actions
        log_prob_B = gaussian_log_prob(unit_BA, mean_unit_BA, log_std_A, free_A)
        advantage_B = q_B - value_B
        loss = advantage_weighted_loss(log_prob_B, advantage_B, self.beta)
        if options.average is not None:
            loss = share_of_softmax(advantage_B / self.beta, options.average) * loss
        metrics = {
            "loss/actor": loss.detach(),
            "loss/behavior_cloning": behavior_cloning(mean_unit_BA.detach(), unit_BA, free_A),
            "q/policy": value_B.mean(-1),
        }
        metrics = gradient_step(actor, loss, metrics, options)
        polyak_update(critics, options)
        return metrics
