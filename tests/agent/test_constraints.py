"""The terms that keep a policy near its data, against numbers worked out by hand."""

import math

import pytest
import torch

from adabc_lightning.agent.constraints import (
    expectile_loss,
    exponential_advantage_loss,
    penalised_actor_loss,
    squared_distance,
    standard_divergence,
    support_penalty,
)


def test_expectile_loss() -> None:
    # u = 2 weighs 0.75, u = −4 weighs 0.25: (0.75 · 4 + 0.25 · 16 + 0) / 3
    u = torch.tensor([2.0, -4.0, 0.0], requires_grad=True)
    loss = expectile_loss(u, 0.75)
    assert loss.item() == pytest.approx(7 / 3)
    (gradient,) = torch.autograd.grad(loss, u)
    assert gradient.tolist() == pytest.approx([0.75 * 4 / 3, 0.25 * -8 / 3, 0])


def test_the_half_expectile_is_half_the_squared_error() -> None:
    u = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(expectile_loss(u, 0.5), 0.5 * u.square().mean())


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_value_that_minimises_it_is_the_expectile(expectile: float) -> None:
    """At the minimum the weighted shortfalls from above and from below balance."""
    q = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    v = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(expectile_loss(q - v, expectile), v)
        v = (v - 0.5 * gradient).detach().requires_grad_()
    above, below = (q - v).clamp(min=0).sum(), (v - q).clamp(min=0).sum()
    torch.testing.assert_close(expectile * above, (1 - expectile) * below)


def test_exponential_advantage_loss() -> None:
    # exp(2 · 0.5) = e, exp(2 · −0.5) = 1 / e, exp(2 · 10) is cut at 8
    log_prob = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    advantage = torch.tensor([0.5, -0.5, 10.0], requires_grad=True)
    loss = exponential_advantage_loss(log_prob, advantage, beta=2.0, largest=8.0)
    assert loss.item() == pytest.approx(-(-math.e + 2 / math.e + 24) / 3, rel=1e-6)
    gradients = torch.autograd.grad(loss, [log_prob, advantage], allow_unused=True)
    assert gradients[0].tolist() == pytest.approx([-math.e / 3, -1 / (3 * math.e), -8 / 3])
    assert gradients[1] is None


def test_advantages_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        exponential_advantage_loss(torch.zeros(3), torch.zeros(1), 1.0, 100.0)


def test_replicas_stay_apart() -> None:
    """Each loss of a stack is that of its own part."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, generator=generator)
    for loss in (
        lambda a, b: expectile_loss(a, 0.7),
        lambda a, b: exponential_advantage_loss(a, b, 3.0, 100.0),
    ):
        each = torch.stack([loss(a[r], b[r]) for r in range(3)])
        torch.testing.assert_close(loss(a, b), each)


def test_standard_divergence() -> None:
    # (4 + e² − 1)/2 − 1 of one dimension, 0 of the other: half of the first
    mean, log_std = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    expected = ((4 + math.e**2 - 1) / 2 - 1) / 2
    assert standard_divergence(mean, log_std).tolist() == pytest.approx([expected])
    normal = torch.distributions.Normal
    whole = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0, 1)).mean(-1)
    torch.testing.assert_close(standard_divergence(mean, log_std), whole)


def test_support_penalty() -> None:
    # (0.5² + 1²)/2 + 0.25 · 4 = 1.625
    decoded, action = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.0, 0.0]])
    assert support_penalty(decoded, action, torch.tensor([4.0]), 0.25).tolist() == [1.625]
    with pytest.raises(ValueError, match="must be"):
        support_penalty(decoded, action, torch.tensor(4.0), 0.25)


def test_the_penalty_is_an_evidence_bound_but_for_factor_and_constant() -> None:
    """−ELBO · β / (2 d) + constant, with L = 2 d and a decoder of variance β/4."""
    generator = torch.Generator().manual_seed(0)
    beta, d = 0.5, 3
    decoded, action = torch.randn(2, 7, d, generator=generator, dtype=torch.float64)
    mean, log_std = torch.randn(2, 7, 2 * d, generator=generator, dtype=torch.float64)
    normal = torch.distributions.Normal
    likelihood = normal(decoded, math.sqrt(beta / 4)).log_prob(action).sum(-1)
    kl = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0, 1)).sum(-1)
    penalty = support_penalty(decoded, action, standard_divergence(mean, log_std), beta)
    rest = penalty - (kl - likelihood) * beta / (2 * d)
    torch.testing.assert_close(rest, rest[:1].expand(7))


def test_penalised_actor_loss() -> None:
    # −(1 − 3)/2 / 2 + 0.5 · (4 + 2)/2 = 0.5 + 1.5
    q, penalty = torch.tensor([1.0, -3.0], requires_grad=True), torch.tensor([4.0, 2.0])
    loss = penalised_actor_loss(q, q.abs().mean(), penalty, 0.5)
    assert loss.item() == 2.0
    (gradient,) = torch.autograd.grad(loss, q)
    assert gradient.tolist() == [-0.25, -0.25]  # none through the normaliser
    with pytest.raises(ValueError, match="must be"):
        penalised_actor_loss(q, q.abs().mean(), torch.zeros(3), 0.5)


def test_squared_distance() -> None:
    a, b = torch.tensor([[1.0, -0.5], [0.0, 0.0]]), torch.tensor([[0.0, 0.5], [0.5, 0.5]])
    assert squared_distance(a, b).tolist() == [2.0, 0.5]
    with pytest.raises(ValueError, match="must agree"):
        squared_distance(a, b[:1])
