"""``table.md`` and ``table.csv``: one table per panel, one row per curve."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np

from adabc_lightning.commands.report.panels import Curve, Panel
from adabc_lightning.commands.report.reach import Reached, level_of, reached

FIELDS = {
    "pretrained": "after pre-training",
    "final": "final",
    "best": "best",
    "online_mean": "mean of fine-tuning",
}
FALLS = {"dip": "dip", "drawdown": "drawdown", "swing": "swing"}  # in a table of their own
KEPT = "worst kept"
REPETITIONS = 2_000  # bootstrap resamples of an interval
NOTE = f"""\
Evaluations without noise; *score* is D4RL's (0 a random policy, 100 an expert). Means over seeds ±
standard error of the mean. *IQM*: interquartile mean over seeds of the mean of fine-tuning, with a
95 % stratified-bootstrap interval (percentiles, {REPETITIONS:,} resamples; rliable); below four
seeds nothing is cut off, and it is the mean. *steps to*: median over seeds of the environment steps
until an evaluation reaches the score (0: the pre-trained policy does; never: fewer than half do);
unless `--reach` names one, it is the highest multiple of 10 that half of the table's runs reach.
What was lost has a table of its own. *dip*: after pre-training minus the worst evaluation of the
first fifth of fine-tuning. *drawdown*: the largest fall below the best evaluation until then.
*swing*: the mean change from one evaluation to the next, up or down, from the first on that has
four fifths of the run's best. *{KEPT}*: the final evaluation as a share of the run's best, of the
seed with the smallest. These three count the pre-trained policy's evaluation, too. Different
datasets are different benchmarks: their numbers do not compare. Tasks of one benchmark with the
same variants and seeds have a table over all of them: the IQM over runs and tasks, and *P*, the
probability that a run of the first variant has a higher mean of fine-tuning than one of the row's
on the same task.
"""


@dataclass(frozen=True)
class Statistic:
    """Mean over seeds and its standard error; None where nothing or one value is known."""

    mean: float | None
    error: float | None


def statistic(values: list[float | None]) -> Statistic:
    """Of the values that are known."""
    known = [value for value in values if value is not None]
    if not known:
        return Statistic(None, None)
    error = float(np.std(known, ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
    return Statistic(float(np.mean(known)), error)


def values_of(curve: Curve, unit: str, field: str) -> list[float | None]:
    """One number of every run's summary; None for what has not happened yet."""
    return [run.summary[unit].get(field) for run in curve.runs]


def interquartile_mean(values: list[float] | np.ndarray) -> tuple[float, float, float]:
    """Interquartile mean and the bounds of its 95 % interval.

    Args:
        values: one per seed, at least one, or ``[runs, tasks]``.
    """
    scores = np.array(values, dtype=float)
    from rliable import metrics  # takes seconds to import

    points, low, high = bootstrapped(
        scores.reshape(len(scores), -1), lambda drawn: np.array([metrics.aggregate_iqm(drawn)])
    )
    return float(points[0]), float(low[0]), float(high[0])


def bootstrapped(
    scores_RT: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A measure of scores and the bounds of its 95 % stratified-bootstrap interval, ``[n]`` each.

    Args:
        scores_RT: ``[runs, tasks]``.
        measure: of such an array, ``[n]``.
    """
    from rliable import library

    state = np.random.get_state()
    np.random.seed(0)  # rliable draws from the global generator whatever random_state says
    try:
        points, intervals = library.get_interval_estimates(
            {"curve": scores_RT}, measure, reps=REPETITIONS
        )
    finally:
        np.random.set_state(state)
    return points["curve"], *intervals["curve"]


def rows(
    panels: list[Panel], level: float | None = None, intervals: bool = True
) -> list[dict[str, object]]:
    """The table's numbers: a mapping per curve, columns in order.

    Args:
        level: to count the environment steps to; None for a level per panel
            (:func:`~adabc_lightning.commands.report.reach.level_of`).
        intervals: whether to add the interquartile mean, which needs rliable.
    """
    made: list[dict[str, object]] = []
    for panel in panels:
        aim = level_of(panel) if level is None else level
        for curve in panel.curves:
            row: dict[str, object] = {
                "task": panel.task,
                "env_id": panel.env_id,
                "dataset": panel.dataset,
                "variant": curve.label,
                "seeds": len(curve.runs),
                "unfinished": curve.unfinished,
                "unit": panel.unit,
            }
            for field in (*FIELDS, *FALLS):
                numbers = statistic(values_of(curve, panel.unit, field))
                row |= {field: numbers.mean, f"{field}_stderr": numbers.error}
            kept = [k for k in values_of(curve, panel.unit, "kept") if k is not None]
            row |= {"worst_kept": min(kept, default=None)}
            when = Reached(None, 0) if aim is None else reached(curve, panel.unit, aim)
            row |= {"level": aim, "steps_to_level": when.median, "reached_level": when.count}
            if intervals:
                online = values_of(curve, panel.unit, "online_mean")
                known = [value for value in online if value is not None]
                iqm = interquartile_mean(known) if known else (None, None, None)
                row |= dict(zip(("iqm", "iqm_low", "iqm_high"), iqm, strict=True))
            made.append(row)
    return made


def to_csv(table: list[dict[str, object]]) -> str:
    """All numbers at full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_markdown(
    panels: list[Panel], table: list[dict[str, object]], each: bool, across: list[str]
) -> str:
    """A heading and a table per panel.

    Args:
        across: lines of the tables over all tasks.
        each: whether every run gets a row, too.
    """
    remaining = iter(table)
    lines = [NOTE]
    for panel in panels:
        lines += [f"## {panel.title}", ""]
        names = ["variant", "seeds", *FIELDS.values()]
        rows = [next(remaining) for _ in panel.curves]
        names += [reach_heading(rows[0]), "IQM"]
        lines += [_line(names), _line(["---"] * len(names))]
        for curve, row in zip(panel.curves, rows, strict=True):
            cells = [plus_minus(row[field], row[f"{field}_stderr"]) for field in FIELDS]
            lines.append(
                _line([curve.label, seeds_text(row), *cells, reach_text(row), iqm_text(row)])
            )
            if each:
                lines += [_run_line(curve, i, panel.unit) for i in range(len(curve.runs))]
        lines.append("")
        if falls(rows):
            lines += _falls(panel, rows, each)
    lines += across
    if any(panel.unit == "return" for panel in panels):
        lines.append("Without reference returns there are no scores: such tables hold raw returns.")
    return "\n".join(lines).rstrip() + "\n"


def falls(table: list[dict[str, object]]) -> bool:
    """Whether a panel's rows know of any fine-tuning that could have fallen."""
    return any(row["drawdown"] is not None for row in table)


def _falls(panel: Panel, table: list[dict[str, object]], each: bool) -> list[str]:
    """The lines of the second table, of what was lost."""
    names = ["variant", *FALLS.values(), KEPT]
    lines = [_line(names), _line(["---"] * len(names))]
    for curve, row in zip(panel.curves, table, strict=True):
        cells = [plus_minus(row[field], row[f"{field}_stderr"]) for field in FALLS]
        lines.append(_line([curve.label, *cells, share(row["worst_kept"])]))
        for run in curve.runs if each else []:
            values = run.summary[panel.unit]
            cells = [*(number(values.get(field)) for field in FALLS), share(values.get("kept"))]
            lines.append(_line([f"– seed {run.summary['seed']}", *cells]))
    return [*lines, ""]


def _run_line(curve: Curve, index: int, unit: str) -> str:
    run = curve.runs[index]
    state = "" if run.finished else f", unfinished at {run.summary['env_steps']:,} steps"
    cells = [number(values_of(curve, unit, field)[index]) for field in FIELDS]
    return _line([f"– seed {run.summary['seed']}{state}", "", *cells, "", ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |"


def number(value: object) -> str:
    """One decimal, a true minus sign; empty for what is not known."""
    return "" if value is None else f"{round(float(value), 1) + 0.0:.1f}".replace("-", "−")  # type: ignore[arg-type]


def share(value: object) -> str:
    """Two decimals; empty for what is not known."""
    return "" if value is None else f"{round(float(value), 2) + 0.0:.2f}".replace("-", "−")  # type: ignore[arg-type]


def plus_minus(mean: object, error: object) -> str:
    """A mean and its standard error, if there is one."""
    return number(mean) + (f" ± {number(error)}" if error is not None else "")


def seeds_text(row: dict[str, object]) -> str:
    """How many runs there are, and how many of them have not reached their end."""
    return counted(row["seeds"], row["unfinished"])


def counted(runs: object, unfinished: object) -> str:
    """``3``, or ``3 (1 unfinished)``: those count as far as they are."""
    return f"{runs}" + (f" ({unfinished} unfinished)" if unfinished else "")


def iqm_text(row: dict[str, object]) -> str:
    """The interquartile mean, with its interval where there is more than one seed."""
    interval = f" [{number(row['iqm_low'])}, {number(row['iqm_high'])}]"
    return number(row["iqm"]) + (interval if row["iqm"] is not None and row["seeds"] != 1 else "")


def reach_heading(row: dict[str, object]) -> str:
    """Names the level of a table's rows."""
    return "steps" if row["level"] is None else f"steps to {row['level']:g}"


def reach_text(row: dict[str, object]) -> str:
    """Median of the steps, and how many of several runs got there."""
    steps = row["steps_to_level"]
    if steps is None:
        return ""
    shown = "never" if steps == inf else f"{steps:,.0f}"
    return shown + (f" ({row['reached_level']} of {row['seeds']})" if row["seeds"] != 1 else "")
