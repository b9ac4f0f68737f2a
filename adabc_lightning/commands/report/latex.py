"""``table.tex``: the same tables for a paper, with booktabs."""

import unicodedata
from collections.abc import Iterable

from adabc_lightning.commands.report.across import Comparison, cells_of
from adabc_lightning.commands.report.panels import Panel
from adabc_lightning.commands.report.shown import tables
from adabc_lightning.commands.report.table import Numbers

_COMMANDS = (
    ("αβγδεζηθικλμ", "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu"),
    ("νξπρςστυφχψω", "nu xi pi rho varsigma sigma tau upsilon varphi chi psi omega"),
    ("ΓΔΘΛΞΠΣΥΦΨΩ", "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"),
    ("µϵϕϑϱϖ∞±×·÷", "mu epsilon phi vartheta varrho varpi infty pm times cdot div"),
    ("≤≥≠≈→←∈∑√∂∇ℓ∣", "le ge ne approx to leftarrow in sum surd partial nabla ell mid"),
)
_MATHS = {
    **{
        letter: f"$\\{name}$"
        for letters, names in _COMMANDS
        for letter, name in zip(letters, names.split(), strict=True)
    },
    **{"−": "$-$", "<": "$<$", ">": "$>$", "|": "$|$", "°": r"$^\circ$"},
    **dict(zip("οΑΒΕΖΗΙΚΜΝΟΡΤΧ", "oABEZHIKMNOPTX", strict=True)),  # these look as Latin ones
}
_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"–": "--", "—": "---", "…": r"\ldots{}"},
    **_MATHS,
}


def to_latex(
    panels: list[Panel],
    rows: list[Numbers],
    groups: Iterable[Comparison] = (),
    without: Iterable[str] = (),
) -> str:
    """A ``table`` environment per table of a panel or over tasks, with booktabs.

    Args:
        panels: not empty.
        rows: of :func:`~adabc_lightning.commands.report.table.rows`, all panels' in order.
        groups: variants over several tasks.
        without: sentences about what is in none of these; comments.
    """
    remaining = iter(rows)
    lines = [
        r"% needs \usepackage{booktabs}; means over seeds, standard errors after the sign, 95 %",
        "% intervals in brackets",
    ]
    for panel in panels:
        for table in tables(panel, [next(remaining) for _ in panel.curves]):
            caption = f"{panel.title}: {table.name}" if table.name else panel.title
            shown = [
                [line.name, *(cell.text for cell in line.cells)]
                for line in table.lines
                if not line.below
            ]
            lines += _table(caption, ["variant", *table.columns], shown)
    for group in groups:
        lines += _table(group.title, group.columns, cells_of(group))
    lines += [f"% {sentence}" for sentence in without]
    return "\n".join(lines).rstrip() + "\n"


def _table(caption: str, columns: list[str], rows: list[list[str]]) -> list[str]:
    return [
        *(r"\begin{table}", r"\centering", rf"\caption{{{escaped(caption)}}}"),
        *(rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule"),
        *(_line(columns), r"\midrule", *map(_line, rows)),
        *(r"\bottomrule", r"\end{tabular}", r"\end{table}", ""),
    ]


def escaped(text: str) -> str:
    """What pdflatex reads as these letters: Latin, Greek, signs; those of other scripts stay."""
    return "".join(map(_letter, unicodedata.normalize("NFC", text)))


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    plain = unicodedata.normalize("NFKD", letter)
    for kind, sign in (("<super>", "^"), ("<sub>", "_")):  # as in x²
        if unicodedata.decomposition(letter).startswith(kind):
            return f"${sign}{{{plain.replace('−', '-')}}}$"
    return _MATHS.get(plain[0], letter) if "GREEK" in unicodedata.name(plain[0], "") else letter


def _line(cells: list[str]) -> str:
    return f"{' & '.join(escaped(cell) for cell in cells)} \\\\"
