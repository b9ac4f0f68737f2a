"""Equations 1, 3 and 4 of the paper and the losses it compares with, one pure function each.

Dimensions: B batch, N critics, M drawn critics, A action. In front of them there may be others,
the same for all arguments (replicas; ``*``): each loss is then one per replica, and no reduction
crosses them. α is a float or a tensor ``[*]``.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TargetRule = Callable[[Tensor], Tensor]
"""Values ``[*, M, B]`` of the drawn critics → one value ``[*, B]``."""


def _without_members(q_NB: Tensor) -> torch.Size | None:
    """``[*, B]`` of values ``[*, N, B]``; None where they cannot be such."""
    return q_NB.shape[:-2] + q_NB.shape[-1:] if q_NB.dim() > 1 else None


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


def minimum(q_MB: Tensor) -> Tensor:
    """min_{i∈M} Q_i   (Eq. 3; with M = N the minimum over the ensemble, with N = 2 TD3's)

    Returns: ``[B]``.
    """
    return q_MB.amin(-2)


def minimum_of_group_means(q_MB: Tensor) -> Tensor:
    """The smaller of the means of the first and the second half of the critics.

    Balanced Replay's pair of ensembles (Lee et al. 2021); the paper's V.A describes it.

    Args:
        q_MB: values of all members; M must be even.
    Returns: ``[B]``.
    Raises: ValueError: an odd number of members.
    """
    if q_MB.shape[-2] % 2:
        raise ValueError(f"minimum_of_group_means: {q_MB.shape[-2]} critics do not make two groups")
    return q_MB.unflatten(-2, (2, -1)).mean(-2).amin(-2)


def td_target(
    reward_B: Tensor,
    terminated_B: Tensor,
    next_q_MB: Tensor,
    gamma: float,
    rule: TargetRule = minimum,
) -> Tensor:
    """Bellman target from a random subset of critics.

        y = r + γ (1 − d) min_{i∈M} Q̄_i(s′, a′)                    (Eq. 3)

    Args:
        reward_B: reward per environment step, raw units.
        terminated_B: 1.0 for true terminals only, never for time limits.
        next_q_MB: target values of the drawn members, no gradient.
        gamma: discount per environment step.
        rule: what makes one value of the members'; Eq. 3 takes the minimum.
    Returns: ``[B]``.
    Raises: ValueError: shapes disagree.
    """
    if not reward_B.shape == terminated_B.shape == _without_members(next_q_MB):
        raise ValueError(
            f"td_target: reward {tuple(reward_B.shape)}, terminated {tuple(terminated_B.shape)} "
            f"and next_q {tuple(next_q_MB.shape)} must be [B], [B] and [M, B]"
        )
    return reward_B + gamma * (1 - terminated_B) * rule(next_q_MB)


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
    if _without_members(q_NB) != target_B.shape:
        raise ValueError(
            f"critic_loss: q {tuple(q_NB.shape)} and target {tuple(target_B.shape)} "
            "must be [N, B] and [B]"
        )
    return (q_NB - target_B.unsqueeze(-2)).square().mean((-2, -1))


def behavior_cloning(
    policy_action_BA: Tensor, action_BA: Tensor, free_A: Tensor | None = None
) -> Tensor:
    """mean((π(s) − a)²) over batch and action dimensions   (the BC term of Eqs. 1 and 4)

    Args:
        policy_action_BA: π(s), in action limits.
        action_BA: the data's actions, in action limits.
        free_A: which dimensions can vary: an action that is fixed is no distance and has no share
            of the mean, so that α weighs the same with and without it. None: all.
    Returns: scalar.
    Raises: ValueError: shapes disagree.
    """
    if policy_action_BA.shape != action_BA.shape:
        raise ValueError(
            f"behavior_cloning: policy actions {tuple(policy_action_BA.shape)} and data actions "
            f"{tuple(action_BA.shape)} must agree"
        )
    square_BA = (policy_action_BA - action_BA).square()
    if free_A is None:
        return square_BA.mean((-2, -1))
    return torch.where(free_A, square_BA, 0).sum(-1).mean(-1) / free_A.sum().clamp(min=1)


def actor_loss(
    q_NB: Tensor,
    normalizer: Tensor,
    policy_action_BA: Tensor,
    action_BA: Tensor,
    alpha: Tensor | float,
    free_A: Tensor | None = None,
) -> Tensor:
    """Normalised value of the policy against α times its distance from the data.

        L = −mean_B(Q̂) / c + α · mean((π(s) − a)²),   Q̂ = mean_N Q_i,   c = mean_B|Q̂′|
        (Eqs. 1, 4)

    Args:
        q_NB: Q_i(s, π(s)) of all members.
        normalizer: c, no gradient flows through it. Q̂′ are the policy's own values in the
            authors' code, those of the data's actions in the paper's Eq. 1.
        policy_action_BA: π(s), in action limits.
        action_BA: the data's actions, in action limits.
        alpha: weight of the behaviour-cloning term, ≥ 0.
        free_A: see :func:`behavior_cloning`.
    Returns: scalar.
    Raises: ValueError: shapes disagree.
    """
    rows = action_BA.shape[:-1]
    if _without_members(q_NB) != rows or normalizer.shape != rows[:-1]:
        raise ValueError(
            f"actor_loss: q {tuple(q_NB.shape)}, normalizer {tuple(normalizer.shape)} and "
            f"actions {tuple(action_BA.shape)} must be [N, B], a scalar and [B, A]"
        )
    distance = behavior_cloning(policy_action_BA, action_BA, free_A)
    return -q_NB.mean((-2, -1)) / normalizer.detach() + alpha * distance


def gaussian_log_prob(
    action_BA: Tensor, mean_BA: Tensor, log_std_A: Tensor, free_A: Tensor | None = None
) -> Tensor:
    """Log N(a; μ, σ²), summed over the action dimensions   (AWAC, IQL)

    Args:
        action_BA: a.
        mean_BA: μ.
        log_std_A: log σ.
        free_A: which dimensions can vary; an action that is fixed has the likelihood 1. None: all.
    Returns: ``[B]``.
    """
    log_std_A = log_std_A.unsqueeze(-2)
    z_BA = (action_BA - mean_BA) * torch.exp(-log_std_A)
    log_prob_BA = -0.5 * z_BA.square() - log_std_A - 0.5 * math.log(2 * math.pi)
    if free_A is not None:
        log_prob_BA = torch.where(free_A, log_prob_BA, 0)
    return log_prob_BA.sum(-1)


def advantage_weighted_loss(log_prob_B: Tensor, advantage_B: Tensor, beta: float) -> Tensor:
    """L = −Σ_B softmax_B(A / β) · log π(a|s)   (AWAC, Nair et al. 2020, Eq. 13, as jaxrl has it)

    Args:
        log_prob_B: log-likelihood of the data's actions.
        advantage_B: A(s, a), no gradient.
        beta: temperature.
    Returns: scalar.
    Raises: ValueError: shapes disagree.
    """
    if log_prob_B.shape != advantage_B.shape:
        raise ValueError(
            f"advantage_weighted_loss: log_prob {tuple(log_prob_B.shape)} and advantage "
            f"{tuple(advantage_B.shape)} must be [B]"
        )
    return -(torch.softmax(advantage_B.detach() / beta, -1) * log_prob_B).sum(-1)


_LARGEST_EXPONENT = 700.0  # of e in double precision


def share_of_softmax(
    logit_B: Tensor, average: Callable[[Sequence[Tensor]], Sequence[Tensor]]
) -> Tensor:
    """What makes of a softmax over a rank's part of a batch one over all of it.

    Args:
        logit_B: of the part, without a gradient.
        average: means over the ranks.
    Returns: scalar e^l / mean e^l of the part's log-sum-exp l: 1 on average, so that the mean over
        the ranks of their parts' losses times it is the whole batch's.
    """
    part = torch.logsumexp(logit_B.double(), -1)
    # Any shift will do; double, since the largest of another part may lie far above this one's,
    # and no further than there are numbers: the others have no share then.
    (middle,) = average([part])
    size = (part - middle).clamp(max=_LARGEST_EXPONENT).exp()
    (mean,) = average([size])
    return (size / mean).to(logit_B.dtype)


def density_ratio_loss(offline_ratio_B: Tensor, online_ratio_B: Tensor) -> Tensor:
    """E_off[−log(2/(w+1))] − E_on[log(2w/(w+1))]   (Balanced Replay, Lee et al. 2021, Eq. 4)

    The Jensen-Shannon bound whose optimum is w = d_online / d_offline.

    Args:
        offline_ratio_B, online_ratio_B: w ≥ 0 of offline and of online rows.
    Returns: scalar; a w of 0 costs much but not infinitely much.
    """
    tiny = 1e-10  # w comes out of a ReLU: log 0 would make the gradient not a number
    offline_B = torch.log(2 / (offline_ratio_B + 1))
    online_B = torch.log(2 * online_ratio_B / (online_ratio_B + 1) + tiny)
    return -offline_B.mean() - online_B.mean()


def density_ratio_priority(ratio_B: Tensor, offline_ratio_B: Tensor) -> Tensor:
    """clip(w^(1/5) / mean_off w^(1/5), 0.001, 1000)   (Balanced Replay, Lee et al. 2021)

    Args:
        ratio_B: w of the rows whose priorities are wanted.
        offline_ratio_B: w of offline rows, for the mean.
    Returns: ``[B]``.
    """
    mean = offline_ratio_B.pow(1 / 5).mean().clamp(min=1e-10)
    return (ratio_B.pow(1 / 5) / mean).clamp(1e-3, 1e3)
