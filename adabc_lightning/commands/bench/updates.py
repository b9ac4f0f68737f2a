"""Gradient updates per second: the packaged engines, baselines and bare products, in turn."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tensordict import TensorDict
from torch.utils.flop_counter import FlopCounterMode

from adabc_lightning.agent.engines import ENGINES, Eager, Engine
from adabc_lightning.agent.float32 import multiplying
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.products import TYPES
from adabc_lightning.commands.bench.baselines import baselines
from adabc_lightning.commands.bench.products import products_of
from adabc_lightning.commands.bench.shapes import Shapes
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.transitions import Layout
from adabc_lightning.replicas.stacked import Stacked

PRODUCTS = "matrix products alone"
"""The contestant that makes nothing else; of what it takes the others are multiples."""

_CHUNK = 20
"""Updates that are sampled together, as in ``schedule.offline_chunk``."""


class Packaged(OffToOnModule):
    """The packaged training step without a trainer around it, sampling included."""

    def __init__(self, shapes: Shapes, device: torch.device, engine: Engine) -> None:
        super().__init__(shapes.spec, **shapes.model)
        self.gradient_updates = self.method.preparation  # what is measured comes after it
        self.to(device)
        self._adams = self.configure_optimizers()
        self._engine = engine
        self._batch_size = shapes.batch_size
        extras = tuple(self.method.columns)
        layout = Layout(shapes.observation_size, shapes.action_size, extras)
        rows = torch.randn(shapes.rows, layout.width)
        rows[:, layout.columns["terminated"]] = rows[:, layout.columns["online"]] = 0
        generator = torch.Generator().manual_seed(0)
        self._ring = ReplayRing(layout, rows, shapes.rows, generator, device=device)

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """Every Adam, without a trainer to ask."""
        return self._adams

    def sample(self, updates: int) -> TensorDict:
        """A batch ``[updates, B]``."""
        return self._ring.sample(updates, self._batch_size)

    def run(self, updates: int) -> None:
        """Makes so many updates."""
        for first in range(0, updates, _CHUNK):
            self.training_step(self.sample(min(_CHUNK, updates - first)), 0)


def replicas(
    count: int, shapes: Shapes, device: torch.device, engine: Engine
) -> Callable[[int], None]:
    """A function that makes so many updates of each of several agents, stacked.

    Args:
        count: R.
        shapes: of each.
        device: of all.
        engine: how the updates run.
    """
    agents = [Packaged(shapes, device, engine) for _ in range(count)]
    stacked = Stacked(agents, engine)

    def run(updates: int) -> None:
        for first in range(0, updates, _CHUNK):
            chunk = min(_CHUNK, updates - first)
            stacked([agent.sample(chunk) for agent in agents])

    return run


def label(engine: str, precision: str) -> str:
    """What a packaged contestant is called."""
    return engine if precision == "float32" else f"{engine}, {precision}"


def contestants(
    shapes: Shapes, device: torch.device, engines: list[str], others_precision: str | None = None
) -> dict[str, Callable[[int], None]]:
    """Name → a function that makes so many updates on data of its own.

    Each engine in float32, and in another precision, where the shapes ask for one.

    Args:
        shapes: of all.
        device: of all.
        engines: that are packaged.
        others_precision: ``torch.set_float32_matmul_precision`` of the baselines; None: as set.
    """
    packaged = {
        label(name, precision): Packaged(
            replace(shapes, precision=precision), device, ENGINES[name]()
        ).run
        for precision in dict.fromkeys(["float32", shapes.precision])
        for name in engines
    }
    others = baselines(shapes, device)
    others = {name: _within(others_precision, run) for name, run in others.items()}
    if device.type == "cpu":  # on a GPU, told of them one by one, they take longer than the updates
        others[PRODUCTS] = _products(shapes, device)
    return packaged | others


def _products(shapes: Shapes, device: torch.device) -> Callable[[int], None]:
    """Those of the packaged updates, in their precision."""
    agent = Packaged(shapes, device, Eager())
    pair = products_of(lambda: agent.run(2))  # delayed steps follow each, every second, or none

    def run(updates: int) -> None:
        for _ in range(-(-updates // 2)):
            pair()

    return run


def _within(precision: str | None, run: Callable[[int], None]) -> Callable[[int], None]:
    """The same with float32 products of a precision, and the process's own after it."""

    def ran(updates: int) -> None:
        with multiplying(precision or torch.get_float32_matmul_precision()):
            run(updates)

    return ran


def in_turn(
    running: dict[str, Callable[[int], None]],
    updates: int,
    rounds: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Updates per second of each contestant in each round, after one round that warms up."""
    rates: dict[str, list[float]] = {name: [] for name in running}
    for number in range(rounds + 1):
        for name, run in running.items():
            start = clock()
            run(updates)
            wait(device)
            if number:
                rates[name].append(updates / (clock() - start))
    return rates


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_per_update(shapes: Shapes) -> float:
    """Floating-point operations of matrix products in the packaged update, mean of two updates."""
    agent = Packaged(shapes, torch.device("cpu"), Eager())
    with FlopCounterMode(display=False) as counter:
        agent.run(2)
    return counter.get_total_flops() / 2


def peak_flops(
    shapes: Shapes,
    device: torch.device,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    precision: str = "float32",
) -> float:
    """Operations per second of the widest layer's batched product alone, median."""
    wide, dtype = max(shapes.hidden), TYPES[precision]
    x = torch.randn(shapes.num_critics, shapes.batch_size, wide, device=device).to(dtype)
    weight = torch.randn(shapes.num_critics, wide, wide, device=device).to(dtype)
    out = torch.empty_like(x)
    repeats, rates = 20, []
    for number in range(rounds + 1):
        start = clock()
        for _ in range(repeats):
            torch.bmm(x, weight, out=out)
        wait(device)
        if number:
            seconds = (clock() - start) / repeats
            rates.append(2 * shapes.num_critics * shapes.batch_size * wide**2 / seconds)
    return statistics.median(rates)
