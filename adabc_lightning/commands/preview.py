"""What a run would do: phases, counts, files and memory, found out by almost starting it."""

import os
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import Checkpointing, Downsampling, Evaluation, Metrics
from adabc_lightning.commands.plan import Done, Evaluations, Memory, Plan
from adabc_lightning.data import d4rl
from adabc_lightning.data.datasets import ASSETS, MINARI_ID
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.run.limits import amount, available
from adabc_lightning.run.seeding import torch_generator
from adabc_lightning.run.trainer import first_of

FLOAT = 4  # bytes
ROW = 200  # bytes of metrics.csv, as the committed runs have it


class Planned(Exception):
    """The plan is made; nothing else is to happen."""


class Preview(Callback):
    """Plans at the last moment before a run would touch the disk.

    By then Lightning has made everything, every part but the loggers has checked what it was given,
    and a checkpoint is restored. It must be the first of the callbacks.

    Args:
        callbacks: the run's.
        stops: whether to end the fit there, by :class:`Planned`.
    """

    plan: Plan
    """Once training would start."""

    def __init__(self, callbacks: Sequence[Callback], stops: bool = True) -> None:
        self.callbacks, self.stops = callbacks, stops

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises: Planned: where it stops."""
        data = data_of(trainer)
        self.plan = plan(self.callbacks, data, pl_module)  # type: ignore[arg-type]
        if self.stops:
            raise Planned


def to_fetch(dataset: str | None) -> str | None:
    """What ``data.download true`` would fetch for a dataset; None where it is here already."""
    if dataset is None or Path(dataset).expanduser().exists():
        return None
    if dataset in d4rl.FILES:
        file = d4rl.FILES[dataset]
        size = "" if file.size is None else f" ({amount(file.size)})"
        here = (d4rl.folder() / file.name).is_file()
        return None if here else f"{d4rl.SERVER}{file.path}{size}"
    packaged = (ASSETS / f"{dataset.replace('-', '_')}.hdf5").is_file()
    if packaged or not MINARI_ID.fullmatch(dataset) or (minari_root() / dataset / "data").exists():
        return None
    return f"{dataset} from Minari's server"


def minari_root() -> Path:
    """Minari's folder of datasets; Minari's own function would make it."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def plan(
    callbacks: Sequence[Callback],
    data: ReplayDataModule,
    agent: OffToOnModule,
    missing: str | None = None,
) -> Plan:
    """What will happen, how often, and how much it takes.

    Args:
        callbacks: the run's.
        data: set up, unless its dataset is missing.
        agent: counters as a checkpoint left them.
        missing: what has to be fetched before the number of transitions is known.
    """
    schedule, spec = data.schedule, data.spec
    rows = None if missing else len(data.replay)
    kept = _kept(callbacks, data, rows)
    online = 0 if missing else data.env_steps
    evaluation = first_of(callbacks, Evaluation)
    ahead = max(0, schedule.online_env_steps - online)
    learning = max(0, schedule.online_env_steps - max(online, schedule.frozen_env_steps))
    offline_due, online_due = schedule.evaluations_left(agent.gradient_updates, online)
    first = not schedule.offline_updates and not online and evaluation is not None
    return Plan(
        env_id=data.env_id,
        observation_size=spec.observation_size,
        observation_parts=spec.observation_parts,
        action_size=spec.action_size,
        max_episode_steps=spec.max_episode_steps,
        dataset=data.dataset_name,
        to_fetch=missing,
        transitions=rows,
        kept_at_hand_over=kept,
        method=type(agent.method).__name__,
        num_critics=agent.num_critics,
        subset_size=agent.subset_size,
        parameters=sum(weight.numel() for weight in agent.parameters() if weight.requires_grad),
        device=str(agent.device),
        done=Done(agent.gradient_updates, online),
        offline_updates=max(0, schedule.offline_updates - agent.gradient_updates) * (not online),
        online_env_steps=ahead,
        frozen_env_steps=ahead - learning,
        updates_per_env_step=schedule.updates_per_env_step,
        online_updates=schedule.updates_per_env_step * learning,
        batch_size=data.batch_size,
        evaluations=Evaluations(offline_due, online_due + first),
        beside=[
            found
            for each in callbacks
            if isinstance(each, RunCallback)
            and (found := each.planned_interaction(schedule, online, spec.max_episode_steps))
        ],
        episodes=0 if evaluation is None else evaluation.episodes,
        files=_files(callbacks, data, agent, kept),
        memory=_memory(data, agent, kept),
    )


def _kept(callbacks: Sequence[Callback], data: ReplayDataModule, rows: int | None) -> int | None:
    """Rows that the hand-over keeps; None where they are not known or it lies behind."""
    choice = first_of(callbacks, Downsampling)
    if rows is None or data.env_steps:
        return None
    if data.dataset is None or choice is None:
        return rows
    return len(choice.select(data.dataset, torch_generator(data.seed, "hand-over")))


def _tensors(tensors: Any) -> int:
    """Bytes."""
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))


def _agent_bytes(agent: OffToOnModule) -> int:
    """Weights, targets and the two moments of Adam."""
    trained = [weight for weight in agent.parameters() if weight.requires_grad]
    return _tensors(agent.state_dict().values()) + 2 * _tensors(trained)


def _ring(data: ReplayDataModule, kept: int | None) -> tuple[int | None, int | None]:
    """Bytes of the online ring, and of what the run fills of it at most; None where unknown."""
    filled = None
    if kept is not None:
        filled = kept + data.schedule.online_env_steps
    elif hasattr(data, "replay") and data.env_steps:
        filled = len(data.replay) + data.schedule.online_env_steps - data.env_steps
    capacity = filled if data.replay_capacity is None else data.replay_capacity
    if capacity is not None:
        filled = capacity if filled is None else min(filled, capacity)
    row = data.layout.width * FLOAT
    return capacity and capacity * row, filled and filled * row


def _files(
    callbacks: Sequence[Callback],
    data: ReplayDataModule,
    agent: OffToOnModule,
    kept: int | None,
) -> dict[str, int]:
    """Name → about how many bytes, at the end of the run; loggers' own files aside."""
    schedule, metrics = data.schedule, first_of(callbacks, Metrics)
    online = schedule.online_env_steps > 0
    moments = _agent_bytes(agent)
    last = moments + ((_ring(data, kept)[1] or 0) if online else 0)
    evaluations = ceil(schedule.online_env_steps / schedule.evaluation_every)
    files = {"config.yaml": 2_000, "summary.json": 1_200}
    if metrics is not None:
        progress = max(schedule.total_updates, schedule.online_env_steps)
        files["metrics.csv"] = (progress // metrics.every + evaluations) * ROW
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        files[f"checkpoints/{name}"] = last
    if schedule.offline_updates:
        files["checkpoints/pretrained.ckpt"] = moments
    checkpoints = first_of(callbacks, Checkpointing)
    if checkpoints is not None and checkpoints.keep_policies:
        actor = _tensors(agent.actor.state_dict().values())
        files["checkpoints/policies/"] = (evaluations + 1) * actor
    return files


def _memory(data: ReplayDataModule, agent: OffToOnModule, kept: int | None) -> Memory:
    ring, filled = _ring(data, kept) if data.schedule.online_env_steps else (0, 0)
    updates = max(data.schedule.offline_chunk, data.schedule.updates_per_env_step)
    trained = [weight for weight in agent.parameters() if weight.requires_grad]
    to_come: dict[str, int | None] = {
        "Adam and gradients": 3 * _tensors(trained),
        "batches": updates * data.batch_size * data.layout.width * FLOAT,
        "online ring": ring,
        "its copy in a checkpoint": filled,
    }
    return Memory(_resident(), to_come, available())


def _resident() -> int | None:
    """Bytes of this process in memory: libraries and dataset; None where Linux does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
