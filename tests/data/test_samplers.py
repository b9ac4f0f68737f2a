"""What samplers of every kind have in common: where their draws come from, and what they save."""

from collections.abc import Callable

import pytest
import torch

from adabc_lightning.data.mixture import ShareSampler
from adabc_lightning.data.priorities import PrioritySampler
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.samplers import Sampler, UniformSampler
from adabc_lightning.data.transitions import Layout

LAYOUT = Layout(observation_size=1, action_size=1)
KINDS: list[Callable[[], Sampler]] = [
    UniformSampler,
    lambda: ShareSampler((4, 2), (0.5, 0.5)),
    PrioritySampler,
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begun(make: Callable[[], Sampler]) -> Sampler:
    """Of a ring of six rows."""
    sampler = make()
    sampler.begin(6)
    return sampler


@pytest.mark.parametrize("make", KINDS)
def test_draws_are_the_generators_alone(make: Callable[[], Sampler]) -> None:
    sampler, of_all = begun(make), torch.get_rng_state()
    first, other = (sampler.draw(6, 1000, generator(seed)) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), of_all)
    assert first.dtype == torch.int64
    assert set(first.tolist()) == set(range(6))
    assert torch.equal(first, sampler.draw(6, 1000, generator()))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("make", KINDS)
def test_a_restored_one_draws_the_same(make: Callable[[], Sampler]) -> None:
    sampler, twin = begun(make), make()
    twin.load_state_dict(sampler.state_dict())
    assert torch.equal(*(each.draw(6, 100, generator()) for each in (sampler, twin)))


def test_uniform_draws_are_pytorchs() -> None:
    drawn = UniformSampler().draw(7, 50, generator())
    assert torch.equal(drawn, torch.randint(0, 7, (50,), generator=generator()))


@pytest.mark.parametrize("make", KINDS[:2])
def test_a_second_ring_of_the_same_rows_has_draws_of_its_own(make: Callable[[], Sampler]) -> None:
    rows = torch.arange(6.0)[:, None].expand(-1, LAYOUT.width)
    ring = ReplayRing(LAYOUT, rows, 6, generator(), make())
    alone = ReplayRing(LAYOUT, rows, 6, generator(1), make())
    second = ring.reader(generator(1))
    before = ring.generator.get_state()
    assert (second.sample(2, 20) == alone.sample(2, 20)).all()
    assert torch.equal(ring.generator.get_state(), before)
    assert second.rows.data_ptr() == ring.rows.data_ptr()
