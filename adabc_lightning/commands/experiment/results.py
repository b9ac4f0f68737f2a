"""``results.csv``: one row per run below a folder, gathered from the runs' summaries."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import replace_text

RECORD = "experiment.json"  # in a run's folder: which cell of which experiment it is
RUNS = ("*/*/seed[0-9]*", "*/*/seeds/replica_*")  # folders of single runs and of replicas
COLUMNS = (
    *("task", "variant", "seed", "dataset", "env_id", "finished"),
    *("unit", "pretrained", "final", "best", "dip", "online_mean", "drawdown", "swing", "kept"),
    *("gradient_updates", "env_steps", "seconds", "folder"),
)
SCORES = COLUMNS[COLUMNS.index("unit") + 1 : COLUMNS.index("gradient_updates")]


def load_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where there is none.

    Raises: UserError: it cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"{path} is damaged: it is no JSON") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no mapping")
    return content


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
