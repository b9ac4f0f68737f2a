"""One environment step with acting, on Hopper, and what each of its savings is worth.

    .venv/bin/python benchmarks/acting_speed.py [--rounds 30]

Each way leaves out one saving, or all: the policy through PyTorch instead of NumPy on the live
weights, every number compared instead of one sum of squares, the actor's weights gathered for a
standard deviation that it has not. They take turns in one process and one thread; medians of the
rounds, in processor time, and of all steps, in wall time.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.env import stepping
from adabc_lightning.run.runtime import tune
from adabc_lightning.run.schedule import Schedule

STEPS = 200  # in a round


def main() -> None:
    """Prints a line per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    data = ReplayDataModule(schedule=Schedule(0, STEPS, 0))
    agent = OffToOnModule(data.spec)

    def through_pytorch(observation: np.ndarray) -> np.ndarray:
        return agent.act(observation[None])[0]

    @torch.no_grad()
    def gathered() -> None:
        agent.method.exploration_scale(agent.actor.weights)

    def compared(values: np.ndarray) -> bool:
        return bool(abs(values).max() <= stepping.LARGEST)

    act, finite, scale = agent.act, stepping.all_finite, agent.exploration_scale
    half_A = 0.1 * (np.array(data.spec.action_high) - np.array(data.spec.action_low)) / 2
    ways = {
        "as it is": (act, finite, scale),
        "policy in PyTorch": (through_pytorch, finite, scale),
        "all numbers compared": (act, compared, scale),
        "weights gathered": (act, finite, gathered),
        "none of the savings": (through_pytorch, compared, gathered),
    }
    collectors = {name: Collector(data.make_env(), data.layout, seed=0) for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first warms up
        for name, (policy, stepping.all_finite, scale_of) in ways.items():
            before, steps = time.process_time(), []
            for _ in range(STEPS):
                start = time.perf_counter()
                scale_of()
                collectors[name].step(lambda seen, noise, act=policy: act(seen) + half_A * noise)
                steps.append(time.perf_counter() - start)
            if number:
                cpu[name].append((time.process_time() - before) / STEPS)
                wall[name] += steps
    for name in ways:
        middle = statistics.median(cpu[name])
        print(
            f"{name:<22} {1e6 * middle:6.1f} µs of processor time ({1e6 * min(cpu[name]):.1f} to "
            f"{1e6 * max(cpu[name]):.1f}), {1 / middle:6,.0f} steps/s; half of the steps within "
            f"{1e6 * statistics.median(wall[name]):.1f} µs"
        )


if __name__ == "__main__":
    tune()
    main()
