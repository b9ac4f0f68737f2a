"""A fine-tuning without any update says so: its flat curve is no stability."""

from pathlib import Path

import pytest
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.data.checks import warn_if_frozen
from adabc_lightning.run.schedule import Schedule


@pytest.mark.parametrize(
    ("online", "updates", "frozen", "made", "warned"),
    [
        (12, 2, 12, 0, True),
        (12, 2, 12, 11, True),
        (12, 2, 12, 12, False),  # finished
        (12, 2, 11, 0, False),
        (12, 0, 12, 0, False),  # asked for
        (0, 2, 12, 0, False),  # only pre-training
    ],
)
def test_who_is_told_that_fine_tuning_is_frozen(
    online: int,
    updates: int,
    frozen: int,
    made: int,
    warned: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn_if_frozen(Schedule(1, online, updates, frozen), made)
    assert capsys.readouterr().err.startswith("warning: schedule.frozen_env_steps") == warned


def test_it_is_said_at_the_start_and_not_when_all_is_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(4, 6, 2, frozen_env_steps=6, offline_chunk=4)
    warnings = []
    for start in (None, "pretrained", "last"):
        trainer, agent, data = tiny_run(tmp_path, register_toy(), log, schedule=schedule)
        path = None if start is None else str(tmp_path / "checkpoints" / f"{start}.ckpt")
        trainer.fit(agent, datamodule=data, ckpt_path=path, weights_only=True)
        assert agent.gradient_updates == 4
        warnings.append(capsys.readouterr().err.count("fine-tuning makes no update"))
    assert warnings == [1, 1, 0]
