"""Speed of the packaged update against the plain reference of the tests, and of the loop.

    .venv/bin/python benchmarks/update_speed.py [--repeats 15] [--updates 40]

Both updates run in turn in one process, medians are printed; then a real ``fit`` is timed with
a clock around every update, which gives the share of everything else (sampling, environment,
Lightning, metrics) in each phase. Run it on an otherwise idle machine.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from adabc_lightning.runtime import tune

if "--default-allocator" not in sys.argv:  # before PyTorch does any work
    tune()

import torch
from lightning import Callback, Trainer

from adabc_lightning import module as module_file
from adabc_lightning.callbacks import AlphaController, Downsampling, Metrics
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.envs import EnvironmentSpec
from adabc_lightning.module import OffToOnModule
from adabc_lightning.schedule import Schedule

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from reference import PlainAgent

HOPPER = EnvironmentSpec("Hopper-v5", 11, (-1.0,) * 3, (1.0,) * 3, 1000)
G, B = 10, 256


class Standalone(OffToOnModule):
    """The packaged training step without a trainer around it."""

    def __init__(self) -> None:
        super().__init__(HOPPER)
        self._adams = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._adams


def compare(updates: int, repeats: int) -> tuple[list[float], list[float]]:
    """Updates per second of the packaged update and of the reference, in turn."""
    from adabc_lightning.data.transitions import Layout

    layout = Layout(11, 3)
    rows = torch.randn(G, B, layout.width)
    rows[..., -2:] = 0
    batch = layout.unpack(rows)
    ours = Standalone()
    plain = PlainAgent(
        torch.float32,
        num_critics=10,
        observation_size=11,
        action_size=3,
        hidden=(256, 256),
        low=HOPPER.action_low,
        high=HOPPER.action_high,
        gamma=0.99,
        tau=0.005,
        policy_delay=2,
        lr=3e-4,
        sigma=0.2,
        clip=0.5,
        normalizer="policy",
    )
    noise, subset = torch.randn(B, 3), torch.tensor([3, 7])
    fields = ("observation", "action", "reward", "next_observation", "terminated")
    single = [tuple(batch[g][name] for name in fields) for g in range(G)]

    def run_ours() -> None:
        for _ in range(updates // G):
            ours.training_step(batch, 0)

    def run_plain() -> None:
        for k in range(updates):
            plain.update(*single[k % G], noise, subset, 0.4)

    rates: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for run, results in zip((run_ours, run_plain), rates, strict=True):
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                results.append(updates / (time.perf_counter() - start))
    return rates


class Clock(Callback):
    """Wall time of each phase of a fit, from the first batch to the last."""

    def __init__(self) -> None:
        self.seconds = {"offline": 0.0, "online": 0.0}
        self._mark = 0.0

    def on_train_start(self, *_: Any) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        now = time.perf_counter()
        self.seconds["online" if trainer.datamodule.env_steps else "offline"] += now - self._mark
        self._mark = now


def loop_overhead(updates: int) -> dict[str, float]:
    """Share of each phase's wall time that is not spent in the update functions."""
    inside = {"offline": 0.0, "online": 0.0}
    original = module_file.update
    schedule = Schedule(updates, max(1, updates // G), G, evaluation_every=10**9)
    data = ReplayDataModule(schedule=schedule)
    agent = OffToOnModule(data.spec)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = original(*args, **kwargs)
        phase = "online" if data.env_steps else "offline"
        inside[phase] += time.perf_counter() - start
        return result

    module_file.update = timed
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[Downsampling(), AlphaController(), Metrics(), clock],
        ).fit(agent, data)
    module_file.update = original
    return {phase: 1 - inside[phase] / clock.seconds[phase] for phase in inside}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--default-allocator", action="store_true", help="without runtime.tune()")
    options = parser.parse_args()
    ours, plain = compare(options.updates, options.repeats)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, N = 10, batch {B}, float32"
    )
    for name, rates in (("packaged update", ours), ("ten separate MLPs", plain)):
        print(
            f"{name:<20} {statistics.median(rates):7.1f} updates/s "
            f"(from {min(rates):.1f} to {max(rates):.1f})"
        )
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    print(f"{'ratio':<20} {statistics.median(ratios):7.2f} (median of the rounds)")
    for phase, share in loop_overhead(10 * options.updates).items():
        print(f"outside the update, {phase:<8} {100 * share:5.1f} % of the time")


if __name__ == "__main__":
    main()
