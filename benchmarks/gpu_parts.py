"""Parts of ``gpu.sh``: updates, replicas and loops, and the table of all that it measured.

.venv/bin/python benchmarks/gpu_parts.py updates runs/gpu/tf32.json --precision high
.venv/bin/python benchmarks/gpu_parts.py replicas runs/gpu/replicas.json --count 1 5 20
.venv/bin/python benchmarks/gpu_parts.py loops runs/gpu/loops.json --precision high
.venv/bin/python benchmarks/gpu_parts.py table runs/gpu

They may run side by side: each compiles what it measures, and measures when no other does. The last
prints what is there, so also of a run that was cut.
"""

import argparse
import csv
import fcntl
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTS = ("bench", "tests", "learn")
_WARM = 40
"""Updates: two training steps, one of either pattern of delayed ones."""


@contextmanager
def turn(file: Path, alone: bool = True) -> Iterator[None]:
    """Waits for its turn among those that write into one folder.

    Args:
        file: in it.
        alone: to measure; False to compile and to warm up, which many may do at once, and while
            they do nobody measures.
    """
    with open(file.parent / "turn", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def place() -> tuple[Any, str]:
    """The device, and the engine of long runs there (on a CPU the one that tries the script)."""
    import torch

    from adabc_lightning.run.runtime import tune

    tune()
    if torch.cuda.is_available():
        return torch.device("cuda", 0), "compiled_graph"
    return torch.device("cpu"), "eager"


def updates(file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Updates per second of the engines and of the baselines, in float32 or another precision."""
    import torch

    from adabc_lightning.commands.bench.command import machine
    from adabc_lightning.commands.bench.shapes import Shapes
    from adabc_lightning.commands.bench.updates import contestants, in_turn

    device, engine = place()
    bf16 = options.precision == "bf16"
    torch.set_float32_matmul_precision("highest" if bf16 else options.precision)
    shapes = Shapes(
        num_critics=options.num_critics,
        hidden=(options.hidden, options.hidden),
        rows=options.rows,
        precision="bf16" if bf16 else "float32",
    )
    engines = ["eager"] if engine == "eager" else ["eager", "cuda_graph", engine]
    running = contestants(shapes, device, engines)
    if bf16:
        running = {name: run for name, run in running.items() if name.endswith("bf16")}
    with turn(file, alone=False):
        for run in running.values():
            run(_WARM)
    with turn(file):
        rates = in_turn(running, options.updates, options.rounds, device)
    measured = {name: {"updates_per_s": each} for name, each in rates.items()}
    return {"machine": machine(device), "updates": measured}


def replicas(file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Updates per second of R stacked agents of the paper's sizes, all of them together."""
    import torch

    from adabc_lightning.agent.engines import ENGINES
    from adabc_lightning.commands.bench.shapes import Shapes
    from adabc_lightning.commands.bench.updates import in_turn
    from adabc_lightning.commands.bench.updates import replicas as stacked

    device, engine = place()
    torch.set_float32_matmul_precision(options.precision)
    shapes = Shapes(hidden=(options.hidden, options.hidden), rows=min(options.rows, 50_000))
    engines = [ENGINES[engine]() for _ in options.count]
    counts = zip(options.count, engines, strict=True)
    running = {str(count): stacked(count, shapes, device, each) for count, each in counts}
    with turn(file, alone=False):
        for run in running.values():
            run(_WARM)
    with turn(file):
        rates = in_turn(running, options.updates, options.rounds, device)
    together = {count: [int(count) * rate for rate in each] for count, each in rates.items()}
    (name,) = {each.name for each in engines}  # another where that one did not work
    return {"engine": name, "replicas": together}


def loops(file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Whole runs through Lightning: pre-training, fine-tuning of one agent and of five."""
    from adabc_lightning.commands.bench import loop

    device, engine = place()
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    hidden = [options.hidden, options.hidden]
    model = {"engine": engine, "matmul_precision": options.precision, "hidden_sizes": hidden}
    calls: dict[str, Callable[[int], dict[str, float]]] = {
        "offline": lambda n: loop.offline(10 * n, accelerator, model),
        "online, G = 10": lambda n: loop.online(n, 10, accelerator, model),
        "online, G = 10, 5 agents": lambda n: loop.online(n, 10, accelerator, model, 5),
        "online, G = 1": lambda n: loop.online(n, 1, accelerator, model),
        "online, G = 0": lambda n: loop.online(n, 0, accelerator, model),
    }
    with turn(file, alone=False):
        for call in calls.values():
            call(4)
    measured = {}
    with turn(file):
        for name, call in calls.items():
            measured[name] = call(options.steps)
            print(name, measured[name], flush=True)
    return {"loop": measured}


TITLES = {"float32": "float32", "tf32": "TF32", "bf16": "bfloat16", "two": "N = 2"}
"""Name of a file of numbers → what the table calls it."""


def rows(folder: Path) -> Iterator[tuple[str, str]]:
    """(what, how much) of everything that was measured so far."""
    for file, title in TITLES.items():
        for name, value in _read(folder / f"{file}.json").get("updates", {}).items():
            if "updates_per_s" in (value if isinstance(value, dict) else ()):
                rate = statistics.median(value["updates_per_s"])
                yield f"{title}, {name}", f"{rate:,.0f} updates/s"
    for file, title in TITLES.items():
        for name, value in _read(folder / f"loops_{file}.json").get("loop", {}).items():
            key, rate = next(iter(value.items()))
            unit = key.replace("_per_s", "/s").replace("_", " ")
            yield f"{title}, {name}", f"{rate:,.0f} {unit}, {value['outside']:.0%} not updates"
    for file, title in TITLES.items():
        measured = _read(folder / f"replicas_{file}.json")
        for count, rates in measured.get("replicas", {}).items():
            rate = statistics.median(rates)
            yield f"{title}, R = {count}, {measured['engine']}", f"{rate:,.0f} updates/s in all"
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
    parts = {"updates": updates, "replicas": replicas, "loops": loops}
    for name in parts:
        command = commands.add_parser(name)
        command.add_argument("file", type=Path)
        command.add_argument("--precision", default="highest")
        command.add_argument("--num-critics", type=int, default=10)
        command.add_argument("--count", type=int, nargs="+", default=[1, 5, 20])
        command.add_argument("--hidden", type=int, default=256)
        command.add_argument("--rows", type=int, default=200_000)
        command.add_argument("--updates", type=int, default=200)
        command.add_argument("--rounds", type=int, default=7)
        command.add_argument("--steps", type=int, default=1000)
    show = commands.add_parser("table")
    show.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "table":
        print(table(options.folder))
    else:
        measured = parts[options.command](options.file, options)
        options.file.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
