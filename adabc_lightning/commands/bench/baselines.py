"""What the packaged updates are compared with, each made once and called update by update."""

from collections.abc import Callable
from typing import Any

import torch

from adabc_lightning.commands.bench.authors import AuthorsStyle
from adabc_lightning.commands.bench.corl import CorlIQL, CorlStyle
from adabc_lightning.commands.bench.plain import PlainAgent
from adabc_lightning.commands.bench.shapes import Shapes
from adabc_lightning.data.transitions import Layout

CORL: dict[str | None, Callable[..., Any]] = {None: CorlStyle, "iql": CorlIQL}
"""Overlay (None: the default) → CORL's style of it, of sizes, hidden, rows and device."""


def baselines(shapes: Shapes, device: torch.device) -> dict[str, Callable[[int], None]]:
    """Name → a function that makes so many updates on data of its own.

    The authors' style and separate MLPs are of the paper's method only, CORL's of two critics.
    """
    running: dict[str, Callable[[int], None]] = {}
    if shapes.method is None:
        running["authors' style"] = _authors(shapes, device)
    if shapes.num_critics == 2 and shapes.method in CORL:
        running["CORL's style"] = _corl(CORL[shapes.method], shapes, device)
    if shapes.method is None:
        running["separate MLPs in a loop"] = _separate(shapes, device)
    return running


def _authors(shapes: Shapes, device: torch.device) -> Callable[[int], None]:
    sizes = shapes.observation_size, shapes.action_size
    critics = shapes.num_critics, shapes.subset_size
    authors = AuthorsStyle(sizes, shapes.hidden, *critics, shapes.rows, device)

    def run(updates: int) -> None:
        for _ in range(updates):
            authors.update(shapes.batch_size, 0.4)

    return run


def _corl(style: Callable[..., Any], shapes: Shapes, device: torch.device) -> Callable[[int], None]:
    sizes = shapes.observation_size, shapes.action_size
    corl = style(sizes, shapes.hidden, shapes.rows, device)

    def run(updates: int) -> None:
        for _ in range(updates):
            corl.update(shapes.batch_size)

    return run


def _separate(shapes: Shapes, device: torch.device) -> Callable[[int], None]:
    plain = PlainAgent(
        torch.float32,
        shapes.num_critics,
        shapes.observation_size,
        shapes.action_size,
        shapes.hidden,
        shapes.spec.action_low,
        shapes.spec.action_high,
        gamma=0.99,
        tau=0.005,
        policy_delay=2,
        lr=3e-4,
        sigma=0.2,
        clip=0.5,
        normalizer="policy",
        device=device,
    )
    layout = Layout(shapes.observation_size, shapes.action_size)
    batch = layout.unpack(torch.randn(shapes.batch_size, layout.width, device=device))
    fields = ("observation", "action", "reward", "next_observation", "terminated")
    observation, action, reward, next_observation, terminated = (batch[name] for name in fields)
    noise = torch.randn(shapes.batch_size, shapes.action_size, device=device)

    def run(updates: int) -> None:
        for _ in range(updates):
            subset = torch.randperm(shapes.num_critics)[: shapes.subset_size]
            plain.update(
                observation, action, reward, next_observation, terminated, noise, subset, 0.4
            )

    return run
