"""What the line of an evaluation says."""

from adabc_lightning.callbacks.progress import trials


def test_what_trials_decided_is_said_where_there_are_trials() -> None:
    assert trials({"eval/score": 1.0}) == []
    latest = {"trial/promotions": 4.0, "trial/holds": 2.0, "trial/retreats": 1.0}
    assert trials({"trial/candidate": 9.0, **latest}) == ["let go 4, held 2, went back 1"]
