"""What the online ring begins with: kept rows, dealt out to ranks, or beside a ring without any."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adabc_lightning.data.opening import check_capacity, open_online
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.symmetric import SymmetricRing
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.schedule import Schedule

LAYOUT = Layout(observation_size=1, action_size=1)


def owner(**options: Any) -> Any:
    """Of ten offline rows, of which row i holds i, and 6 environment steps."""
    rows = torch.arange(10.0)[:, None].expand(-1, LAYOUT.width)
    parts = {
        "layout": LAYOUT,
        "replay": ReplayRing(LAYOUT, rows, 10, torch.Generator().manual_seed(0)),
        "kept": None,
        "dataset": None,
        "ranks": Ranks(),
        "schedule": Schedule(2, 6),
        "replay_capacity": None,
        "offline_fraction": None,
        "online_sampler": None,
    }
    return SimpleNamespace(**{**parts, **options})


@pytest.mark.parametrize(("rank", "held"), [(0, [9, 7, 5]), (1, [8, 6])])
def test_ranks_share_what_is_kept_and_the_room(rank: int, held: list[int]) -> None:
    data = owner(ranks=Ranks(rank, 2), kept=torch.tensor([9, 8, 7, 6, 5]))
    generator = data.replay.generator
    open_online(data)
    assert data.replay.rows[:, 0].tolist() == held
    assert data.replay.capacity == len(held) + 3  # of the 5 + 6 rows that there can be
    assert data.replay.generator is generator
    assert data.kept is None


def test_with_a_share_of_offline_rows_the_ring_begins_empty() -> None:
    data = owner(offline_fraction=0.5, kept=torch.tensor([3, 1]))
    open_online(data)
    assert isinstance(data.replay, SymmetricRing)
    assert data.replay.offline[:, 0].tolist() == [3, 1]
    assert (len(data.replay), data.replay.capacity) == (0, 6)


def test_what_is_looked_at_has_the_shares_of_what_is_learnt_from() -> None:
    data = owner(offline_fraction=0.25, kept=torch.tensor([3, 1]))
    open_online(data)
    generator = torch.Generator().manual_seed(0)
    assert set(data.replay.some(40, generator)[:, 0].tolist()) == {3, 1}  # there is nothing else
    for value in (50.0, 60.0):
        data.replay.add(torch.full((data.replay.layout.width,), value))
    assert [rows[:, 0].tolist() for rows in data.replay.stores] == [[3, 1], [50, 60]]
    seen = data.replay.some(40, generator)[:, 0]
    assert set(seen[:10].tolist()) == {3, 1}
    assert set(seen[10:].tolist()) == {50, 60}


def test_a_share_of_no_rows_is_refused() -> None:
    data = owner(offline_fraction=0.5, kept=torch.tensor([], dtype=torch.int64))
    with pytest.raises(UserError, match=r"offline_fraction is 0\.5, but downsampling keeps none"):
        open_online(data)


def test_rows_that_nobody_chooses_from_must_fit() -> None:
    with pytest.raises(UserError, match=r"all 10 transitions are kept, .*_capacity is 9; add the"):
        check_capacity(owner(replay_capacity=9), [], 10)
    choice: Any = SimpleNamespace(chooses_rows=True)
    check_capacity(owner(replay_capacity=9), [choice], 10)
    check_capacity(owner(replay_capacity=9, offline_fraction=0.5), [], 10)
    check_capacity(owner(replay_capacity=10), [], 10)
    check_capacity(owner(), [], 10)
