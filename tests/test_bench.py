"""The bench command at a tiny size; what it measures is never asserted."""

import json
import math
from pathlib import Path

import pytest

from adabc_lightning.__main__ import main
from adabc_lightning.bench.updates import Shapes, flops_per_update

TINY = ["--rounds", "1", "--updates", "2", "--steps", "10", "--rows", "1000", "--no-compile"]
SMALL = ["--num-critics", "3", "--batch-size", "8", "--hidden", "16", "--cpu"]


def test_everything_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", *TINY, *SMALL, "--json", str(file)]) == 0
    measured = json.loads(file.read_text())
    assert set(measured) == {"machine", "updates", "loop", "load", "start"}
    names = {"eager", "authors' style", "separate MLPs in a loop"}
    assert names < set(measured["updates"])
    assert all(len(measured["updates"][name]["updates_per_s"]) == 1 for name in names)
    online = {f"online, G = {g}" for g in (0, 1, 10)}
    assert set(measured["loop"]) == {"offline", "acting alone"} | online
    for name, values in measured["loop"].items():
        assert 0 < values.get("outside", 1) <= 1
        assert ("outside" in values) == (name != "acting alone")
        assert all(math.isfinite(value) and value > 0 for value in values.values())
    assert measured["load"]["size"] == 4 * 1000 * (2 * 11 + 3 + 3)
    table = capsys.readouterr().out
    assert "authors' style" in table
    assert "first update, hopper" in table


def test_a_part_alone_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "load", "--rows", "1000", "--rounds", "1", "--json", "-"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"machine", "load"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["udpates"], "bench measures no 'udpates'; known: updates, loop, load, start"),
        (["--rounds", "0"], "--rounds is 0; it must be 1 or more"),
        (["--threads", "0"], "--threads is 0; it must be 1 or more"),
        (["--json", "nowhere/x.json"], "--json: there is no folder nowhere"),
        (["--round", "1"], "there is no option --round; did you mean '--rounds'?"),
    ],
)
def test_nonsense_gets_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_the_operations_are_those_of_the_matrix_products() -> None:
    shapes = Shapes(2, 1, num_critics=3, batch_size=4, hidden=(8, 8), rows=10)
    critic = 2 * 4 * (3 * 8 + 8 * 8 + 8 * 1)
    policy = 2 * 4 * (2 * 8 + 8 * 8 + 8 * 1)
    # Targets: one policy, two critics. Update: 3 critics forward, and backward for the weights
    # (all layers) and the inputs (the middle layer; the last is an outer product, not counted).
    first = policy + 2 * critic + 2 * 3 * critic + 3 * 2 * 4 * 8 * 8
    # The actor: forward, all critics forward and back to the action, back to the weights.
    inputs = 2 * 4 * (3 * 8 + 8 * 8)
    second = first + policy + 3 * critic + 3 * inputs + policy + 2 * 4 * 8 * 8
    assert flops_per_update(shapes) == (first + second) / 2
