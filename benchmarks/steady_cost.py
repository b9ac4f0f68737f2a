"""What Steady costs beside the paper's method, in CPU time: per update, and with its trials.

    OMP_NUM_THREADS=1 python benchmarks/steady_cost.py [--small] [--steps 200] [--rounds 5]

Both fine-tune HalfCheetah, compiled, in turn. Its episodes never end before their 1,000 steps, so
that a trial is as long as it can be: five of each of two policies. Medians of the rounds (least to
most).
"""

import argparse
import statistics
import time
from typing import Any

from lightning import Callback, Trainer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import Evaluation, Trials
from adabc_lightning.commands.bench.loop import fit
from adabc_lightning.commands.quiet import quieten
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.run.schedule import Schedule

PAPER = {"G": 10, "every": 5000, "batch_size": 256, "model": {"engine": "compiled"}}
SMALL = {
    "G": 5,
    "every": 250,
    "batch_size": 64,
    "model": {"engine": "compiled", "hidden_sizes": [128, 128]},
}


class Clock(Callback):
    """Processor time at the end of each training step; before a trial, which Evaluation makes."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.times.append(time.process_time())

    @property
    def seconds(self) -> float:
        """Of a training step, after the first tenth of them."""
        first = len(self.times) // 10
        return (self.times[-1] - self.times[first]) / (len(self.times) - 1 - first)


def run(sizes: dict[str, Any], steps: int, trials: Trials | None) -> tuple[float, float]:
    """Processor seconds of an environment step with its updates, and of a trial (0: none)."""
    schedule = Schedule(0, steps, sizes["G"], evaluation_every=10**9)
    data = ReplayDataModule("HalfCheetah-v5", None, schedule, batch_size=sizes["batch_size"])
    agent = OffToOnModule(data.spec, **sizes["model"])
    clock, tried = Clock(), 0.0
    trainer = fit(agent, data, "cpu", [clock, Evaluation(), *([trials] if trials else [])])
    if trials:
        begun = time.process_time()
        trials._state = trials._state.tried(0, 0)  # as if the last step had not had one
        trials.before_evaluation(trainer, data, agent)
        tried = time.process_time() - begun
        trials._envs.close()
    return clock.seconds, tried


def text(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the small protocol's sizes")
    parser.add_argument("--steps", type=int, default=200, help="environment steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sizes = SMALL if options.small else PAPER
    quieten()
    paper, steady, trial = [], [], []
    for number in range(options.rounds + 1):
        ours = run(sizes, options.steps, None)[0]
        theirs, tried = run(sizes, options.steps, Trials())
        if number:  # the first compiles
            paper.append(1e3 * ours)
            steady.append(1e3 * theirs)
            trial.append(tried)
    print(f"an environment step with {sizes['G']} updates")
    print(f"  the paper's method  {text(paper, 'ms')}")
    print(f"  Steady              {text(steady, 'ms')}")
    ratios = [b / a for a, b in zip(paper, steady, strict=True)]
    print(f"  ratio               {text(ratios, 'x')}")
    print(f"a trial               {text(trial, 's')}")
    for every in (sizes["every"], 1000):
        whole = [
            ratio + 1e3 * t / (every * a) for ratio, t, a in zip(ratios, trial, paper, strict=True)
        ]
        print(f"with one every {every:,} steps: {text(whole, 'x')}")


if __name__ == "__main__":
    main()
