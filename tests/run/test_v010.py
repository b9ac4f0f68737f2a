"""Runs that version 0.1.0 saved go on in this one: same config, class paths, numbers.

``v010/`` holds runs of commit 7befd6a (a step past the hand-over), and in ``end.csv`` the rows that
that commit wrote when it went on with them: 35 environment steps with two updates each.
"""

import csv
import shutil
from pathlib import Path

import pytest

from adabc_lightning.__main__ import main

RUNS = Path(__file__).parent / "v010"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["adaptive", "awac", "balanced", "replicas"])
def test_a_run_of_version_0_1_0_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUNS / name, tmp_path / name)
    words = f"fit --trainer.default_root_dir {name} --ckpt_path last"
    assert main([*words.split(), "--schedule.online_env_steps", "60"]) == 0
    found, expected = rows(tmp_path / name / "metrics.csv"), rows(RUNS / name / "end.csv")
    assert len(found) == len(expected)
    already = len(rows(RUNS / name / "metrics.csv"))
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert mine.keys() >= theirs.keys()
        for column, value in theirs.items():
            if name == "awac" and column.startswith("control/") and index >= already:
                assert mine[column] == ""  # a method without α logs none any more
                continue
            try:
                # The same bits on the machine that made them; elsewhere another processor's.
                assert float(mine[column]) == pytest.approx(float(value), rel=1e-3, abs=1e-5)
            except ValueError:
                assert mine[column] == value, column


@pytest.mark.parametrize("name", ["adaptive", "awac", "balanced", "replicas/replica_0"])
def test_a_checkpoint_of_version_0_1_0_can_be_evaluated(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RUNS / name.partition("/")[0]
    if "/" in name:
        words = ["fit", "--trainer.default_root_dir", "run", "--ckpt_path", "last"]
        shutil.copytree(folder, tmp_path / "run")
        assert main([*words, "--schedule.online_env_steps", "26"]) == 0
        folder = tmp_path / "run" / "replica_0"
    assert main(["validate", "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]) == 0
    assert "score" in capsys.readouterr().out
