"""The hand-over: how many rows stay, and which."""

from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import register_toy, write_log
from torch import Tensor

from adabc_lightning.callbacks.downsampling import Downsampling, best_rows, random_rows
from adabc_lightning.data.datasets import OfflineDataset
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

# The same examples every time, however slow the machine is.
steady = settings(max_examples=50, deadline=None, derandomize=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dataset(lengths: list[int], returns: list[float]) -> OfflineDataset:
    """Episodes of these lengths and returns; the rows' numbers do not matter."""
    layout, length_E = Layout(1, 1), torch.tensor(lengths)
    return OfflineDataset(
        name="test",
        layout=layout,
        rows=torch.zeros(sum(lengths), layout.width),
        episode_T=torch.repeat_interleave(torch.arange(len(lengths)), length_E),
        episode_return_E=torch.tensor(returns, dtype=torch.float64),
        episode_length_E=length_E,
        terminals=len(lengths),
        timeouts=0,
        reference=None,
    )


FOUR = dataset([3, 2, 4, 1], [10.0, 30.0, -5.0, 20.0])  # rows 0-2, 3-4, 5-8, 9


def data_module(
    capacity: int | None, offline: OfflineDataset | None = FOUR, beside: float | None = None
) -> Any:
    return SimpleNamespace(
        dataset=offline, replay_capacity=capacity, seed=7, kept=None, offline_fraction=beside
    )


@pytest.mark.parametrize(
    ("total", "count"),
    [
        (2_000_000, 100_000),  # 5 %
        (999_990, 50_000),  # 49,999.5: the minimum
        (1_000_020, 50_001),
        (100_000, 50_000),
        (50_000, 50_000),
        (30_000, 30_000),  # fewer than the minimum: all
    ],
)
def test_default_count(total: int, count: int) -> None:
    assert Downsampling().count(total) == count


@pytest.mark.parametrize(
    ("keep", "minimum", "count"), [(0.0, 0, 0), (1.0, 0, 80), (0.2, 0, 16), (0.2, 20, 20)]
)
def test_count(keep: float, minimum: int, count: int) -> None:
    assert Downsampling(keep, minimum).count(80) == count


@steady
@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_random_rows_without_replacement_are_distinct(count: int, total: int, seed: int) -> None:
    rows = random_rows(min(count, total), total, False, generator(seed)).tolist()
    assert len(set(rows)) == len(rows) == min(count, total)
    assert set(rows) <= set(range(total))


def test_random_rows_with_replacement_repeat() -> None:
    rows = random_rows(1000, 1000, True, generator())
    assert rows.shape == (1000,)
    assert 0 <= rows.min() <= rows.max() < 1000
    # 1 − 1/e of them are expected to appear; ±5 of a standard deviation of about 10
    assert 580 < len(rows.unique()) < 684


@pytest.mark.parametrize("replacement", [True, False])
def test_random_rows_are_uniform(replacement: bool) -> None:
    draws = [random_rows(3, 10, replacement, generator(seed)) for seed in range(1000)]
    frequency = torch.bincount(torch.cat(draws), minlength=10)
    assert frequency.min() > 225  # 300 expected, standard deviation about 17
    assert frequency.max() < 375


@pytest.mark.parametrize(
    ("count", "rows"),
    [
        (1, [3, 4]),  # the best episode is kept whole
        (2, [3, 4]),
        (3, [3, 4, 9]),
        (4, [0, 1, 2, 3, 4, 9]),
        (6, [0, 1, 2, 3, 4, 9]),
        (7, list(range(10))),
    ],
)
def test_best_rows(count: int, rows: list[int]) -> None:
    assert best_rows(count, FOUR.episode_T, FOUR.episode_return_E).tolist() == rows


def plain_best_rows(count: int, episode_T: Tensor, returns: list[float]) -> list[int]:
    """Take the next best episode until there are enough rows; the earlier one on a tie."""
    rows: list[int] = []
    for best in sorted(range(len(returns)), key=lambda episode: -returns[episode]):
        if len(rows) >= count:
            break
        rows += [row for row, episode in enumerate(episode_T.tolist()) if episode == best]
    return sorted(rows)


@steady
@given(
    # A length of 0: every row of the episode was dropped for lack of a next state.
    st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=1, max_size=8),
    st.integers(0, 20),
)
def test_best_rows_against_a_plain_loop(episodes: list[tuple[int, int]], count: int) -> None:
    lengths, returns = zip(*episodes, strict=True)
    offline = dataset(list(lengths), list(returns))
    rows = best_rows(count, offline.episode_T, offline.episode_return_E).tolist()
    assert rows == plain_best_rows(count, offline.episode_T, list(returns))


def test_equal_episodes_are_taken_in_dataset_order() -> None:
    episode_T = torch.arange(1000)  # so many that only a stable sort keeps their order
    rows = best_rows(400, episode_T, torch.zeros(1000, dtype=torch.float64))
    assert rows.tolist() == list(range(400))


def test_select_takes_the_method() -> None:
    best = Downsampling(0.3, 0, "best").select(FOUR, generator())
    assert best.tolist() == [3, 4, 9]
    for replacement in (True, False):
        rows = Downsampling(0.5, 0, "random", replacement).select(FOUR, generator())
        assert rows.tolist() == random_rows(5, 10, replacement, generator()).tolist()


@pytest.mark.parametrize("method", ["random", "best"])
def test_all_rows_are_kept_once_each_where_there_are_fewer(method: str) -> None:
    rows = Downsampling(0.05, 50_000, method).select(FOUR, generator())
    assert rows.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 1.5}, "downsampling.keep is 1.5; it must be between 0 and 1"),
        ({"keep": -0.1}, "downsampling.keep is -0.1; it must be between 0 and 1"),
        ({"keep": float("nan")}, "downsampling.keep is nan; it must be a number between 0 and 1"),
        ({"minimum": -1}, "downsampling.minimum is -1; it must be 0 or more"),
        ({"method": "bset"}, "downsampling.method is bset; it must be random or best"),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        Downsampling(**arguments)
    assert str(raised.value) == message


def test_a_ring_too_small_is_refused_before_training() -> None:
    # Four rows are wanted and the ring has five, but the episodes stay whole: 2 + 1 + 3.
    callback, agent = Downsampling(0.4, 0, "best"), None
    with pytest.raises(UserError, match=r"keeps 6 transitions, data\.replay_capacity is 5;"):
        callback.setup(SimpleNamespace(datamodule=data_module(5)), agent, "fit")
    beside = data_module(5, beside=0.5)  # offline rows lie beside the ring, and need no place in it
    for allowed in (data_module(6), data_module(None), data_module(5, offline=None), beside):
        callback.setup(SimpleNamespace(datamodule=allowed), agent, "fit")
    callback.setup(SimpleNamespace(datamodule=data_module(5)), agent, "validate")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows in episodes of 20."""
    return write_log(tmp_path_factory.mktemp("log") / "log.hdf5", 3, 2, rows=60)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    keep=st.floats(0, 1),
    minimum=st.integers(0, 70),
    method=st.sampled_from(["random", "best"]),
    replacement=st.booleans(),
    capacity=st.none() | st.integers(1, 70),
    added=st.integers(0, 90),
)
def test_the_ring_after_any_hand_over(
    log: Path,
    keep: float,
    minimum: int,
    method: str,
    replacement: bool,
    capacity: int | None,
    added: int,
) -> None:
    """Rows that do not fit are refused before; else the ring is a queue that begins with them."""
    callback = Downsampling(keep, minimum, method, replacement)
    schedule = Schedule(2, max(added, 1))
    data = ReplayDataModule(register_toy(), str(log), schedule, replay_capacity=capacity)
    data.trainer = SimpleNamespace(
        callbacks=[callback],
        ckpt_path=None,
        lightning_module=None,
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    data.setup("fit")
    assert data.dataset is not None
    rows, wanted = data.dataset.rows.clone(), min(60, max(round(keep * 60), minimum))
    if method == "best":  # whole episodes
        wanted = 20 * -(-wanted // 20)
    module: Any = SimpleNamespace(datamodule=data)
    if capacity is not None and wanted > capacity:
        with pytest.raises(UserError, match=f"keeps {wanted} transitions, .* is {capacity};"):
            callback.setup(module, None, "fit")
        return
    callback.setup(module, None, "fit")
    data.trainer.lightning_module = SimpleNamespace(hand_over=lambda: None)
    data.hand_over()
    kept = data.replay.rows.clone()
    assert len(kept) == wanted
    matches = (kept[:, None] == rows).all(-1)
    assert matches.any(1).all()  # each is one of the dataset's
    if method == "best" or not replacement or wanted == 60:
        assert matches.any(0).sum() == wanted  # and another one
    room = wanted + max(added, 1) if capacity is None else capacity
    queue = deque(kept, maxlen=room)
    for row in torch.arange(float(added))[:, None].expand(-1, data.layout.width) + 1000:
        data.replay.add(row)
        queue.append(row)
    assert len(data.replay) == len(queue)
    expected = torch.stack([*queue]) if queue else torch.empty(0, data.layout.width)
    order = (wanted + added) % room if len(queue) == room else 0
    assert torch.equal(data.replay.rows.roll(-order, 0), expected)
    data.teardown("fit")


def test_hand_over_follows_the_runs_seed() -> None:
    callback, kept = Downsampling(0.5, 0), []
    for seed in (7, 7, 8):
        data = data_module(None)
        data.seed = seed
        callback.on_hand_over(data, None)
        kept.append(data.kept.tolist())
    assert len(kept[0]) == 5
    assert kept[0] == kept[1] != kept[2]
    data = data_module(None, offline=None)
    callback.on_hand_over(data, None)
    assert data.kept is None
