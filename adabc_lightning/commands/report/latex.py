"""``table.tex``: the same tables for a paper, with booktabs."""

import re

from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.shown import tables
from adabc_lightning.commands.report.table import Numbers

_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"−": "$-$", "±": r"$\pm$", "α": r"$\alpha$", "–": "--", "<": "$<$", ">": "$>$"},
}


def to_latex(panels: list[Panel], rows: list[Numbers]) -> str:
    """A ``table`` environment per table of a panel, with booktabs.

    Args:
        panels: not empty.
        rows: of :func:`~adabc_lightning.commands.report.table.rows`, all panels' in order.
    """
    remaining = iter(rows)
    lines = [r"% needs \usepackage{booktabs}; means over seeds, standard errors after the sign"]
    for panel in panels:
        for table in tables(panel, [next(remaining) for _ in panel.curves]):
            caption = escaped(f"{panel.title}: {table.name}" if table.name else panel.title)
            lines += [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
            lines += [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
            lines += [_line(["variant", *table.columns]), r"\midrule"]
            for line in table.lines:
                if not line.below:
                    lines.append(_line([line.name, *(cell.text for cell in line.cells)]))
            lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """What LaTeX reads as these letters."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found[0]], text)


def _line(cells: list[str]) -> str:
    return f"{' & '.join(escaped(cell) for cell in cells)} \\\\"
