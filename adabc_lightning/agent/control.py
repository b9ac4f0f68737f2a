"""Equation 2: how α follows the returns of the training episodes. Pure functions.

All returns are fractions, (R − R_random) / (R_expert − R_random), as D4RL normalises them.
"""


def control_terms(
    *, return_average: float, return_current: float, target: float, kp: float, kd: float
) -> tuple[float, float]:
    """The two terms of Eq. 2 per environment step: K_P (R_avg − R_target), K_D max(0, R_avg − R).

    Arguments as :func:`next_alpha`.
    """
    return kp * (return_average - target), kd * max(0.0, return_average - return_current)


def next_alpha(
    alpha: float,
    *,
    return_average: float,
    return_current: float,
    episode_steps: int,
    target: float,
    kp: float,
    kd: float,
    ceiling: float,
) -> float:
    """α after one training episode.

        α ← clip(α + T·[K_P (R_avg − R_target) + K_D max(0, R_avg − R_current)], 0, α_ceiling)

    The paper's Eq. 2 prints no T; the authors' code multiplies by the episode's length, and
    the published gains only make sense with it.

    Args:
        alpha: α_online before the episode's end.
        return_average: R_avg, before this episode entered it.
        return_current: R_current, this episode's return.
        episode_steps: T, environment steps of the episode.
        target: R_target.
        kp, kd: gains per environment step.
        ceiling: largest α.
    Returns: the new α in [0, ceiling].
    """
    proportional, derivative = control_terms(
        return_average=return_average, return_current=return_current, target=target, kp=kp, kd=kd
    )
    return min(max(alpha + episode_steps * (proportional + derivative), 0.0), ceiling)


def next_return_average(return_average: float, return_current: float, rate: float) -> float:
    """R_avg ← rate · R_current + (1 − rate) · R_avg   (authors' code: rate = 0.05)"""
    return rate * return_current + (1 - rate) * return_average
