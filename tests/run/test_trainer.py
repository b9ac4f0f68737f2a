"""What is found among a Trainer's callbacks."""

from types import SimpleNamespace
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from adabc_lightning.run.trainer import callbacks_of, find, first_of


class One(Callback): ...


class Special(One): ...


def test_the_first_of_a_kind() -> None:
    special, one = Special(), One()
    replica: Any = SimpleNamespace(callbacks=[special, one])
    trainer = Trainer(
        callbacks=[special, one],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    for each in (trainer, replica):
        assert callbacks_of(each) is each.callbacks
        assert find(each, One) is special
        assert find(each, Special) is special
        assert find(each, Timer) is None
    assert first_of([one], Special) is None


def test_without_a_trainer_there_is_none() -> None:
    assert callbacks_of(None) == []
    assert find(None, One) is None
