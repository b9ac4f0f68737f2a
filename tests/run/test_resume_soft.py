"""Runs of RLPD, Cal-QL and WSRL that were cut go on bit for bit, wherever the cut was."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_resume import ENV, EVERY_ROW, Cut, assert_equal, everything, leave
from tiny import tiny_run, write_log

from adabc_lightning.agent.methods import RLPD, WSRL, CalQL
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.restoring import _restore_unfinished
from adabc_lightning.data.returns import Unfinished
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.schedule import Schedule

LIMIT = 7  # an episode of the untrained pendulum lasts a few steps more


def rlpd() -> dict[str, Any]:
    """Uniform steps first; no offline phase."""
    return {
        "schedule": Schedule(0, 30, 2, 9, 10),
        "model": {"policy_delay": 1, "method": RLPD(), "critic_norm": "before"},
        "data": {**EVERY_ROW, "offline_fraction": 0.5, "frozen_actions": "uniform"},
        "downsampling": {"keep": 1.0},
    }


def cal_ql() -> dict[str, Any]:
    """Each cut is within an episode, but one."""
    method = CalQL(samples=2, target_gap=0.5)
    return {
        "schedule": Schedule(4, 30, 1, 9, 10, 2),
        "model": {"policy_delay": 1, "method": method},
        "data": {**EVERY_ROW, "offline_fraction": 0.25, "max_episode_steps": LIMIT,
                 "reward_scale": 2.0},
        "downsampling": {"keep": 1.0},
    }  # fmt: skip


def wsrl() -> dict[str, Any]:
    """Cal-QL, then from an empty ring on."""
    method = WSRL(samples=2, calibrate=True)
    return {
        "schedule": Schedule(4, 30, 2, 9, 10, 2),
        "model": {"policy_delay": 1, "method": method, "critic_norm": "before"},
        "data": EVERY_ROW,
        "downsampling": {"keep": 0.0, "minimum": 0},
    }


Options = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module", params=[rlpd, cal_ql, wsrl])
def uncut(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Options, Path, dict[str, Any]]:
    """Options, folder with checkpoints of cuts, and the uncut run's end."""
    folder = tmp_path_factory.mktemp("uncut")
    log = write_log(folder / "log.hdf5", 4, 1, linked=True)
    options = request.param()
    cut = Cut(folder, (1, 5, 8, 13, 24))
    trainer, module, data = tiny_run(folder, ENV, log, callbacks=[cut], **options)
    trainer.fit(module, data)
    return request.param, folder, everything(trainer)


@pytest.mark.parametrize("batches", [1, 5, 8, 13, 24])
def test_resumed_equals_uncut(
    uncut: tuple[Options, Path, dict[str, Any]], batches: int, tmp_path: Path
) -> None:
    options, folder, expected = uncut
    leave(folder, tmp_path)
    trainer, module, data = tiny_run(tmp_path, ENV, folder / "log.hdf5", **options())
    cut = folder / f"cut{batches}.ckpt"
    saved = torch.load(cut)["ReplayDataModule"]
    if options is cal_ql and batches in (5, 8):  # in the first episode: the ring is empty
        assert len(saved["replay"]["pending"]) > 0
    trainer.fit(module, data, ckpt_path=cut, weights_only=True)
    assert_equal(everything(trainer), expected)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reward_scale": 1.0}, "data.reward_scale and data.reward_shift .2.0, 0.0., not .1.0, 0"),
        ({"offline_fraction": None}, "data.offline_fraction is None, the checkpoint's batches"),
        (
            {"failure_reward": 0.0},
            "returns with model.gamma 0.99 and a scaled .* of None, not 0.99",
        ),
    ],
)
def test_another_reward_or_share_is_refused(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    log, options = write_log(tmp_path / "log.hdf5", 4, 1, linked=True), cal_ql()
    cut = Cut(tmp_path, (13,))
    trainer, module, data = tiny_run(tmp_path / "a", ENV, log, callbacks=[cut], **options)
    trainer.fit(module, data)
    options = cal_ql()
    options["data"] |= changed
    trainer, module, data = tiny_run(tmp_path / "b", ENV, log, **options)
    with pytest.raises(UserError, match=said):
        trainer.fit(module, data, ckpt_path=tmp_path / "cut13.ckpt", weights_only=True)


def test_a_longer_run_overwrites_no_row_of_the_episode_that_was_under_way(tmp_path: Path) -> None:
    log, cut = write_log(tmp_path / "log.hdf5", 4, 1, linked=True), Cut(tmp_path, (8,))
    trainer, module, data = tiny_run(tmp_path / "a", ENV, log, callbacks=[cut], **cal_ql())
    trainer.fit(module, data)
    longer = cal_ql() | {"schedule": Schedule(4, 60, 1, 9, 10, 2)}
    trainer, module, data = tiny_run(tmp_path / "b", ENV, log, **longer)
    trainer.fit(module, data, ckpt_path=tmp_path / "cut8.ckpt", weights_only=True)
    assert data.unfinished is not None
    assert len(data.replay) + len(data.unfinished.rows) == 60  # offline rows lie beside it
    assert data.replay.state_dict()["writer"]["_write_count"] == len(data.replay)


def test_rows_under_way_of_a_rank_that_is_no_more_are_learnt_from() -> None:
    layout = Layout(1, 1, ("mc_return",))
    rings = []
    for reward in (1.0, 2.0):
        rows = torch.zeros(2, layout.width)
        rows[:, layout.columns["reward"]] = reward
        rings.append({"pending": rows})
    for goes_on, kept, under_way in ((True, [6.0, 2.0], 2), (False, [3.0, 1.0, 6.0, 2.0], 0)):
        unfinished = Unfinished(layout, 2.0, None)
        replay = ReplayRing(layout, torch.empty(0, layout.width), 9, torch.Generator())
        data: Any = SimpleNamespace(ranks=Ranks(), replay=replay)
        _restore_unfinished(data, unfinished, rings, goes_on)
        assert replay.rows[:, layout.columns["mc_return"]].tolist() == kept
        assert len(unfinished.rows) == under_way
