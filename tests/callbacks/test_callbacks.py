"""What a run leaves behind: summary numbers, metrics rows, checkpoints."""

import csv
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.agent.methods import AWAC
from adabc_lightning.callbacks import (
    AlphaController,
    Downsampling,
    Evaluation,
    HandoverDiagnostics,
    Metrics,
    RunCallback,
    Summary,
    alpha,
)
from adabc_lightning.callbacks.metrics import COLUMNS, record
from adabc_lightning.callbacks.metrics_file import MetricsFile
from adabc_lightning.env.make import Outcomes, evaluate
from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import NotWritten
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.trainer import callbacks_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp("run")
    log = write_log(folder / "log.hdf5", 3, 2)
    schedule = Schedule(6, 12, 1, evaluation_every=4, offline_chunk=2)
    trainer, module, data = tiny_run(folder, register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    return folder


@pytest.mark.parametrize(("method", "episodes"), [(None, 1), (AWAC(), 0)])
def test_r_avg_is_asked_for_where_alpha_is_read(
    method: AWAC | None, episodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[object] = []
    monkeypatch.setattr(alpha, "evaluate", lambda *a: played.append(a) or evaluate(*a))
    log, schedule = write_log(tmp_path / "log.hdf5", 3, 2), Schedule(2, 2, 1)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=schedule, model={"method": method}
    )
    trainer.fit(module, data)
    assert len(played) == episodes


def test_metrics_have_a_row_per_evaluation_and_per_interval(run: Path) -> None:
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    # Rows every 3 updates (at the first batch that reaches a multiple), at each evaluation and of
    # the diagnostics at the hand-over.
    where = [(row["phase"], int(row["gradient_updates"]), int(row["env_steps"])) for row in rows]
    assert where == [
        ("offline", 4, 0),
        ("offline", 6, 0),
        ("offline", 6, 0),
        ("online", 9, 3),
        ("online", 10, 4),
        ("online", 12, 6),
        ("online", 14, 8),
        ("online", 15, 9),
        ("online", 18, 12),
    ]
    evaluated = [row["gradient_updates"] for row in rows if row["eval/score"]]
    assert evaluated == ["4", "6", "10", "14", "18"]
    handed_over = rows.pop(2)
    assert handed_over["diagnostics/q_gap"]
    assert not any(handed_over[name] for name in ("loss/critic", "eval/return"))
    assert all(row["loss/critic"] and row["q/mean"] and row["control/alpha"] for row in rows)
    assert [row["online/episodes"] for row in rows][-1] == "2.0"


def test_the_two_terms_are_what_moves_alpha(run: Path) -> None:
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ended = [row for row in rows if row["control/proportional"]]
    assert [row["env_steps"] for row in ended] == ["6", "12"]  # an episode is 5 steps long
    alpha = 0.4
    for row in ended:
        proportional, derivative = (
            float(row[f"control/{name}"]) for name in ("proportional", "derivative")
        )
        assert proportional != 0
        assert derivative >= 0
        alpha = min(max(alpha + proportional + derivative, 0.0), 0.4)
        assert float(row["control/alpha"]) == pytest.approx(alpha, abs=1e-6)
    assert alpha < 0.4


def test_a_file_of_an_earlier_version_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("phase,env_steps,eval/return\n")
    metrics = Metrics()
    metrics.load_state_dict({**metrics.state_dict(), "size": path.stat().st_size})
    trainer = SimpleNamespace(
        is_global_zero=True,
        default_root_dir=tmp_path,
        callbacks=[],
        loggers=[],
        datamodule=SimpleNamespace(env_steps=0),
    )
    agent = SimpleNamespace(gradient_updates=0)
    metrics.on_train_start(trainer, agent)  # type: ignore[arg-type]
    metrics._file.append({"phase": "online", "env_steps": 5, "control/derivative": 1.0})
    assert path.read_text().splitlines() == ["phase,env_steps,eval/return", "online,5,"]
    metrics.teardown(trainer, None, "fit")  # type: ignore[arg-type]


def test_commands_follow_the_checkpoints() -> None:
    first, second = Summary("first"), Summary("second")
    second.load_state_dict(first.state_dict())
    assert second.commands == ["first", "second"]


def test_summary_agrees_with_the_metrics(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    with open(run / "metrics.csv", newline="") as file:
        scores = [float(row["eval/score"]) for row in csv.DictReader(file) if row["eval/score"]]
    assert summary["finished"] is True
    assert summary["score"]["pretrained"] == scores[1]
    assert summary["score"]["final"] == scores[-1]
    assert summary["score"]["best"] == max(scores[2:])
    assert (summary["gradient_updates"], summary["env_steps"]) == (18, 12)
    assert summary["engine"] == "eager"
    assert summary["versions"]["torch"] == torch.__version__
    assert all(summary[name] > 0 for name in summary if name.endswith("per_second"))


@pytest.mark.parametrize("planned", [0, 3])
def test_rates_count_the_updates_that_a_pre_training_had(
    planned: int, run: Path, tmp_path: Path
) -> None:
    """Whatever the schedule of the fine-tuning that starts from it says."""
    schedule = Schedule(planned, 12, 1, evaluation_every=12)
    trainer, module, data = tiny_run(tmp_path, register_toy(), run / "log.hdf5", schedule=schedule)
    start = run / "checkpoints" / "pretrained.ckpt"  # after 6 updates
    trainer.fit(module, data, ckpt_path=start, weights_only=True)
    made = json.loads((tmp_path / "summary.json").read_text())
    assert made["gradient_updates"] == 18
    for phase, updates in (("offline", 6), ("online", 12)):
        seconds = made["seconds"][phase]
        assert made[f"{phase}_updates_per_second"] == pytest.approx(updates / seconds)


def test_checkpoints_are_plain_and_complete(run: Path) -> None:
    folder = run / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {
        *("last.ckpt", "previous.ckpt", "best.ckpt", "pretrained.ckpt")
    }
    counters = {}
    for path in folder.iterdir():
        content = torch.load(path, weights_only=True)
        steps = content["ReplayDataModule"]["collector"]["env_steps"]
        counters[path.stem] = content["agent"]["gradient_updates"], steps
    assert counters["last"] == (18, 12)
    assert counters["pretrained"] == (6, 0)
    with open(run / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/return"]]
    best = max(rows, key=lambda row: float(row["eval/return"]))  # pre-training's, too
    assert counters["best"] == (int(best["gradient_updates"]), int(best["env_steps"]))


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_best_of_a_run_may_be_what_it_starts_from(
    goes_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning that only loses keeps the pre-trained policy, in a folder of its own as well."""
    log, schedule = write_log(tmp_path / "log.hdf5", 3, 2), Schedule(4, 8, 1, evaluation_every=4)
    returns = iter([5.0, 3.0, 4.0] * 2)
    monkeypatch.setattr(Evaluation, "run", lambda *_: Outcomes([next(returns)], [1], [None]))
    trainer, module, data = tiny_run(tmp_path / "a", register_toy(), log, schedule=schedule)
    trainer.fit(module, data)
    folder = tmp_path / "a" / "checkpoints"
    if goes_on:
        pretrained = folder / "pretrained.ckpt"
        next(returns)  # it has been evaluated
        trainer, module, data = tiny_run(tmp_path / "b", register_toy(), log, schedule=schedule)
        trainer.fit(module, data, ckpt_path=pretrained, weights_only=True)
        folder = tmp_path / "b" / "checkpoints"
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert best["ReplayDataModule"]["collector"]["env_steps"] == 0
    assert best["callbacks"]["Checkpointing"] == {"best_return": 5.0}
    steps = [
        [int(each["step"]) for each in adam["state"].values()] for adam in best["optimizer_states"]
    ]
    assert steps == [[2] * len(steps[0]), [4] * len(steps[1])]  # it can be gone on from
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["ReplayDataModule"]["collector"]["env_steps"] == 8
    assert last["callbacks"]["Checkpointing"] == {"best_return": 5.0}


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"value": 1}, path)
    with pytest.raises(Exception, match=r"pickle|lambda"):
        writer.save_checkpoint({"value": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(6, 12, 1)
    folder = tmp_path / "run"
    trainer, module, data = tiny_run(
        folder, register_toy(), log, schedule=schedule, data={"replay_capacity": 20}
    )
    with pytest.raises(UserError, match=r"keeps 60 transitions, data\.replay_capacity is 20"):
        trainer.fit(module, data)
    assert not folder.exists()


def test_without_downsampling_a_ring_too_small_is_refused_at_once(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        log,
        schedule=Schedule(6, 12),
        data={"replay_capacity": 90},
    )
    trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, Downsampling)]
    with pytest.raises(UserError, match="all 120 transitions are kept"):
        trainer.fit(module, data)


def test_metrics_of_another_run_are_never_written_over(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    (tmp_path / "metrics.csv").write_text("precious")
    trainer, module, data = tiny_run(tmp_path, register_toy(), log, schedule=Schedule(2, 1, 1))
    with pytest.raises(UserError, match="belongs to another run"):
        trainer.fit(module, data)
    assert (tmp_path / "metrics.csv").read_text() == "precious"


def test_a_logger_that_fails_is_dropped_and_the_run_goes_on(tmp_path: Path) -> None:
    class Broken(CSVLogger):
        def log_metrics(self, *args: object, **kwargs: object) -> None:
            raise ConnectionError("no service")

    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=Schedule(4, 1, 1, evaluation_every=2)
    )
    trainer.loggers = [Broken(str(tmp_path / "logger"))]
    with pytest.warns(UserWarning, match="Broken is off from here on: no service"):
        trainer.fit(module, data)
    assert trainer.loggers == []
    assert module.gradient_updates == 5


@pytest.mark.parametrize(
    ("made", "evaluated", "offline_updates", "env_steps", "well"),
    [
        (16, [10], 17, 0, True),
        (16, [10], 16, 0, False),
        (16, [10], 5, 0, False),
        (16, [10, 16], 5, 0, True),  # the end of a pre-training
        (16, [], 5, 0, True),  # the hand-over evaluates it
        (16, [10], 5, 3, True),  # after the hand-over
    ],
)
def test_no_policy_is_handed_over_unseen(
    made: int, evaluated: list[int], offline_updates: int, env_steps: int, well: bool
) -> None:
    evaluation = Evaluation()
    schedule = Schedule(offline_updates, 9)
    data = SimpleNamespace(schedule=schedule, env_steps=env_steps, reference=None)
    history = [{"gradient_updates": number} for number in evaluated]
    checkpoint = {
        "agent": {"gradient_updates": made},
        "callbacks": {evaluation.state_key: {"history": history}},
    }
    words = SimpleNamespace(datamodule=data), None, checkpoint
    if well:
        evaluation.on_load_checkpoint(*words)  # type: ignore[arg-type]
        return
    with pytest.raises(UserError, match=f"is {offline_updates}; its policy .* set it to 17 or"):
        evaluation.on_load_checkpoint(*words)  # type: ignore[arg-type]


def test_a_metrics_file_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    elsewhere, file = tmp_path / "elsewhere", MetricsFile()
    file.go_on(tmp_path / "own" / "metrics.csv")
    file.start(["a"], [{"a": 1}])
    (tmp_path / "own" / "metrics.csv").rename(elsewhere)
    with open(elsewhere, "a") as more:
        more.write("precious\n")
    before = elsewhere.read_bytes()
    (tmp_path / "own" / "metrics.csv").symlink_to(elsewhere)
    for act in (file.go_on, lambda _: file.append({"a": 2})):
        with pytest.raises(UserError, match=r"metrics.csv is a link and would lead elsewhere"):
            act(tmp_path / "own" / "metrics.csv")
        assert elsewhere.read_bytes() == before
    (tmp_path / "own" / "metrics.csv").unlink()
    os.mkfifo(tmp_path / "own" / "metrics.csv")  # reading it would never end
    for act in (file.go_on, lambda _: file.append({"a": 2})):
        with pytest.raises(UserError, match=r"metrics.csv is no file; remove it"):
            act(tmp_path / "own" / "metrics.csv")


def test_a_folder_that_is_gone_is_said_as_any_file_that_cannot_be_written(tmp_path: Path) -> None:
    file = MetricsFile()
    file.go_on(tmp_path / "run" / "metrics.csv")
    file.start(("a",), [])
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(NotWritten, match=r"metrics.csv cannot be written: No such file"):
        file.append({"a": 1})


class Other(Callback):
    """One of somebody else's, with names that mean something in a :class:`RunCallback`."""

    chooses_rows = locks_folder = True
    columns = ("other",)

    def tensors(self) -> dict[str, Any]:
        raise AssertionError


class Mine(RunCallback):
    columns = ("mine",)

    def __init__(self) -> None:
        self.handed_over = 0

    def on_hand_over(self, data: Any, agent: Any) -> None:
        self.handed_over += 1
        record(data.trainer, {"mine": 7.0})

    def add_to_summary(self) -> dict[str, Any]:
        return {"mine": self.handed_over}


class Undeclared(RunCallback):
    def on_hand_over(self, data: Any, agent: Any) -> None:
        record(data.trainer, {"nowhere": 1.0})

    def add_to_summary(self) -> dict[str, Any]:
        return {"numbers": [np.float32(0.5), torch.tensor(2), float("nan")]}


def test_hooks_are_those_of_a_run_callback_alone(tmp_path: Path) -> None:
    log, schedule = write_log(tmp_path / "log.hdf5", 3, 2), Schedule(4, 4, 1, 2, 2)
    callbacks: list[Callback] = [Other(), Mine(), Undeclared()]
    trainer, module, data = tiny_run(
        tmp_path / "a", register_toy(), log, schedule=schedule, callbacks=callbacks
    )
    with pytest.warns(UserWarning, match="nowhere is measured, but no column of met") as caught:
        trainer.fit(module, data)
    assert len([each for each in caught if "nowhere" in str(each.message)]) == 1
    head, *rows = (tmp_path / "a" / "metrics.csv").read_text().splitlines()
    assert head.endswith(",mine")
    assert "other" not in head
    assert sum(row.endswith(",7.0") for row in rows) == 1
    summary = json.loads((tmp_path / "a" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["mine"] == 1
    assert summary["numbers"] == [0.5, 2, None]


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ({"finished": 1}, "Adds.add_to_summary has finished, which summary.json has of its own"),
        ({"mine": object()}, "Adds.add_to_summary has a object; it must be plain numbers"),
    ],
)
def test_a_summary_is_not_overwritten(added: dict[str, Any], said: str, tmp_path: Path) -> None:
    class Adds(RunCallback):
        def add_to_summary(self) -> dict[str, Any]:
            return added

    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "a", register_toy(), log, schedule=Schedule(4, 4, 1, 2, 2), callbacks=[Adds()]
    )
    with pytest.raises(UserError, match=said):
        trainer.fit(module, data)


@pytest.mark.parametrize("late", [AlphaController, Evaluation, HandoverDiagnostics])
def test_what_is_measured_comes_before_its_row(late: type, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "a", register_toy(), log, schedule=Schedule(4, 4, 1, 2, 2)
    )
    callbacks = callbacks_of(trainer)
    callbacks.sort(key=lambda callback: isinstance(callback, late))
    with pytest.raises(UserError, match=f"{late.__name__} comes after Metrics, and what it"):
        trainer.fit(module, data)


@pytest.mark.parametrize("hook", ["on_hand_over", "check_row", "before_evaluation"])
def test_a_hook_that_nobody_would_call_is_refused(hook: str, tmp_path: Path) -> None:
    class Duck(Callback):
        pass

    setattr(Duck, hook, lambda self, *arguments: None)
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "a", register_toy(), log, schedule=Schedule(4, 4), callbacks=[Duck()]
    )
    with pytest.raises(UserError, match=f"Duck has {hook}, but is no RunCallback, whose"):
        trainer.fit(module, data)
