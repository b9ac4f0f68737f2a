"""An action that cannot vary has no part in learning, whatever the method."""

import math

import pytest
import torch
from agreement import A, Alone, B, random_batch
from torch import Tensor

from adabc_lightning.agent import methods
from adabc_lightning.agent.gaussian import sample
from adabc_lightning.agent.losses import gaussian_log_prob


class Fixed(Alone):
    """Its second action is fixed."""

    LOW, HIGH = (-1.0, 0.25), (2.0, 0.25)


EVERY = {name: getattr(methods, name) for name in methods.__all__}


def made(name: str) -> Fixed:
    torch.manual_seed(0)
    options = {"SPOT": {"vae_updates": 2}, "IQL": {"dropout": 0.25}}.get(name, {})
    return Fixed(EVERY[name](**options), policy_delay=1, learning_rate=3e-3)


def own_rows(module: Fixed) -> list[Tensor]:
    """What the policy's numbers for the fixed action are made of."""
    actor = module.actor
    rows = [weight[1] for weight in actor.weights if weight.shape[0] == A]
    assert rows
    return rows


def learn(module: Fixed) -> None:
    numbers = torch.Generator().manual_seed(1)
    for phase in range(2):
        for _ in range(3):
            steps = []
            for _ in range(2):
                more = {
                    "mc_return": torch.randn(B, generator=numbers, dtype=torch.float64),
                    "next_action": torch.rand(B, A, generator=numbers, dtype=torch.float64),
                    "next_action_known": torch.ones(B, dtype=torch.float64),
                }
                more["next_action"][:, 1] = 0.25
                batch = random_batch(numbers, **more)
                batch["action"][:, 1] = 0.25
                steps.append(batch)
            module.training_step(torch.stack(steps), 0)
        if not phase:
            module.hand_over()


@pytest.mark.parametrize("name", EVERY)
def test_whatever_the_policy_says_of_it_all_else_is_learnt_the_same(name: str) -> None:
    plain, other = made(name), made(name)
    start = {key: part.weights for key, part in plain.agent_state().items()}
    start = {key: [weight.detach().clone() for weight in weights] for key, weights in start.items()}
    with torch.no_grad():
        for row in own_rows(other):
            row += 0.5
    for module in (plain, other):
        learn(module)
    with torch.no_grad():
        for one, two in zip(own_rows(plain), own_rows(other), strict=True):
            one.copy_(two)
    for key, part in plain.agent_state().items():
        same = other.agent_state()[key]
        assert any(not torch.equal(a, b) for a, b in zip(part.weights, start[key], strict=True)), (
            f"{key} has not moved"
        )
        for a, b in zip(part.weights, same.weights, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
        if key == "critics":
            for a, b in zip(part.target or (), same.target or (), strict=True):
                torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_the_wanted_entropy_is_that_of_the_actions_that_can_vary() -> None:
    module = made("SAC")
    batch = torch.stack([random_batch(torch.Generator().manual_seed(1))])
    options = module.work(batch, module.agent_state()).options
    assert (options.free_count, options.fixed_count) == (1, 1)
    free = Alone(methods.SAC()).work(batch, Alone(methods.SAC()).agent_state()).options
    assert (free.free_count, free.free_actions) == (2, None)


def test_densities() -> None:
    zero = torch.zeros(1, 2)
    free_A = torch.tensor([True, False])
    normal = -0.5 * math.log(2 * math.pi)  # log N(0; 0, 1)
    assert sample(zero, zero, zero, free_A)[1].item() == pytest.approx(normal)
    assert sample(zero, zero, zero)[1].item() == pytest.approx(2 * normal)
    assert gaussian_log_prob(zero, zero, zero[0], free_A).item() == pytest.approx(normal)
