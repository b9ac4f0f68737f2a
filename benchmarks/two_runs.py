"""What two runs that are started at once make together of one machine, against one alone.

    .venv/bin/python benchmarks/two_runs.py [--seconds 40] [--rounds 3]

Whole ``fit``s on Hopper at the paper's sizes, on the CPU, pre-training, ``eager``, as they come:
how many threads each takes is its own choice, and said. Alone and both take turns; a rate is that
of the seconds in which all runs of a turn train, but for their first tenth. Medians of the rounds;
the goal is that both together make 0.9 × the updates of one alone. With 40 seconds and three rounds
it takes five minutes, and the machine must have nothing else to do.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback

HERE = Path(__file__).resolve().parent
GOAL = 0.9
RUN = shlex.split(
    "fit --config hopper --model.engine eager --schedule.offline_updates 10000000"
    " --schedule.online_env_steps 0 --schedule.evaluation_every 10000000"
    " --metrics.every 10000000 --trainer.accelerator cpu --trainer.enable_progress_bar false"
    " --allow two_runs --trainer.callbacks+=two_runs.Clock"
)
CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # not here
Marks = Sequence[tuple[float, int]]
"""Seconds of a clock that all processes share, and gradient updates made by then."""


class Clock(Callback):
    """Ends pre-training after so many seconds and leaves when which batch was over.

    Args:
        seconds: from the first batch on.
    """

    def __init__(self, seconds: float = 40.0) -> None:
        self.seconds = seconds
        self.marks: list[tuple[float, int]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.marks.append((time.monotonic(), pl_module.gradient_updates))
        trainer.should_stop = self.marks[-1][0] - self.marks[0][0] >= self.seconds

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        (Path(trainer.default_root_dir) / "marks.json").write_text(json.dumps(self.marks))


def start(folder: Path, seed: int, options: argparse.Namespace) -> subprocess.Popen:
    """A run in a folder."""
    words = ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)]
    words += [f"--trainer.callbacks.seconds={options.seconds}", *options.keys]
    environment = {name: text for name, text in os.environ.items() if name not in CHOSEN}
    environment |= {"PYTHONPATH": f"{HERE.parent}:{HERE}", "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        [sys.executable, "-m", "adabc_lightning", *RUN, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(runs: Sequence[Marks]) -> float:
    """Updates per second of all runs, in the time in which each of them trains."""
    first, last = max(run[0][0] for run in runs), min(run[-1][0] for run in runs)
    first += (last - first) / 10
    rate = 0.0
    for run in runs:
        inside = [(seconds, updates) for seconds, updates in run if first <= seconds <= last]
        (begin, before), (end, after) = inside[0], inside[-1]
        rate += (after - before) / (end - begin)
    return rate


def measured(count: int, options: argparse.Namespace) -> float:
    """Updates per second of so many runs; what each says of its threads goes to stderr."""
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root, str(seed)) for seed in range(count)]
        runs = [start(folder, seed, options) for seed, folder in enumerate(folders)]
        for run in runs:
            _, said = run.communicate()
            assert run.returncode == 0, said
            line = next(line for line in said.splitlines() if " → " in line)
            print(f"  {line.partition(', on ')[2].rpartition(';')[0]}", file=sys.stderr)
        return together([json.loads((folder / "marks.json").read_text()) for folder in folders])


def table(rounds: Sequence[tuple[float, float]]) -> str:
    """Markdown, of updates per second alone and of both."""
    alone, both = zip(*rounds, strict=True)
    ratios = [second / first for first, second in rounds]
    lines = ["| | updates/s (least to most) |", "|---|---:|"]
    for name, rates in (("one run alone", alone), ("two at once, together", both)):
        middle = statistics.median(rates)
        lines.append(f"| {name} | {middle:.1f} ({min(rates):.1f} to {max(rates):.1f}) |")
    middle = statistics.median(ratios)
    met = "met" if middle >= GOAL else "missed"
    lines.append(f"| ratio | {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    return "\n".join([*lines, "", f"The goal is {GOAL}: {met}."])


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run's training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("keys", nargs="*", help="of fit, after --: other sizes")
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        rounds.append((measured(1, options), measured(2, options)))
        alone, both = rounds[-1]
        print(f"round {number + 1}: {alone:.1f}, {both:.1f}", file=sys.stderr, flush=True)
    print(table(rounds))


if __name__ == "__main__":
    main()
