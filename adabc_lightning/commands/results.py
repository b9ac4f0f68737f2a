"""Files of a whole experiment beside its runs: ``results.csv`` and ``order.json``."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError, printable
from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.record import RECORD, load_json

ORDER = "order.json"  # in the folder of all runs: in which order tasks and variants are declared
RUNS = ("*/*/seed[0-9]*", "*/*/seeds*/replica_*")  # folders of single runs and of replicas
COLUMNS = (
    *("task", "variant", "seed", "dataset", "env_id", "finished"),
    *("unit", "pretrained", "final", "best", "dip", "online_mean", "drawdown", "swing", "kept"),
    *("gradient_updates", "env_steps", "seconds", "folder"),
)
SCORES = COLUMNS[COLUMNS.index("unit") + 1 : COLUMNS.index("gradient_updates")]


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV: its columns' names, and rows of as many values at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_as_cell, row) for row in rows)
    return text.getvalue()


def _as_cell(value: Any) -> Any:
    """A value for CSV: names steer no terminal, and are no formulas for a spreadsheet."""
    if not isinstance(value, str):
        return value
    return f"{chr(39) if value.startswith(('=', '+', '-', '@')) else ''}{printable(value)}"


def load_order(out: Path) -> dict[str, list[str]]:
    """``tasks`` and ``variants`` of an experiment's folder as declared; empty where it has none.

    Raises: UserError: the file cannot be read or holds something else.
    """
    order = load_json(out / ORDER)
    for name in ("tasks", "variants") if order else ():
        names = order.get(name)
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise UserError(f"{out / ORDER} is damaged: {name} is no list of names")
    return order


def write_order(out: Path, tasks: list[str], variants: list[str]) -> None:
    """Writes in which order a report shows them; others that were run here before come after.

    In no run's ``experiment.json``, which says what a run is: an order changes none.
    """
    old = load_order(out)
    new = {"tasks": tasks, "variants": variants}
    order = {name: list(dict.fromkeys([*names, *old.get(name, [])])) for name, names in new.items()}
    if order != old:
        replace_text(out / ORDER, json.dumps(order, indent=2, ensure_ascii=False) + "\n")


def write_results(out: Path) -> None:
    """Gathers every run that has a summary, sorted; returns where no scores are known."""
    rows = []
    for path in (path for runs in RUNS for path in out.glob(f"{runs}/{RECORD}")):
        record, summary = load_json(path), load_json(path.parent / "summary.json")
        if record["kind"] != "run" or not summary:
            continue
        unit = "score" if summary["score"]["final"] is not None else "return"
        row = {name: record[name] for name in ("task", "variant", "seed")}
        row |= {name: summary[name] for name in ("dataset", "env_id", "finished")}
        row["unit"] = unit
        row |= {name: summary[unit].get(name) for name in SCORES}
        row |= {name: summary[name] for name in ("gradient_updates", "env_steps")}
        row["seconds"] = round(sum(summary["seconds"].values()), 1)
        row["folder"] = path.parent.relative_to(out).as_posix()
        rows.append(row)
    rows.sort(key=lambda row: (row["task"], row["variant"], row["seed"]))
    values = ([row[name] for name in COLUMNS] for row in rows)
    replace_text(out / "results.csv", csv_text(COLUMNS, values))
