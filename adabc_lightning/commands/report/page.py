"""``report.html``: one page that needs no network, from the same numbers as the tables."""

import html
import json
from collections.abc import Iterable
from pathlib import Path

from adabc_lightning import __version__
from adabc_lightning.commands.report.across import Comparison, between, cells_of
from adabc_lightning.commands.report.panels import Panel, mixed_sources, panels
from adabc_lightning.commands.report.provenance import (
    commands,
    differences,
    kept_of_each,
    texts,
    versions,
)
from adabc_lightning.commands.report.runs import Run, find_runs
from adabc_lightning.commands.report.series import points_for, section
from adabc_lightning.commands.report.shown import (
    Cell,
    Table,
    interval_text,
    number,
    reach_heading,
    reach_text,
    tables,
)
from adabc_lightning.commands.report.table import (
    FALLS,
    FIELDS,
    GLOSSARY,
    TRIED,
    Interval,
    Numbers,
    rows,
)
from adabc_lightning.errors import UserError, printable
from adabc_lightning.run.atomic import replace_text

HERE = Path(__file__).parent
MOST_COMPARED = 30  # curves of a matrix
_TERMS = " ".join(f"{name}: {meaning}." for name, meaning in GLOSSARY.items())
NOTE = f"""\
Score: 0 a random policy, 100 an expert, by D4RL's reference returns or the runs' own. Evaluations
without noise. Table: mean over seeds ± standard error. {_TERMS}
Curves: mean over seeds with its 95 % bootstrap interval, thin: the seeds. Losses and Q: means since
the point before. Different datasets are different benchmarks: their numbers do not compare."""
INTERVALS = """\
IQM: interquartile mean over seeds of the mean of fine-tuning with its 95 % stratified-bootstrap
interval (rliable); below four seeds nothing is cut off, and it is the mean."""


def to_html(
    shown: list[Panel],
    title: str,
    table: list[Numbers],
    comparisons: Iterable[Comparison] = (),
    not_compared: Iterable[str] = (),
) -> str:
    """The whole page; the same runs give the same text.

    Args:
        shown: not empty.
        title: of the page.
        table: its rows (:func:`~adabc_lightning.commands.report.table.rows`), with interquartile
            means or without.
        comparisons: of variants over several tasks.
        not_compared: sentences on tasks that are in none of them.
    """
    runs = [run for panel in shown for curve in panel.curves for run in curve.runs]
    points = points_for(len(runs))
    remaining = iter(table)
    parts, data = [], []
    for panel in shown:
        data.append(section(panel, points))
        parts.append(_section(panel, [next(remaining) for _ in panel.curves]))
    parts += [_across(comparison) for comparison in comparisons]
    parts += [f'<p class="note">{_escape(text)}</p>' for text in not_compared]
    unfinished = sum(not run.finished for run in runs)
    count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    count += f", {unfinished} unfinished" if unfinished else ""
    warnings = [
        *mixed_sources(shown),
        *(f"{w} ({r.folder})" for r in runs for w in texts(r.summary.get("warnings"))),
    ]
    content = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{_escape(title)}</title>
<style>
{(HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>{_escape(title)}</h1>
<p>{count} · adabc_lightning {__version__}</p>
{"".join(f'<p class="warning">{_escape(text)}</p>' for text in warnings)}
<div id="controls" hidden></div></header>
<main>
{"".join(parts)}
<section><h2>How it was made</h2>
{_how(shown)}
{_definitions("Versions", versions(runs))}
<p class="note">{NOTE} {INTERVALS if table and "iqm" in table[0] else ""}</p></section>
</main>
<noscript><p>The tables are complete; the charts need JavaScript.</p></noscript>
<script id="data" type="application/json">{content}</script>
<script>
{(HERE / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def write_page(folder: Path) -> Path | None:
    """``report.html`` of one run in its folder, without what needs rliable.

    Returns: its path; None for an experiment's pre-training, which reports leave out.
    Raises: UserError: the run's files are damaged, or the page cannot be written.
    """
    runs, left_out = find_runs([folder])
    if not runs:
        if left_out:
            raise UserError("; ".join(left_out))
        return None
    found = panels(runs)
    target = folder / "report.html"
    replace_text(target, to_html(found, folder.resolve().name, rows(found, intervals=False)))
    return target


def _section(panel: Panel, table: list[Numbers]) -> str:
    single = len(panel.curves) == 1 and len(panel.curves[0].runs) == 1
    if single:
        numbers = _tiles(panel, table[0])
    else:
        numbers = "".join(_table(panel, each) for each in tables(panel, table))
    return f"""<section class="panel"><h2>{_escape(panel.title)}</h2>
{numbers}
<div class="legend"></div><div class="charts"></div>
{_between(panel)}{_settings(panel)}{_origins(panel)}</section>
"""


def _tiles(panel: Panel, row: Numbers) -> str:
    """One run's numbers, large."""
    run = panel.curves[0].runs[0]
    values = run.summary[panel.unit]
    cells = [
        (name, Cell(number(values.get(field)) or "–", field, values.get(field)))
        for field, name in {**FIELDS, **FALLS}.items()
    ]
    shown = reach_text(row) or "–"
    cells.append((reach_heading(row), Cell(shown, "reach", row["steps_to_level"])))
    if (tried := run.steps_in_trials) is not None:
        cells.append((TRIED, Cell(f"{tried:,}", "trial_env_steps", tried)))
    tiles = "".join(f"<div><dt>{name}</dt>{_cell('dd', cell)}</div>" for name, cell in cells)
    state = "" if run.finished else f", unfinished at {run.summary['env_steps']:,} steps"
    name = f"{panel.curves[0].label}, seed {run.summary['seed']}{state}"
    return f'<h3>{_escape(name)}: {panel.unit}</h3><dl class="tiles" {_of(run)}>{tiles}</dl>'


def _table(panel: Panel, table: Table) -> str:
    """A row per curve, and one per seed that the page can fold away."""
    lines = []
    for line in table.lines:
        if line.below and len(panel.curves[line.curve].runs) == 1:
            continue  # its curve's own row says the same
        kind = 'class="seed"' if line.below else f'data-curve="{line.curve}"'
        of_run = "" if line.run is None else _of(line.run)
        cells = "".join(_cell("td", cell) for cell in line.cells)
        lines.append(f'<tr {kind} {of_run}><th scope="row">{_escape(line.name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ["curve", *table.columns])
    caption = f"{table.name}, {panel.unit}" if table.name else panel.unit
    return (
        f'<div class="wide"><table><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(tag: str, cell: Cell) -> str:
    """The number at full precision beside what is shown of it."""
    field = f' data-field="{cell.field}"' if cell.field else ""
    exact = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f"<{tag}{field}{exact}>{_escape(cell.text)}</{tag}>"


def _of(run: Run) -> str:
    return f'data-run="{_escape(str(run.folder))}"'


def _chance(cell: Interval | None) -> str:
    """A probability, with its interval where there is more than one run."""
    if cell is None:
        return "<td></td>"
    value, low, high = cell
    interval = "" if low is None or high is None else f"<small>{low:.2f}–{high:.2f}</small>"
    shown = f"{value:.2f}{interval}"
    return f'<td data-value="{value!r}" title="{interval_text(cell, 2)}">{shown}</td>'


def _between(panel: Panel) -> str:
    """Probability of improvement, row over column."""
    if not 2 <= len(panel.curves) <= MOST_COMPARED:
        return ""
    names = [_escape(curve.label) for curve in panel.curves]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = []
    for name, cells in zip(names, between(panel), strict=True):
        lines.append(f'<tr><th scope="row">{name}</th>{"".join(map(_chance, cells))}</tr>')
    return f"""<details class="between"><summary>Probability of improvement between curves</summary>
<p class="note">That a run of the row has a higher mean of fine-tuning than one of the column, ties
count half (as rliable's), with a 95 % bootstrap interval over seeds.</p>
<div class="wide"><table><thead><tr><th></th>{head}</tr></thead>
<tbody>{"".join(lines)}</tbody></table></div></details>
"""


def _across(comparison: Comparison) -> str:
    lines = "".join(
        f'<tr><th scope="row">{_escape(name)}</th>'
        + "".join(f"<td>{_escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in cells_of(comparison)
    )
    head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in comparison.columns)
    return f"""<section><h2>{_escape(comparison.title)}</h2><div class="wide"><table class="across">
<thead><tr>{head}</tr></thead>
<tbody>{lines}</tbody></table></div></section>
"""


def _settings(panel: Panel) -> str:
    """The keys in which the curves differ."""
    found = differences(panel)
    if not found:
        return ""
    head = "".join(f'<th scope="col">{_escape(curve.label)}</th>' for curve in panel.curves)
    lines = "".join(
        f'<tr><th scope="row">{_escape(name)}</th>'
        + "".join(f"<td>{_escape(value)}</td>" for value in values)
        + "</tr>"
        for name, values in found.items()
    )
    return f"""<details><summary>Settings in which the curves differ</summary>
<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{lines}</tbody></table>
</div></details>
"""


def _origins(panel: Panel) -> str:
    """What each run of several datasets kept of each."""
    lines = [
        f'<tr><th scope="row">{_escape(curve.label)}, seed {run.summary["seed"]}</th>'
        + "".join(f"<td>{_escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for curve in panel.curves
        for run in curve.runs
        for cells in kept_of_each(run)
    ]
    if not lines:
        return ""
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("run", "dataset", "transitions kept", "of", "episodes kept", "of")
    )
    return f"""<details class="origins"><summary>Kept of each dataset</summary>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>
</div></details>
"""


def _how(shown: list[Panel]) -> str:
    """The commands of each run."""
    parts = []
    for panel in shown:
        for curve in panel.curves:
            for run in curve.runs:
                name = f"{curve.label}, seed {run.summary['seed']} ({run.folder})"
                lines = "\n".join(commands(run))
                parts.append(f"<h4>{_escape(name)}</h4><pre>{_escape(lines)}</pre>")
    state = " open" if len(parts) == 1 else ""
    return f"<details{state}><summary>Commands</summary>{''.join(parts)}</details>"


def _definitions(title: str, content: dict[str, str]) -> str:
    """A list of names and values with a title."""
    lines = "".join(f"<dt>{_escape(k)}</dt><dd>{_escape(v)}</dd>" for k, v in content.items())
    return f'<details open><summary>{title}</summary><dl class="list">{lines}</dl></details>'


def _escape(text: str) -> str:
    """For the page: neither marks it up nor steers what shows it."""
    return html.escape(printable(text, keep="\n"))
