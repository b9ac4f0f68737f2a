"""metrics.csv and every logger: one row per evaluation and per logging interval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.metrics_file import MetricsFile
from adabc_lightning.data.hooks import RunCallback, run_callbacks
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import first_cause
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.loggers import TensorBoard
from adabc_lightning.run.saved import Count, Named, Number, Saved, absent
from adabc_lightning.run.trainer import callbacks_of
from adabc_lightning.run.types import Positive, declared

COLUMNS = (
    "phase",
    "gradient_updates",
    "env_steps",
    "eval/return",
    "eval/return_std",
    "eval/score",
    "eval/episode_length",
    "eval/success_rate",
    "loss/critic",
    "loss/actor",
    "loss/behavior_cloning",
    "loss/density_ratio",
    "q/mean",
    "q/target",
    "q/policy",
    "control/alpha",
    "control/proportional",
    "control/derivative",
    "control/return_average",
    "online/fraction",
    "online/episodes",
    "online/episode_return",
    "online/episode_length",
    "diagnostics/q_gap",
    "diagnostics/action_distance",
    "diagnostics/disagreement_data",
    "diagnostics/disagreement_policy",
    "diagnostics/disagreement_online",
    "diagnostics/saturated",
)


def record(trainer: Trainer, values: dict[str, float]) -> None:
    """Hands values to the run's :class:`Metrics` callback, if it has one.

    A name in :data:`COLUMNS` keeps its newest value until the next row is written.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, Metrics):
            callback.pending.update(values)


class SavedMetrics(Saved):
    """See :meth:`Metrics.state_dict`."""

    size: Count
    digest: str | None = absent()  # in checkpoints of earlier versions
    last_progress: Count
    episodes: Count
    pending: Named[Number]
    latest: Named[Number]


@declared("metrics")
class Metrics(RunCallback):
    """Writes ``metrics.csv`` and forwards the same rows to the trainer's loggers.

    ``self.log`` is not used: it costs about 270 µs per key and step, and its x-axis is
    Lightning's ``global_step``, which counts neither gradient updates nor environment steps.
    Rows hold no clock times, so a resumed run's file equals the uncut one's.

    Args:
        every: gradient updates between rows (a row is due at the first batch that reaches
            it); environment steps where these are more than the updates.
    Raises: UserError: a value outside its range.
    """

    writes_rows = True

    def __init__(self, every: Positive = 500) -> None:
        self.every = every
        self.pending: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self._last_progress = 0
        self._episodes = 0
        self._shown: tuple[int, set[str]] = (-1, set())  # step and names that the loggers have
        self._homeless: set[str] = set()  # names without a column that a warning has said
        self._file = MetricsFile()
        self._lock = FolderLock("a run", "default_root_dir")

    def on_train_start(self, trainer: Trainer, pl_module: OffToOnModule) -> None:
        """Locks the folder, and starts the file or cuts it back to where the checkpoint was made.

        Raises: UserError: another run is at work in the folder, or has left its rows there.
        """
        if not trainer.is_global_zero:
            return
        callbacks = run_callbacks(trainer)
        if not any(callback.locks_folder for callback in callbacks):
            self._lock.take(Path(trainer.default_root_dir))
        rows = self._file.go_on(Path(trainer.default_root_dir) / "metrics.csv")
        if rows is None:
            own = [name for callback in callbacks for name in callback.columns]
            columns = tuple(dict.fromkeys((*COLUMNS, *pl_module.method.metrics, *own)))
            self._file.start(columns, _history(callbacks))
        else:
            self._show_again(trainer, pl_module, rows[-1:])

    def _show_again(
        self, trainer: Trainer, agent: OffToOnModule, rows: list[dict[str, str]]
    ) -> None:
        """The row of the checkpoint: TensorBoard drops all that it has of that step."""
        data = data_of(trainer)
        step = agent.gradient_updates + data.env_steps
        for row in rows:
            values = {name: float(text) for name, text in row.items() if name != "phase" and text}
            if values["gradient_updates"] + values["env_steps"] == step:
                # A replica's is within another.
                loggers = [
                    (logger, getattr(logger, "within", logger)) for logger in trainer.loggers
                ]
                kept = [logger for logger, whole in loggers if isinstance(whole, TensorBoard)]
                self._log(trainer, kept, values, step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the next run in."""
        self._lock.release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """The same where a run ends in an error: Lightning has no teardown then."""
        self._lock.release()

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """What was measured at the hand-over gets its row before the first step."""
        if self.pending:
            self._write(data.trainer, agent, data)  # type: ignore[arg-type]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes a row when one is due or when the agent has just been evaluated."""
        data = data_of(trainer)
        updates, env_steps = pl_module.gradient_updates, data.env_steps
        self._episodes += len(data.finished_episodes)
        progress = max(updates, env_steps)
        due = progress // self.every > self._last_progress // self.every
        self._last_progress = progress
        if due or "eval/return" in self.pending:
            self._write(trainer, pl_module, data)

    def _write(self, trainer: Trainer, pl_module: OffToOnModule, data: ReplayDataModule) -> None:
        updates, env_steps = pl_module.gradient_updates, data.env_steps
        values = {
            **pl_module.take_metrics(),
            **self.pending,
            "online/episodes": float(self._episodes),
        }
        if pl_module.method.uses_alpha:
            values["control/alpha"] = pl_module.alpha.item()
        self.pending = {}
        for callback in run_callbacks(trainer):
            callback.check_row(trainer, pl_module, values)
        self.latest.update(values)
        if not self._file.is_open:
            return
        row = {
            "phase": "online" if env_steps else "offline",
            "gradient_updates": updates,
            "env_steps": env_steps,
            **values,
        }
        self._file.append(row)
        for name in sorted(row.keys() - set(self._file.columns) - self._homeless):
            self._homeless.add(name)
            rank_zero_warn(
                f"{name} is measured, but no column of metrics.csv: metrics of a method or columns "
                "of a RunCallback say so before the file begins; only loggers get it"
            )
        counters = {"gradient_updates": float(updates), "env_steps": float(env_steps)}
        self._log(trainer, trainer.loggers, {**values, **counters}, updates + env_steps)

    def _log(
        self, trainer: Trainer, loggers: Sequence[Logger], values: dict[str, float], step: int
    ) -> None:
        """No name twice at one step, where the hand-over follows an evaluation."""
        shown, names = self._shown
        self._shown = step, values.keys() | (names if shown == step else set())
        new = {n: v for n, v in values.items() if shown != step or n not in names}
        for logger in list(loggers):
            try:
                logger.log_metrics(new, step=step)
            except Exception as error:  # a run never fails for its logger
                rank_zero_warn(f"{type(logger).__name__} is off from here on: {first_cause(error)}")
                trainer.loggers = [other for other in trainer.loggers if other is not logger]

    def state_dict(self) -> dict[str, Any]:
        """Where the file ends, and what the next row needs."""
        return {
            "size": self._file.size,
            "digest": self._file.digest,
            "last_progress": self._last_progress,
            "episodes": self._episodes,
            "pending": dict(self.pending),
            "latest": dict(self.latest),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._file.size = state_dict["size"]
        self._file.digest = state_dict.get("digest")
        self._last_progress = state_dict["last_progress"]
        self._episodes = state_dict["episodes"]
        self.pending, self.latest = dict(state_dict["pending"]), dict(state_dict["latest"])


def _history(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """The evaluations before the checkpoint that a new folder's run starts from, as rows."""
    points: list[dict[str, float]] = next(
        (c.history for c in callbacks if hasattr(c, "history")), []
    )
    return [{"phase": "online" if p["env_steps"] else "offline", **p} for p in points]
