"""What a run may not be given anew: its scale of scores, and its data."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

pytestmark = pytest.mark.filterwarnings("ignore:the state of AdabcToy-v0 cannot be saved")
BEGUN = Schedule(4, 4, 1, 2, 2)
LONGER = Schedule(4, 8, 1, 2, 2)


def references(low: float | None, high: float | None) -> dict[str, Any]:
    return {"reference_min": low, "reference_max": high}


def run(folder: Path, log: Path, schedule: Schedule, start: Path | None, **given: Any) -> Any:
    trainer, module, data = tiny_run(folder, register_toy(), log, schedule=schedule)
    if given:
        low, high = given["references"]
        data = ReplayDataModule(
            register_toy(), str(log), schedule, batch_size=8, replay_capacity=150,
            **references(low, high),
        )  # fmt: skip
    trainer.fit(module, data, ckpt_path=start, weights_only=None if start is None else True)
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run's folder, with references 0 and 10."""
    run(tmp_path / "a", write_log(tmp_path / "log.hdf5", 3, 2), BEGUN, None)
    return tmp_path / "a"


@pytest.mark.parametrize("other", [(0.0, 20.0), (-1.0, 10.0)])
def test_a_run_has_one_scale(begun: Path, other: tuple[float, float]) -> None:
    log, last = begun.parent / "log.hdf5", begun / "checkpoints" / "last.ckpt"
    rows = (begun / "metrics.csv").read_bytes()
    with pytest.raises(UserError, match="a run has one scale; go on with those of the run"):
        run(begun, log, LONGER, last, references=other)
    assert (begun / "metrics.csv").read_bytes() == rows
    with pytest.raises(UserError, match=r"the checkpoint's scores are not of data\.reference_min"):
        run(begun.parent / "b", log, LONGER, last, references=other)
    run(begun, log, LONGER, last, references=(0.0, 10.0))


def test_another_run_scores_a_pre_training_anew(begun: Path) -> None:
    log, start = begun.parent / "log.hdf5", begun / "checkpoints" / "pretrained.ckpt"
    summary = run(begun.parent / "b", log, LONGER, start, references=(0.0, 20.0))
    pretrained = summary["return"]["pretrained"]
    assert summary["score"]["pretrained"] == pytest.approx(100 * pretrained / 20)
    assert summary["score"]["drawdown"] == pytest.approx(5 * summary["return"]["drawdown"])


def test_rows_stay_those_of_their_data(begun: Path, tmp_path: Path) -> None:
    last = begun / "checkpoints" / "last.ckpt"
    (tmp_path / "moved").mkdir()
    other = write_log(tmp_path / "moved" / "log.hdf5", 3, 2, rows=80)
    with pytest.raises(
        UserError, match=r"was pre-trained on other data \('.*/log.hdf5', as it was"
    ):
        run(begun, other, LONGER, last)
    shutil.move(tmp_path / "log.hdf5", tmp_path / "renamed.hdf5")
    run(begun, tmp_path / "renamed.hdf5", LONGER, last)


def test_pre_training_alone_needs_no_references(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    summary = run(tmp_path / "a", log, Schedule(4, 0, 1, 2, 2), None, references=(None, None))
    assert summary["score"]["pretrained"] is None
    with pytest.raises(UserError, match="so the α controller cannot normalise"):
        run(tmp_path / "b", log, BEGUN, None, references=(None, None))
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"  # with references it goes on in place
    summary = run(tmp_path / "a", log, BEGUN, last, references=(0.0, 10.0))
    assert summary["score"]["pretrained"] == pytest.approx(summary["return"]["pretrained"] * 10)
