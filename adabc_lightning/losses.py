"""Equations 1, 3 and 4 of the paper, one pure function each.

Dimensions: B batch, N critics, M drawn critics, A action. α is a scalar tensor or a float.
"""

import torch
from torch import Tensor


def smoothed_action(
    action_BA: Tensor,
    noise_BA: Tensor,
    sigma: float,
    clip: float,
    low_A: Tensor,
    high_A: Tensor,
) -> Tensor:
    """a′ = clip(π̄(s′) + clip(ε, −c, c), low, high) with ε ~ N(0, σ²)   (below Eq. 3)

    Args:
        action_BA: target policy's action, action units.
        noise_BA: standard normal draws.
        sigma, clip: σ_policy and c in multiples of the action limit (half the range).
        low_A, high_A: bounds of the action space.
    Returns: ``[B, A]``.
    """
    limit_A = (high_A - low_A) / 2
    epsilon_BA = (noise_BA * sigma).clamp(-clip, clip) * limit_A
    return torch.minimum(torch.maximum(action_BA + epsilon_BA, low_A), high_A)


def td_target(reward_B: Tensor, terminated_B: Tensor, next_q_MB: Tensor, gamma: float) -> Tensor:
    """Bellman target from a random subset of critics.

        y = r + γ (1 − d) min_{i∈M} Q̄_i(s′, a′)                    (Eq. 3)

    Args:
        reward_B: reward per environment step, raw units.
        terminated_B: 1.0 for true terminals only, never for time limits.
        next_q_MB: target values of the drawn members, no gradient.
        gamma: discount per environment step.
    Returns: ``[B]``.
    Raises: ValueError: shapes disagree.
    """
    if not reward_B.shape == terminated_B.shape == next_q_MB.shape[1:]:
        raise ValueError(
            f"td_target: reward {tuple(reward_B.shape)}, terminated {tuple(terminated_B.shape)} "
            f"and next_q {tuple(next_q_MB.shape)} must be [B], [B] and [M, B]"
        )
    return reward_B + gamma * (1 - terminated_B) * next_q_MB.amin(0)


def critic_loss(q_NB: Tensor, target_B: Tensor) -> Tensor:
    """Mean over batch and members of (Q_i − y)², one shared target y   (Eq. 3)

    Each member's gradient is 1/N of what its own mean squared error would give; Adam is
    (almost) blind to that factor, the authors' code has it, so it stays.

    Args:
        q_NB: values of the data actions.
        target_B: Bellman target, no gradient.
    Returns: scalar.
    Raises: ValueError: shapes disagree (a silent broadcast would average the wrong pairs).
    """
    if q_NB.shape[1:] != target_B.shape:
        raise ValueError(
            f"critic_loss: q {tuple(q_NB.shape)} and target {tuple(target_B.shape)} "
            "must be [N, B] and [B]"
        )
    return (q_NB - target_B).square().mean()


def behavior_cloning(policy_action_BA: Tensor, action_BA: Tensor) -> Tensor:
    """mean((π(s) − a)²) over batch and action dimensions   (the BC term of Eqs. 1 and 4)

    Raises: ValueError: shapes disagree.
    """
    if policy_action_BA.shape != action_BA.shape:
        raise ValueError(
            f"behavior_cloning: policy actions {tuple(policy_action_BA.shape)} and data actions "
            f"{tuple(action_BA.shape)} must agree"
        )
    return (policy_action_BA - action_BA).square().mean()


def actor_loss(
    q_NB: Tensor,
    normalizer_q_B: Tensor,
    policy_action_BA: Tensor,
    action_BA: Tensor,
    alpha: Tensor | float,
) -> Tensor:
    """Normalised value of the policy against α times its distance from the data.

        L = −mean_B(Q̂) / mean_B|Q̂′| + α · mean((π(s) − a)²),   Q̂ = mean_N Q_i   (Eqs. 1, 4)

    Args:
        q_NB: Q_i(s, π(s)) of all members.
        normalizer_q_B: Q̂′, the mean over members whose absolute mean divides; no gradient
            flows through it. The authors' code takes the policy's own values, the paper's
            Eq. 1 those of the data actions.
        policy_action_BA: π(s).
        action_BA: the data's actions.
        alpha: weight of the behaviour-cloning term, ≥ 0.
    Returns: scalar.
    Raises: ValueError: shapes disagree.
    """
    if not q_NB.shape[1:] == normalizer_q_B.shape == action_BA.shape[:1]:
        raise ValueError(
            f"actor_loss: q {tuple(q_NB.shape)}, normalizer {tuple(normalizer_q_B.shape)} and "
            f"actions {tuple(action_BA.shape)} must be [N, B], [B] and [B, A]"
        )
    normalizer = normalizer_q_B.detach().abs().mean()
    return -q_NB.mean() / normalizer + alpha * behavior_cloning(policy_action_BA, action_BA)
