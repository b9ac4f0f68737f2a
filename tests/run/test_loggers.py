"""What Weights & Biases is asked for, without it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from adabc_lightning.run.loggers import WANDB_ID, Logging, make_loggers


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each ``wandb.init``."""
    given: list[dict[str, Any]] = []

    def init(**options: Any) -> Any:
        given.append(options)
        return SimpleNamespace(define_metric=lambda *args, **options: None)

    monkeypatch.setattr(wandb, "setup", lambda settings: None)
    monkeypatch.setattr(wandb, "init", init)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    return given


def test_the_environment_counts_where_the_config_says_nothing(
    asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(**options: Any) -> tuple[str, str]:
        make_loggers(Logging(wandb="offline", **options), tmp_path / "run")
        return asked[-1]["project"], asked[-1]["name"]

    assert start() == ("adabc_lightning", "run")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "first")
    assert start() == ("theirs", "first")
    monkeypatch.delenv("WANDB_PROJECT")  # of a run that goes on, started by a scheduler
    monkeypatch.setenv("WANDB_NAME", "")
    assert start() == ("theirs", "run")
    assert start(wandb_project="mine", wandb_name="second") == ("mine", "second")


def test_an_experiment_s_runs_are_named_by_their_cell(
    asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: str, **record: Any) -> tuple[str, str | None]:
        (tmp_path / folder).mkdir(exist_ok=True)
        if record:
            (tmp_path / folder / "experiment.json").write_text(json.dumps(record))
        make_loggers(Logging(wandb="offline"), tmp_path / folder)
        return asked[-1]["name"], asked[-1]["group"]

    assert start("alone") == ("alone", None)
    cell = {"kind": "run", "task": "hopper", "variant": "Fixed α", "seed": 3}
    assert start("seed3", **cell) == ("hopper/Fixed α/seed3", "hopper/Fixed α")
    assert start("seeds", **cell | {"seed": 0})[0] == "hopper/Fixed α/seeds"  # all replicas
    alone = {"kind": "pretraining", "task": "hopper", "seed": 3}
    group = "hopper/pre-training 0a1b2c"
    assert start("0a1b2c-seed3", **alone) == (f"{group}/seed3", group)
    monkeypatch.setenv("WANDB_RUN_GROUP", "theirs")
    assert start("alone") == ("alone", "theirs")


def test_a_copy_of_a_run_is_another_run(
    asked: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(name: str) -> str:
        make_loggers(Logging(wandb="offline"), tmp_path / name)
        return str(asked[-1]["id"])

    first = start("run")
    assert start("run") == first
    (tmp_path / "run").rename(tmp_path / "moved")
    assert start("moved") == first
    assert capsys.readouterr().err == ""
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    copied = start("copy")
    assert copied != first
    assert "copy is a copy of " in capsys.readouterr().err
    assert (start("moved"), start("copy")) == (first, copied)
    (tmp_path / "copy").rename(tmp_path / "aside")
    another = start("copy")  # where another run was
    assert start("aside") == copied != another
    assert capsys.readouterr().err == ""
    known = tmp_path / "moved" / WANDB_ID  # as earlier versions wrote it
    known.write_text(f"{first}\n")
    assert start("moved") == first
