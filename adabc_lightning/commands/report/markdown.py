"""``table.md``: a heading and a table or two per panel."""

from collections.abc import Iterable
from textwrap import fill

from adabc_lightning.commands.report.across import Comparison, cells_of
from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.shown import tables
from adabc_lightning.commands.report.table import GLOSSARY, REPETITIONS, Numbers

_TERMS = " ".join(f"*{name}*: {meaning}." for name, meaning in GLOSSARY.items())
_NOTE = f"""\
Evaluations without noise; *score*: 0 a random policy, 100 an expert, by D4RL's reference returns or
the runs' own. Means over seeds ± standard error of the mean. *IQM*: interquartile mean over seeds
of the mean of fine-tuning, with a 95 % stratified-bootstrap interval (percentiles, {REPETITIONS:,}
resamples; rliable); below four seeds nothing is cut off, and it is the mean. {_TERMS} The score of
*steps to* is the highest multiple of 10 that half of the table's runs reach, unless `--reach` names
one. What was lost has a table of its own. Different datasets are different benchmarks: their
numbers do not compare. Tasks of one benchmark with the same variants and seeds (where no two have,
with those that all share) have a table over all of them: the IQM over runs and tasks, and *P*, the
probability that a run of the row's variant has a higher mean of fine-tuning than one of the first
variant on the same task.
"""
NOTE = f"{fill(_NOTE, 100, break_on_hyphens=False)}\n"


def to_markdown(
    panels: list[Panel],
    rows: list[Numbers],
    each: bool,
    groups: Iterable[Comparison],
    without: Iterable[str],
) -> str:
    """The notes, and everything that the tables show.

    Args:
        panels: not empty.
        rows: of :func:`~adabc_lightning.commands.report.table.rows`, all panels' in order.
        each: whether every run gets a row, too.
        groups: variants over several tasks.
        without: sentences about what is in none of these.
    """
    remaining = iter(rows)
    lines = [NOTE]
    for panel in panels:
        lines += [f"## {_escaped(panel.title)}", ""]
        for table in tables(panel, [next(remaining) for _ in panel.curves]):
            shown = [
                [f"– {line.name}" if line.below else line.name, *(cell.text for cell in line.cells)]
                for line in table.lines
                if each or not line.below
            ]
            lines += _table(["variant", *table.columns], shown)
    for group in groups:
        lines += [f"## {group.title}", "", *_table(group.columns, cells_of(group))]
    lines += [line for sentence in without for line in (_escaped(sentence), "")]
    if any(panel.unit == "return" for panel in panels):
        lines.append("Without reference returns there are no scores: such tables hold raw returns.")
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Names are neither HTML nor links."""
    return text.replace("<", "&lt;").replace("](", "]&#40;")


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [_line(columns), _line(["---"] * len(columns)), *map(_line, rows), ""]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(_escaped(cell).replace('|', '∣') for cell in cells)} |"
