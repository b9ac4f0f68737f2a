"""What Lightning's Trainer cannot be asked for: a run is one pass of the schedule.

Its loop sees neither optimiser steps, of which ``training_step`` makes several, nor metrics, of
which an x-axis of its own is the point (:class:`~adabc_lightning.callbacks.Metrics`).
"""

from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from adabc_lightning.errors import UserError
from adabc_lightning.run.trainer import callbacks_of

LENGTHS: dict[str, Any] = {
    "fast_dev_run": False,  # Lightning makes others of these two
    "overfit_batches": 0.0,
    "max_epochs": 1,
    "max_steps": -1,
    "limit_train_batches": 1.0,
    "accumulate_grad_batches": 1,
}
"""Arguments that say how long a run is, and the value that changes nothing."""
_INSTEAD = {
    ModelCheckpoint: "Checkpointing saves last.ckpt and best.ckpt at every evaluation (in Python "
    "give it among the callbacks, or enable_checkpointing=False for a run without)",
    EarlyStopping: "a run ends with its schedule, and best.ckpt is its best evaluation",
}


def check_length(name: str, value: Any) -> None:
    """Whether a Trainer's argument leaves a run as long as its schedule.

    Args:
        name: of :data:`LENGTHS`.
        value: what it is given, or what it stands at.
    Raises: UserError: it would cut the run short, or never end it.
    """
    whole = LENGTHS[name]
    # One batch is no pass, and 1 is 1.0.
    if value != whole or (isinstance(whole, float) and whole and not isinstance(value, float)):
        raise UserError(
            f"trainer.{name} is {value}, but a run is one pass of the schedule; "
            + (f"set it to {whole}" if name == "max_epochs" else "leave it out")
            + " and set the keys of schedule"
        )


def check_trainer(trainer: Trainer) -> None:
    """Whether a Trainer makes one pass of the schedule.

    Raises: UserError: it has ended a fit, it has another length, or a callback that would wait for
        ever.
    """
    if trainer.fit_loop.epoch_progress.current.completed:  # and would end the next at once
        raise UserError("this Trainer has ended an earlier fit; make a new one for each fit")
    for name in LENGTHS:
        check_length(name, getattr(trainer, name))
    for callback in callbacks_of(trainer):
        for kind, instead in _INSTEAD.items():
            if isinstance(callback, kind):
                raise UserError(
                    f"{type(callback).__name__} is among the Trainer's callbacks, but Lightning "
                    f"counts no optimiser steps and knows no metrics of these runs; {instead}"
                )
