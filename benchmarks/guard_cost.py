"""What the checks of numbers and environments cost, in CPU time, at the paper's sizes on Hopper.

    .venv/bin/python benchmarks/guard_cost.py

Processor time rather than wall time, the smallest of several rounds: it holds on a busy machine,
too.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from adabc_lightning.callbacks.guard import check_tensors
from adabc_lightning.data.transitions import Layout
from adabc_lightning.envs import Bookmark, EnvironmentSpec, make_env
from adabc_lightning.module import OffToOnModule
from adabc_lightning.stepping import CheckedEnv, check_action

HOPPER = EnvironmentSpec("Hopper-v5", 11, (-1.0,) * 3, (1.0,) * 3, 1000)
G, B, EVERY = 10, 256, 500


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


def main() -> None:
    """Prints the table."""
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
