"""What a run's evaluations amount to, by hand: what it learnt, and how far it fell."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adabc_lightning.run.outcomes import drawdown, falls, outcomes, swing

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20)


def point(updates: int, steps: int, score: float) -> dict[str, float]:
    """One evaluation."""
    return {
        "gradient_updates": updates,
        "env_steps": steps,
        "eval/return": 30 * score,
        "eval/score": score,
    }


def test_outcomes_of_a_whole_run() -> None:
    history = [
        point(50, 0, 30.0),
        point(100, 0, 20.0),  # the hand-over: not the best of pre-training, the last
        point(200, 10, 14.0),
        point(300, 20, 9.0),  # the worst of the first fifth
        point(400, 30, 2.0),  # later than the first fifth of 100 steps: no dip
        point(1100, 100, 75.0),
    ]
    both = outcomes(history, offline_updates=100, online_env_steps=100)
    assert both["score"] == {
        "pretrained": 20.0,
        "final": 75.0,
        "best": 75.0,
        "dip": 11.0,
        "online_mean": 25.0,
        "drawdown": 18.0,  # 20 → 2
        "swing": None,  # four fifths of the best are reached by the last evaluation only
        "kept": 1.0,
    }
    assert both["return"]["dip"] == 330.0


def test_the_dip_of_a_run_that_only_rises_is_negative() -> None:
    history = [point(100, 0, 20.0), point(200, 10, 30.0)]
    assert outcomes(history, 100, 100)["score"]["dip"] == -10.0


def test_outcomes_say_nothing_of_what_has_not_happened() -> None:
    score = outcomes([point(50, 0, 30.0)], 100, 100)["score"]
    assert score == {
        "pretrained": None,
        "final": 30.0,
        "best": 30.0,
        "dip": None,
        "online_mean": None,
        "drawdown": None,
        "swing": None,
        "kept": None,
    }
    assert set(outcomes([], 100, 100)["score"].values()) == {None}


@pytest.mark.parametrize(
    ("pretrained", "after", "expected"),
    [
        # best so far 20 20 80 80 100 100 100; 80 is four fifths of the best: |−30|, 50, −60, 30
        (20.0, [10.0, 80.0, 50.0, 100.0, 40.0, 70.0], (60.0, 42.5, 0.7)),
        # what was best is the pre-trained policy, which counts
        (80.0, [0.0, 10.0], (80.0, 45.0, 0.125)),
        (None, [0.0, 10.0], (0.0, None, 1.0)),
        (10.0, [20.0, 30.0], (0.0, None, 1.0)),  # the last value is the first to count
        (30.0, [28.0, 30.0], (2.0, 2.0, 1.0)),
        # raw returns below 0: within a fifth of −100 is −120 or more; no share is kept of those
        (-300.0, [-115.0, -100.0, -150.0], (50.0, 32.5, None)),
        (5.0, [], (None, None, None)),
    ],
)
def test_falls(
    pretrained: float | None, after: list[float], expected: tuple[float | None, ...]
) -> None:
    found = falls(pretrained, after)
    assert list(found) == ["drawdown", "swing", "kept"]
    assert tuple(found.values()) == pytest.approx(expected)


@given(VALUES, st.floats(-100, 100), st.floats(0.1, 10))
def test_a_fall_is_a_difference_of_two_values(
    values: list[float], shift: float, scale: float
) -> None:
    fall = drawdown(values)
    assert fall == max(a - b for i, a in enumerate(values) for b in values[i:])
    assert drawdown([scale * v + shift for v in values]) == pytest.approx(scale * fall, abs=1e-9)
    assert (fall == 0) == (values == sorted(values))


@given(VALUES)
def test_a_swing_is_no_larger_than_the_largest_step(values: list[float]) -> None:
    found, changes = swing(values), [abs(b - a) for a, b in pairwise(values)]
    if found is None:  # nothing follows the first that counts
        assert all(v < max(values) for v in values[:-1])
    else:
        assert min(changes) <= found * (1 + 1e-9)
        assert found <= max(changes) * (1 + 1e-9)
    assert swing([max(values), *values]) == pytest.approx(
        sum(abs(b - a) for a, b in pairwise([max(values), *values])) / len(values)
    )
