"""The eager update at the paper's sizes, and what each of its savings is worth.

    .venv/bin/python benchmarks/update_speed.py [--rounds 15] [--threads 2]

Each way leaves out one saving, or all. They take turns in one process, each with an agent of its
own; medians over the rounds of the updates per second and of the ratio to the update as it is.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.optim.adam import adam

from adabc_lightning.agent import mlp, update
from adabc_lightning.agent.engines import Eager
from adabc_lightning.agent.methods import td3bc
from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.networks import q_values
from adabc_lightning.agent.norm import Norm
from adabc_lightning.agent.state import Metrics
from adabc_lightning.commands.bench.shapes import Shapes
from adabc_lightning.commands.bench.updates import Packaged
from adabc_lightning.run.runtime import tune

FIELDS = ("observation", "action", "reward", "next_observation", "terminated")
UPDATES = 40  # in a round


class Autograd:
    """The network without a backward of its own."""

    @staticmethod
    def apply(x: Tensor, hidden_type: torch.dtype, *weights: Tensor) -> Tensor:
        """Layer by layer; ReLU between them."""
        for layer in range(0, len(weights), 2):
            x = torch.relu(x) if layer else x
            x = torch.matmul(x, weights[layer].mT) + weights[layer + 1].unsqueeze(-2)
        return x


def all_targets(weights: Weights, subset_M: Tensor) -> Weights:
    """The drawn members are not taken out: all N are evaluated."""
    return weights


def with_critic_gradients(
    observation: Tensor, action: Tensor, weights: Weights, norm: Norm | None = None
) -> Tensor:
    """Critics whose weights get gradients in the actor's step, too."""
    weights = tuple(weight.requires_grad_() for weight in weights)
    return q_values(observation, action, weights, norm)


def adam_by_tensor(*tensors: Any, **options: Any) -> None:
    """PyTorch's loop over the parameters, a dozen calls for each."""
    adam(*tensors, **{**options, "fused": False})


def polyak_by_tensor(slow: Sequence[Tensor], fast: Sequence[Tensor], tau: float) -> None:
    """Four calls for each."""
    for target, source in zip(slow, fast, strict=True):
        target.copy_(tau * source + (1 - tau) * target)


class Columns(Packaged):
    """Draws every update's batch from five arrays."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        rows = self._ring.layout.unpack(self._ring.rows)
        self._columns = {name: rows[name].contiguous() for name in FIELDS}

    def sample(self, updates: int) -> TensorDict:
        """A batch ``[updates, B]``."""
        drawn = []
        for _ in range(updates):
            index = torch.randint(0, len(self._columns["reward"]), (self._batch_size,))
            drawn.append({name: column[index] for name, column in self._columns.items()})
        batch = {name: torch.stack([each[name] for each in drawn]) for name in FIELDS}
        batch["online"] = torch.zeros_like(batch["reward"])
        return TensorDict(batch, [updates, self._batch_size])


class Fetching(Packaged):
    """Asks for every metric of every update."""

    fetched = 0

    def add_metrics(self, totals: Metrics, count: int = 1) -> None:
        """Adds each, once it is known."""
        for total in totals.values():
            total.item()
            self.fetched += 1
        super().add_metrics(totals, count)


class Neither(Columns, Fetching):
    """Columns, and fetched metrics."""


WAYS: dict[str, tuple[type[Packaged], list[tuple[Any, str, Any]]]] = {
    "as it is": (Packaged, []),
    "autograd's backward": (Packaged, [(mlp, "_ReluMLP", Autograd)]),
    "targets of all N": (Packaged, [(update, "members", all_targets)]),
    "critic gradients for actor": (Packaged, [(td3bc, "q_values", with_critic_gradients)]),
    "Adam tensor by tensor": (Packaged, [(update, "adam", adam_by_tensor)]),
    "Polyak tensor by tensor": (Packaged, [(torch, "_foreach_lerp_", polyak_by_tensor)]),
    "five arrays": (Columns, []),
    "metrics fetched": (Fetching, []),
}
WAYS["none of the savings"] = (Neither, [each for _, patches in WAYS.values() for each in patches])


def main() -> None:
    """Prints a line per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shapes, device = Shapes(rows=200_000), torch.device("cpu")
    agents = {name: kind(shapes, device, Eager()) for name, (kind, _) in WAYS.items()}
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(options.rounds + 1):  # the first warms up
        for name, (_, patches) in WAYS.items():
            seconds = timed(agents[name].run, patches)
            if number:
                rates[name].append(UPDATES / seconds)
    for name, each in rates.items():
        ratios = [rate / whole for rate, whole in zip(each, rates["as it is"], strict=True)]
        print(
            f"{name:<27} {statistics.median(each):6.1f} updates/s ({min(each):.1f} to "
            f"{max(each):.1f}), {statistics.median(ratios):.2f} of it as it is"
        )


def timed(run: Callable[[int], None], patches: list[tuple[Any, str, Any]]) -> float:
    """Seconds of a round."""
    applied = [patch.object(*each) for each in patches]
    for each in applied:
        each.start()
    start = time.perf_counter()
    run(UPDATES)
    seconds = time.perf_counter() - start
    for each in applied:
        each.stop()
    return seconds


if __name__ == "__main__":
    tune()
    main()
