"""How many environment steps a run needs to reach a score."""

from dataclasses import dataclass
from math import floor, inf, log10

import numpy as np

from adabc_lightning.commands.report.panels import Curve, Panel
from adabc_lightning.commands.report.runs import Run


@dataclass(frozen=True)
class Reached:
    """When the runs of a curve first had an evaluation at a level or above it.

    Args:
        median: environment steps of fine-tuning over runs; infinite where half of them never
            reached it, None where no run was evaluated.
        count: how many did.
    """

    median: float | None
    count: int


def level_of(panel: Panel) -> float | None:
    """A round level that tells curves apart: the highest that half of the runs reach.

    Returns: a multiple of 10 (scores) or of a tenth of the best return's power of ten; None
        without fine-tuning.
    """
    curves = [run.evaluations(f"eval/{panel.unit}") for c in panel.curves for run in c.runs]
    best = [
        max(row[f"eval/{panel.unit}"] for row in rows)
        for rows in curves
        if rows and rows[-1]["env_steps"]
    ]
    if not best:
        return None
    middle = float(np.median(best))
    largest = max(abs(value) for value in best)
    step = 10.0 if panel.unit == "score" else 10.0 ** floor(log10(largest or 1.0)) / 10
    return floor(middle / step) * step


def steps_to(run: Run, unit: str, level: float) -> float | None:
    """Environment steps before the first evaluation at a level or above it.

    Returns: 0 for the end of pre-training; infinite if there was none; None before fine-tuning.
    """
    rows = [row for row in run.evaluations(f"eval/{unit}") if f"eval/{unit}" in row]
    online = [row for row in rows if row["env_steps"]]
    if not online:
        return None
    reached = [row["env_steps"] for row in rows[-len(online) - 1 :] if row[f"eval/{unit}"] >= level]
    return min(reached, default=inf)


def reached(curve: Curve, unit: str, level: float) -> Reached:
    """Over the runs that were fine-tuned."""
    steps = [s for run in curve.runs if (s := steps_to(run, unit, level)) is not None]
    if not steps:
        return Reached(None, 0)
    # The lower median of an even number: infinite only where fewer than half reached it.
    median = sorted(steps)[(len(steps) - 1) // 2]
    return Reached(float(median), sum(s < inf for s in steps))
