"""``table.md``: a heading and a table or two per panel."""

from collections.abc import Iterable

from adabc_lightning.commands.report.across import Comparison, cells_of
from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.shown import tables
from adabc_lightning.commands.report.table import KEPT, REPETITIONS, TRIED, Numbers

NOTE = f"""\
Evaluations without noise; *score*: 0 a random policy, 100 an expert, by D4RL's reference returns or
the runs' own. Means over seeds ± standard error of the mean. *IQM*: interquartile mean over seeds
of the mean of fine-tuning, with a 95 % stratified-bootstrap interval (percentiles, {REPETITIONS:,}
resamples; rliable); below four seeds nothing is cut off, and it is the mean. *steps to*: median
over seeds of the environment steps until an evaluation reaches the score (0: the pre-trained policy
does; never: fewer than half do); unless `--reach` names one, it is the highest multiple of 10 that
half of the table's runs reach. What was lost has a table of its own. *dip*: after pre-training
minus the worst evaluation of the first fifth of fine-tuning. *drawdown*: the largest fall below the
best evaluation until then. *swing*: the mean change from one evaluation to the next, up or down,
from the first on that has four fifths of the run's best. *{KEPT}*: the final evaluation as a share
of the run's best, of the seed with the smallest. These three count the pre-trained policy's
evaluation, too. *{TRIED}*: made beside those of training by a variant that evaluates the policy it
deploys, not its newest. Different datasets are different benchmarks: their numbers do not compare.
Tasks of one benchmark with the same variants and seeds (where no two have, with those that all
share) have a table over all of them: the IQM over
runs and tasks, and *P*, the probability that a run of the row's variant has a higher mean of
fine-tuning than one of the first variant on the same task.
"""


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
