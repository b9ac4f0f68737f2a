"""Variants compared over all tasks of one benchmark at once, as rliable is meant to be used."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from adabc_lightning.commands.report.panels import Curve, Panel, benchmark_kind
from adabc_lightning.commands.report.shown import counted, interval_text
from adabc_lightning.commands.report.table import (
    REPETITIONS,
    Interval,
    interquartile_mean,
    values_of,
)
from adabc_lightning.commands.results import csv_text
from adabc_lightning.errors import printable

COLUMNS = (
    *("benchmark", "tasks", "variant", "runs_per_task", "unfinished"),
    *("iqm", "iqm_low", "iqm_high"),
    *("better_than", "probability", "probability_low", "probability_high"),
)
"""Of ``across.csv``."""


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

    @property
    def columns(self) -> list[str]:
        """Headings of its table."""
        return ["variant", "runs per task", "IQM", f"P(better than {self.first})"]

    @cached_property
    def means(self) -> dict[str, Interval]:
        """Interquartile mean of each variant over runs and tasks."""
        return {label: interquartile_mean(scores) for label, scores in self.scores.items()}

    @cached_property
    def chances(self) -> dict[str, Interval | None]:
        """Probability that each variant is better than the first; None for that one."""
        first = self.scores[self.first]
        return {
            label: None if label == self.first else improvement(scores, first)
            for label, scores in self.scores.items()
        }


def comparisons(panels: list[Panel]) -> list[Comparison]:
    """Every group of two panels or more that can be compared; raw returns never can.

    A task under two protocols (time limits, reference returns) is two benchmarks, not two tasks.
    """
    return [_compared(benchmark_kind(group[0].dataset), group) for group in _groups(panels)]


def _groups(panels: list[Panel]) -> list[list[Panel]]:
    """Tasks that are one table; where no two have the same curves, with those that all have."""
    groups = _same(panels)
    kinds = {benchmark_kind(group[0].dataset) for group in groups}
    for kind, same in _by_kind(panels).items():
        if kind not in kinds:
            groups += _same(_with_common(same))
    return groups


def _by_kind(panels: list[Panel]) -> dict[str, list[Panel]]:
    kinds: dict[str, list[Panel]] = {}
    for panel in panels:
        kinds.setdefault(benchmark_kind(panel.dataset), []).append(panel)
    return kinds


def _with_common(panels: list[Panel]) -> list[Panel]:
    """Those with scores, and of each the curves that all of them have, with the same seeds."""
    times = Counter(curve.label for panel in panels for curve in panel.curves)
    scored = [p for p in panels if p.unit == "score" and any(times[c.label] > 1 for c in p.curves)]
    known = [{(c.label, _seeds(c)) for c in panel.curves if _known(c)} for panel in scored]
    common = set.intersection(*known) if known else set()
    if len(common) < 2:
        return []
    return [
        replace(panel, curves=[c for c in panel.curves if (c.label, _seeds(c)) in common])
        for panel in scored
    ]


def _same(panels: list[Panel]) -> list[list[Panel]]:
    """Tasks with the same variants and seeds, whose scores are known."""
    tasks = Counter(map(_task, panels))
    twice = max(tasks.values(), default=0) > 1
    groups: dict[tuple, list[Panel]] = {}
    for panel in panels:
        # In any order: runs of several folders come in another one for each task.
        compared = frozenset((curve.label, _seeds(curve)) for curve in panel.curves)
        if panel.unit == "score" and all(_known(curve) for curve in panel.curves):
            protocol = panel.protocol if twice else None
            key = (benchmark_kind(panel.dataset), compared, protocol)
            groups.setdefault(key, []).append(panel)
    return [group for group in groups.values() if len(group) > 1]


def not_compared(panels: list[Panel]) -> list[str]:
    """Sentences: why tasks of one benchmark that share variants are in no table over tasks."""
    inside = {panel.title: panel for group in _groups(panels) for panel in group}
    sentences = []
    for kind, same in _by_kind(panels).items():
        compared = [panel for panel in same if panel.title in inside]
        sentences += _left_out(kind, [(panel, inside[panel.title]) for panel in compared])
        for panel in same:
            others = [
                other
                for other in compared or same
                if _task(other) != _task(panel) and set(_curves(other)) & set(_curves(panel))
            ]
            if others and not any(panel is other for other in compared):
                one, other = panel.task or panel.title, others[0].task or others[0].title
                if one == other:
                    one, other = panel.title, others[0].title
                what = f"{one} is in no table" if compared else "No table"
                why = _difference(panel, one, others[0], other)
                sentences.append(printable(f"{what} over tasks ({kind}): {why}."))
                if not compared:
                    break
    return sentences


def _left_out(kind: str, pairs: list[tuple[Panel, Panel]]) -> list[str]:
    """Sentences: which curves some tasks of a table have, and the table has not.

    Args:
        kind: of the benchmark.
        pairs: each task as it is, and as it is in the table.
    """
    labels = dict.fromkeys(
        label for panel, shown in pairs for label in _curves(panel) if label not in _curves(shown)
    )
    sentences = []
    for label in labels:
        tasks = Counter(panel.task for panel, _ in pairs)
        names = [p.task if p.task and tasks[p.task] == 1 else p.title for p, _ in pairs]
        curves = [_curves(panel) for panel, _ in pairs]
        without = [name for name, each in zip(names, curves, strict=True) if label not in each]
        of = {n: each[label] for n, each in zip(names, curves, strict=True) if label in each}
        why = f"{without[0]} has none" if without else _other_runs(label, of)
        sentences.append(printable(f"{label} is in no table over tasks ({kind}): {why}."))
    return sentences


def _other_runs(label: str, of: dict[str, Curve]) -> str:
    """In what the first curve differs from another of its variant, by the names of their tasks."""
    (one, curve), *others = of.items()
    seeds = _seeds(curve)
    for other, theirs in others:
        if len(seeds) != len(_seeds(theirs)):
            count = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
            return f"{one} has {count} of {label}, {other} {len(_seeds(theirs))}"
        if seeds != _seeds(theirs):
            return f"{one} has other seeds of {label} than {other}"
    name = next((name for name, each in of.items() if not _known(each)), one)
    return f"a run of {label} on {name} has no evaluation of fine-tuning yet"


def _difference(first: Panel, one: str, second: Panel, other: str) -> str:
    """The first thing for which two tasks of one benchmark do not compare.

    Args:
        first, second: both have a curve of one label.
        one, other: their names.
    """
    for panel, name in ((first, one), (second, other)):
        if panel.unit != "score":
            return f"{name} has no scores, only returns"
    ours, theirs = _curves(first), _curves(second)
    for name, lacking in ((other, [*ours.keys() - theirs]), (one, [*theirs.keys() - ours])):
        if lacking:
            return f"{name} has no {', '.join(sorted(lacking)[:3])}"
    of = {label: {one: curve, other: theirs[label]} for label, curve in ours.items()}
    for label, two in of.items():
        if _seeds(two[one]) != _seeds(two[other]):
            return _other_runs(label, two)
    for label, two in of.items():
        if not all(map(_known, two.values())):
            return _other_runs(label, two)
    return f"{one} and {other} have other time limits or reference returns"


def _task(panel: Panel) -> tuple[str | None, ...]:
    return panel.task, panel.env_id, panel.dataset


def _curves(panel: Panel) -> dict[str, Curve]:
    return {curve.label: curve for curve in panel.curves}


def _seeds(curve: Curve) -> tuple[int, ...]:
    return tuple(run.summary["seed"] for run in curve.runs)


def _known(curve: Curve) -> bool:
    """Whether every run has a score of fine-tuning."""
    return None not in values_of(curve, "score", "online_mean")


def _compared(kind: str, group: list[Panel]) -> Comparison:
    """Panels with the same variants, which come in the order of the first one's."""
    scores, unfinished = {}, {}
    for label in [curve.label for curve in group[0].curves]:
        curves = [next(c for c in panel.curves if c.label == label) for panel in group]
        scores[label] = np.array([values_of(c, "score", "online_mean") for c in curves]).T
        unfinished[label] = sum(curve.unfinished for curve in curves)
    return Comparison(kind, scores, unfinished)


def improvement(first_RT: np.ndarray, other_RT: np.ndarray) -> Interval:
    """Probability that a run of one variant is better than one of the other on a task.

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


def cells_of(comparison: Comparison) -> list[list[str]]:
    """A row per variant: name, runs per task, IQM, probability of improvement over the first."""
    made = []
    for label, scores in comparison.scores.items():
        chance = comparison.chances[label]
        better = "" if chance is None else interval_text(chance, 2)
        runs = counted(len(scores), comparison.unfinished[label])
        made.append([label, runs, interval_text(comparison.means[label], 1), better])
    return made


def to_csv(groups: list[Comparison]) -> str:
    """``across.csv``: all tables over tasks at full precision.

    Args:
        groups: not empty.
    """
    rows = []
    for group in groups:
        for label, scores in group.scores.items():
            row = [group.kind, scores.shape[1], label, len(scores), group.unfinished[label]]
            chance = group.chances[label]
            better = [group.first, *chance] if chance else [None] * 4
            rows.append([*row, *group.means[label], *better])
    return csv_text(COLUMNS, rows)


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
