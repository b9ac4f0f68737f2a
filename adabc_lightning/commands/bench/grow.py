"""How an update's cost grows with N, batch, width and replicas R, and a loop step's with G."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adabc_lightning.agent.engines import ENGINES
from adabc_lightning.commands.bench import loop
from adabc_lightning.commands.bench.shapes import Shapes
from adabc_lightning.commands.bench.updates import Packaged, in_turn, replicas
from adabc_lightning.commands.figures import STYLE, save

AXES: dict[str, tuple[int, ...]] = {
    "num_critics": (2, 5, 10, 20),
    "batch_size": (64, 128, 256, 512, 1024),
    "hidden": (64, 128, 256, 512),
    "replicas": (1, 2, 5, 10),
    "updates_per_env_step": (1, 2, 5, 10, 20),
}
"""What grows → its values; the others stay at the shapes asked for."""

_ROWS = 100_000  # each contestant has a ring of its own
_LABELS = {
    "num_critics": ("critics N", "ms per update"),
    "batch_size": ("batch size B", "ms per update"),
    "hidden": ("units of each hidden layer", "ms per update"),
    "replicas": ("replicas R", "ms per update of all"),
    "updates_per_env_step": ("updates per environment step G", "ms per environment step"),
}

Growth = dict[str, dict[int, list[float]]]
"""Axis → its value → milliseconds, one number per round."""


def measure(
    shapes: Shapes, device: torch.device, engine: str, updates: int, rounds: int, steps: int
) -> Growth:
    """Varies one axis after the other.

    Args:
        shapes: where the others stay.
        device: of the agents.
        engine: of the updates, one of :data:`~adabc_lightning.agent.engines.ENGINES`.
        updates: per contestant and round.
        rounds: in which all contestants take their turn.
        steps: environment steps of a loop with G = 1; fewer with a greater G.
    """
    shapes = replace(shapes, rows=min(shapes.rows, _ROWS))
    running: dict[str, Callable[[int], None]] = {}
    keys: dict[str, tuple[str, int]] = {}
    for axis, values in AXES.items():
        for value in values if axis != "updates_per_env_step" else ():
            name = f"{axis} {value}"
            keys[name] = axis, value
            if axis == "replicas":
                running[name] = replicas(value, shapes, device, ENGINES[engine]())
                continue
            grown: Any = (value, value) if axis == "hidden" else value
            running[name] = Packaged(
                replace(shapes, **{axis: grown}), device, ENGINES[engine]()
            ).run
    growth: Growth = {axis: {} for axis in AXES}
    for name, rates in in_turn(running, updates, rounds, device).items():
        axis, value = keys[name]
        growth[axis][value] = [1000 / rate for rate in rates]
    model = {
        "num_critics": shapes.num_critics,
        "subset_size": shapes.subset_size,
        "hidden_sizes": list(shapes.hidden),
        "engine": engine,
    }
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    for _ in range(min(3, rounds)):
        for g in AXES["updates_per_env_step"]:
            rate = loop.online(max(10, steps // g), g, accelerator, model)["env_steps_per_s"]
            growth["updates_per_env_step"].setdefault(g, []).append(1000 / rate)
    return growth


def table(growth: Growth) -> list[str]:
    """A line per value: the median, and how many times the first one's it is."""
    lines = []
    for axis, points in growth.items():
        label, unit = _LABELS[axis]
        first = statistics.median(next(iter(points.values())))
        for value, each in points.items():
            cost = statistics.median(each)
            lines.append(
                f"{label:<32} {value:>5} {cost:9.2f} {unit} ({min(each):.2f} to {max(each):.2f}), "
                f"{cost / first:5.2f} × the first"
            )
    return lines


def draw(growth: Growth, title: str, path: Path) -> None:
    """A panel per axis: medians, and bars from the least to the most.

    Args:
        growth: of :func:`measure`.
        title: the machine and the shapes.
        path: ``.svg``, ``.png`` or ``.pdf``.
    Raises: UserError: it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # needs no display
    import matplotlib.pyplot as plt

    with mpl.rc_context(STYLE):
        columns = len(growth)
        figure, axes = plt.subplots(1, columns, figsize=(2.8 * columns, 2.8), layout="constrained")
        figure.suptitle(title)
        for axis, (name, points) in zip(axes, growth.items(), strict=True):
            label, unit = _LABELS[name]
            x, y = list(points), [statistics.median(each) for each in points.values()]
            bars = (
                [middle - min(each) for middle, each in zip(y, points.values(), strict=True)],
                [max(each) - middle for middle, each in zip(y, points.values(), strict=True)],
            )
            axis.errorbar(x, y, bars, marker="o", markersize=3, capsize=2, color="#0072b2")
            axis.set(xlabel=label, ylabel=unit, xlim=(0, None), ylim=(0, None), xticks=x)
            axis.tick_params(axis="x", rotation=90)
            axis.grid(alpha=0.3)
        save(figure, path)
        plt.close(figure)
