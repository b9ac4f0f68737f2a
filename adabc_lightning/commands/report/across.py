"""Variants compared over all tasks of one benchmark at once, as rliable is meant to be used."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from adabc_lightning.commands.report.markdown import line_of
from adabc_lightning.commands.report.panels import Panel, benchmark_kind
from adabc_lightning.commands.report.shown import counted, number
from adabc_lightning.commands.report.table import (
    REPETITIONS,
    Interval,
    interquartile_mean,
    values_of,
)


@dataclass(frozen=True)
class Comparison:
    """Panels with the same variants, seeds and benchmark.

    Args:
        kind: of the benchmark.
        scores: mean of fine-tuning by variant: ``[runs, tasks]``.
        unfinished: runs of all tasks that have not reached their end, by variant.
    """

    kind: str
    scores: dict[str, np.ndarray]
    unfinished: dict[str, int]

    @property
    def first(self) -> str:
        """The variant that the others are compared with."""
        return next(iter(self.scores))

    @property
    def title(self) -> str:
        """Heading of its table."""
        return f"over {self.scores[self.first].shape[1]} tasks ({self.kind})"


def comparisons(panels: list[Panel]) -> list[Comparison]:
    """Every group of two panels or more that can be compared; raw returns never can.

    A task under two protocols (time limits, reference returns) is two benchmarks, not two tasks.
    """
    tasks = Counter((panel.task, panel.env_id, panel.dataset) for panel in panels)
    twice = max(tasks.values(), default=0) > 1
    groups: dict[tuple, list[Panel]] = {}
    for panel in panels:
        # In any order: runs of several folders come in another one for each task.
        compared = frozenset(
            (curve.label, tuple(run.summary["seed"] for run in curve.runs))
            for curve in panel.curves
        )
        known = all(None not in values_of(c, panel.unit, "online_mean") for c in panel.curves)
        if panel.unit == "score" and known:
            protocol = panel.protocol if twice else None
            key = (benchmark_kind(panel.dataset), compared, protocol)
            groups.setdefault(key, []).append(panel)
    return [_compared(kind, group) for (kind, *_), group in groups.items() if len(group) > 1]


def _compared(kind: str, group: list[Panel]) -> Comparison:
    """Panels with the same variants, which come in the order of the first one's."""
    scores, unfinished = {}, {}
    for label in [curve.label for curve in group[0].curves]:
        curves = [next(c for c in panel.curves if c.label == label) for panel in group]
        scores[label] = np.array([values_of(c, "score", "online_mean") for c in curves]).T
        unfinished[label] = sum(curve.unfinished for curve in curves)
    return Comparison(kind, scores, unfinished)


def improvement(first_RT: np.ndarray, other_RT: np.ndarray) -> Interval:
    """Probability that a run of the first variant is better than one of the other on a task.

    Mean over tasks, ties count half: ``rliable.metrics.probability_of_improvement``, whose own
    bootstrap takes no seed. Runs are drawn anew within each task.

    Args:
        first_RT, other_RT: scores ``[runs, tasks]``; the numbers of runs may differ.
    """
    generator = np.random.default_rng(0)

    def drawn(scores_RT: np.ndarray) -> np.ndarray:
        rows = generator.integers(len(scores_RT), size=(REPETITIONS, *scores_RT.shape))
        return scores_RT[rows, np.arange(scores_RT.shape[1])]

    def probability(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = x[..., :, None, :], y[..., None, :, :]
        return ((x > y) + 0.5 * (x == y)).mean((-3, -2, -1))

    value = float(probability(first_RT, other_RT))
    if len(first_RT) == len(other_RT) == 1:
        return value, None, None
    low, high = np.percentile(probability(drawn(first_RT), drawn(other_RT)), (2.5, 97.5))
    return value, float(low), float(high)


def to_lines(comparison: Comparison) -> list[str]:
    """Heading and table, Markdown."""
    names = ["variant", "runs per task", "IQM", f"P({comparison.first} is better)"]
    lines = [f"## {comparison.title}", "", line_of(names), line_of(["---"] * len(names))]
    return [*lines, *(line_of(cells) for cells in cells_of(comparison)), ""]


def cells_of(comparison: Comparison) -> list[list[str]]:
    """A row per variant: name, runs per task, IQM, probability that the first is better."""
    first = comparison.scores[comparison.first]
    made = []
    for label, scores in comparison.scores.items():
        better = "" if label == comparison.first else interval_text(improvement(first, scores), 2)
        iqm = interval_text(interquartile_mean(scores), 1)
        runs = counted(len(scores), comparison.unfinished[label])
        made.append([label, runs, iqm, better])
    return made


def between(panel: Panel) -> list[list[Interval | None]]:
    """Probability of improvement of each curve over each other on one task, ``[curves][curves]``.

    Of the mean of fine-tuning; None on the diagonal and where no run has one.
    """
    known = [
        np.array([[v] for v in values_of(c, panel.unit, "online_mean") if v is not None])
        for c in panel.curves
    ]
    return [
        [improvement(a, b) if a is not b and len(a) and len(b) else None for b in known]
        for a in known
    ]


def interval_text(values: Interval, digits: int) -> str:
    """Value and bounds, rounded; of one run the value alone."""
    value, low, high = (number(value, digits) for value in values)
    return value if values[1] is None else f"{value} [{low}, {high}]"
