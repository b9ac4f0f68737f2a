"""How many environment steps a run needs to reach a score."""

from math import floor, inf, log10

from adabc_lightning.commands.report.panels import Curve, Panel
from adabc_lightning.commands.report.runs import Run

_SMALLEST = 1e-100  # of returns that have a round level of their own


def level_of(panel: Panel) -> float | None:
    """A round level that tells curves apart: the highest that half of the runs reach.

    Returns: a multiple of 10 (scores) or of a tenth of the best return's power of ten; None
        without fine-tuning.
    """
    runs = [run for curve in panel.curves for run in curve.runs]
    curves = [values for run in runs if (values := _from_hand_over(run, panel.unit))]
    best = sorted(max(value for _, value in values) for values in curves)
    if not best:
        return None
    largest = max(abs(value) for value in best)
    largest = largest if largest > _SMALLEST else 1.0
    step = 10.0 if panel.unit == "score" else 10.0 ** floor(log10(largest)) / 10
    return floor(best[len(best) // 2] / step) * step


def steps_to(run: Run, unit: str, level: float) -> float | None:
    """Environment steps before the first evaluation at a level or above it.

    Returns: 0 for the end of pre-training; infinite if there was none; None before fine-tuning.
    """
    values = _from_hand_over(run, unit)
    return (
        min((steps for steps, value in values if value >= level), default=inf) if values else None
    )


def _from_hand_over(run: Run, unit: str) -> list[tuple[float, float]]:
    """Environment steps and values from the last evaluation of pre-training on, if any follows."""
    key = f"eval/{unit}"
    rows = [(row["env_steps"], row[key]) for row in run.evaluations(key) if key in row]
    online = sum(steps > 0 for steps, _ in rows)
    return rows[-online - 1 :] if online else []


def reached(curve: Curve, unit: str, level: float) -> tuple[float | None, int]:
    """When the fine-tuned runs of a curve first had an evaluation at a level or above it.

    Returns: the median of the environment steps of fine-tuning, infinite where more than half of
        the runs never reached it and None where none was evaluated; and how many did.
    """
    steps = [s for run in curve.runs if (s := steps_to(run, unit, level)) is not None]
    if not steps:
        return None, 0
    # The lower median of an even number: infinite only where fewer than half reached it.
    median = sorted(steps)[(len(steps) - 1) // 2]
    return float(median), sum(s < inf for s in steps)
