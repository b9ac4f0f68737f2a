"""What a run's evaluations amount to: what it learnt, and how far it fell. Imports no PyTorch."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

SUCCESS = "eval/success_rate"
REACHED = 0.8
"""Share of the run's best from which on a swing counts."""


def outcomes(
    history: list[dict[str, float]], offline_updates: int, online_env_steps: int
) -> dict[str, dict[str, float | None]]:
    """What a run's evaluations amount to.

    Args:
        history: evaluations in order, each with ``gradient_updates``, ``env_steps``,
            ``eval/return`` and, where references are known, ``eval/score``: the rows of
            ``metrics.csv`` that hold one.
        offline_updates, online_env_steps: lengths of the phases.
    Returns: for scores, for returns and, where the environment flags successes, for their rates:
        ``pretrained`` (at the hand-over), ``final``, ``best`` and ``online_mean`` (of fine-tuning),
        and ``dip``: ``pretrained`` minus the worst evaluation of the first fifth of fine-tuning
        (the first one, where that fifth has none); negative when even that is better; and
        :func:`falls` of fine-tuning, with ``pretrained`` in front. None for what has not happened
        yet.
    """
    summary: dict[str, dict[str, float | None]] = {}
    units = [("score", "eval/score"), ("return", "eval/return")]
    if any(SUCCESS in point for point in history):
        units.append(("success_rate", SUCCESS))
    for unit, key in units:
        before = [p[key] for p in history if key in p and p["env_steps"] == 0]
        online = [p for p in history if key in p and p["env_steps"] > 0]
        complete = any(p["gradient_updates"] >= offline_updates for p in history)
        pretrained = before[-1] if before and complete else None
        after = [p[key] for p in online]
        early = [p[key] for p in online if p["env_steps"] <= online_env_steps / 5] or after[:1]
        summary[unit] = {
            "pretrained": pretrained,
            "final": [None, *before, *after][-1],
            "best": max(after or before, default=None),
            "dip": pretrained - min(early) if early and pretrained is not None else None,
            "online_mean": sum(after) / len(after) if after else None,
            **falls(pretrained, after),
        }
    return summary


def falls(pretrained: float | None, after: Sequence[float]) -> dict[str, float | None]:
    """How far a run fell, once it was fine-tuned.

    Args:
        pretrained: what it had at the hand-over; None where that is not known.
        after: evaluations of fine-tuning, in order.
    Returns: :func:`drawdown`, :func:`swing` and ``kept``, the last value as a share of the best
        where that is above 0; None for what has not happened yet.
    """
    values = [pretrained, *after] if pretrained is not None and after else [*after]
    best = max(values, default=0.0)
    return {
        "drawdown": drawdown(values),
        "swing": swing(values),
        "kept": values[-1] / best if best > 0 else None,
    }


def drawdown(values: Sequence[float]) -> float | None:
    """Largest fall below the best value so far, 0 or more; None without values."""
    bests = accumulate(values, max)
    return max((best - v for best, v in zip(bests, values, strict=True)), default=None)


def swing(values: Sequence[float]) -> float | None:
    """Mean absolute change from one value to the next, once the best was nearly reached.

    Nearly: to four fifths, :data:`REACHED`, or a fifth of its size below one that is negative.

    Returns: None where no value follows.
    """
    best = max(values, default=0.0)
    enough = best - (1 - REACHED) * abs(best)
    first = next((i for i, value in enumerate(values) if value >= enough), 0)
    changes = [abs(after - before) for before, after in pairwise(values[first:])]
    return sum(changes) / len(changes) if changes else None
