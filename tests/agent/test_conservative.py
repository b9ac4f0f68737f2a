"""The regulariser of CQL and Cal-QL against numbers worked out by hand."""

import math

import pytest
import torch

from adabc_lightning.agent.conservative import calibrated, conservative_gap, sampled_values
from adabc_lightning.agent.methods import CQL, WSRL
from adabc_lightning.agent.networks import CriticEnsemble
from adabc_lightning.errors import UserError


def test_a_constant_value_and_uniform_samples() -> None:
    # log Σ_10 exp(c + d log 2) − c = log 10 + d log 2
    sampled, density = torch.full((2, 3, 10), 5.0), torch.full((3, 10), -2 * math.log(2))
    gap = conservative_gap(sampled, density, torch.full((2, 3), 5.0))
    torch.testing.assert_close(gap, torch.full((2, 3), math.log(10) + 2 * math.log(2)))


def test_literals() -> None:
    sampled, data = torch.tensor([[[0.0, math.log(3)]]]), torch.tensor([[1.0]])
    flat = torch.zeros(1, 2)
    # log(1 + 3) − 1; at T = 2: 2 log(1 + √3) − 1; without weights also e in the sum
    cases = [((flat, data), math.log(4) - 1), ((flat, data, 2.0), 2 * math.log(1 + 3**0.5) - 1)]
    cases += [((None, data), math.log(4 + math.e) - 1), ((flat, data, 1.0, 0.5), 0.5)]
    for arguments, expected in cases:
        assert conservative_gap(sampled, *arguments).item() == pytest.approx(expected)


def test_below_the_floor_there_is_no_gradient() -> None:
    sampled = torch.zeros(1, 1, 2, requires_grad=True)
    conservative_gap(
        sampled, torch.zeros(1, 2), torch.full((1, 1), 9.0), floor=-1.0
    ).sum().backward()
    assert sampled.grad is not None
    assert not sampled.grad.any()


def test_calibration_bounds_the_policy_s_actions_and_cuts_their_gradient() -> None:
    sampled = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], requires_grad=True)
    bounded = calibrated(sampled, torch.tensor([3.5]), 2)
    assert bounded.tolist() == [[[1.0, 2.0, 3.5, 4.0]]]
    bounded.sum().backward()
    assert sampled.grad is not None
    assert sampled.grad.tolist() == [[[1.0, 1.0, 0.0, 1.0]]]


@pytest.mark.parametrize(("bound", "changes"), [(-math.inf, False), (1e6, True)])
def test_without_a_bound_it_is_cql_with_a_large_one_only_uniform_actions_count(
    bound: float, changes: bool
) -> None:
    torch.manual_seed(0)
    sampled = torch.randn(2, 3, 9).requires_grad_()
    bounded = calibrated(sampled, torch.full((3,), bound), 3)
    assert torch.equal(bounded, sampled) is not changes
    (grad,) = torch.autograd.grad(bounded.sum(), sampled)
    assert grad[..., :3].eq(1).all()
    assert grad[..., 3:].eq(0 if changes else 1).all()


def test_sampled_values_are_those_of_each_action() -> None:
    torch.manual_seed(0)
    critics = CriticEnsemble(3, 4, 2, (7,))
    observation, action = torch.randn(5, 4), torch.randn(5, 6, 2)
    together = sampled_values(observation, action, critics.weights, None)
    each = [critics(observation, action[:, k]) for k in range(6)]
    torch.testing.assert_close(together, torch.stack(each, -1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": -1.0}, "weight is -1"),
        ({"samples": 0}, "samples is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"target_gap": float("nan")}, "target_gap is nan"),
        ({"heads": 0}, "heads is 0"),
        ({"actor_learning_rate": -1.0}, "actor_learning_rate is -1"),
        ({"entropy_per_action": float("inf")}, "entropy_per_action is inf"),
        ({"actor_value": "best"}, "actor_value is best"),
    ],
)
def test_what_is_no_setting_is_refused(options: dict[str, object], said: str) -> None:
    for method in (CQL, WSRL):
        with pytest.raises(UserError, match=rf"model\.method\.{said}"):
            method(**options)
