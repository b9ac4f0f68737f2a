"""Supported policy optimisation (Wu et al. 2022): TD3 whose actions a VAE must find probable."""

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.constraints import penalised_actor_loss
from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.initialisation import uniform, uniform_end
from adabc_lightning.agent.losses import behavior_cloning
from adabc_lightning.agent.method import Method, Shape, Trained
from adabc_lightning.agent.mlp import Weights, dropped_mlp, mlp
from adabc_lightning.agent.networks import q_values
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.update import (
    ensemble_target,
    first_member,
    frozen,
    gradient_step,
    mean_abs,
    polyak_update,
    smoothed,
    step_critics,
)
from adabc_lightning.agent.vae import VAE, action_penalty
from adabc_lightning.run.types import (
    Count,
    Fraction,
    Limit,
    NonNegative,
    Positive,
    Share,
    declared,
)


@declared("model.method")
class SPOT(Method):
    """As its authors' code: the first updates train the VAE alone, then it never changes again.

    After them TD3, its actor by the first critic, minus λ times how improbable the VAE finds the
    policy's action. Fine-tuning cools λ linearly down to a floor. Adam goes on as it is at the
    hand-over. α has no part in it.

    Args:
        weight: λ.
        weight_end: floor of the cooling, a share of λ; 1 for a λ that stays.
        cooling_updates: gradient updates of fine-tuning after which a cooling without a floor
            would end at 0; None for all that the schedule has.
        vae_updates: so many first updates of pre-training are the VAE's; each with a batch of
            ``data.batch_size``.
        vae_learning_rate: of its Adam.
        vae_beta: weight of its divergence, in its training and in the penalty.
        vae_width: units of each of the two hidden layers of its encoder and its decoder.
        dropout: probability with which a hidden unit of the actor and of its target is dropped
            in updates, never while acting.
        actor_learning_rate: of the actor's Adam; None for ``model.learning_rate``.
        small_end: whether the last layers start as small as ±1e-3 (actor) and ±3e-3 (critics).
        target_noise, target_noise_clip: σ_policy and its clip, in action limits.
    Raises: UserError: a value outside its range.
    """

    stacks = True
    metrics = ("loss/support", "loss/vae")

    def __init__(
        self,
        weight: NonNegative = 0.1,
        weight_end: Fraction = 0.2,
        cooling_updates: Positive | None = None,
        vae_updates: Count = 100_000,
        vae_learning_rate: NonNegative = 1e-3,
        vae_beta: NonNegative = 0.5,
        vae_width: Positive = 750,
        dropout: Share = 0.1,
        actor_learning_rate: NonNegative | None = None,
        small_end: bool = False,
        target_noise: NonNegative = 0.2,
        target_noise_clip: Limit = 0.5,
    ) -> None:
        self.weight, self.weight_end, self.cooling_updates = weight, weight_end, cooling_updates
        self.preparation = vae_updates
        self.vae_learning_rate, self.vae_beta, self.vae_width = (
            vae_learning_rate,
            vae_beta,
            vae_width,
        )
        self.dropout, self.small_end = dropout, small_end
        self.actor_learning_rate = actor_learning_rate
        self.target_noise, self.target_noise_clip = target_noise, target_noise_clip

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Actor and critics, each with a target, and the VAE; its latent size is 2 A."""
        rate = shape.learning_rate
        actor_rate = rate if self.actor_learning_rate is None else self.actor_learning_rate
        actor = shape.actor(None, uniform_end(1e-3) if self.small_end else uniform)
        critics = shape.critics(uniform_end(3e-3) if self.small_end else uniform)
        sizes = shape.spec.observation_size, shape.spec.action_size
        vae = VAE(*sizes, 2 * shape.spec.action_size, self.vae_width)
        return {
            "actor": Trained(actor, actor_rate, shape.actor_weight_decay, target=True),
            "critics": Trained(critics, rate, target=True),
            "vae": Trained(vae, self.vae_learning_rate),
        }

    def draw(self, random: Random, shape: Shape) -> Draws:
        """Noise of the target's action and of the latent, drawn critics, units that are kept."""
        draws = {
            "target_noise": random.normal(),
            "latent_noise": random.normal(2 * shape.spec.action_size),
            "subset": random.subset(shape.subset_size, shape.num_critics),
        }
        if self.dropout:
            units = sum(shape.actor_hidden_sizes)
            draws["kept"] = random.kept(self.dropout, units)
            draws["target_kept"] = random.kept(self.dropout, units)
        return draws

    def coefficients_at(self, online_updates: int | None, planned: int) -> dict[str, float]:
        """λ_t = λ · max(floor, 1 − t/T), t updates after the hand-over; before it λ."""
        left = 1 - (online_updates or 0) / (self.cooling_updates or max(1, planned))
        return {"support_weight": self.weight * max(self.weight_end, left)}

    def _act(
        self,
        observation_BO: Tensor,
        weights: Weights,
        draws: Draws,
        kept: str,
        options: UpdateOptions,
    ) -> Tensor:
        """The policy's action in action limits, with the dropout of updates."""
        if self.dropout:
            unit_BA = torch.tanh(dropped_mlp(observation_BO, weights, draws[kept]))
        else:
            unit_BA = torch.tanh(mlp(observation_BO, weights))
        free_A = options.free_actions  # a fixed one is 0, as the data's
        return unit_BA if free_A is None else torch.where(free_A, unit_BA, 0)

    def prepare(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves the VAE towards the data's actions."""
        vae = state["vae"]
        middle_A = (options.action_high + options.action_low) / 2
        unit_BA = (batch["action"] - middle_A) / options.limit_A
        loss = action_penalty(
            batch["observation"], unit_BA, draws["latent_noise"], vae.weights, self.vae_beta
        ).mean(-1)
        return gradient_step(vae, loss, {"loss/vae": loss.detach()}, options)

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves every critic towards the shared target, with a smoothed target action."""
        actor, critics = state["actor"], state["critics"]
        assert actor.target is not None
        low, high = options.action_low, options.action_high
        with torch.no_grad():
            unit_BA = self._act(
                batch["next_observation"], actor.target, draws, "target_kept", options
            )
            target_action_BA = unit_BA * (high - low) / 2 + (high + low) / 2
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
        """Moves the actor towards value and support, then both targets."""
        actor, critics = state["actor"], state["critics"]
        observation_BO = batch["observation"]
        low, high = options.action_low, options.action_high
        unit_BA = self._act(observation_BO, actor.weights, draws, "kept", options)
        action_BA = unit_BA * (high - low) / 2 + (high + low) / 2
        data_unit_BA = (batch["action"] - (high + low) / 2) / options.limit_A
        first = first_member(frozen(critics.weights))
        q_B = q_values(observation_BO, action_BA, first, options.critic_norm).squeeze(-2)
        penalty_B = action_penalty(
            observation_BO,
            unit_BA,
            draws["latent_noise"],
            frozen(state["vae"].weights),
            self.vae_beta,
        )
        loss = penalised_actor_loss(
            q_B, mean_abs(q_B, options), penalty_B, coefficients["support_weight"]
        )
        metrics = {
            "loss/actor": loss.detach(),
            "loss/behavior_cloning": behavior_cloning(
                unit_BA.detach(), data_unit_BA, options.free_actions
            ),
            "loss/support": penalty_B.detach().mean(-1),
            "q/policy": q_B.detach().mean(-1),
        }
        metrics = gradient_step(actor, loss, metrics, options)
        polyak_update(actor, options)
        polyak_update(critics, options)
        return metrics
