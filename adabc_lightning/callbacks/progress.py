"""One bar per phase: unit, rate, time left, latest score, α."""

import os
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.run.schedule import OFFLINE, ONLINE
from adabc_lightning.run.trainer import callbacks_of

# What a progress line calls the counts of trials.
TRIALS = {"promotions": "won", "holds": "lost", "retreats": "went back"}


def trials(latest: dict[str, float]) -> list[str]:
    """How often a method that tries its policies out has decided what, so far; none of others.

    Args:
        latest: newest values by their columns of ``metrics.csv``.
    """
    counts = {word: latest.get(f"trial/{name}") for name, word in TRIALS.items()}
    known = [f"{word} {count:.0f}" for word, count in counts.items() if count is not None]
    return [", ".join(known)] if known else []


class Progress(ProgressBar):
    """tqdm on a terminal; elsewhere one line per evaluation, so that log files stay readable."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._phase = ""
        self._begun = 0.0, 0
        """When the phase began, or went on, in seconds, and what of it was done by then."""

    def disable(self) -> None:
        """Silences the bar (Lightning calls it on every rank but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """The inverse of :meth:`disable`."""
        self._enabled = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar of the current phase."""
        if not self._enabled:
            return
        data = data_of(trainer)
        schedule, env_steps = data.schedule, data.env_steps
        phase = ONLINE if env_steps else OFFLINE
        done, total, unit = (
            (env_steps, schedule.online_env_steps, "env step")
            if env_steps
            else (pl_module.gradient_updates, schedule.offline_updates, "update")
        )
        evaluated = schedule.evaluation_due(pl_module.gradient_updates, env_steps)
        # That of Metrics, or of what stands for all replicas.
        found = (c.latest for c in callbacks_of(trainer) if hasattr(c, "latest"))
        latest: dict[str, float] = next(found, {})
        begins = phase != self._phase
        if begins:
            self._close()
            self._phase, self._begun = phase, (time.monotonic(), done)
        if not sys.stderr.isatty():
            if evaluated:
                parts = [f"{phase} {done:,}/{total:,} {unit}s"]
                if "eval/score" in latest:
                    parts.append(f"score {latest['eval/score']:.1f}")
                if "eval/return" in latest:
                    parts.append(f"return {latest['eval/return']:.1f}")
                if pl_module.method.uses_alpha:
                    parts.append(f"alpha {pl_module.alpha.item():.3f}")
                parts += [*trials(latest), *self._left(done, total)]
                print("  ".join(parts), file=sys.stderr, flush=True)
            return
        if begins:
            # A terminal that does not tell its size (docker -t) would get an empty bar.
            told = os.get_terminal_size(sys.stderr.fileno()).columns > 0
            size: dict[str, Any] = {"dynamic_ncols": True} if told else {"ncols": 80, "nrows": 24}
            self._bar = tqdm(total=total, initial=done, unit=f" {unit}s", desc=phase, **size)
        assert self._bar is not None
        if evaluated or data.finished_episodes or not self._bar.postfix:
            score = latest.get("eval/score", latest.get("eval/return"))
            shown = "–" if score is None else f"{score:.1f}"
            parts = [f"score {shown}", *trials(latest)]
            if pl_module.method.uses_alpha:
                parts.insert(1, f"α {pl_module.alpha.item():.3f}")
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
        self._bar.update(done - self._bar.n)

    def _left(self, done: int, total: int) -> list[str]:
        """The time that the rest of the phase takes at the rate so far, where there is one."""
        since, already = self._begun
        if not already < done < total:
            return []
        seconds = (time.monotonic() - since) * (total - done) / (done - already)
        return [f"{tqdm.format_interval(seconds)} left"]

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
