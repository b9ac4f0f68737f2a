"""The numbers of a report's tables, a row per curve, and ``table.csv``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adabc_lightning.commands.report.panels import Curve, Panel
from adabc_lightning.commands.report.reach import level_of, reached
from adabc_lightning.commands.results import csv_text

FIELDS = {
    "pretrained": "after pre-training",
    "final": "final",
    "best": "best",
    "online_mean": "mean of fine-tuning",
}
FALLS = {"dip": "dip", "drawdown": "drawdown", "swing": "swing"}
KEPT = "worst kept"
TRIED = "steps in trials"
GLOSSARY = {
    "steps to": "median over seeds of the environment steps until an evaluation reaches the score "
    "(0: the pre-trained policy does; never: fewer than half do)",
    "dip": "after pre-training minus the worst evaluation of the first fifth of fine-tuning",
    "drawdown": "the largest fall below the best evaluation until then",
    "swing": "the mean change from one evaluation to the next, up or down, from the first on that "
    "has four fifths of the run's best",
    KEPT: "the final evaluation as a share of the run's best, of the seed with the smallest; "
    f"drawdown, swing and {KEPT} count the pre-trained policy's evaluation, too",
    TRIED: "made beside those of training by a variant that evaluates the policy it deploys, not "
    "its newest",
}
"""What a table's columns mean, for the notes of every report."""
REPETITIONS = 2_000  # bootstrap resamples of an interval
Numbers = dict[str, Any]
"""A curve's row, by column."""


def mean_and_error(values: list[float | None]) -> tuple[float | None, float | None]:
    """Of the known ones, with the standard error; None where nothing or one value is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    error = float(np.std(known, ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
    return float(np.mean(known)), error


def values_of(curve: Curve, unit: str, field: str) -> list[float | None]:
    """One number of every run's summary; None for what has not happened yet."""
    return [run.summary[unit].get(field) for run in curve.runs]


Interval = tuple[float, float | None, float | None]
"""A value and the bounds of its interval; one run says nothing of them."""


def interquartile_mean(values: list[float] | np.ndarray) -> Interval:
    """Interquartile mean and the bounds of its 95 % interval.

    Args:
        values: one per seed, at least one, or ``[runs, tasks]``.
    """
    scores = np.array(values, dtype=float)
    points, low, high = bootstrapped(scores.reshape(len(scores), -1), _middle)
    if len(scores) == 1:
        return float(points[0]), None, None
    return float(points[0]), float(low[0]), float(high[0])


def _middle(scores_RT: np.ndarray) -> np.ndarray:
    """``rliable.metrics.aggregate_iqm``, ``[1]``, to the last digit.

    SciPy's ``trim_mean``, which that calls, looks at its arguments for longer than it computes, and
    this is called for every resample: a report of many variants would take more than twice as long.
    """
    scores, cut = scores_RT.ravel(), int(0.25 * scores_RT.size)
    last = scores.size - cut
    return np.array([np.partition(scores, (cut, last - 1))[cut:last].mean()])


def bootstrapped(
    scores_RT: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A measure of scores and the bounds of its 95 % stratified-bootstrap interval, ``[n]`` each.

    Args:
        scores_RT: ``[runs, tasks]``.
        measure: of such an array, ``[n]``.
    """
    from rliable import library  # takes seconds to import

    state = np.random.get_state()
    np.random.seed(0)  # rliable draws from the global generator whatever random_state says
    try:
        points, intervals = library.get_interval_estimates(
            {"curve": scores_RT}, measure, reps=REPETITIONS
        )
    finally:
        np.random.set_state(state)
    return points["curve"], *intervals["curve"]


def rows(panels: list[Panel], level: float | None = None, intervals: bool = True) -> list[Numbers]:
    """The table's numbers: a mapping per curve, columns in order.

    Args:
        level: to count the environment steps to; None for a level per panel
            (:func:`~adabc_lightning.commands.report.reach.level_of`).
        intervals: whether to add the interquartile mean, which needs rliable.
    """
    made: list[Numbers] = []
    for panel in panels:
        aim = level_of(panel) if level is None else level
        for curve in panel.curves:
            row: Numbers = {
                "task": panel.task,
                "env_id": panel.env_id,
                "dataset": panel.dataset,
                "variant": curve.label,
                "seeds": len(curve.runs),
                "unfinished": curve.unfinished,
                "unit": panel.unit,
            }
            for field in (*FIELDS, *FALLS):
                mean, error = mean_and_error(values_of(curve, panel.unit, field))
                row |= {field: mean, f"{field}_stderr": error}
            kept = [k for k in values_of(curve, panel.unit, "kept") if k is not None]
            row["worst_kept"] = min(kept, default=None)
            median, count = (None, 0) if aim is None else reached(curve, panel.unit, aim)
            row |= {"level": aim, "steps_to_level": median, "reached_level": count}
            row["trial_env_steps"], _ = mean_and_error([run.steps_in_trials for run in curve.runs])
            if intervals:
                online = values_of(curve, panel.unit, "online_mean")
                known = [value for value in online if value is not None]
                iqm = interquartile_mean(known) if known else (None, None, None)
                row |= dict(zip(("iqm", "iqm_low", "iqm_high"), iqm, strict=True))
            made.append(row)
    return made


def to_csv(table: list[Numbers]) -> str:
    """All numbers at full precision."""
    return csv_text(list(table[0]), (row.values() for row in table))
