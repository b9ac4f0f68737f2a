"""The parts of ``report.html`` that say how runs were made."""

from html import escape as escape_html

from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.provenance import commands, differences, kept_of_each
from adabc_lightning.errors import printable


def escape(text: str) -> str:
    """For the page: neither marks it up nor steers what shows it."""
    return escape_html(printable(text, keep="\n"))


def settings(panel: Panel) -> str:
    """The keys in which the curves differ."""
    found = differences(panel)
    if not found:
        return ""
    head = "".join(f'<th scope="col">{escape(curve.label)}</th>' for curve in panel.curves)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + "</tr>"
        for name, values in found.items()
    )
    return f"""<details><summary>Settings in which the curves differ</summary>
<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{lines}</tbody></table>
</div></details>
"""


def origins(panel: Panel) -> str:
    """What each run of several datasets kept of each."""
    lines = [
        f'<tr><th scope="row">{escape(curve.label)}, seed {run.summary["seed"]}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
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


def how(shown: list[Panel]) -> str:
    """The commands of each run."""
    parts = []
    for panel in shown:
        for curve in panel.curves:
            for run in curve.runs:
                name = f"{curve.label}, seed {run.summary['seed']} ({run.folder})"
                lines = "\n".join(commands(run))
                parts.append(f"<h4>{escape(name)}</h4><pre>{escape(lines)}</pre>")
    state = " open" if len(parts) == 1 else ""
    return f"<details{state}><summary>Commands</summary>{''.join(parts)}</details>"


def definitions(title: str, content: dict[str, str]) -> str:
    """A list of names and values with a title."""
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in content.items())
    return f'<details open><summary>{title}</summary><dl class="list">{lines}</dl></details>'
