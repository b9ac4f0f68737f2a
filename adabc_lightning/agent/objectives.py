"""What a policy is and what it is trained for: the part of a method that is neither critic nor α.

An objective is stateless: a few pure functions of the actor's weights. A new one is a subclass,
named in YAML as ``model.objective.class_path``.
"""

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.losses import (
    actor_loss,
    advantage_weighted_loss,
    behavior_cloning,
    gaussian_log_prob,
    smoothed_action,
)
from adabc_lightning.agent.networks import Weights, policy, q_values
from adabc_lightning.errors import UserError

if TYPE_CHECKING:
    from adabc_lightning.agent.update import AgentState, UpdateOptions

LOG_STD_RANGE = -10.0, 2.0  # jaxrl's
_LIKELIHOOD_1 = -0.5 * math.log(2 * math.pi)  # log σ of a normal whose density at its mean is 1


class Objective(ABC):
    """The functions of an update that depend on the kind of policy."""

    gaussian = False
    """Whether the actor has a log standard deviation per action dimension, its last weight."""

    def exploration_scale(self, actor: Weights) -> Tensor | None:
        """Standard deviation of exploration ``[A]`` in action limits.

        None for ``data.exploration_noise``.
        """
        return None

    @abstractmethod
    def next_action(
        self,
        state: "AgentState",
        next_observation_BO: Tensor,
        noise_BA: Tensor,
        options: "UpdateOptions",
    ) -> Tensor:
        """a′ of the Bellman target, ``[B, A]``, within the action range; no gradient."""

    @abstractmethod
    def loss(
        self,
        state: "AgentState",
        batch: TensorDict,
        noise_BA: Tensor | None,
        alpha: Tensor,
        options: "UpdateOptions",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the actor descends.

        Args:
            state: the agent; gradients flow to ``state.actor`` alone.
            batch: ``[B]`` transitions.
            noise_BA: standard normal draws, None where the policy is deterministic.
            alpha: weight of the behaviour-cloning term, a scalar tensor.
            options: constants.
        Returns: the scalar loss, and ``loss/behavior_cloning`` and ``q/policy`` without gradient.
        """


class TD3BC(Objective):
    """Deterministic policy, value of all critics plus α times behaviour cloning (Eqs. 1 and 4).

    Args:
        target_noise, target_noise_clip: σ_policy and its clip, in action limits.
        normalizer: what divides Q: ``"policy"``, mean|Q(s, π(s))| (authors' code), or
            ``"data"``, mean|Q(s, a)| (paper, Eq. 1).
    Raises: UserError: a value outside its range.
    """

    def __init__(
        self,
        target_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        normalizer: str = "policy",
    ) -> None:
        if target_noise == float("inf"):
            raise UserError("model.target_noise is inf; it must be a number, 0 or more")
        for name, value in (("noise", target_noise), ("noise_clip", target_noise_clip)):
            if not 0 <= value <= float("inf"):  # also catches NaN
                raise UserError(f"model.target_{name} is {value}; it must be 0 or more")
        if normalizer not in ("policy", "data"):
            raise UserError(f"model.normalizer is {normalizer!r}; known: policy, data")
        self.target_noise, self.target_noise_clip = target_noise, target_noise_clip
        self.normalizer = normalizer

    def next_action(
        self,
        state: "AgentState",
        next_observation_BO: Tensor,
        noise_BA: Tensor,
        options: "UpdateOptions",
    ) -> Tensor:
        """Target policy smoothing (below Eq. 3)."""
        low, high = options.action_low, options.action_high
        action_BA = policy(next_observation_BO, state.actor_target, low, high)
        return smoothed_action(
            action_BA, noise_BA, self.target_noise, self.target_noise_clip, low, high
        )

    def loss(
        self,
        state: "AgentState",
        batch: TensorDict,
        noise_BA: Tensor | None,
        alpha: Tensor,
        options: "UpdateOptions",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 4 (Eq. 1 with an ensemble)."""
        observation_BO, action_BA = batch["observation"], batch["action"]
        critics = tuple(weight.detach() for weight in state.critics)
        policy_action_BA = policy(
            observation_BO, state.actor, options.action_low, options.action_high
        )
        q_NB = q_values(observation_BO, policy_action_BA, critics)
        if self.normalizer == "policy":
            normalizer_q_B = q_NB.detach().mean(-2)
        else:
            normalizer_q_B = q_values(observation_BO, action_BA, critics).mean(-2)
        if options.average is not None:  # mean|Q| of the whole batch, not of this process's part
            (mean,) = options.average([normalizer_q_B.abs().mean()])
            normalizer_q_B = mean.expand_as(normalizer_q_B)
        loss = actor_loss(q_NB, normalizer_q_B, policy_action_BA, action_BA, alpha)
        with torch.no_grad():
            distance = behavior_cloning(policy_action_BA, action_BA)
        return loss, {"loss/behavior_cloning": distance, "q/policy": q_NB.detach().mean((-2, -1))}


class AWAC(Objective):
    """Advantage-weighted actor-critic (Nair et al. 2020); α has no part in it.

    As the JAX implementation that the paper ran (jaxrl): a Gaussian around a tanh mean whose
    standard deviation does not depend on the state, the current policy (no target network) for
    a′, one sampled action for the state's value. Sampled actions are clipped to the action
    range, as the environment does with them.

    Args:
        beta: temperature of the advantage weights, units of Q.
    Raises: UserError: a value outside its range.
    """

    gaussian = True

    def __init__(self, beta: float = 2.0) -> None:
        if not 0 < beta < float("inf"):
            raise UserError(f"model.objective.beta is {beta}; it must be above 0")
        self.beta = beta

    def exploration_scale(self, actor: Weights) -> Tensor:
        """The policy's own standard deviation."""
        return actor[-1].detach().clamp(*LOG_STD_RANGE).exp()

    def _sample(
        self, actor: Weights, observation_BO: Tensor, noise_BA: Tensor, options: "UpdateOptions"
    ) -> Tensor:
        low, high = options.action_low, options.action_high
        mean_BA = policy(observation_BO, actor[:-1], low, high)
        std_A = self.exploration_scale(actor).unsqueeze(-2) * (high - low) / 2
        return torch.minimum(torch.maximum(mean_BA + std_A * noise_BA, low), high)

    def next_action(
        self,
        state: "AgentState",
        next_observation_BO: Tensor,
        noise_BA: Tensor,
        options: "UpdateOptions",
    ) -> Tensor:
        """One sample of the current policy."""
        return self._sample(state.actor, next_observation_BO, noise_BA, options)

    def loss(
        self,
        state: "AgentState",
        batch: TensorDict,
        noise_BA: Tensor | None,
        alpha: Tensor,
        options: "UpdateOptions",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-likelihood of the data's actions, weighted by their advantage."""
        assert noise_BA is not None
        observation_BO, action_BA = batch["observation"], batch["action"]
        low, high = options.action_low, options.action_high
        with torch.no_grad():
            sampled_BA = self._sample(state.actor, observation_BO, noise_BA, options)
            value_B = options.target_rule(q_values(observation_BO, sampled_BA, state.critics))
            q_B = options.target_rule(q_values(observation_BO, action_BA, state.critics))
        mean_BA = policy(observation_BO, state.actor[:-1], low, high)
        half_A, middle_A = (high - low) / 2, (high + low) / 2
        # An action that is fixed has the likelihood 1, whatever it is.
        free_A = half_A > 0
        limit_A = torch.where(free_A, half_A, torch.inf)
        log_std_A = torch.where(free_A, state.actor[-1].clamp(*LOG_STD_RANGE), _LIKELIHOOD_1)
        # In action limits, so that the likelihood does not depend on the action's unit.
        log_prob_B = gaussian_log_prob(
            (action_BA - middle_A) / limit_A, (mean_BA - middle_A) / limit_A, log_std_A
        )
        loss = advantage_weighted_loss(log_prob_B, q_B - value_B, self.beta)
        with torch.no_grad():
            distance = behavior_cloning(mean_BA, action_BA)
        return loss, {"loss/behavior_cloning": distance, "q/policy": value_B.mean(-1)}
