"""``results.csv``: one row per run below a folder, gathered from the runs' summaries."""

import csv
import io
from pathlib import Path

from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.record import RECORD, load_json

RUNS = ("*/*/seed[0-9]*", "*/*/seeds/replica_*")  # folders of single runs and of replicas
COLUMNS = (
    *("task", "variant", "seed", "dataset", "env_id", "finished"),
    *("unit", "pretrained", "final", "best", "dip", "online_mean", "drawdown", "swing", "kept"),
    *("gradient_updates", "env_steps", "seconds", "folder"),
)
SCORES = COLUMNS[COLUMNS.index("unit") + 1 : COLUMNS.index("gradient_updates")]


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
        row |= {"unit": unit} | {name: summary[unit].get(name) for name in SCORES}
        row |= {name: summary[name] for name in ("gradient_updates", "env_steps")}
        row |= {"seconds": round(sum(summary["seconds"].values()), 1)}
        row |= {"folder": path.parent.relative_to(out).as_posix()}
        rows.append(row)
    rows.sort(key=lambda row: (row["task"], row["variant"], row["seed"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(out / "results.csv", text.getvalue())
