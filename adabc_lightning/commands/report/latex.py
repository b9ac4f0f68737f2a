"""``table.tex``: the same table for a paper, with booktabs."""

import re

from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.table import (
    FALLS,
    FIELDS,
    KEPT,
    falls,
    iqm_text,
    plus_minus,
    reach_heading,
    reach_text,
    seeds_text,
    share,
)

_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"−": "$-$", "±": r"$\pm$", "α": r"$\alpha$", "–": "--", "<": "$<$", ">": "$>$"},
}


def to_latex(panels: list[Panel], rows: list[dict[str, object]]) -> str:
    """A ``table`` environment per panel, with booktabs.

    Args:
        panels: not empty.
        rows: of :func:`~adabc_lightning.commands.report.table.rows`.
    """
    remaining = iter(rows)
    lines = [r"% needs \usepackage{booktabs}; means over seeds, standard errors after the sign"]
    for panel in panels:
        table = [next(remaining) for _ in panel.curves]
        heads = ["variant", "seeds", *FIELDS.values(), reach_heading(table[0]), "IQM"]
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{escaped(panel.title)}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
        lines += [_line(heads), r"\midrule"]
        for curve, row in zip(panel.curves, table, strict=True):
            cells = [plus_minus(row[field], row[f"{field}_stderr"]) for field in FIELDS]
            lines.append(
                _line([curve.label, seeds_text(row), *cells, reach_text(row), iqm_text(row)])
            )
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
        if falls(table):
            lines += _falls(panel, table)
    return "\n".join(lines).rstrip() + "\n"


def _falls(panel: Panel, table: list[dict[str, object]]) -> list[str]:
    """The second table, of what was lost."""
    heads = ["variant", *FALLS.values(), KEPT]
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(panel.title)}: falls}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
    lines += [_line(heads), r"\midrule"]
    for curve, row in zip(panel.curves, table, strict=True):
        cells = [plus_minus(row[field], row[f"{field}_stderr"]) for field in FALLS]
        lines.append(_line([curve.label, *cells, share(row["worst_kept"])]))
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]


def escaped(text: str) -> str:
    """What LaTeX reads as these letters."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found[0]], text)


def _line(cells: list[str]) -> str:
    return f"{' & '.join(escaped(cell) for cell in cells)} \\\\"
