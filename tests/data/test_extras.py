"""The action that followed a step: of a log's rows, and in the ring as it is taken."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from lightning import Callback
from tiny import register_toy, tiny_run, write_log
from torch import Tensor

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import TD3BC, ReBRAC
from adabc_lightning.data.datasets import OfflineDataset
from adabc_lightning.data.extras import with_next_actions
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.returns import episode_ends
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

LAYOUT = Layout(1, 2, ("next_action",))


def dataset(steps: list[tuple[float, float, float, int]]) -> OfflineDataset:
    """One row per (observation, next observation, terminated, episode); its action is ±number."""
    layout = Layout(1, 2)
    rows = torch.zeros(len(steps), layout.width)
    for number, (observation, following, terminated, _) in enumerate(steps):
        values = {
            "observation": observation,
            "next_observation": following,
            "terminated": terminated,
            "action": torch.tensor([number + 1.0, -number - 1.0]),
        }
        for name, value in values.items():
            rows[number, layout.columns[name]] = value
    episode_T = torch.tensor([episode for *_, episode in steps])
    counts = torch.bincount(episode_T)
    return OfflineDataset(
        "by hand", layout, rows, episode_T, torch.zeros(len(counts)), counts, 0, 0, None
    )


def test_columns_by_hand() -> None:
    assert LAYOUT.width == 2 + 2 + 3 + 3
    fields = LAYOUT.unpack(torch.arange(20.0).view(2, 10))
    assert fields["online"].tolist() == [6, 16]
    assert fields["next_action"].tolist() == [[7, 8], [17, 18]]
    assert fields["next_action_known"].tolist() == [9, 19]
    assert repr(LAYOUT) == repr(Layout(1, 2))  # of which fingerprints are made


def test_the_next_row_s_action_inside_an_episode_alone() -> None:
    log = dataset(
        [
            (0, 1, 0, 0),  # followed
            (1, 2, 0, 0),  # followed by a terminal
            (2, 3, 1, 0),
            (3, 4, 0, 1),  # followed, beginning where the one before ended
            (4, 5, 0, 1),  # the next row begins elsewhere: a gap
            (9, 8, 0, 1),  # the last of its episode
            (8, 7, 0, 2),  # an episode of one step
            (7, 6, 0, 3),  # the last of all
        ]
    )
    made = with_next_actions(log, episode_ends(log), "somebody")
    assert made.layout == LAYOUT
    fields = made.layout.unpack(made.rows)
    assert fields["next_action_known"].tolist() == [1, 1, 0, 1, 0, 0, 0, 0]
    assert fields["next_action"][:, 0].tolist() == [2, 3, 0, 5, 0, 0, 0, 0]
    assert fields["next_action"][:, 1].tolist() == [-2, -3, 0, -5, 0, 0, 0, 0]
    assert fields["action"][:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_data_without_any_are_refused() -> None:
    log = dataset([(0, 1, 0, 0), (1, 2, 0, 1), (2, 3, 1, 2)])
    with pytest.raises(UserError, match=r"'by hand': somebody needs the action that followed"):
        with_next_actions(log, episode_ends(log), "somebody")


def row_of(number: int) -> Tensor:
    row = torch.zeros(LAYOUT.width)
    row[LAYOUT.columns["action"]] = torch.tensor([number, -number]).float()
    return row


def next_actions(ring: ReplayRing) -> dict[int, int | None]:
    """Action of each row → the action that followed."""
    fields = LAYOUT.unpack(ring.rows)
    return {
        int(action[0]): int(following[0]) if known else None
        for action, following, known in zip(
            fields["action"], fields["next_action"], fields["next_action_known"], strict=True
        )
    }


def test_a_row_gets_its_next_action_when_that_is_taken() -> None:
    ring = ReplayRing(LAYOUT, row_of(1).unsqueeze(0), 4, torch.Generator())
    ring.add(row_of(2))
    assert next_actions(ring) == {1: None, 2: None}
    ring.add(row_of(3), continues=True)
    assert next_actions(ring) == {1: None, 2: 3, 3: None}
    ring.add(row_of(4))  # another episode
    ring.add(row_of(5), continues=True)  # in the place of the oldest
    assert next_actions(ring) == {2: 3, 3: None, 4: 5, 5: None}
    again = ReplayRing(LAYOUT, torch.empty(0, LAYOUT.width), 4, torch.Generator())
    again.load_state_dict(ring.state_dict())
    for each in (ring, again):
        each.add(row_of(6), continues=True)
        assert next_actions(each) == {3: None, 4: 5, 5: 6, 6: None}


def test_the_first_row_of_a_ring_has_none_before_it() -> None:
    ring = ReplayRing(LAYOUT, row_of(1).unsqueeze(0), 4, torch.Generator())
    ring.add(row_of(2), continues=True)
    assert next_actions(ring) == {1: None, 2: None}


def rebrac() -> Method:
    return ReBRAC(0.5, 0.5, 100, 0.5, 0.25)


def test_a_run_learns_from_the_action_that_was_taken_next(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2, linked=True)
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        log,
        schedule=Schedule(4, 13, 2, evaluation_every=100),  # episodes of 5 steps
        model={"method": rebrac(), "critic_norm": "after"},
        downsampling={"keep": 1.0},
    )
    trainer.fit(module, data)
    fields = data.layout.unpack(data.replay.rows)
    known = fields["next_action_known"].bool()
    ends = np.arange(1, 121) % 20 == 0
    assert known[:120].tolist() == (~ends).tolist()
    online = [True] * 4 + [False] + [True] * 4 + [False] + [True] * 2 + [False]
    assert known[120:].tolist() == online
    followed = known[:-1]
    assert torch.equal(fields["next_action"][:-1][followed], fields["action"][1:][followed])
    assert not fields["next_action"][~known].any()


class Known(Callback):
    """Which next actions are known when training begins."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        data = trainer.datamodule
        column = data.layout.columns["next_action_known"]
        self.rows = data.replay.rows[:120, column].bool().tolist()


def test_a_run_that_goes_on_knows_the_same_next_actions(tmp_path: Path) -> None:
    """A column that hardly varies, logged twice: once normalised its rounding is no gap."""
    path = write_log(tmp_path / "log.hdf5", 3, 2, linked=True)
    rounding = 3e-7 * (np.arange(120) % 2)
    with h5py.File(path, "a") as file:
        file["observations"][:, 2] = 0.5
        file["next_observations"][:, 2] = (0.5 + rounding).astype(np.float32)
    known = []
    for how in (None, "last.ckpt"):
        seen = Known()
        trainer, module, data = tiny_run(
            tmp_path / "run",
            register_toy(),
            path,
            schedule=Schedule(4, 8, 2, evaluation_every=100),
            callbacks=[seen],
            model={"method": rebrac(), "critic_norm": "after"},
            data={"normalize_observations": True, "replay_capacity": None},
            downsampling={"keep": 1.0},
        )
        trainer.fit(module, data, ckpt_path=how and tmp_path / "run" / "checkpoints" / how)
        known.append(seen.rows)
    assert known == [(np.arange(1, 121) % 20 != 0).tolist()] * 2


def test_a_log_that_does_not_say_what_followed_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=Schedule(4, 2), model={"method": rebrac()}
    )
    with pytest.raises(UserError, match=r"model\.method ReBRAC needs the action that followed"):
        trainer.fit(module, data)


class Curious(TD3BC):
    """It wants what nobody has."""

    columns = ("weather",)


def test_a_column_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=Schedule(4, 2), model={"method": Curious()}
    )
    with pytest.raises(
        UserError, match=r"Curious needs a column 'weather'; known: next_action, mc_return"
    ):
        trainer.fit(module, data)
