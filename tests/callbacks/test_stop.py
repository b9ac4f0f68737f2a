"""A signal within an evaluation: the run ends there, and a resumed one makes that evaluation."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from borders import Line, register
from test_interruption import RUN, assert_same
from tiny import register_toy, tiny_run, write_log

from adabc_lightning.__main__ import main
from adabc_lightning.callbacks import BalancedReplay, alpha, episode_envs
from adabc_lightning.callbacks.evaluation import SavedEvaluation
from adabc_lightning.env import make
from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import check
from adabc_lightning.run.schedule import Schedule


def signalled(at: int) -> Callable[..., Any]:
    """An ``evaluate`` that is sent a signal in the third step or reset of its ``at``-th call."""
    calls = 0

    def evaluate(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        *others, idle = given
        steps = 0

        def counted() -> None:
            nonlocal steps
            steps += 1
            if calls == at and steps == 3:
                os.kill(os.getpid(), signal.SIGINT)
            assert calls != at or steps <= 3, "the environment was stepped on"
            idle()

        return make.evaluate(*others, counted)

    return evaluate


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a whole run, and its log."""
    folder = tmp_path_factory.mktemp("uncut")
    log = write_log(folder / "log.hdf5", 4, 1)
    assert main([*RUN, *words(folder / "run", log)]) == 0
    return folder / "run", log


def words(folder: Path, log: Path) -> list[str]:
    more = ["--checkpoints.keep_policies", "true", "--data.max_episode_steps", "4"]
    return ["--data.dataset", str(log), "--trainer.default_root_dir", str(folder), *more]


@pytest.mark.parametrize("at", [1, 2, 3, 4])  # two of pre-training, two of fine-tuning
def test_the_evaluation_is_made_by_the_resumed_run(
    at: int,
    uncut: tuple[Path, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(episode_envs, "evaluate", signalled(at))
        with pytest.raises(SystemExit) as stopped:
            main([*RUN, *words(folder, uncut[1])])
    assert stopped.value.code == 130
    assert f"stopped by SIGINT, saved; go on with --trainer.default_root_dir {folder}" in (
        capfd.readouterr().err
    )
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(saved["callbacks"]["Evaluation"]["history"]) == at - 1
    go_on = ["fit", "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"]
    assert main(go_on) == 0
    assert_same(folder, uncut[0])
    names = [sorted(p.name for p in (f / "checkpoints").rglob("*")) for f in (folder, uncut[0])]
    assert names[0] == names[1]
    last, whole = (
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
        for f in (folder, uncut[0])
    )
    assert "interrupted" not in last["Evaluation"]
    assert last["Metrics"] == whole["Metrics"]
    assert last["Evaluation"]["history"] == whole["Evaluation"]["history"]


@pytest.mark.parametrize(("seed", "won", "lost"), [(1, 2, 0), (3, 0, 2)])
def test_a_trial_that_was_cut_is_made_anew(
    seed: int,
    won: int,
    lost: int,
    uncut: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trial at the hand-over, both of fine-tuning, and the evaluation after them."""
    arguments = "{steps: 1, confidence: 0, patience: 1}"
    trials = f"{{class_path: adabc_lightning.callbacks.Trials, init_args: {arguments}}}"
    (tmp_path / "trials.yaml").write_text(f"trainer: {{callbacks+: [{trials}]}}\n")
    run = [*RUN, "--config", str(tmp_path / "trials.yaml"), "--model.learning_rate", "0.01"]
    longer = ["--data.max_episode_steps", "40", "--seed_everything", str(seed)]  # policies differ
    assert main([*run, *words(tmp_path / "uncut", uncut[1]), *longer]) == 0
    counts = json.loads((tmp_path / "uncut" / "summary.json").read_text())["trials"]
    assert (counts["promotions"], counts["holds"], counts["retreats"]) == (won, lost, lost)
    for at in (3, 4, 5, 6):
        folder = tmp_path / f"run{at}"
        with monkeypatch.context() as patch:
            patch.setattr(episode_envs, "evaluate", signalled(at))
            with pytest.raises(SystemExit):
                main([*run, *words(folder, uncut[1]), *longer])
        assert main(["fit", "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"]) == 0
        assert_same(folder, tmp_path / "uncut")


def test_at_the_hand_over_what_is_saved_is_what_was_before(
    uncut: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(alpha, "evaluate", signalled(1))
        with pytest.raises(SystemExit):
            main([*RUN, *words(folder, uncut[1])])
    assert main(["fit", "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"]) == 0
    assert_same(folder, uncut[0])


def test_an_episode_that_never_ends_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    schedule = Schedule(0, 12, 1, 6)
    trainer, module, data = tiny_run(folder, register(Line, None), None, schedule=schedule)
    monkeypatch.setattr(alpha, "evaluate", signalled(1))  # the first of the hand-over
    with pytest.raises(SystemExit):
        trainer.fit(module, data)
    said = capsys.readouterr().err
    assert "set data.max_episode_steps\n" in said
    assert "stopped by SIGINT, nothing to save yet; go on with" in said


@pytest.mark.parametrize("place", ["before", "after"])
def test_whoever_learns_from_the_batch_after_an_evaluation_has_it_in_the_resumed_run(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)

    def run(name: str, **more: Any) -> tuple[Any, Any]:
        trainer, module, data = tiny_run(
            tmp_path / name,
            register_toy(),
            log,
            schedule=Schedule(20, 24, 2, evaluation_every=8, offline_chunk=5),
            callbacks=[BalancedReplay(balanced_steps=5, batch_size=4, hidden_sizes=(8,))],
            data={"replay_capacity": None},
            downsampling={"keep": 1.0},
        )
        if place == "before":
            trainer.callbacks.sort(key=lambda each: not isinstance(each, BalancedReplay))
        trainer.fit(module, data, weights_only=True, **more)
        return module, data

    module, data = run("uncut")
    with monkeypatch.context() as patch:
        patch.setattr(episode_envs, "evaluate", signalled(6))  # the last
        with pytest.raises(SystemExit):
            run("run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)["callbacks"]["Evaluation"]["interrupted"]
    assert saved["batch"]["index"].shape[0] == 2
    whole = {"history": [], "seconds": 0.0, "logged": [], "interrupted": saved}
    check(SavedEvaluation, whole)
    for half in ("episodes", "batch"):
        cut = {name: value for name, value in saved.items() if name != half}
        with pytest.raises(UserError, match=f"^interrupted/{half} is missing$"):
            check(SavedEvaluation, {**whole, "interrupted": cut})
    with pytest.raises(UserError, match=r"^interrupted/batch is "):
        check(SavedEvaluation, {**whole, "interrupted": {**saved, "batch": {}}})
    module_2, data_2 = run("run", ckpt_path=str(last))
    assert module.state_dict().keys() == module_2.state_dict().keys()
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, module_2.state_dict()[name]), name
    assert (data.online_sampler.priorities == data_2.online_sampler.priorities).all()
    assert_same(tmp_path / "run", tmp_path / "uncut")
