"""What the checks of numbers and environments cost, in CPU time, at the paper's sizes on Hopper.

    .venv/bin/python benchmarks/guard_cost.py [--pairs 5]

Processor time rather than wall time, the smallest of several rounds: it holds on a busy machine,
too. With ``--pairs``, whole runs of the command line's ``fit`` (500 updates of pre-training, 50
environment steps with ten updates each) instead, with the checks and without any in turn, each in
a process of its own that has imported everything; the medians of their processor time.
"""

import argparse
import multiprocessing
import os
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"  # what is forked must have one thread

import numpy as np
import torch

import adabc_lightning.cli  # noqa: F401 - what a forked run needs not import again
from adabc_lightning import envs
from adabc_lightning.__main__ import main as command_line
from adabc_lightning.callbacks import guard
from adabc_lightning.callbacks.guard import check_tensors
from adabc_lightning.data import collector
from adabc_lightning.data.transitions import Layout
from adabc_lightning.envs import Bookmark, EnvironmentSpec, make_env
from adabc_lightning.module import OffToOnModule
from adabc_lightning.stepping import CheckedEnv, check_action

HOPPER = EnvironmentSpec("Hopper-v5", 11, (-1.0,) * 3, (1.0,) * 3, 1000)
G, B, EVERY = 10, 256, 500
RUN = shlex.split(
    "fit --config hopper --schedule.offline_updates 500 --schedule.online_env_steps 50"
    " --schedule.evaluation_every 500 --evaluation.episodes 1 --trainer.accelerator cpu"
    " --trainer.enable_progress_bar false"
)


class Standalone(OffToOnModule):
    """The packaged training step without a trainer around it."""

    def __init__(self) -> None:
        super().__init__(HOPPER)
        self._adams = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._adams


def microseconds(function: Callable[[], Any], repeats: int, rounds: int = 3) -> float:
    """CPU time of a call."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeats):
            function()
        best = min(best, (time.process_time() - start) / repeats)
    return 1e6 * best


def fit(folder: Path, checked: bool) -> float:
    """CPU seconds of one run of ``fit``, in a process of its own."""
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        if not checked:
            nothing = lambda *_, **__: None  # noqa: E731
            guard.Guard.on_train_batch_end = guard.Guard.check_row = nothing
            guard.Guard.on_save_checkpoint = nothing
            collector.check_action = envs.check_action = nothing
            Bookmark.set = nothing
            CheckedEnv.reset = lambda self, seed: self.env.reset(seed=seed)[0]
            CheckedEnv.step = lambda self, action: self.env.step(action)[:4]
        start = time.process_time()
        words = [*RUN, "--trainer.default_root_dir", str(folder)]
        assert command_line(words) == 0
        theirs.send(time.process_time() - start)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return float(ours.recv())


def compare(pairs: int) -> None:
    """Prints the CPU time of runs with the checks and without them, in turn."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(pairs):
            for checked in (True, False) if pair % 2 else (False, True):
                seconds[checked].append(fit(Path(folder, f"{pair}-{checked}"), checked))
            a, b = seconds[True][-1], seconds[False][-1]
            print(f"with {a:.2f} s, without {b:.2f} s: {100 * (a / b - 1):+.2f} %", flush=True)
    ratios = [100 * (a / b - 1) for a, b in zip(seconds[True], seconds[False], strict=True)]
    a, b = (statistics.median(seconds[checked]) for checked in (True, False))
    print(f"medians of {pairs}: with {a:.2f} s, without {b:.2f} s: {100 * (a / b - 1):+.2f} %; "
          f"of the pairs {statistics.median(ratios):+.2f} %")  # fmt: skip


def main() -> None:
    """Prints the table, or compares whole runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, help="of whole runs")
    options = parser.parse_args()
    if options.pairs:
        compare(options.pairs)
        return
    torch.set_num_threads(1)
    agent = Standalone()
    layout = Layout(11, 3)
    rows = torch.randn(G, B, layout.width)
    rows[..., -2:] = 0
    batch = layout.unpack(rows)
    update = microseconds(lambda: agent.training_step(batch, 0), 2) / G
    tensors = {name: tensor.detach() for name, tensor in agent.state_dict().items()}
    for optimizer in agent.optimizers():
        for index, state in enumerate(optimizer.state.values()):
            tensors |= {f"{id(optimizer)} {index} {k}": v for k, v in state.items() if v.ndim}
    row = microseconds(lambda: check_tensors(tensors), 10)

    class Still:
        """An environment that does nothing, so that only the checks are timed."""

        def __init__(self, env: Any) -> None:
            self.spec, self.unwrapped = env.spec, env.unwrapped
            self.observation_space = env.observation_space
            self.answer = np.zeros(11), 1.0, False, False, {}

        def step(self, action: Any) -> Any:
            return self.answer

    env = make_env("Hopper-v5")
    env.reset(seed=0)
    still: Any = Still(env)
    action, bookmark = np.zeros(3, np.float32), Bookmark(env)
    off, on = CheckedEnv(still), CheckedEnv(still, 60.0)
    bare = microseconds(lambda: still.step(action), 1000)
    checked = microseconds(lambda: off.step(action), 1000) - bare
    timed = microseconds(lambda: on.step(action), 1000) - bare - checked
    before = microseconds(bookmark.set, 1000)
    acting = microseconds(lambda: check_action(action), 1000)
    step = checked + before + acting
    print(f"an update                       {update:8.1f} µs")
    print(f"weights, Adam, α, once a row    {row:8.1f} µs = {100 * row / EVERY / update:.3f} %")
    print(f"an environment step: answers {checked:.2f}, bookmark {before:.2f}, action {acting:.2f}")
    print(f"  together                      {step:8.1f} µs = {100 * step / G / update:.3f} %")
    print(f"data.step_timeout, where it is on {timed:6.1f} µs")


if __name__ == "__main__":
    main()
