"""Whole runs through Lightning: rates of both phases, and what the loop around updates costs."""

import logging
import statistics
import tempfile
import time
import warnings
from functools import partial
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer

from adabc_lightning.agent.engines import AddMetrics, Engine, Work
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import AlphaController, Downsampling, Guard, Metrics
from adabc_lightning.commands.bench.updates import wait
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.replicas import Replicas
from adabc_lightning.replicas.module import ReplicasModule
from adabc_lightning.run.schedule import Schedule


class _Timed:
    """An engine with a clock around it: on a GPU the GPU's, which the host does not wait for."""

    def __init__(self, engine: Engine, device: torch.device) -> None:
        self.name = engine.name
        self._engine, self._device = engine, device
        self.start()

    def start(self) -> None:
        """From now on."""
        wait(self._device)
        self._seconds, self.updates = 0.0, 0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @property
    def seconds(self) -> float:
        """That the updates took; waits for them."""
        wait(self._device)
        return self._seconds + sum(a.elapsed_time(b) for a, b in self._events) / 1000

    def __call__(self, work: Work, add: AddMetrics) -> None:
        self.updates += len(work.delayed_after)
        if self._device.type == "cuda":
            pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            pair[0].record()
            self._engine(work, add)
            pair[1].record()
            self._events.append(pair)
        else:
            start = time.perf_counter()
            self._engine(work, add)
            self._seconds += time.perf_counter() - start
        self.name = self._engine.name  # another where that one did not work


class _Clock(Callback):
    """Wall time of a phase after its first tenth, and the engine's share of it."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.seconds = self.inside = 0.0
        self.batches = self.updates = 0
        self.timed: _Timed | None = None
        self._start = 0.0

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: OffToOnModule | ReplicasModule,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self.timed is None:  # the module has made its engine by now
            self.timed = _Timed(pl_module.running_engine, pl_module.device)
            pl_module.running_engine = self.timed

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.batches += 1
        if self.batches == self.warm_up:
            self.timed.start()  # type: ignore[union-attr]
            self._start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        if self.timed is not None:
            self.inside, self.updates = self.timed.seconds, self.timed.updates
        self.seconds = time.perf_counter() - self._start
        self.batches -= self.warm_up


def fit(
    agents: list[tuple[OffToOnModule, ReplayDataModule]], accelerator: str, beside: list[Callback]
) -> Trainer:
    """Trains in silence, without checkpoints and evaluations, and leaves nothing behind.

    Args:
        agents: one, or several that go in step.
        accelerator: Lightning's.
        beside: callbacks besides those that every run has.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    def usual() -> list[Callback]:
        return [Downsampling(), AlphaController(), Guard(), Metrics()]

    module: LightningModule
    data: LightningDataModule
    if len(agents) == 1:
        ((module, data),), callbacks = agents, usual()
    else:
        replicas = Replicas([(*agent, usual()) for agent in agents])
        module, data, callbacks = replicas.module, replicas.data, [replicas.callback]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            max_epochs=1,
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[*callbacks, *beside],
        )
        trainer.fit(module, data)
    return trainer


def run(
    schedule: Schedule, batches: int, accelerator: str, model: dict[str, Any], replicas: int = 1
) -> _Clock:
    """Fits Hopper and returns the stopped clock.

    Args:
        schedule: of one phase only.
        batches: that it makes.
        accelerator: Lightning's.
        model: arguments of the module.
        replicas: agents that go in step.
    """
    clock = _Clock(max(1, batches // 10))
    agents = []
    for seed in range(replicas):
        data = ReplayDataModule(schedule=schedule, seed=seed)
        agents.append((OffToOnModule(data.spec, seed=seed, **model), data))
    fit(agents, accelerator, [clock])
    return clock


def acting(steps: int, rounds: int, accelerator: str, model: dict[str, Any]) -> dict[str, float]:
    """Environment steps per second with the policy acting, without Lightning's loop.

    And those of the environment itself, on the same actions in turn with it; medians.

    Args:
        steps: of a round.
        rounds: after one that warms up.
        accelerator: Lightning's.
        model: arguments of the module.
    """
    data = ReplayDataModule(schedule=Schedule(0, steps, 0))
    agent = OffToOnModule(data.spec, **model).to("cuda" if accelerator == "gpu" else "cpu")
    env, column = data.make_env(), data.layout.columns["action"]
    collector = Collector(data.make_env(), data.layout, data.seed, 0, None)
    explore = partial(agent.explore, scale=data.exploration_noise)
    env.reset(seed=0)
    ours, alone = [], []
    for _ in range(rounds + 1):
        start, actions, ends = time.perf_counter(), [], []
        for _ in range(steps):
            actions.append(collector.step(explore)[column])
            ends.append(collector.finished_episode is not None)
        middle = time.perf_counter()
        same = [action.numpy() for action in actions]
        again = time.perf_counter()
        for action, end in zip(same, ends, strict=True):
            env.step(action)
            if end:
                env.reset()
        ours.append(steps / (middle - start))
        alone.append(steps / (time.perf_counter() - again))
    collector.close()
    env.close()
    return {
        "env_steps_per_s": statistics.median(ours[1:]),
        "environment_itself": statistics.median(alone[1:]),
    }


def offline(updates: int, accelerator: str, model: dict[str, Any]) -> dict[str, float]:
    """Updates per second of pre-training, and the share of time outside the updates."""
    schedule = Schedule(updates, 0, 0, evaluation_every=10**9)
    clock = run(schedule, -(-updates // schedule.offline_chunk), accelerator, model)
    return {
        "updates_per_s": clock.updates / clock.seconds,
        "outside": 1 - clock.inside / clock.seconds,
    }


def online(
    steps: int,
    updates_per_env_step: int,
    accelerator: str,
    model: dict[str, Any],
    replicas: int = 1,
) -> dict[str, float]:
    """Environment steps per second of fine-tuning at some G, and the share outside the updates.

    Args:
        steps: of each agent.
        updates_per_env_step: G.
        accelerator: Lightning's.
        model: arguments of the module.
        replicas: agents that go in step; the rate is that of each.
    """
    schedule = Schedule(0, steps, updates_per_env_step, evaluation_every=10**9)
    clock = run(schedule, steps, accelerator, model, replicas)
    return {
        "env_steps_per_s": clock.batches / clock.seconds,
        "outside": 1 - clock.inside / clock.seconds,
    }
