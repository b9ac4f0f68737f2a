"""``python -m adabc_lightning report``: its options, and which files it writes."""

import sys
from importlib.util import find_spec
from pathlib import Path

from adabc_lightning.atomic import replace_text
from adabc_lightning.errors import UserError
from adabc_lightning.options import Options
from adabc_lightning.report.runs import find_runs, mixed_sources, panels

EPILOG = """\
Writes table.md (and prints it), table.csv and curves.svg. There is one table and one panel per
environment and dataset, since numbers of different datasets do not compare, and in table.md one
over all tasks of a benchmark where these have the same variants and seeds. Runs that differ in
nothing but their seed are one row and one curve: in an experiment's folder it has the variant's
name, elsewhere that of the runs' folders. Unfinished runs count as far as they are, and are marked.
"""


def parser() -> Options:
    """The command's options."""
    options = Options("report", "Table and learning curves of runs.", EPILOG)
    add = options.add_argument
    add("runs", metavar="RUNS", nargs="+", type=Path, help="folders of runs, at any depth")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: RUNS if it is one folder, else report)",
    )
    add("--format", choices=("svg", "png"), default="svg", help="of the figure (default: svg)")
    add("--each", action="store_true", help="a row for each run in table.md, too")
    return options


def main(words: list[str]) -> None:
    """Reads runs, writes and prints the table, draws the figure.

    Args:
        words: the command line after ``report``.
    Raises: UserError: something the user gave is wrong, or the extra is not installed.
    """
    options = parser().parse_args(words)
    for library in ("matplotlib", "rliable"):
        if find_spec(library) is None:
            raise UserError(f"report needs {library}: pip install adabc_lightning[report]")
    runs, empty = find_runs(options.runs)
    for folder in empty:
        print(f"left out, not evaluated yet: {folder}", file=sys.stderr)
    if not runs:
        raise UserError(f"no run in {options.runs[0]} has been evaluated yet; wait for the first")
    out = options.out or (options.runs[0] if len(options.runs) == 1 else Path("report"))
    sorted_runs = panels(runs)
    for line in mixed_sources(sorted_runs):
        print(line, file=sys.stderr)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be made: {error.strerror}") from error
    from adabc_lightning.report.across import comparisons, to_lines
    from adabc_lightning.report.figure import draw  # matplotlib takes a second
    from adabc_lightning.report.table import rows, to_csv, to_markdown

    table = rows(sorted_runs)
    across = [line for group in comparisons(sorted_runs) for line in to_lines(group)]
    text = to_markdown(sorted_runs, table, options.each, across)
    replace_text(out / "table.md", text)
    replace_text(out / "table.csv", to_csv(table))
    draw(sorted_runs, out / f"curves.{options.format}")
    print(text, end="")
