"""One gradient update as one function of state, batch and randomness.

Nothing here draws a random number, keeps a counter or looks at the trainer: everything that
decides an update comes in as an argument, and the only thing written is the state that was
passed, in place. That is what lets the tests replay it against a plain reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam

from adabc_lightning.agent.losses import TargetRule, critic_loss, td_target
from adabc_lightning.agent.networks import Weights, q_values
from adabc_lightning.agent.objectives import Objective

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class AdamState(NamedTuple):
    """The tensors of a ``torch.optim.Adam``, in the order of its parameters."""

    first_moments: list[Tensor]
    second_moments: list[Tensor]
    steps: list[Tensor]
    learning_rate: float
    weight_decay: float = 0.0

    @classmethod
    def of(
        cls, optimizer: Optimizer, learning_rate: float, weight_decay: float = 0.0
    ) -> "AdamState":
        """The live state of an optimiser, created as its first step would where missing."""
        for parameter in optimizer.param_groups[0]["params"]:
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [optimizer.state[parameter] for parameter in optimizer.param_groups[0]["params"]]
        return cls(
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["step"] for state in states],
            learning_rate,
            weight_decay,
        )


class AgentState(NamedTuple):
    """Everything an update reads and writes. Critic weights are stacked ``[N, …]``."""

    actor: Weights
    actor_target: Weights
    critics: Weights
    critic_targets: Weights
    actor_adam: AdamState
    critic_adam: AdamState


@dataclass(frozen=True)
class UpdateOptions:
    """The constants of an update; see :class:`adabc_lightning.agent.module.OffToOnModule`."""

    gamma: float
    tau: float
    objective: Objective
    target_rule: TargetRule
    action_low: Tensor
    action_high: Tensor
    average: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None
    """Means over several processes (:meth:`adabc_lightning.run.ranks.Ranks.average`)."""


def update_critics(
    state: AgentState, batch: TensorDict, noise_BA: Tensor, subset_M: Tensor, options: UpdateOptions
) -> dict[str, Tensor]:
    """Moves every critic towards the shared target of Eq. 3.

    Args:
        state: written in place: critics and their Adam.
        batch: ``[B]`` transitions.
        noise_BA: standard normal draws for the target action.
        subset_M: indices of the drawn critics.
        options: constants.
    Returns: scalars ``loss/critic``, ``q/mean`` and ``q/target``.
    """
    with torch.no_grad():
        next_observation_BO = batch["next_observation"]
        next_action_BA = options.objective.next_action(
            state, next_observation_BO, noise_BA, options
        )
        drawn = state.critic_targets
        if subset_M.shape[-1] < drawn[0].shape[-3]:
            # Only the drawn members are evaluated: the others' values do not enter the target.
            drawn = _members(drawn, subset_M)
        next_q_MB = q_values(next_observation_BO, next_action_BA, drawn)
        target_B = td_target(
            batch["reward"], batch["terminated"], next_q_MB, options.gamma, options.target_rule
        )
    q_NB = q_values(batch["observation"], batch["action"], state.critics)
    loss = critic_loss(q_NB, target_B)
    gradients = torch.autograd.grad(loss.sum(), state.critics)
    metrics = {
        "loss/critic": loss.detach(),
        "q/mean": q_NB.detach().mean((-2, -1)),
        "q/target": target_B.mean(-1),
    }
    gradients, metrics = _averaged(gradients, metrics, options)
    _adam_step(state.critics, gradients, state.critic_adam)
    return metrics


def update_actor_and_targets(
    state: AgentState,
    batch: TensorDict,
    alpha: Tensor,
    options: UpdateOptions,
    policy_noise_BA: Tensor | None = None,
) -> dict[str, Tensor]:
    """Moves the actor along its objective, then both target networks towards their sources.

    Args:
        state: written in place: actor, its Adam, both targets.
        batch: ``[B]`` transitions, those of the critics' update.
        alpha: weight of the behaviour-cloning term, a scalar tensor.
        options: constants.
        policy_noise_BA: standard normal draws, None for a deterministic policy.
    Returns: scalars ``loss/actor``, ``loss/behavior_cloning`` and ``q/policy``.
    """
    loss, metrics = options.objective.loss(state, batch, policy_noise_BA, alpha, options)
    gradients = torch.autograd.grad(loss.sum(), state.actor)
    metrics = {"loss/actor": loss.detach(), **metrics}
    gradients, metrics = _averaged(gradients, metrics, options)
    _adam_step(state.actor, gradients, state.actor_adam)
    with torch.no_grad():
        torch._foreach_lerp_(state.actor_target, state.actor, options.tau)
        torch._foreach_lerp_(state.critic_targets, state.critics, options.tau)
    return metrics


def _averaged(
    gradients: tuple[Tensor, ...], metrics: dict[str, Tensor], options: UpdateOptions
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Over all processes where there are several; the metrics travel with the gradients."""
    if options.average is None:
        return gradients, metrics
    means = options.average([*gradients, *metrics.values()])
    count = len(gradients)
    return tuple(means[:count]), dict(zip(metrics, means[count:], strict=True))


def _members(weights: Weights, subset_M: Tensor) -> Weights:
    """Weights ``[*, M, …]`` of the drawn ones of ``[*, N, …]``."""
    if subset_M.dim() == 1:
        return tuple(weight[subset_M] for weight in weights)
    replica_R = torch.arange(len(subset_M), device=subset_M.device).unsqueeze(-1)
    return tuple(weight[replica_R, subset_M] for weight in weights)


def _adam_step(parameters: Weights, gradients: tuple[Tensor, ...], state: AdamState) -> None:
    """One step of ``torch.optim.Adam`` with PyTorch's default β and ε.

    With weight decay one of ``torch.optim.AdamW``, as jaxrl's. PyTorch's fused kernel; a compiler
    cannot look into that, so it gets the same formula in operations that it fuses itself.
    """
    with torch.no_grad():
        if torch.compiler.is_compiling():
            _adam_formula(parameters, gradients, state)
            return
        adam(
            list(parameters),
            list(gradients),
            state.first_moments,
            state.second_moments,
            [],
            state.steps,
            fused=True,
            foreach=False,
            capturable=parameters[0].is_cuda,  # in a CUDA graph
            differentiable=False,
            amsgrad=False,
            beta1=_BETA_1,
            beta2=_BETA_2,
            lr=state.learning_rate,
            weight_decay=state.weight_decay,
            decoupled_weight_decay=True,
            eps=_EPSILON,
            maximize=False,
        )


def _adam_formula(parameters: Weights, gradients: tuple[Tensor, ...], state: AdamState) -> None:
    """θ ← θ − η m̂ / (√v̂ + ε), in place; Kingma & Ba 2015, decay as Loshchilov & Hutter 2019."""
    torch._foreach_add_(state.steps, 1)
    steps = torch.stack(state.steps).double()  # 1 - 0.999 in float32 has four digits left
    # They are all the same. A maximum is computed once; from one of them, the compiler would take
    # both powers anew with every few weights, which cost a tenth of an update.
    step_size = (state.learning_rate / (1 - _BETA_1**steps)).amax()
    scale = (1 - _BETA_2**steps).rsqrt().amax()
    for parameter, gradient, first_moment, second_moment in zip(
        parameters, gradients, state.first_moments, state.second_moments, strict=True
    ):
        parameter.mul_(1 - state.learning_rate * state.weight_decay)
        first_moment.lerp_(gradient, 1 - _BETA_1)
        second_moment.mul_(_BETA_2).addcmul_(gradient, gradient, value=1 - _BETA_2)
        root = second_moment.sqrt() * scale.to(parameter.dtype)
        parameter.sub_(step_size.to(parameter.dtype) * first_moment / (root + _EPSILON))
