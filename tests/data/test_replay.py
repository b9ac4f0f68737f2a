"""The ring against a deque, its state against an uninterrupted twin, and the row layout."""

import io
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.transitions import Layout

# The same examples every time, however slow the machine is.
steady = settings(max_examples=30, deadline=None, derandomize=True)
LAYOUT = Layout(observation_size=3, action_size=2)  # 11 columns


def numbered(first: int, last: int) -> Tensor:
    """Rows ``first`` to ``last − 1``; row i holds i, i + 0.0625, i + 0.125, …, all different."""
    row_T = torch.arange(first, last, dtype=torch.float32)
    return row_T[:, None] + torch.arange(LAYOUT.width) / 16


def ring(rows: Tensor, capacity: int, seed: int = 0) -> ReplayRing:
    return ReplayRing(LAYOUT, rows, capacity, torch.Generator().manual_seed(seed))


def numbers(replay: ReplayRing) -> list[int]:
    """The numbers of the rows in storage order; each row must be whole."""
    first = replay.rows[:, 0].int().tolist()
    expected = [numbered(number, number + 1) for number in first]
    assert torch.equal(replay.rows, torch.cat([torch.empty(0, LAYOUT.width), *expected]))
    return first


def through_a_file(state: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The state as a checkpoint returns it, and its size in bytes."""
    file = io.BytesIO()
    torch.save(state, file)
    size = file.tell()
    file.seek(0)
    return torch.load(file, weights_only=True), size


def test_columns_by_hand() -> None:
    fields = LAYOUT.unpack(torch.arange(22.0).view(2, 11))
    assert fields.batch_size == (2,)
    assert fields["observation"].tolist() == [[0, 1, 2], [11, 12, 13]]
    assert fields["action"].tolist() == [[3, 4], [14, 15]]
    assert fields["reward"].tolist() == [5, 16]
    assert fields["next_observation"].tolist() == [[6, 7, 8], [17, 18, 19]]
    assert fields["terminated"].tolist() == [9, 20]
    assert fields["online"].tolist() == [10, 21]


@steady
@given(st.integers(1, 5), st.integers(1, 5))
def test_fields_are_views_that_cover_every_column_once(observation: int, action: int) -> None:
    layout = Layout(observation, action)
    rows = torch.zeros(4, layout.width)
    for field in layout.unpack(rows).values():
        field += 1
    assert (rows == 1).all()


def test_oldest_row_is_overwritten() -> None:
    replay = ring(numbered(0, 2), capacity=3)
    seen = [numbers(replay)]
    for row in numbered(2, 7):
        replay.add(row)
        seen.append(numbers(replay))
    assert seen == [[0, 1], [0, 1, 2], [3, 1, 2], [3, 4, 2], [3, 4, 5], [6, 4, 5]]


@steady
@given(st.integers(1, 6), st.data())
def test_ring_is_a_bounded_queue(capacity: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, capacity))
    added = data.draw(st.integers(0, 3 * capacity))
    replay, queue = ring(numbered(0, start), capacity), deque(range(start), maxlen=capacity)
    assert numbers(replay) == list(queue)
    for number, row in enumerate(numbered(start, start + added), start):
        replay.add(row)
        queue.append(number)
        assert len(replay) == len(queue)
        assert sorted(numbers(replay)) == list(queue)


@steady
@given(
    st.integers(1, 5),
    st.lists(st.sampled_from(["add", "add", "add", "draw", "save"]), min_size=1, max_size=30),
    st.data(),
)
def test_whatever_happens_draws_are_of_the_queue(
    capacity: int, events: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, capacity))
    replay, queue = ring(numbered(0, start), capacity), deque(range(start), maxlen=capacity)
    number = start
    for event in events:
        if event == "add":
            replay.add(numbered(number, number + 1)[0])
            queue.append(number)
            number += 1
        elif event == "save":
            state, _ = through_a_file(replay.state_dict())
            replay = ring(torch.empty(0, LAYOUT.width), capacity)
            replay.load_state_dict(state)
        elif queue:
            batch = replay.sample(2, 4)
            drawn = batch["observation"][..., 0]
            assert set(drawn.flatten().tolist()) <= set(queue)
            assert torch.equal(replay.rows[batch["index"]][..., 0], drawn)
            assert torch.equal(batch["online"], numbered(0, number)[drawn.int()][..., -1])
        assert sorted(numbers(replay)) == list(queue)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rows do not fit into a ring of 3"):
        ring(numbered(0, 4), capacity=3)


def test_the_ring_owns_its_rows() -> None:
    rows, row = numbered(0, 2), numbered(2, 3)[0]
    replay = ring(rows, capacity=4)
    replay.add(row)
    rows.zero_()
    row.zero_()
    assert numbers(replay) == [0, 1, 2]


def test_samples_are_whole_rows_of_the_filled_part() -> None:
    replay = ring(numbered(5, 9), capacity=100)
    batch = replay.sample(updates=3, batch_size=200)
    assert batch.batch_size == (3, 200)
    assert batch["observation"].shape == (3, 200, 3)
    assert batch["reward"].shape == (3, 200)
    number = batch["observation"][..., 0]  # column 0 holds the row's number
    for name, column in LAYOUT.columns.items():
        expected = numbered(0, 100)[number.int()][..., column]
        assert torch.equal(batch[name], expected), name
    for update in number:  # 50 of each expected, standard deviation 6
        frequency = torch.bincount(update.int(), minlength=9)
        assert frequency[:5].sum() == 0
        assert 20 < frequency[5:].min() <= frequency[5:].max() < 80
    assert not torch.equal(number[0], number[1])  # each update has draws of its own


def test_same_generator_same_samples() -> None:
    first, same, other = (ring(numbered(0, 50), 50, seed).sample(2, 8) for seed in (1, 1, 2))
    assert (first == same).all()
    assert not (first == other).all()


@steady
@given(st.integers(1, 5), st.data())
def test_a_restored_ring_goes_on_to_the_last_bit(capacity: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, capacity))
    before = data.draw(st.integers(0 if start else 1, 2 * capacity))
    replay = ring(numbered(0, start), capacity, seed=1)
    for row in numbered(start, start + before):
        replay.add(row)
        replay.sample(1, 3)
    state, _ = through_a_file(replay.state_dict())

    restored = ring(torch.empty(0, LAYOUT.width), state["capacity"], seed=2)
    restored.load_state_dict(state)
    assert numbers(restored) == numbers(replay)
    for row in numbered(start + before, start + before + capacity + 1):
        assert (restored.sample(2, 4) == replay.sample(2, 4)).all()
        replay.add(row)
        restored.add(row)
        assert numbers(restored) == numbers(replay)


def test_an_empty_ring_can_be_saved() -> None:
    state, _ = through_a_file(ring(numbered(0, 0), 3).state_dict())
    restored = ring(torch.empty(0, LAYOUT.width), 3)
    restored.load_state_dict(state)
    assert restored.rows.shape == (0, LAYOUT.width)
    restored.add(numbered(0, 1)[0])
    assert numbers(restored) == [0]


def test_state_is_a_copy_whose_size_follows_the_fill() -> None:
    replay = ring(numbered(0, 3), capacity=100_000)
    state = replay.state_dict()
    replay.add(numbered(3, 4)[0])
    replay.rows[0] = 0
    restored, size = through_a_file(state)
    assert torch.equal(restored["rows"], numbered(0, 3))
    assert size < 20_000  # 5 kB of generator; the whole capacity would be 4.4 MB


def test_nothing_is_drawn_for_no_updates() -> None:
    replay = ring(numbered(0, 3), capacity=5)
    before = replay.generator.get_state()
    for batch_size in (4, 4, 2):
        batch = replay.sample(0, batch_size)
        assert batch.batch_size == (0, batch_size)
        assert batch["observation"].shape == (0, batch_size, LAYOUT.observation_size)
        assert batch["index"].shape == (0, batch_size)
    assert torch.equal(replay.generator.get_state(), before)


def test_a_step_is_packed_as_it_is_unpacked() -> None:
    layout = Layout(3, 2, ("next_action", "mc_return"))
    observation, action = np.arange(3.0), np.array([4.0, 5.0], np.float32)
    row = layout.pack(observation, action, 6.0, observation + 7, True)
    assert row.dtype == torch.float32
    assert row.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 1, 1, 0, 0, 0, 0]
    fields = layout.unpack(row)
    assert fields["action"].tolist() == [4, 5]
    assert [float(fields[name]) for name in ("reward", "terminated", "online")] == [6, 1, 1]
    assert layout.pack(observation, action, 6.0, observation, False)[9:11].tolist() == [0, 1]
