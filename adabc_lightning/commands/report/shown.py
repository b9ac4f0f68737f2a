"""What a report's tables show, cell by cell: the same in Markdown, in LaTeX and on the page."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.reach import steps_to
from adabc_lightning.commands.report.runs import Run
from adabc_lightning.commands.report.table import FALLS, FIELDS, KEPT, TRIED, Interval, Numbers


@dataclass(frozen=True)
class Cell:
    """One number as it is read.

    Args:
        text: rounded.
        field: which one it is.
        value: at full precision; None for what is not known.
    """

    text: str
    field: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Args:
        name: of the curve, or ``seed 3``.
        cells: one for each of the table's columns.
        curve: its place in the panel.
        run: where the row is of a single one.
        below: whether it is of a run, below its curve's own row.
    """

    name: str
    cells: list[Cell]
    curve: int
    run: Run | None
    below: bool = False


@dataclass(frozen=True)
class Table:
    """One of a panel's.

    Args:
        name: empty for the scores.
        columns: headings of a line's cells.
        lines: in order.
    """

    name: str
    columns: list[str]
    lines: list[Line]


def tables(panel: Panel, rows: list[Numbers]) -> list[Table]:
    """The scores of a panel and, where any fine-tuning could have fallen, what was lost.

    Args:
        panel: its curves.
        rows: a row for each of them.
    """
    columns = ["seeds", *FIELDS.values(), reach_heading(rows[0])]
    columns += ["IQM"] if "iqm" in rows[0] else []
    lines = _lines(panel, rows, _scores, _scores_of_run)
    if any(row["trial_env_steps"] is not None for row in rows):
        columns.append(TRIED)
        for line in lines:
            line.cells.append(_tried(rows[line.curve], line.run))
    made = [Table("", columns, lines)]
    if any(row["drawdown"] is not None for row in rows):
        lines = _lines(panel, rows, _falls, _falls_of_run)
        made.append(Table("falls", [*FALLS.values(), KEPT], lines))
    return made


def _lines(
    panel: Panel,
    rows: list[Numbers],
    of_curve: Callable[[Numbers], list[Cell]],
    of_run: Callable[[Numbers, Run, str], list[Cell]],
) -> list[Line]:
    lines = []
    for place, (curve, row) in enumerate(zip(panel.curves, rows, strict=True)):
        alone = curve.runs[0] if len(curve.runs) == 1 else None
        lines.append(Line(curve.label, of_curve(row), place, alone))
        for run in curve.runs:
            name = f"seed {run.summary['seed']}"
            lines.append(Line(name, of_run(row, run, panel.unit), place, run, below=True))
    return lines


def _scores(row: Numbers) -> list[Cell]:
    cells = [Cell(counted(row["seeds"], row["unfinished"])), *(_mean(row, f) for f in FIELDS)]
    cells.append(Cell(reach_text(row), "reach", row["steps_to_level"]))
    if "iqm" in row:
        iqm = row["iqm"], row["iqm_low"], row["iqm_high"]
        cells.append(Cell(interval_text(iqm, 1), "iqm", row["iqm"]))
    return cells


def _scores_of_run(row: Numbers, run: Run, unit: str) -> list[Cell]:
    cells = [Cell("" if run.finished else f"at {run.summary['env_steps']:,} steps")]
    cells += [_one(run, unit, field) for field in FIELDS]
    steps = None if row["level"] is None else steps_to(run, unit, row["level"])
    cells.append(Cell(_steps_text(steps), "reach", steps))
    return cells + ([Cell("")] if "iqm" in row else [])


def _tried(row: Numbers, run: Run | None) -> Cell:
    steps = row["trial_env_steps"] if run is None else run.steps_in_trials
    return Cell(_steps_text(steps), "trial_env_steps", steps)


def _falls(row: Numbers) -> list[Cell]:
    kept = Cell(number(row["worst_kept"], 2), "kept", row["worst_kept"])
    return [*(_mean(row, field) for field in FALLS), kept]


def _falls_of_run(row: Numbers, run: Run, unit: str) -> list[Cell]:
    kept = run.summary[unit].get("kept")
    return [*(_one(run, unit, field) for field in FALLS), Cell(number(kept, 2), "kept", kept)]


def _mean(row: Numbers, field: str) -> Cell:
    """With its standard error, if there is one."""
    mean, error = row[field], row[f"{field}_stderr"]
    return Cell(number(mean) + (f" ± {number(error)}" if error is not None else ""), field, mean)


def _one(run: Run, unit: str, field: str) -> Cell:
    value = run.summary[unit].get(field)
    return Cell(number(value), field, value)


def number(value: float | None, digits: int = 1) -> str:
    """Rounded, with a true minus sign; empty for what is not known."""
    if value is None:
        return ""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "−")


def interval_text(values: Interval, digits: int) -> str:
    """Value and bounds, rounded; of one run the value alone."""
    value, low, high = (number(value, digits) for value in values)
    return value if values[1] is None else f"{value} [{low}, {high}]"


def counted(runs: int, unfinished: int) -> str:
    """``3``, or ``3 (1 unfinished)``: those count as far as they are."""
    return f"{runs}" + (f" ({unfinished} unfinished)" if unfinished else "")


def reach_heading(row: Numbers) -> str:
    """Names the level of a table's rows."""
    return "steps" if row["level"] is None else f"steps to {row['level']:g}"


def reach_text(row: Numbers) -> str:
    """Median of the steps, and how many of several runs got there."""
    shown = _steps_text(row["steps_to_level"])
    several = shown and row["seeds"] != 1
    return shown + (f" ({row['reached_level']} of {row['seeds']})" if several else "")


def _steps_text(steps: float | None) -> str:
    if steps is None:
        return ""
    return "never" if steps == inf else f"{steps:,.0f}"
