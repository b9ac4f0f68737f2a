"""Whether one policy is better than another, by some episodes of each."""

import math
from collections.abc import Sequence

import numpy as np


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
