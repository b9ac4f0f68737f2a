"""What keeps a policy near its data without cloning it: the terms of IQL, SPOT and ReBRAC.

Pure functions; dimensions and leading ones as in :mod:`adabc_lightning.agent.losses`.
"""

import torch
from torch import Tensor


def expectile_loss(advantage_B: Tensor, expectile: float) -> Tensor:
    """Asymmetric least squares of a value below most of what it may be.

        L = mean_B |τ − 1[u < 0]| u²,   u = min_i Q̄_i(s, a) − V(s)
        (IQL, Kostrikov et al. 2021, Eq. 5)

    Args:
        advantage_B: u; its gradient is V's.
        expectile: τ in (0, 1); at 0.5 half the mean squared error.
    Returns: scalar.
    """
    weight_B = (expectile - (advantage_B < 0).to(advantage_B.dtype)).abs()
    return (weight_B * advantage_B.square()).mean(-1)


def exponential_advantage_loss(
    log_prob_B: Tensor, advantage_B: Tensor, beta: float, largest: float
) -> Tensor:
    """L = −mean_B min(exp(β A), w_max) · log π(a|s)   (IQL, Kostrikov et al. 2021, Eq. 7)

    Args:
        log_prob_B: log-likelihood of the data's actions.
        advantage_B: A(s, a), no gradient flows through it.
        beta: inverse temperature, per unit of Q.
        largest: w_max.
    Returns: scalar.
    Raises: ValueError: shapes disagree.
    """
    if log_prob_B.shape != advantage_B.shape:
        raise ValueError(
            f"exponential_advantage_loss: log_prob {tuple(log_prob_B.shape)} and advantage "
            f"{tuple(advantage_B.shape)} must be [B]"
        )
    weight_B = torch.exp(beta * advantage_B.detach()).clamp(max=largest)
    return -(weight_B * log_prob_B).mean(-1)


def standard_divergence(mean_BL: Tensor, log_std_BL: Tensor) -> Tensor:
    """Mean over the latent dimensions of KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² − 1)/2 − log σ

    Returns: ``[B]``.
    """
    square_BL = mean_BL.square() + torch.exp(2 * log_std_BL)
    return ((square_BL - 1) / 2 - log_std_BL).mean(-1)


def support_penalty(
    decoded_BA: Tensor, action_BA: Tensor, divergence_B: Tensor, beta: float
) -> Tensor:
    """How improbable actions are for a VAE of the data's: mean_A (u − a)² + β KL

    Up to a positive factor and a constant minus its evidence lower bound, with a decoder of
    variance β/4 (SPOT, Wu et al. 2022, Eqs. 8 to 10, as its authors' code has it).

    Args:
        decoded_BA: u, decoded from one latent sample, in action limits.
        action_BA: a, in action limits.
        divergence_B: of the encoder's Gaussian from the prior.
        beta: weight of the divergence.
    Returns: ``[B]``.
    Raises: ValueError: shapes disagree.
    """
    if not decoded_BA.shape == action_BA.shape == (*divergence_B.shape, action_BA.shape[-1]):
        raise ValueError(
            f"support_penalty: decoded {tuple(decoded_BA.shape)}, actions "
            f"{tuple(action_BA.shape)} and divergence {tuple(divergence_B.shape)} must be "
            "[B, A], [B, A] and [B]"
        )
    return (decoded_BA - action_BA).square().mean(-1) + beta * divergence_B


def penalised_actor_loss(
    q_B: Tensor, normalizer: Tensor, penalty_B: Tensor, weight: Tensor | float
) -> Tensor:
    """L = −mean_B Q / c + λ · mean_B n, c = mean_B|Q|

    SPOT, Wu et al. 2022, Eq. 11, with n how improbable an action is; ReBRAC, Tarasov et al. 2023,
    Eq. 4, with n its squared distance from the data's.

    Args:
        q_B: value of the policy's actions.
        normalizer: c, no gradient flows through it.
        penalty_B: n of the policy's actions.
        weight: λ ≥ 0.
    Returns: scalar.
    Raises: ValueError: shapes disagree.
    """
    if q_B.shape != penalty_B.shape:
        raise ValueError(
            f"penalised_actor_loss: q {tuple(q_B.shape)} and penalty {tuple(penalty_B.shape)} "
            "must be [B]"
        )
    return -q_B.mean(-1) / normalizer.detach() + weight * penalty_B.mean(-1)


def squared_distance(action_BA: Tensor, other_BA: Tensor) -> Tensor:
    """Σ_A (a − a′)², summed over the action dimensions   (ReBRAC, Tarasov et al. 2023)

    Args:
        action_BA, other_BA: in action limits.
    Returns: ``[B]``.
    Raises: ValueError: shapes disagree.
    """
    if action_BA.shape != other_BA.shape:
        raise ValueError(
            f"squared_distance: {tuple(action_BA.shape)} and {tuple(other_BA.shape)} must agree"
        )
    return (action_BA - other_BA).square().sum(-1)
