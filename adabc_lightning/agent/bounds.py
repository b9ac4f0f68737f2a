"""The box of the actions, in the type that policies compute in."""

from collections.abc import Sequence

import numpy as np


def inward(
    low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds ``[A]`` as float32, rounded into the box: whatever lies between them is in it.

    The nearest float32 of a float64 bound is outside as often as not (of 0.1 it is), and an
    environment may refuse such an action.

    Args:
        low, high: bounds per action dimension, action units.
    Returns: new arrays, those of a dimension in which no float32 is in the box (one that is fixed
        at 0.1, say) both the one next to it.
    """
    exact_low_A, exact_high_A = np.asarray(low, np.float64), np.asarray(high, np.float64)
    low_A, high_A = exact_low_A.astype(np.float32), exact_high_A.astype(np.float32)
    low_A = np.where(low_A < exact_low_A, np.nextafter(low_A, np.float32(np.inf)), low_A)
    high_A = np.where(high_A > exact_high_A, np.nextafter(high_A, np.float32(-np.inf)), high_A)
    none_A = low_A > high_A
    middle_A = (exact_low_A + (exact_high_A - exact_low_A) / 2).astype(np.float32)
    return np.where(none_A, middle_A, low_A), np.where(none_A, middle_A, high_A)


def bounded(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray) -> bool:
    """Whether the range of every action ``[A]`` is a finite number in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        low_A, high_A = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return bool(np.isfinite(high_A - low_A).all() and np.isfinite(high_A + low_A).all())
