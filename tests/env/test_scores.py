"""D4RL's reference returns and the scores made of them."""

import json

import pytest
from paths import SHARED

from adabc_lightning.env.scores import REFERENCES, Reference, reference_for

PUBLISHED = SHARED / "data" / "d4rl_ref_scores.json"

TABLE = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "pen": (96.262799, 3076.8331017826877),
    "door": (-56.512833, 2880.5693087298737),
    "hammer": (-274.856578, 12794.134825156867),
    "relocate": (-6.425911, 4233.877797728884),
}


def test_fraction_and_score() -> None:
    reference = Reference(-20.0, 180.0)
    returns = [-20.0, 180.0, 30.0, 280.0, -70.0]
    assert [reference.fraction(r) for r in returns] == [0.0, 1.0, 0.25, 1.5, -0.25]
    assert [reference.score(r) for r in returns] == [0.0, 100.0, 25.0, 150.0, -25.0]


def test_hopper_score() -> None:
    # 100 · (1000 + 20.272305) / (3234.3 + 20.272305) = 102027.2305 / 3254.572305
    assert REFERENCES["hopper"].score(1000) == pytest.approx(31.34889, abs=1e-5)


def test_table() -> None:
    assert {name: (r.minimum, r.maximum) for name, r in REFERENCES.items()} == TABLE


@pytest.mark.parametrize(
    ("env_id", "task"),
    [
        ("Hopper-v5", "hopper"),
        ("HalfCheetah-v4", "halfcheetah"),
        ("Walker2d-v5", "walker2d"),
        ("AdroitHandPen-v1", "pen"),
        ("AdroitHandDoor-v1", "door"),
        ("AdroitHandHammer-v1", "hammer"),
        ("AdroitHandRelocate-v1", "relocate"),
        ("some/namespace/Hopper-v5", "hopper"),
        ("gymnasium_robotics:AdroitHandPen-v1", "pen"),
        ("Hopper", "hopper"),
    ],
)
def test_reference_for_environment_ids(env_id: str, task: str) -> None:
    assert reference_for(env_id) == Reference(*TABLE[task])


@pytest.mark.parametrize(
    "env_id",
    [
        "my_module:Hopper-v0",
        "log:hopper",
        "Pendulum-v1",
        "InvertedPendulum-v5",
        "AdroitHandPenSparse-v1",
        "Walker2dExtra-v5",
        "",
    ],
)
def test_unknown_environments_have_none(env_id: str) -> None:
    assert reference_for(env_id) is None


@pytest.mark.skipif(not PUBLISHED.exists(), reason="D4RL's table is not on this machine")
def test_published_table_agrees() -> None:
    published = json.loads(PUBLISHED.read_text())
    limits = {name: tuple(pair) for name, pair in published.items() if name.split("-")[0] in TABLE}
    assert {name.split("-")[0] for name in limits} == set(TABLE)
    for name, pair in limits.items():
        assert REFERENCES[name.split("-")[0]] == Reference(*pair)
