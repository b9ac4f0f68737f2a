"""What two processes make of one agent, of two agents, and what the first loses to communication.

    .venv/bin/python benchmarks/data_parallel.py [--updates 600] [--env-steps 60] [--rounds 3]

Whole runs of ``fit`` on Hopper at the paper's sizes, on the CPU, one thread per process: alone, two
at a time that know nothing of each other (two seeds), and two ranks of one run. Rates are those of
``summary.json``, medians over rounds in turn; the share of communication is the time that rank zero
spends in its all-reduces, waiting for the other rank included. Processor time per update is that of
one process, and holds on a busy machine, too.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning import Callback

HERE = Path(__file__).resolve().parent
RUN = shlex.split(
    "fit --config hopper --model.engine eager --schedule.evaluation_every 1000000"
    " --evaluation.episodes 2 --metrics.every 1000000 --trainer.accelerator cpu"
    " --trainer.enable_progress_bar false --allow data_parallel"
    " --trainer.callbacks+=data_parallel.Clock"
)


class Clock(Callback):
    """Seconds and numbers of rank zero's all-reduces, into ``all_reduce.json``."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.seconds, self.calls, self.numbers = 0.0, 0, 0
        average = pl_module._ranks.average

        def timed(tensors: Any) -> Any:
            start = time.perf_counter()
            means = average(tensors)
            self.seconds += time.perf_counter() - start
            self.calls += 1
            self.numbers += sum(tensor.numel() for tensor in tensors)
            return means

        pl_module._ranks.average = timed
        self.start, self.cpu = time.perf_counter(), time.process_time()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            content = {"seconds": self.seconds, "calls": self.calls, "numbers": self.numbers}
            content["cpu"] = 1e3 * (time.process_time() - self.cpu) / pl_module.gradient_updates
            content["share"] = self.seconds / (time.perf_counter() - self.start)
            path = Path(trainer.default_root_dir) / "all_reduce.json"
            path.write_text(json.dumps(content))


def start(folder: Path, options: argparse.Namespace, *more: str) -> subprocess.Popen:
    words = ["--schedule.offline_updates", str(options.updates)]
    words += ["--schedule.online_env_steps", str(options.env_steps)]
    command = [sys.executable, "-m", "adabc_lightning", *RUN, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    environment["PYTHONPATH"] = f"{HERE.parent}:{HERE}"
    return subprocess.Popen(
        [*command, "--trainer.default_root_dir", str(folder), *more],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def measured(kind: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Updates per second, of all runs of a kind together, in both phases."""
    if kind == "two ranks":
        runs = [start(folder / "0", options, "--trainer.devices", "2")]
    else:
        seeds = range(2 if kind == "two runs" else 1)
        runs = [
            start(folder / str(seed), options, "--seed_everything", str(seed)) for seed in seeds
        ]
    for run in runs:
        _, said = run.communicate()
        assert run.returncode == 0, said
    paths = [folder / str(number) for number in range(len(runs))]
    summaries = [json.loads((path / "summary.json").read_text()) for path in paths]
    reduced = json.loads((paths[0] / "all_reduce.json").read_text())
    values = {
        phase: sum(summary[f"{phase}_updates_per_second"] for summary in summaries)
        for phase in ("offline", "online")
    }
    return values | {name: reduced[name] for name in ("share", "numbers", "cpu")}


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--env-steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kinds = ("one run", "two runs", "two ranks")
    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds:
            with tempfile.TemporaryDirectory() as folder:
                results[kind].append(measured(kind, Path(folder), options))
            print(f"round {number + 1}: {kind} {results[kind][-1]}", file=sys.stderr, flush=True)
    print("| | updates/s offline | updates/s online | in all-reduces | CPU ms per update |")
    print("|---|---:|---:|---:|---:|")
    for kind, rounds in results.items():
        middle = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        share = f"{100 * middle['share']:.0f} %" if kind == "two ranks" else "–"
        rates = f"{middle['offline']:.0f} | {middle['online']:.0f}"
        print(f"| {kind} | {rates} | {share} | {middle['cpu']:.1f} |")
    total = options.updates + 10 * options.env_steps
    sent = 4 * results["two ranks"][0]["numbers"] / total
    print(f"\n{sent / 1e6:.2f} MB averaged per update; of that each of K ranks sends 2 (K − 1) / K")


if __name__ == "__main__":
    main()
