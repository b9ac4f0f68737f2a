"""What the line of an evaluation says."""

import pytest

from adabc_lightning.callbacks import progress
from adabc_lightning.callbacks.progress import Progress, trials


def test_what_trials_decided_is_said_where_there_are_trials() -> None:
    assert trials({"eval/score": 1.0}) == []
    latest = {"trial/promotions": 4.0, "trial/holds": 2.0, "trial/retreats": 1.0}
    assert trials({"trial/candidate": 9.0, **latest}) == ["let go 4, held 2, went back 1"]


def test_the_time_left_goes_by_what_this_process_made_of_the_phase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Progress()
    line._begun = 100.0, 400  # resumed there
    monkeypatch.setattr(progress.time, "monotonic", lambda: 130.0)
    assert line._left(500, 1000) == ["02:30 left"]  # 100 in 30 s, 500 to go
    assert line._left(1000, 1000) == []
    assert line._left(400, 1000) == []
