"""Soft actor-critic with an ensemble of critics (Haarnoja et al. 2018, Chen et al. 2021)."""

from collections.abc import Sequence
from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.gaussian import (
    GaussianOptions,
    SquashedActor,
    mean_and_log_std,
    sample,
    scaled,
)
from adabc_lightning.agent.initialisation import Initialisation, xavier
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.networks import q_values
from adabc_lightning.agent.state import (
    AgentState,
    Coefficients,
    Draws,
    Metrics,
    Part,
    UpdateOptions,
)
from adabc_lightning.agent.temperature import LogScalar, SoftplusScalar, temperature_loss
from adabc_lightning.agent.update import (
    ensemble_target,
    frozen,
    gradient_step,
    polyak_update,
    step_critics,
)
from adabc_lightning.run.types import NonNegative, Real, declared


@declared("model.method")
class SAC(Method):
    """The base of RLPD, CQL, Cal-QL and WSRL; α, the weight of cloning, has no part in it.

    Every update moves the critics and their targets; the delayed steps move the actor and the
    temperature. Neither has a target network.

    Args:
        actor_learning_rate: of the Adams of actor and temperature; None for
            ``model.learning_rate``, which is the critics'.
        entropy_per_action: H̄ per action dimension, in nats of an action in action limits; −1 in
            SAC, −0.5 in RLPD.
        backup_entropy: whether the target's value has the entropy of a′ in it.
        actor_value: what the actor climbs: ``"minimum"`` or ``"mean"`` of all critics.
    Raises: UserError: a value outside its range.
    """

    stacks = True
    metrics: Sequence[str] = ("temperature/value", "temperature/entropy")
    initialise: Initialisation = staticmethod(xavier)
    gaussian = GaussianOptions()
    """Of the policy."""
    entropy_weight: type[LogScalar] | type[SoftplusScalar] = LogScalar

    def __init__(
        self,
        actor_learning_rate: NonNegative | None = None,
        entropy_per_action: Real = -1.0,
        backup_entropy: bool = True,
        actor_value: Literal["minimum", "mean"] = "minimum",
    ) -> None:
        self.actor_learning_rate, self.entropy_per_action = actor_learning_rate, entropy_per_action
        self.backup_entropy, self.actor_value = backup_entropy, actor_value

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Actor, critics with a target, temperature."""
        rate, spec = self.actor_learning_rate, shape.spec
        rate = shape.learning_rate if rate is None else rate
        actor = SquashedActor(
            spec.observation_size,
            spec.action_low,
            spec.action_high,
            shape.actor_hidden_sizes,
            self.initialise,
            self.gaussian,
        )
        critics = Trained(shape.critics(self.initialise), shape.learning_rate, target=True)
        return {
            "actor": Trained(actor, rate, shape.actor_weight_decay),
            "critics": critics,
            "temperature": Trained(self.entropy_weight(), rate),
        }

    def some(self, random: Random, count: int, of: int) -> Tensor:
        """``count`` critics of so many, ``[G, count]``."""
        return random.subset(count, of)

    def draw(self, random: Random, shape: Shape) -> Draws:
        """Noise of the target's action and of the policy's, and the critics of the target."""
        return {
            "target_noise": random.normal(),
            "policy_noise": random.normal(),
            "subset": self.some(random, shape.subset_size, shape.num_critics),
        }

    def act(
        self, actor: Weights, observation_BO: Tensor, noise_BA: Tensor, options: UpdateOptions
    ) -> tuple[Tensor, Tensor]:
        """One action of the policy for each observation, ``[B, A]``, and its log π, ``[B]``."""
        mean_BA, log_std_BA = mean_and_log_std(observation_BO, actor, self.gaussian)
        unit_BA, log_prob_B = sample(mean_BA, log_std_BA, noise_BA, options.free_actions)
        return scaled(unit_BA, options.action_low, options.action_high), log_prob_B

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves every critic towards the shared target, then the targets."""
        critics = state["critics"]
        with torch.no_grad():
            next_action_BA, log_prob_B = self.act(
                state["actor"].weights, batch["next_observation"], draws["target_noise"], options
            )
        target_B = ensemble_target(critics, batch, next_action_BA, draws["subset"], options)
        target_B = self.with_entropy(target_B, log_prob_B, state, batch, options)
        metrics = step_critics(critics, batch, target_B, options)
        polyak_update(critics, options)
        return metrics

    @torch.no_grad()
    def with_entropy(
        self,
        target_B: Tensor,
        log_prob_B: Tensor,
        state: AgentState,
        batch: TensorDict,
        options: UpdateOptions,
    ) -> Tensor:
        """The target y − γ (1 − d) α log π(a′|s′), ``[B]``; y itself without ``backup_entropy``."""
        if not self.backup_entropy:
            return target_B
        alpha = self.entropy_weight.value(*state["temperature"].weights)
        return target_B - options.gamma * (1 - batch["terminated"]) * alpha * log_prob_B

    def delayed(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves the actor up the critics' value and its entropy, then the temperature."""
        metrics, entropy = self.step_actor(state, batch, draws, options)
        return metrics | self.step_temperature(state["temperature"], entropy, options)

    def step_actor(
        self, state: AgentState, batch: TensorDict, draws: Draws, options: UpdateOptions
    ) -> tuple[Metrics, Tensor]:
        """The actor's step down α log π − Q; its metrics, and the entropy −mean log π of before."""
        actor, critics = state["actor"], state["critics"]
        alpha = self.entropy_weight.value(*frozen(state["temperature"].weights))
        observation_BO = batch["observation"]
        action_BA, log_prob_B = self.act(
            actor.weights, observation_BO, draws["policy_noise"], options
        )
        weights = frozen(critics.weights)
        q_NB = q_values(observation_BO, action_BA, weights, options.critic_norm)
        value_B = q_NB.mean(-2) if self.actor_value == "mean" else q_NB.amin(-2)
        loss = (alpha * log_prob_B - value_B).mean(-1)
        metrics = {"loss/actor": loss.detach(), "q/policy": value_B.detach().mean(-1)}
        return gradient_step(actor, loss, metrics, options), -log_prob_B.detach().mean(-1)

    def step_temperature(self, part: Part, entropy: Tensor, options: UpdateOptions) -> Metrics:
        """The temperature's step towards the wanted entropy.

        Args:
            part: the temperature's.
            entropy: of the policy as it was, a scalar (``[R]`` of replicas), nats.
            options: the update's constants.
        Returns: temperature and entropy, of the same shape, both of before the step.
        """
        value = self.entropy_weight.value(*part.weights)
        wanted = self.entropy_per_action * options.free_count  # H̄ in nats
        loss = temperature_loss(self.entropy_scale(*part.weights), entropy, wanted)
        alpha = value.detach().squeeze(-1)
        measured = {"temperature/value": alpha, "temperature/entropy": entropy}
        return gradient_step(part, loss, measured, options)

    def entropy_scale(self, raw: Tensor) -> Tensor:
        """What the temperature's loss multiplies, ``[1]``: α itself."""
        return self.entropy_weight.value(raw)
