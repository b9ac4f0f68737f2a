"""Stops a run whose numbers are no numbers, and says where it stands when it is stopped."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from tensordict import TensorDict

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import diagnostics
from adabc_lightning.callbacks.finite import all_tensors, check_all
from adabc_lightning.callbacks.lines import say
from adabc_lightning.callbacks.metrics import Metrics
from adabc_lightning.data.faults import in_other_units
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import EnvironmentFailure, NotFinite
from adabc_lightning.run.atomic import NotWritten
from adabc_lightning.run.checkpoint_files import FOLDER, LAST
from adabc_lightning.run.folder import words_to_go_on
from adabc_lightning.run.saved import Listing, Saved, Text
from adabc_lightning.run.trainer import find
from adabc_lightning.run.types import NonNegative, declared

Q_METRICS = ("q/mean", "q/target", "q/policy")
_DIVERGES = ": Q diverges"


class SavedGuard(Saved):
    """See :meth:`Guard.state_dict`."""

    warnings: Listing[Text]


@declared("guard")
class Guard(RunCallback):
    """Looks for NaN and infinities at every row of the metrics and before every checkpoint.

    Losses and Q values are looked at as the means that the row holds, before it is written;
    weights, targets, every Adam and α with them. Actions, observations and rewards are checked
    where they arise (:mod:`adabc_lightning.env.stepping`). What ends the run, here or there, gets
    the rest of its sentence from this callback, and ``diagnostics.json``; after a step that the
    environment failed in, ``last.ckpt`` is the state from before it.

    Place it before ``Evaluation``, which should not run a policy that gives no numbers.

    Args:
        q_bound: warns, once, when a mean Q exceeds this times max|r| / (1 − γ), the largest
            discounted return that the rewards seen allow; None or 0 for never.
    Raises: UserError: a value outside its range.
    """

    def __init__(self, q_bound: NonNegative | None = 10.0) -> None:
        self.q_bound = q_bound
        self.warnings: list[str] = []
        self._largest_reward = 0.0
        self._batch: TensorDict | None = None
        self._values: dict[str, float] = {}
        self._sound: dict[str, int] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Checks the agent before it is evaluated."""
        self._batch = batch
        data = data_of(trainer)
        if data.schedule.evaluation_due(pl_module.gradient_updates, data.env_steps):
            check_all(pl_module)
            if 0 < data.env_steps <= data.schedule.evaluation_every:
                self._check_units(data)

    def check_row(self, trainer: Trainer, agent: OffToOnModule, values: dict[str, float]) -> None:
        """Checks a row of the metrics, and the agent, before the row is written.

        Raises: NotFinite: something is NaN or infinite.
        """
        self._values = values
        for name, value in values.items():
            if not math.isfinite(value):
                raise NotFinite(f"{name} is {value}")
        check_all(agent)
        data = data_of(trainer)
        self._sound = _counters(data, agent)
        self._check_bound(data, agent, values)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: OffToOnModule, checkpoint: dict[str, Any]
    ) -> None:
        """No checkpoint, whoever asks for it, holds numbers that are none."""
        check_all(pl_module)

    def _check_units(self, data: ReplayDataModule) -> None:
        """Warns where the environment's rewards, by now known, are none like the log's."""
        columns, rows = data.layout.columns, data.replay.stores
        reward_T = torch.cat([some[:, columns["reward"]] for some in rows]).cpu().numpy()
        online_T = torch.cat([some[:, columns["online"]] for some in rows]).cpu().numpy() > 0
        logged, made = reward_T[~online_T], reward_T[online_T]
        if in_other_units(logged, made):
            text = (
                f"a step's reward is {logged.min():.4g} to {logged.max():.4g} in the rows of "
                f"{data.dataset_name}, {made.min():.4g} to {made.max():.4g} in those that "
                f"{data.env_id} has given so far: units or an offset may differ, and Q learns from "
                "both"
            )
            self._warn(data, text)

    def _warn(self, data: ReplayDataModule, text: str) -> None:
        self.warnings.append(text)
        say(data.trainer, f"warning: {text}")

    def _check_bound(
        self, data: ReplayDataModule, agent: OffToOnModule, values: dict[str, float]
    ) -> None:
        if not self.q_bound or any(_DIVERGES in warning for warning in self.warnings):
            return
        factor = self.q_bound / (1 - agent.gamma) if agent.gamma < 1 else float("inf")
        name = max(
            (name for name in Q_METRICS if name in values),
            key=lambda name: abs(values[name]),
            default=None,
        )
        if name is None or abs(values[name]) <= factor * self._largest_reward:
            return
        # Only now are the rows looked through: online ones may have brought larger rewards.
        for rows in data.replay.stores:
            if len(rows):
                largest = float(rows[:, data.layout.columns["reward"]].abs().max())
                self._largest_reward = max(self._largest_reward, largest)
        bound = factor * self._largest_reward
        if not 0 < bound < abs(values[name]):  # without any reward there is no scale
            return
        text = (
            f"{name} is {values[name]:,.0f}{_place(data, agent, self._batch)}, beyond {bound:,.0f}"
            f" (guard.q_bound {self.q_bound:g} × max|r| / (1 − γ)){_DIVERGES}; the paper's remedy "
            "is a larger model.alpha_offline (it takes 100 instead of 0.4 on walker2d-random)"
        )
        self._warn(data, text)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Ends the sentence, with a checkpoint where the state is sound."""
        if not isinstance(exception, (NotFinite, EnvironmentFailure)) or not trainer.is_global_zero:
            return
        data = data_of(trainer)
        agent: OffToOnModule = pl_module  # type: ignore[assignment]
        folder = Path(trainer.default_root_dir)
        rows = diagnostics.column_statistics(data.layout, data.replay.stores)
        if isinstance(exception, NotFinite):
            exception.add(_place(data, agent, self._batch))
            exception.add(_remedy(data, agent, rows))
        elif not exception.undone:
            updates = f"gradient update {agent.gradient_updates:,}"
            exception.add(f" (in an evaluation, a trial or a start, at {updates})")
        exception.add("; " + self._keep(trainer, data, exception))
        path = folder / "diagnostics.json"
        try:
            diagnostics.write(path, self._diagnosis(trainer, data, agent, str(exception), rows))
        except NotWritten as error:
            exception.add(f"; {error}")
        else:
            exception.add(f"; more in {path}")
        self._batch = None

    def _keep(self, trainer: Trainer, data: ReplayDataModule, exception: Exception) -> str:
        """Saves what is sound; says from where the run can go on."""
        folder = getattr(trainer, "run_folder", trainer.default_root_dir)  # a replica has both
        last = Path(folder) / FOLDER / LAST
        # Before the first environment step the hand-over is half done: that from before it stays.
        one = data.ranks.count == 1  # the other ranks may have made their step
        undone = isinstance(exception, EnvironmentFailure) and exception.undone
        if undone and data.env_steps and one:
            try:
                trainer.save_checkpoint(last, weights_only=False)
                return f"the state before this step is saved, go on with {words_to_go_on(folder)}"
            except NotFinite as error:
                return f"nothing is saved, because {error}"
            except Exception as error:  # a full disk, a folder that is gone
                return f"the state before this step could not be saved ({error})"
        good = last if last.exists() else trainer.ckpt_path
        return f"the last good checkpoint is {good}" if good else "no checkpoint was written yet"

    def _diagnosis(
        self,
        trainer: Trainer,
        data: ReplayDataModule,
        agent: OffToOnModule,
        problem: str,
        rows: dict[str, Any],
    ) -> dict[str, Any]:
        metrics = find(trainer, Metrics)
        batch = torch.empty(0, data.layout.width)
        if self._batch is not None and self._batch.batch_size[0]:
            fields = {name: self._batch[name] for name in data.layout.columns}
            flat = [v.unsqueeze(-1) if v.ndim == 2 else v for v in fields.values()]
            batch = torch.cat(flat, -1).flatten(0, 1).cpu()
        return {
            "problem": problem,
            "phase": "fine-tuning" if data.env_steps else "pre-training",
            **_counters(data, agent),
            "last_sound_row": self._sound,
            "env_id": data.env_id,
            "dataset": data.dataset_name,
            "seed": data.seed,
            "warnings": self.warnings,
            "newest_values": self._values,
            "last_row": metrics.latest if metrics else None,
            "tensors": diagnostics.tensor_statistics(
                dict(item for part in all_tensors(agent) for item in part.items())
            ),
            "batch": {
                "rows": len(batch),
                "columns": diagnostics.column_statistics(data.layout, [batch]),
            },
            "ring": {"rows": data.replay.total, "columns": rows},
        }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the last batch go."""
        self._batch = None

    def state_dict(self) -> dict[str, Any]:
        """What has been warned of; once is enough."""
        return {"warnings": list(self.warnings)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.warnings = list(state_dict["warnings"])


def _counters(data: ReplayDataModule, agent: OffToOnModule) -> dict[str, int]:
    return {"gradient_updates": agent.gradient_updates, "env_steps": data.env_steps}


def _place(data: ReplayDataModule, agent: OffToOnModule, batch: TensorDict | None) -> str:
    """When, in which phase, learning from which rows."""
    source = data.dataset_name or "no dataset"
    update = f" at gradient update {agent.gradient_updates:,}"
    if not data.env_steps:
        return f"{update} (pre-training, rows of {source})"
    rows = f"rows of {source} and of the run"
    if batch is not None and batch.batch_size[0]:
        share = 100 * float(batch["online"].mean())
        rows = f"{share:.0f} % of the rows online, the others of {source}"
    return f"{update} and environment step {data.env_steps:,} (fine-tuning, {rows})"


def _remedy(data: ReplayDataModule, agent: OffToOnModule, rows: dict[str, Any]) -> str:
    broken = [name for name, column in rows.items() if column["non_finite"]]
    if broken:
        return f"; the rows themselves are not finite in {', '.join(broken)}, correct the data"
    if not agent.method.uses_alpha:
        return "; a smaller model.learning_rate or data.reward_scale may help"
    stay = "alpha.initial (up to alpha.ceiling)" if data.env_steps else "model.alpha_offline"
    return f"; a larger {stay} or a smaller model.learning_rate may help"
