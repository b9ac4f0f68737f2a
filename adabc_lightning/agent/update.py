"""The moves that updates are made of: a gradient step, a target's step, members of an ensemble.

Nothing here draws a random number, keeps a counter or looks at the trainer: everything that
decides an update comes in as an argument, and the only thing written is the part that was
passed, in place. That is what lets the tests replay it against a plain reference.
"""

import math
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.optim.adam import adam

from adabc_lightning.agent.losses import critic_loss, smoothed_action, td_target
from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.networks import q_values
from adabc_lightning.agent.state import AdamState, Draws, Metrics, Part, UpdateOptions

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def gradient_step(part: Part, loss: Tensor, metrics: Metrics, options: UpdateOptions) -> Metrics:
    """One step of a part's Adam down a loss.

    Args:
        part: written in place: weights and Adam.
        loss: scalar, or one of each replica ``[R]``; of the part's weights.
        metrics: of this process.
        options: constants.
    Returns: the metrics, means over all processes where there are several.
    """
    gradients = torch.autograd.grad(loss.sum(), part.weights)
    if options.average is not None:  # the metrics travel with the gradients
        means = options.average([*gradients, *metrics.values()])
        gradients, rest = tuple(means[: len(gradients)]), means[len(gradients) :]
        metrics = dict(zip(metrics, rest, strict=True))
    step_adam(part, gradients)
    return metrics


@torch.no_grad()
def polyak_update(part: Part, options: UpdateOptions) -> None:
    """θ̄ ← θ̄ + τ (θ − θ̄): the part's target takes a step towards it (Polyak)."""
    assert part.target is not None
    torch._foreach_lerp_(part.target, part.weights, options.tau)


class Smoothing(Protocol):
    """A method whose target's action is smoothed."""

    target_noise: float
    """σ_policy, in action limits."""
    target_noise_clip: float
    """In action limits."""


def smoothed(action_BA: Tensor, draws: Draws, method: Smoothing, options: UpdateOptions) -> Tensor:
    """:func:`~adabc_lightning.agent.losses.smoothed_action` of a target policy's action.

    Args:
        action_BA: action units.
        draws: of this update; ``target_noise``.
        method: its two constants.
        options: constants.
    Returns: ``[B, A]``.
    """
    noise, clip = method.target_noise, method.target_noise_clip
    low, high = options.action_low, options.action_high
    return smoothed_action(action_BA, draws["target_noise"], noise, clip, low, high)


def mean_abs(q_B: Tensor, options: UpdateOptions) -> Tensor:
    """mean_B|Q| of the whole batch, not of this process's part alone; scalar, no gradient."""
    mean = q_B.detach().abs().mean(-1)
    return mean if options.average is None else options.average([mean])[0]


@torch.no_grad()
def ensemble_target(
    critics: Part,
    batch: TensorDict,
    next_action_BA: Tensor,
    subset_M: Tensor,
    options: UpdateOptions,
) -> Tensor:
    """The shared target of Eq. 3, from the drawn members' targets.

    Only they are evaluated: the others' values do not enter.

    Args:
        critics: the ensemble.
        batch: ``[B]`` transitions.
        next_action_BA: a′.
        subset_M: indices of the drawn members.
        options: constants.
    Returns: ``[B]``.
    """
    assert critics.target is not None
    drawn = members(critics.target, subset_M)
    next_q_MB = q_values(batch["next_observation"], next_action_BA, drawn, options.critic_norm)
    return td_target(
        batch["reward"], batch["terminated"], next_q_MB, options.gamma, options.target_rule
    )


def step_critics(
    critics: Part, batch: TensorDict, target_B: Tensor, options: UpdateOptions
) -> Metrics:
    """Moves every critic towards one shared target (Eq. 3).

    Args:
        critics: written in place.
        batch: ``[B]`` transitions.
        target_B: without gradient.
        options: constants.
    Returns: ``loss/critic``, ``q/mean`` and ``q/target``.
    """
    q_NB = q_values(batch["observation"], batch["action"], critics.weights, options.critic_norm)
    loss = critic_loss(q_NB, target_B)
    metrics = {
        "loss/critic": loss.detach(),
        "q/mean": q_NB.detach().mean((-2, -1)),
        "q/target": target_B.mean(-1),
    }
    return gradient_step(critics, loss, metrics, options)


def frozen(weights: Weights) -> Weights:
    """The same numbers, which no gradient reaches."""
    return tuple(weight.detach() for weight in weights)


def as_one(per_update: Tensor, batch_dims: int) -> Tensor:
    """``[*, G·B, …]`` of what G updates have, ``[G, *, B, …]``.

    Args:
        per_update: a field of G batches, or a draw of G updates.
        batch_dims: how many dimensions ``[G, *, B]`` are.
    """
    return per_update.movedim(0, batch_dims - 2).flatten(batch_dims - 2, batch_dims - 1)


def first_member(weights: Weights) -> Weights:
    """Weights ``[*, 1, …]`` of the first member of ``[*, N, …]``, as they are: without a copy."""
    if weights[0].dim() == 3:
        return tuple(weight[:1] for weight in weights)
    return tuple(weight[:, :1] for weight in weights)  # replicas are stacked in front


def members(weights: Weights, subset_M: Tensor) -> Weights:
    """Weights ``[*, M, …]`` of the drawn members of ``[*, N, …]``.

    With M = N all of them as they are: in their order, without a copy.
    """
    if subset_M.shape[-1] == weights[0].shape[-3]:
        return weights
    if subset_M.dim() == 1:
        return tuple(weight[subset_M] for weight in weights)
    replica_R = torch.arange(len(subset_M), device=subset_M.device).unsqueeze(-1)
    return tuple(weight[replica_R, subset_M] for weight in weights)


def step_adam(part: Part, gradients: tuple[Tensor, ...]) -> None:
    """One step of ``torch.optim.Adam`` with PyTorch's default β and ε.

    With weight decay one of ``torch.optim.AdamW``, as jaxrl's. PyTorch's fused kernel; a compiler
    cannot look into that, so it gets the same formula in operations that it fuses itself.

    Args:
        part: written in place.
        gradients: of its weights, of the same shapes.
    """
    parameters, state = part.weights, part.adam
    assert state is not None
    with torch.no_grad():
        if torch.compiler.is_compiling():
            _adam_formula(parameters, gradients, state)
            return
        adam(
            list(parameters),
            # Autograd may lay a gradient out transposed, which the fused kernel does not see.
            [gradient.contiguous() for gradient in gradients],
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


def bias_correction(beta: float, steps: Tensor) -> Tensor:
    """1 − β^t in all digits of ``steps``, of any shape ``[*]``: 1 − 0.999 has four of float32's."""
    return -torch.expm1(steps * math.log(beta))


def _adam_formula(parameters: Weights, gradients: tuple[Tensor, ...], state: AdamState) -> None:
    """θ ← θ − η m̂ / (√v̂ + ε), in place; Kingma & Ba 2015, decay as Loshchilov & Hutter 2019."""
    torch._foreach_add_(state.steps, 1)
    # On a GPU a single float64 function takes longer than all of Adam's float32 ones.
    on_gpu, dtype = parameters[0].is_cuda, parameters[0].dtype
    steps = torch.stack(state.steps).to(dtype if on_gpu else torch.float64)
    # They are all the same. A maximum is computed once; from one of them, the compiler would take
    # both powers anew with every few weights, which cost a tenth of an update.
    step_size = (state.learning_rate / bias_correction(_BETA_1, steps)).amax()
    scale = bias_correction(_BETA_2, steps).rsqrt().amax()
    for parameter, gradient, first_moment, second_moment in zip(
        parameters, gradients, state.first_moments, state.second_moments, strict=True
    ):
        parameter.mul_(1 - state.learning_rate * state.weight_decay)
        first_moment.lerp_(gradient, 1 - _BETA_1)
        second_moment.mul_(_BETA_2).addcmul_(gradient, gradient, value=1 - _BETA_2)
        root = second_moment.sqrt() * scale.to(parameter.dtype)
        parameter.sub_(step_size.to(parameter.dtype) * first_moment / (root + _EPSILON))
