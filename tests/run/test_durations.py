"""Durations in words."""

from adabc_lightning.run.durations import spoken


def test_durations_are_spoken() -> None:
    seconds = (5, 89, 100, 3600, 3 * 3600 + 25 * 60, 47.4 * 3600, 100 * 3600)
    assert [spoken(value) for value in seconds] == [
        *("5 s", "89 s", "2 min", "60 min", "3 h 25 min", "47 h 24 min", "4.2 days"),
    ]
