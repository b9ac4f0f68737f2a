"""Two parts of ``gpu.sh``: replicas in one update, and the table of all that it measured.

.venv/bin/python benchmarks/gpu_table.py replicas --count 1 5 10 20 --json replicas.json
.venv/bin/python benchmarks/gpu_table.py table runs/gpu

The second prints what is there, so also of a run that was cut.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTS = ("tests", "bench", "replicas", "learn")


def replicas(counts: list[int], updates: int, rounds: int, file: Path) -> None:
    """Updates per second of R stacked agents of the paper's sizes, all of them together.

    Args:
        counts: the R.
        updates: of each agent, per round.
        rounds: after one that warms up.
        file: takes ``{"device": its name, "replicas": {R: updates/s in each round}}``.
    """
    import torch

    from adabc_lightning.agent.engines import NAMED
    from adabc_lightning.commands.bench.shapes import Shapes
    from adabc_lightning.commands.bench.updates import in_turn
    from adabc_lightning.commands.bench.updates import replicas as stacked
    from adabc_lightning.run.runtime import tune

    tune()
    cuda = torch.cuda.is_available()
    device, engine = torch.device("cuda", 0) if cuda else torch.device("cpu"), "eager"
    if cuda:
        engine = "compiled_graph"
    measured: dict[str, list[float]] = {}
    for count in counts:  # one after the other: their rings lie in the device's memory
        run = stacked(count, Shapes(rows=50_000), device, NAMED[engine]())
        (rates,) = in_turn({"": run}, updates, rounds, device).values()
        measured[str(count)] = [count * rate for rate in rates]
        print(f"R = {count}: {statistics.median(measured[str(count)]):.0f} updates/s in all")
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    file.write_text(json.dumps({"device": name, "engine": engine, "replicas": measured}))


def rows(folder: Path) -> Iterator[tuple[str, str]]:
    """(what, how much) of everything that was measured so far."""
    names = {"float32": "float32", "tf32": "TF32", "two": "N = 2"}
    for file, title in names.items():
        for name, value in _read(folder / f"{file}.json").get("updates", {}).items():
            if "updates_per_s" in (value if isinstance(value, dict) else ()):
                rate = statistics.median(value["updates_per_s"])
                yield f"{title}, {name}", f"{rate:,.0f} updates/s"
    for name, value in _read(folder / "loop.json").get("loop", {}).items():
        key, rate = next(iter(value.items()))
        yield f"loop: {name}", f"{rate:,.0f} {key.replace('_per_s', '/s').replace('_', ' ')}"
    measured = _read(folder / "replicas.json")
    for count, rates in measured.get("replicas", {}).items():
        rate = statistics.median(rates)
        yield f"R = {count}, {measured['engine']}", f"{rate:,.0f} updates/s in all"
    for path in sorted((folder / "learn").glob("replica_*/metrics.csv")):
        with open(path, newline="") as file:
            scores = [row["eval/score"] for row in csv.DictReader(file) if row.get("eval/score")]
        curve = " → ".join(f"{float(score):.1f}" for score in scores)
        yield f"learning, {path.parent.name.replace('_', ' ')}: scores", curve
    summary = _read(folder / "learn" / "replica_0" / "summary.json")
    for key in sorted(key for key in summary if key.endswith("per_second")):
        yield f"learning: {key.replace('_', ' ')}, each", f"{summary[key]:,.1f}"
    tests = folder / "tests.txt"
    if tests.is_file():
        yield "tests", tests.read_text().strip().splitlines()[-1].strip("= ")
    for part in PARTS:
        done = folder / f"{part}.done"
        yield f"{part} took", f"{done.read_text().strip()} s" if done.is_file() else "not done"


def table(folder: Path) -> str:
    """Markdown, with the machine above it."""
    machine = _read(folder / "float32.json").get("machine", {})
    head = ", ".join(f"{key} {value}" for key, value in machine.items())
    lines = [f"| {what} | {much} |" for what, much in rows(folder)]
    return "\n".join([head, "", "| what | measured |", "| --- | --- |", *lines])


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("replicas")
    measure.add_argument("--count", type=int, nargs="+", default=[1, 5, 10, 20])
    measure.add_argument("--updates", type=int, default=200)
    measure.add_argument("--rounds", type=int, default=5)
    measure.add_argument("--json", type=Path, required=True)
    show = commands.add_parser("table")
    show.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        print(table(options.folder))
    else:
        replicas(options.count, options.updates, options.rounds, options.json)


if __name__ == "__main__":
    main()
