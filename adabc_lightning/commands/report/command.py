"""``python -m adabc_lightning report``: its options, and which files it writes."""

import sys
from argparse import ArgumentTypeError
from importlib.util import find_spec
from pathlib import Path

from adabc_lightning.commands.options import Options
from adabc_lightning.commands.report.panels import mixed_sources, panels, put_first
from adabc_lightning.commands.report.runs import find_runs
from adabc_lightning.errors import UserError, nearest, one_line, printable
from adabc_lightning.run.atomic import refuse_url, replace_text

FORMATS = ("svg", "png", "latex")
EPILOG = """\
--out PAGE.html writes one self-contained page: tables, interactive learning curves and traces,
commands, versions. Otherwise table.md (also printed), table.csv and curves.svg go into a folder.
--format adds figures and a LaTeX table to either. There is one table and one panel per environment
and dataset, since numbers of different datasets do not compare. Where the tasks of a benchmark have
the same variants and seeds there is a table over all of them, too (across.csv), and beside
curves.svg a figure, across.svg: IQM, performance profile, probability of improvement. Runs that
differ in nothing but their seed are one row and one curve: in an experiment's folder it has the
variant's name, elsewhere that of the runs' folders. Unfinished runs count as far as they are, and
are marked.
"""


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ArgumentTypeError(f"{name!r} is no format; {nearest(name, FORMATS)}")
    return names


def parser() -> Options:
    """The command's options."""
    options = Options("report", "Page, table and learning curves of runs.", EPILOG)
    add = options.add_argument
    add("runs", metavar="RUNS", nargs="+", type=Path, help="folders of runs, at any depth")
    add(
        "--out",
        type=Path,
        metavar="PATH",
        help="a page (NAME.html) or a folder (default: RUNS if it is one folder, else report)",
    )
    add(
        "--format",
        type=_formats,
        metavar="NAMES",
        help="what to draw and write besides: svg, png, latex, or several with commas "
        "(default: svg into a folder, nothing beside a page)",
    )
    options.add_number(
        "--reach",
        metavar="SCORE",
        help="count the environment steps until this score, or return where there are no scores "
        "(default: the highest round one that half of the runs reach)",
    )
    add(
        "--first",
        metavar="VARIANT",
        help="the row and curve before all others, which they are compared with over all tasks "
        "(default: the first that the experiment declares, elsewhere the first of the folders)",
    )
    add("--each", action="store_true", help="a row for each run in table.md, too")
    return options


def main(words: list[str]) -> None:
    """Reads runs, writes the page or writes and prints the table, draws the figures.

    Args:
        words: the command line after ``report``.
    Raises: UserError: something the user gave is wrong, or the extra is not installed.
    """
    options = parser().parse_args(words)
    out = options.out or (options.runs[0] if len(options.runs) == 1 else Path("report"))
    page = out.suffix.lower() in (".html", ".htm")
    if page and options.each:
        raise UserError("--each is for table.md; the page has a row for each run already")
    formats = options.format or (() if page else ("svg",))
    draws = any(name != "latex" for name in formats)
    for library in ("rliable", *(["matplotlib"] if draws else [])):
        if find_spec(library) is None:
            raise UserError(f"report needs {library}: pip install 'adabc_lightning[report]'")
    runs, left_out = find_runs(options.runs)
    if not runs:
        why = "; ".join(left_out[:3]) or "experiments' pre-trainings are left out"
        raise UserError(f"no run in {options.runs[0]} can be reported: {why}")
    for clause in left_out:
        print(one_line(f"left out, {clause}"), file=sys.stderr)
    sorted_runs = panels(runs)
    if options.first is not None:
        put_first(sorted_runs, options.first)
    for line in mixed_sources(sorted_runs):
        print(one_line(line), file=sys.stderr)
    folder = out.parent if page else out
    if page and out.is_dir():
        raise UserError(f"--out: {out} is a folder; give the name of a file for the page")
    refuse_url(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {folder} cannot be made: {error.strerror}") from error
    from adabc_lightning.commands.report.across import comparisons, not_compared
    from adabc_lightning.commands.report.across import to_csv as across_csv
    from adabc_lightning.commands.report.markdown import to_markdown
    from adabc_lightning.commands.report.table import rows, to_csv

    table, groups = rows(sorted_runs, options.reach), comparisons(sorted_runs)
    without = not_compared(sorted_runs)
    if page:
        from adabc_lightning.commands.report.page import to_html

        replace_text(out, to_html(sorted_runs, _title(options.runs), table, groups, without))
        print(printable(str(out)))
    else:
        text = to_markdown(sorted_runs, table, options.each, groups, without)
        replace_text(out / "table.md", text)
        replace_text(out / "table.csv", to_csv(table))
        if groups:
            replace_text(out / "across.csv", across_csv(groups))
        print(text, end="")
    for name in formats:
        if name == "latex":
            from adabc_lightning.commands.report.latex import to_latex

            target = out.with_suffix(".tex") if page else out / "table.tex"
            replace_text(target, to_latex(sorted_runs, table, groups, without))
        else:
            from adabc_lightning.commands.report.figure import draw  # matplotlib takes a second
            from adabc_lightning.commands.report.profile import draw_profiles

            target = out.with_suffix(f".{name}") if page else out / f"curves.{name}"
            draw(sorted_runs, target)
            if groups:
                stem = f"{out.stem}-across" if page else "across"
                draw_profiles(groups, folder / f"{stem}.{name}")
        if page:
            print(printable(str(target)))


def _title(folders: list[Path]) -> str:
    """Names of the folders that were given, the first of them where they are many."""
    names = [folder.resolve().name for folder in folders]
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return printable(", ".join(names[:3] if more else names) + more)
