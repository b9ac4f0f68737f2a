"""What ``benchmarks/two_runs.py`` counts, and the table that it makes of it."""

import runpy

import pytest
from paths import REPOSITORY

SCRIPT = runpy.run_path(str(REPOSITORY / "benchmarks" / "two_runs.py"))


def marks(begin: int, end: int, rate: int) -> list[tuple[float, int]]:
    """A mark each second, after so many updates."""
    return [(float(second), rate * (second - begin)) for second in range(begin, end + 1)]


def test_what_counts_is_the_time_in_which_both_train() -> None:
    together = SCRIPT["together"]
    assert together([marks(0, 40, 80)]) == 80
    assert together([marks(0, 40, 30), marks(5, 45, 50)]) == 80
    # While the other one has not begun, or is over, a run is faster.
    quick = [(float(s), 100 * s) for s in range(11)]
    then = [(10.0 + s, 1000 + 40 * s) for s in range(1, 31)]
    assert together([quick + then, marks(10, 50, 40)]) == 80
    # Nor do the first seconds of both count, a tenth: caches are cold then.
    slow = [(0.0, 0), (1.0, 1), (2.0, 2), (3.0, 3), (4.0, 4)]
    assert together([[*slow, *((4.0 + s, 4 + 80 * s) for s in range(1, 37))]]) == 80


@pytest.mark.parametrize(("second", "ratio", "met"), [(72.0, "0.90", "met"), (71.0, "0.89", "mis")])
def test_the_table_is_of_medians(second: float, ratio: str, met: str) -> None:
    lines = SCRIPT["table"]([(80.0, second), (100.0, 50.0), (60.0, 66.0)]).splitlines()
    assert lines[2] == "| one run alone | 80.0 (60.0 to 100.0) |"
    assert lines[3] == f"| two at once, together | 66.0 (50.0 to {second:.1f}) |"
    assert lines[4] == f"| ratio | {ratio} (0.50 to 1.10) |"
    assert lines[-1].startswith(f"The goal is 0.9: {met}")
