"""What the line of an evaluation says."""

from types import SimpleNamespace
from typing import Any

import pytest

from adabc_lightning.callbacks import progress
from adabc_lightning.callbacks.progress import Progress, trials
from adabc_lightning.run.schedule import Schedule


def test_what_trials_decided_is_said_where_there_are_trials() -> None:
    assert trials({"eval/score": 1.0}) == []
    latest = {"trial/promotions": 4.0, "trial/holds": 2.0, "trial/retreats": 1.0}
    assert trials({"trial/candidate": 9.0, **latest}) == ["won 4, lost 2, went back 1"]


def test_the_time_left_goes_by_what_this_process_made_of_the_phase(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Progress()
    schedule = Schedule(1000, 10, 1, evaluation_every=100)
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(schedule=schedule, env_steps=0), callbacks=[]
    )
    said = []
    for seconds, updates in ((100.0, 420), (130.0, 500), (330.0, 1000)):  # resumed at 400
        monkeypatch.setattr(progress.time, "monotonic", lambda seconds=seconds: seconds)
        agent: Any = SimpleNamespace(
            gradient_updates=updates, method=SimpleNamespace(uses_alpha=False)
        )
        line.on_train_batch_end(trainer, agent, None, None, 0)
        said.append(capsys.readouterr().err)
    assert said == [
        "",
        "offline 500/1,000 updates  03:07 left\n",  # 80 in 30 s, 500 to go
        "offline 1,000/1,000 updates\n",
    ]
