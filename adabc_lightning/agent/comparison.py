"""Whether one policy is better than another, by some episodes of each."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

_ROUNDING = 1e-12
"""Of the largest return: differences of means that are rounding and no difference."""


class Verdict(NamedTuple):
    """What a trial of some policies says of the incumbent."""

    candidate: str
    """Name of the best of them."""
    candidate_mean: float
    incumbent_mean: float
    """Mean raw returns of both from the same starts."""
    trial: Literal["won", "lost", "neither"]
    """By the candidate."""


def verdict(
    tried: Mapping[str, Sequence[float]], incumbent: Sequence[float], confidence: float
) -> Verdict:
    """Compares the best of some policies with the incumbent.

    With d̄ its mean difference to the incumbent and s the standard error, the trial is won where
    d̄ ≥ z·s, and lost where d̄ < −z·s. Both are compared up to rounding: where returns are 0 or 1
    and one episode alone differs, d̄ is ±s whatever E is, and its last bit must not decide.

    Args:
        tried: name → raw returns, from the first of the same starts on; of equally good ones the
            first is the candidate.
        incumbent: raw returns; only as many episodes are compared as every policy has made.
        confidence: z, standard errors.
    """
    count = min(len(returns) for returns in (incumbent, *tried.values()))
    candidate = max(tried, key=lambda name: sum(tried[name][:count]))
    ours, theirs = tried[candidate][:count], incumbent[:count]
    gain, error = improvement(ours, theirs)
    margin = confidence * error
    rounding = _ROUNDING * float(np.abs([*ours, *theirs]).max())
    trial: Literal["won", "lost", "neither"] = "neither"
    if gain >= margin - rounding:
        trial = "won"
    elif gain < -margin - rounding:
        trial = "lost"
    return Verdict(candidate, float(np.mean(ours)), float(np.mean(theirs)), trial)


def improvement(candidate: Sequence[float], incumbent: Sequence[float]) -> tuple[float, float]:
    """By how much one policy is better than another from the same starts, and how sure that is.

    Args:
        candidate, incumbent: raw returns of E episodes each, the same starts in the same order.
    Returns: mean of the E differences, and its standard error; infinite for one episode.
    """
    difference_E = np.subtract(candidate, incumbent)
    count = len(difference_E)
    error = difference_E.std(ddof=1) / math.sqrt(count) if count > 1 else math.inf
    return float(difference_E.mean()), float(error)
