"""What a trial decides, by hand."""

import math

import pytest

from adabc_lightning.agent.comparison import verdict

INCUMBENT = [2.0, 4.0]


@pytest.mark.parametrize(
    ("candidate", "confidence", "trial"),
    [
        ([5.0, 7.0], 1.0, "won"),  # better by 3 from both starts
        ([2.0, 4.0], 1.0, "won"),  # the same, and surely
        ([1.0, 3.0], 1.0, "lost"),
        ([7.0, 3.0], 1.0, "neither"),  # differences 5 and −1: 2 ± 3
        ([7.0, 3.0], 0.5, "won"),
        ([1.0, 7.0], 0.0, "won"),
        ([1.0, 4.0], 1.0, "neither"),  # −0.5 ± 0.5, no more than that
        ([1.0, 4.0], 0.999, "lost"),
        ([9.0], 1.0, "neither"),  # one start in common says nothing
    ],
)
def test_what_is_as_sure_as_was_asked_for_is_won_or_lost(
    candidate: list[float], confidence: float, trial: str
) -> None:
    assert verdict({"actor": candidate}, INCUMBENT, confidence).trial == trial


def test_the_best_from_the_starts_that_all_were_tried_from_is_the_candidate() -> None:
    found = verdict({"average": [1.0, 2.0, 99.0], "actor": [3.0, 1.0]}, [0.0, 0.0, 50.0], 1.0)
    assert found == ("actor", 2.0, 0.0, "won")  # 3 and 1 are 2 ± 1


def test_of_equally_good_ones_it_is_the_first() -> None:
    assert verdict({"average": [3.0, 4.0], "actor": [4.0, 3.0]}, INCUMBENT, 1.0)[0] == "average"


def test_returns_that_are_no_numbers_decide_nothing() -> None:
    assert verdict({"actor": [math.nan, 1.0]}, INCUMBENT, 1.0).trial == "neither"


@pytest.mark.parametrize("scale", [1.0, 0.3, 10.0, 1e5, 1e-5])
@pytest.mark.parametrize("episodes", range(2, 21))
def test_one_episode_of_several_decides_alike_whatever_their_number_and_the_scale(
    episodes: int, scale: float
) -> None:
    """The mean difference is one standard error then."""
    all_won, one_lost = [scale] * episodes, [0.0] + [scale] * (episodes - 1)
    assert verdict({"actor": one_lost}, all_won, 1.0).trial == "neither"
    assert verdict({"actor": all_won}, one_lost, 1.0).trial == "won"
    assert verdict({"actor": all_won}, all_won, 1.0).trial == "won"
    if episodes > 2:
        assert verdict({"actor": [0.0] * 2 + all_won[2:]}, all_won, 1.0).trial == "lost"
