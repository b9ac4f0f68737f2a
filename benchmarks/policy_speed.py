"""Microseconds for one observation on the CPU: load_policy, the module, and an export.

The module acts on one observation through NumPy, on a batch (here of one) through PyTorch.

python benchmarks/policy_speed.py [--rounds 50]

Networks of configs/hopper.yaml (two hidden layers of 256 units, 11 observations, 3 actions). The
ways take turns in short rounds, so that a busy machine slows them alike; medians over the rounds.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.export.graph import INPUT, OUTPUT, export
from adabc_lightning.env.policy import Policy

CALLS = 300  # in a round


def ways(module: OffToOnModule) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What can act, by name."""
    spec = module.spec
    policy = Policy(
        StoredPolicy.of_actor(module.actor.state_dict()), spec.action_low, spec.action_high
    )
    found = {
        "load_policy": policy,
        "module.act": module.act,
        "PyTorch": lambda observation: module.act(observation[None])[0],
    }
    try:
        import onnxruntime
    except ImportError:
        return found
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(export(policy, "onnx"), options)
    found["onnxruntime"] = lambda observation: session.run(
        [OUTPUT], {INPUT: observation[None].astype(np.float32)}
    )[0][0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    module = OffToOnModule(EnvironmentSpec("Hopper-v5", 11, (-1.0,) * 3, (1.0,) * 3, 1000))
    observations = np.random.default_rng(0).standard_normal((CALLS, 11))
    expected = module.act(observations)
    acting = ways(module)
    micros: dict[str, list[float]] = {name: [] for name in acting}
    for _ in range(rounds):
        for name, act in acting.items():
            start = time.perf_counter()
            for observation in observations:
                act(observation)
            micros[name].append((time.perf_counter() - start) / CALLS * 1e6)
    for name, act in acting.items():
        difference = max(
            np.abs(act(o) - action).max() for o, action in zip(observations, expected, strict=True)
        )
        best, median = min(micros[name]), np.median(micros[name])
        print(f"{name:<12} median {median:6.1f} µs, best {best:6.1f} µs, off by {difference:.0e}")


if __name__ == "__main__":
    main()
