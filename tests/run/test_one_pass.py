"""A run is one pass of the schedule: what of Lightning's would make it another one is refused."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from test_interruption import RUN
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.errors import UserError
from adabc_lightning.replicas import Replicas
from adabc_lightning.run.schedule import Schedule

SCHEDULE = Schedule(4, 4, 1, evaluation_every=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"max_epochs": 1000},
            "trainer.max_epochs is 1000, but a run is one pass of the schedule; set it to 1 and",
        ),
        ({"max_epochs": -1}, "trainer.max_epochs is -1, but"),
        ({"max_epochs": 1, "max_steps": 5}, "trainer.max_steps is 5, but a run is one pass"),
        ({"max_epochs": 1, "limit_train_batches": 1}, "trainer.limit_train_batches is 1, but"),
        ({"max_epochs": 1, "limit_train_batches": 0.5}, "trainer.limit_train_batches is 0.5, but"),
        ({"max_epochs": 1, "overfit_batches": 3}, "trainer.overfit_batches is 3, but"),
        ({"fast_dev_run": 5}, "trainer.fast_dev_run is 5, but"),
        ({"max_epochs": 1, "enable_checkpointing": True}, "ModelCheckpoint is among the Trainer's"),
        ({"max_epochs": 1, "callbacks": [EarlyStopping("eval/score")]}, "a run ends with its sch"),
    ],
)
@pytest.mark.parametrize("replicas", [False, True])
def test_what_would_change_it_is_refused_in_python(
    options: dict[str, Any], says: str, replicas: bool, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    _, module, data = tiny_run(tmp_path / "run", register_toy(), log, schedule=SCHEDULE)
    plain = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        **plain | {"accelerator": "cpu", "default_root_dir": tmp_path / "run"} | options
    )
    if replicas:
        group = Replicas([(module, data, [])])
        trainer.callbacks.append(group.callback)  # type: ignore[attr-defined]
        module, data = group.module, group.data  # type: ignore[assignment]
    with pytest.raises(UserError, match=says):
        trainer.fit(module, data)


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        ("{class_path: EarlyStopping, init_args: {monitor: eval/score}}", "a run ends with its"),
        (
            "{class_path: ModelCheckpoint, init_args: {dirpath: mine, save_top_k: -1}}",
            "Checkpointing saves last.ckpt and best.ckpt at every evaluation",
        ),
    ],
)
def test_callbacks_that_would_wait_for_ever_are_one_sentence(
    callback: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ["--data.dataset", str(write_log(tmp_path / "log.hdf5", 4, 1))]
    words += ["--trainer.default_root_dir", str(folder), "--trainer.callbacks+", callback]
    assert main([*RUN, *words]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not (folder / "metrics.csv").exists()
    assert not (folder / "checkpoints").exists()


class Ends(Callback):
    """Asks Lightning for an end, as ``trainer.max_time`` does."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        trainer.should_stop |= pl_module.gradient_updates == self.updates


@pytest.mark.parametrize("updates", [3, 4, 7, 8])  # pre-training, its end, fine-tuning twice
def test_a_run_that_is_ended_goes_on(
    updates: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From there, with nothing lost; and ``max_time`` counts anew."""
    log = write_log(tmp_path / "log.hdf5", 4, 1)
    schedule = Schedule(4, 8, 1, evaluation_every=4, offline_chunk=1)

    def run(folder: str, *callbacks: Callback) -> tuple[Trainer, Any, Any]:
        return tiny_run(
            tmp_path / folder,
            "InvertedPendulum-v5",
            log,
            schedule=schedule,
            callbacks=list(callbacks),
        )

    trainer, module, data = run("uncut")
    trainer.fit(module, data)
    capsys.readouterr()
    trainer, module, data = run("cut", Ends(updates), Timer(timedelta(days=1)))
    trainer.fit(module, data)
    assert module.gradient_updates == updates
    said = capsys.readouterr().err
    assert said.count("stopped by trainer.max_time or a callback, saved; go on with ") == 1
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)
    assert saved["agent"]["gradient_updates"] == updates
    assert "Timer" not in saved["callbacks"]
    trainer, module, data = run("cut")
    trainer.fit(module, data, ckpt_path=last, weights_only=True)
    rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("cut", "uncut")]
    assert rows[0] == rows[1]


def test_a_profile_is_a_file_of_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["--data.dataset", str(write_log(tmp_path / "log.hdf5", 4, 1))]
    words += ["--trainer.default_root_dir", str(folder), "--trainer.profiler", "simple"]
    assert main([*RUN, *words]) == 0
    assert "run_training_batch" in (folder / "fit-profile.txt").read_text()
