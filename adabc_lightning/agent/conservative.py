"""What keeps critics low where the data has no actions: the regulariser of CQL and Cal-QL.

Dimensions: B batch, N critics, K sampled actions, A action; in front of them there may be others.
"""

import torch
from torch import Tensor

from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.networks import q_values
from adabc_lightning.agent.norm import Norm


def sampled_values(
    observation_BO: Tensor, action_BKA: Tensor, weights: Weights, norm: Norm | None
) -> Tensor:
    """Q_i(s, a_k) of K actions for each observation, by one product per layer.

    Returns: ``[N, B, K]``.
    """
    count = action_BKA.shape[-2]
    repeated = observation_BO.unsqueeze(-2).expand(*action_BKA.shape[:-1], -1)
    q_NR = q_values(repeated.flatten(-3, -2), action_BKA.flatten(-3, -2), weights, norm)
    return q_NR.unflatten(-1, (-1, count))


def conservative_gap(
    sampled_q_NBK: Tensor,
    log_density_BK: Tensor | None,
    data_q_NB: Tensor,
    temperature: float = 1.0,
    floor: float = -float("inf"),
) -> Tensor:
    """T · log Σ_k exp((Q_i(s, a_k) − log p(a_k)) / T) − Q_i(s, a)   (CQL, Kumar et al. 2020, Eq. 4)

    A soft maximum over actions by importance sampling; without −log K, as in its authors' code.

    Args:
        sampled_q_NBK: values of the sampled actions.
        log_density_BK: with which they were drawn, no gradient; None for no importance sampling,
            where the data's action is one of them.
        data_q_NB: values of the data's actions.
        temperature: T.
        floor: smallest gap; below it there is no gradient.
    Returns: ``[N, B]``.
    """
    if log_density_BK is None:
        weighed_NBK = torch.cat([sampled_q_NBK, data_q_NB.unsqueeze(-1)], -1)
    else:
        weighed_NBK = sampled_q_NBK - log_density_BK.unsqueeze(-3)
    soft_NB = temperature * torch.logsumexp(weighed_NBK / temperature, -1)
    return (soft_NB - data_q_NB).clamp(min=floor)


def calibrated(sampled_q_NBK: Tensor, return_B: Tensor, first: int) -> Tensor:
    """max(Q_i(s, a_k), G(s)) for all but the first actions   (Cal-QL, Nakamoto et al. 2023)

    Args:
        sampled_q_NBK: values of the sampled actions, the uniform ones in front.
        return_B: G, what the row's episode still earned.
        first: how many are left as they are.
    Returns: ``[N, B, K]``; where G is larger, no gradient flows.
    """
    bound = return_B.unsqueeze(-2).unsqueeze(-1)
    uniform, policy = sampled_q_NBK[..., :first], sampled_q_NBK[..., first:]
    return torch.cat([uniform, torch.maximum(policy, bound)], -1)
