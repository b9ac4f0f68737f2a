"""Stacked updates are those of each agent alone, in float64, of every method that says so."""

import pytest
import torch
from agreement import Alone, assert_same
from test_rebrac import batch_of

from adabc_lightning.agent.engines import Eager
from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import AWAC, IQL, RLPD, SPOT, TD3BC, WSRL, CalQL, ReBRAC
from adabc_lightning.replicas.stacked import Stacked, stackable

METHODS = {
    "TD3BC": (TD3BC, {}),
    "AWAC": (AWAC, {}),
    "IQL": (lambda: IQL(dropout=0.25), {"policy_delay": 1}),
    "ReBRAC": (lambda: ReBRAC(0.5, 0.5, 40, 0.5, 0.25), {"critic_norm": "after"}),
    "RLPD": (RLPD, {"policy_delay": 1, "critic_norm": "before"}),
    "CalQL": (lambda: CalQL(samples=2, target_gap=0.5), {"policy_delay": 1}),
    "WSRL": (lambda: WSRL(samples=2, heads=1), {"policy_delay": 1, "critic_norm": "before"}),
    "SPOT": (lambda: SPOT(weight=0.5, cooling_updates=40, vae_updates=6, vae_width=9), {}),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("critics", [1, 3])
def test_each_of_a_stack_equals_itself_alone(name: str, critics: int) -> None:
    make, options = METHODS[name]
    constants = {"num_critics": critics, "subset_size": min(2, critics), "learning_rate": 3e-3}

    def agents() -> list[Alone]:
        method: Method = make()
        return [Alone(method, seed=seed, tau=0.1, **constants, **options) for seed in range(3)]

    together, alone = agents(), agents()
    assert all(map(stackable, together))
    stacked = Stacked(together, Eager())
    generator = torch.Generator().manual_seed(1)
    for number in range(6):
        if number == 4:
            for agent in (*together, *alone):
                agent.hand_over()
        batches = [torch.stack([batch_of(generator) for _ in range(4)]) for _ in alone]
        for batch in batches:
            batch["mc_return"] = batch["reward"] + 0.1
        stacked(batches)
        for agent, batch in zip(alone, batches, strict=True):
            agent.training_step(batch, 0)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.gradient_updates == theirs.gradient_updates == 24
        assert ours.take_metrics() == pytest.approx(theirs.take_metrics(), rel=1e-9)
        for part in ours.trained_parts:
            assert_same(ours.networks(part), theirs.networks(part))
            if ours.part(part).target is not None:
                assert_same(ours.networks(part, True), theirs.networks(part, True))
