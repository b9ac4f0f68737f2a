"""Sampling by priority against frequencies, and the rule for rows that are added."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adabc_lightning.data.priorities import PrioritySampler
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError

# The same examples every time, however slow the machine is.
steady = settings(max_examples=50, deadline=None, derandomize=True)
LAYOUT = Layout(observation_size=1, action_size=1)  # 5 columns


def ring(rows: int, capacity: int = 100, seed: int = 0) -> tuple[ReplayRing, PrioritySampler]:
    """A ring whose row i holds i."""
    sampler = PrioritySampler()
    generator = torch.Generator().manual_seed(seed)
    return ReplayRing(LAYOUT, numbered(0, rows), capacity, generator, sampler), sampler


def numbered(first: int, last: int) -> torch.Tensor:
    return torch.arange(first, last, dtype=torch.float32)[:, None].expand(-1, LAYOUT.width)


@pytest.mark.parametrize("priorities", [[1.0, 1.0, 1.0, 1.0], [4.0, 1.0, 2.0, 3.0]])
def test_rows_are_drawn_in_proportion_to_their_priorities(priorities: list[float]) -> None:
    replay, sampler = ring(4)
    sampler.update_priority(torch.arange(4), torch.tensor(priorities))
    batch = replay.sample(updates=4, batch_size=5000)
    assert torch.equal(batch["observation"][..., 0], batch["index"].float())  # row and index agree
    counts = torch.bincount(batch["index"].flatten(), minlength=4).double()
    expected = torch.tensor(priorities, dtype=torch.float64)
    expected *= 20_000 / expected.sum()
    chi_square = ((counts - expected).square() / expected).sum()
    assert chi_square < 16.3  # three degrees of freedom: exceeded once in a thousand
    first, second = batch["index"][:2]
    assert not torch.equal(first, second)


def test_a_row_enters_with_the_entry_priority_or_the_largest_so_far() -> None:
    replay, sampler = ring(2, capacity=4)
    assert sampler.priorities.tolist() == [1.0, 1.0]
    sampler.entry_priority = 0.5
    replay.add(numbered(2, 3)[0])
    assert sampler.priorities.tolist() == [1.0, 1.0, 1.0]
    sampler.entry_priority = 3.0
    replay.add(numbered(3, 4)[0])
    assert sampler.priorities.tolist() == [1.0, 1.0, 1.0, 3.0]
    sampler.update_priority(torch.tensor([1, 3]), torch.tensor([5.0, 0.25]))
    assert sampler.priorities.tolist() == [1.0, 5.0, 1.0, 0.25]
    sampler.update_priority(torch.tensor([1]), torch.tensor([2.0]))  # the 5 is remembered
    replay.add(numbered(4, 5)[0])  # over the oldest
    assert sampler.priorities.tolist() == [5.0, 2.0, 1.0, 0.25]


def test_of_a_row_named_twice_the_last_priority_counts() -> None:
    _, sampler = ring(3)
    index = torch.tensor([2, 0, 2, 0, 2])
    sampler.update_priority(index, torch.tensor([9.0, 2.0, 8.0, 3.0, 0.5]))
    assert sampler.priorities.tolist() == [3.0, 1.0, 0.5]
    assert sampler.largest == 9.0


@pytest.mark.parametrize("start", [0, 1, 700])
def test_priorities_grow_with_the_ring(start: int) -> None:
    replay, sampler = ring(start, capacity=5000)
    for number, row in enumerate(numbered(start, 3000), start):
        replay.add(row)
        if number % 100 == 0:  # the largest so far, so that rows can be told apart
            sampler.update_priority(torch.tensor([number]), torch.tensor([2.0 + number]))
    expected = [1.0] * start
    largest = 1.0
    for number in range(start, 3000):
        if number % 100 == 0:
            largest = 2.0 + number
        expected.append(largest)
    assert sampler.priorities.tolist() == expected
    assert replay.sample(1, 1000)["index"].max() < 3000


def test_a_restored_sampler_goes_on_to_the_last_bit() -> None:
    replay, sampler = ring(5)
    sampler.entry_priority = 2.5
    replay.add(numbered(5, 6)[0])
    sampler.update_priority(torch.tensor([0, 4]), torch.tensor([7.0, 0.125]))
    sampler.update_priority(torch.tensor([0]), torch.tensor([3.0]))
    replay.sample(1, 3)
    file = io.BytesIO()
    torch.save(replay.state_dict(), file)
    file.seek(0)

    restored, twin = ring(0, seed=1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert twin.priorities.tolist() == [3.0, 1.0, 1.0, 1.0, 0.125, 2.5]
    for row in numbered(6, 12):
        assert (restored.sample(2, 20) == replay.sample(2, 20)).all()
        replay.add(row)
        restored.add(row)
        assert twin.priorities.tolist() == sampler.priorities.tolist()
    assert twin.priorities[-1] == 7.0


def test_a_ring_without_priorities_is_refused() -> None:
    uniform = ReplayRing(LAYOUT, numbered(0, 3), 3, torch.Generator())
    with pytest.raises(UserError, match="has no priorities"):
        ring(0)[0].load_state_dict(uniform.state_dict())


def test_the_state_is_a_copy() -> None:
    _, sampler = ring(3)
    state = sampler.state_dict()
    sampler.update_priority(torch.tensor([1]), torch.tensor([4.0]))
    assert state["priorities"].tolist() == [1.0, 1.0, 1.0]
    twin = PrioritySampler()
    twin.load_state_dict(state)
    twin.update_priority(torch.tensor([0]), torch.tensor([4.0]))
    assert state["priorities"].tolist() == [1.0, 1.0, 1.0]


@steady
@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=8), st.integers(0, 2**32))
def test_an_index_is_always_one_of_the_rows(priorities: list[float], seed: int) -> None:
    replay, sampler = ring(len(priorities), seed=seed)
    exact = torch.tensor(priorities, dtype=torch.float64)
    sampler.update_priority(torch.arange(len(priorities)), exact)
    index = replay.sample(1, 50)["index"]
    assert 0 <= index.min() <= index.max() < len(priorities)
    # nor one with so small a share that 50 draws cannot have met it
    assert (exact[index] / exact.sum() > 1e-15).all()
