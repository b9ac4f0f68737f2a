"""One bar per phase: unit, rate, time left, latest score, α."""

import sys
from typing import TYPE_CHECKING, Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from adabc_lightning.callbacks.metrics import Metrics
from adabc_lightning.schedule import OFFLINE, ONLINE

if TYPE_CHECKING:
    from adabc_lightning.data.module import ReplayDataModule
    from adabc_lightning.module import OffToOnModule


class Progress(ProgressBar):
    """tqdm on a terminal; elsewhere one line per evaluation, so that log files stay readable."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._phase = ""

    def disable(self) -> None:
        """Silences the bar (Lightning calls it on every rank but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """The inverse of :meth:`disable`."""
        self._enabled = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: "OffToOnModule",  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Moves the bar of the current phase."""
        if not self._enabled:
            return
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        schedule, env_steps = data.schedule, data.env_steps
        phase = ONLINE if env_steps else OFFLINE
        done, total, unit = (
            (env_steps, schedule.online_env_steps, "env step")
            if env_steps
            else (pl_module.gradient_updates, schedule.offline_updates, "update")
        )
        evaluated = schedule.evaluation_due(pl_module.gradient_updates, env_steps)
        latest = next((c.latest for c in trainer.callbacks if isinstance(c, Metrics)), {})  # type: ignore[attr-defined]
        if not sys.stderr.isatty():
            if evaluated:
                parts = [f"{phase} {done:,}/{total:,} {unit}s"]
                if "eval/score" in latest:
                    parts.append(f"score {latest['eval/score']:.1f}")
                if "eval/return" in latest:
                    parts.append(f"return {latest['eval/return']:.1f}")
                parts.append(f"alpha {pl_module.alpha.item():.3f}")
                print("  ".join(parts), file=sys.stderr, flush=True)
            return
        if phase != self._phase:
            self._close()
            self._phase = phase
            self._bar = tqdm(
                total=total, initial=done, unit=f" {unit}s", desc=phase, dynamic_ncols=True
            )
        assert self._bar is not None
        if evaluated or self._bar.n == self._bar.initial:
            score = latest.get("eval/score", latest.get("eval/return"))
            shown = "–" if score is None else f"{score:.1f}"
            self._bar.set_postfix_str(f"score {shown}", refresh=False)
        if data.collector.finished_episode is not None:
            text = self._bar.postfix.split(", α")[0] if self._bar.postfix else ""
            self._bar.set_postfix_str(f"{text}, α {pl_module.alpha.item():.3f}", refresh=False)
        self._bar.update(done - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the finished bars on the screen."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the bar on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
