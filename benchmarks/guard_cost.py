"""What the checks of numbers and environments cost, in CPU time, at the paper's sizes on Hopper.

    .venv/bin/python benchmarks/guard_cost.py [--blocks 100]

Processor time rather than wall time, the smallest of several rounds: it holds on a busy machine,
too. With ``--blocks``, a whole ``fit`` (TD3+BC with REDQ's target) in so many blocks per
phase with the checks on and off in turn, and the medians of both.
"""

import argparse
import math
import os
import shlex
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from adabc_lightning.__main__ import main as command_line
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.callbacks import Metrics, guard
from adabc_lightning.callbacks.finite import check_tensors
from adabc_lightning.data import collector
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.make import make_env
from adabc_lightning.env.state import Bookmark
from adabc_lightning.env.stepping import CheckedEnv, check_action

HOPPER = EnvironmentSpec("Hopper-v5", 11, (-1.0,) * 3, (1.0,) * 3, 1000)
G, B, EVERY, BLOCK = 10, 256, 500, 20
RUN = shlex.split(
    "fit --config hopper --schedule.evaluation_every 1000000 --evaluation.episodes 1"
    " --metrics.every 20 --trainer.accelerator cpu --trainer.enable_progress_bar false"
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


def compare(blocks: int) -> None:
    """Times blocks of a whole ``fit``, the checks on and off in turn; prints the medians.

    A block is 20 updates, pre-training, or two environment steps with ten updates each. So that
    each block has one, rows of the metrics come every 20 updates instead of every 500.
    """
    on = True
    seconds: dict[str, dict[bool, list[float]]] = {}

    def switch(owner: Any, name: str, plain: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, lambda *a, **k: (original if on else plain)(*a, **k))

    def nothing(*_: Any) -> None:
        pass

    switch(guard.Guard, "check_row", nothing)
    switch(guard, "check_all", nothing)
    switch(collector, "check_action", nothing)
    switch(Bookmark, "set", nothing)
    switch(CheckedEnv, "step", lambda self, action: self.env.step(action)[:4])
    row_or_not, begin = Metrics.on_train_batch_end, time.process_time()

    def timed(self: Any, trainer: Any, agent: Any, *rest: Any) -> None:
        nonlocal on, begin
        row_or_not(self, trainer, agent, *rest)
        if agent.gradient_updates % BLOCK == 0:
            phase = "fine-tuning" if trainer.datamodule.env_steps else "pre-training"
            times = seconds.setdefault(phase, {True: [], False: []})
            times[on].append(time.process_time() - begin)
            on, begin = not on, time.process_time()

    Metrics.on_train_batch_end = timed  # type: ignore[method-assign]
    length = f"--schedule.offline_updates {BLOCK * blocks} --schedule.online_env_steps {2 * blocks}"
    with tempfile.TemporaryDirectory() as folder:
        assert command_line([*RUN, *length.split(), "--trainer.default_root_dir", folder]) == 0
    cost = {}
    for phase, times in seconds.items():
        a, b = (np.array(times[checked][2:]) for checked in (True, False))
        block, cost[phase] = np.median(b), np.median(a) - np.median(b)
        # Of the medians, from the quartiles: a block with an evaluation counts for one.
        spreads = [np.subtract(*np.percentile(x, [75, 25])) / 1.35 for x in (a, b)]
        error = 1.25 * math.hypot(spreads[0] / len(a) ** 0.5, spreads[1] / len(b) ** 0.5)
        print(
            f"{phase}: a block of {BLOCK} updates {1e3 * np.median(a):.1f} ms with the checks, "
            f"{1e3 * block:.1f} ms without: {1e3 * cost[phase]:+.1f} ± {1e3 * error:.1f} ms; "
            f"{len(a)} and {len(b)} blocks, "
            f"{100 * (cost[phase] - cost['pre-training'] * (1 - BLOCK / EVERY)) / block:+.2f} ± "
            f"{100 * error / block * (BLOCK / EVERY if len(cost) == 1 else 1.4):.2f} % "
            f"with rows every {EVERY} updates"
        )


def main() -> None:
    """Prints the table, or compares the blocks of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, help="of a whole run, per phase")
    options = parser.parse_args()
    if options.blocks:
        compare(options.blocks)
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
