"""Every equation against numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adabc_lightning.agent.losses import (
    actor_loss,
    advantage_weighted_loss,
    behavior_cloning,
    critic_loss,
    density_ratio_loss,
    density_ratio_priority,
    gaussian_log_prob,
    minimum,
    minimum_of_group_means,
    share_of_softmax,
    smoothed_action,
    td_target,
)
from adabc_lightning.agent.target_rules import check_target_rule
from adabc_lightning.errors import UserError

# The same examples every time, however slow the machine is.
steady = settings(max_examples=50, deadline=None, derandomize=True)
LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 1.0])  # action limits 2 and 0.5


def smooth(action: list[float], noise: list[float]) -> list[float]:
    """One smoothed action with σ = 0.5 and c = 0.75."""
    action_BA, noise_BA = torch.tensor([action]), torch.tensor([noise])
    return smoothed_action(action_BA, noise_BA, 0.5, 0.75, LOW, HIGH)[0].tolist()


@pytest.mark.parametrize(
    ("action", "noise", "expected"),
    [
        # σ · noise · limit per dimension: 0.5 · 0.5 · 2 = 0.5 and 0.5 · −1 · 0.5 = −0.25
        ([1.0, 0.5], [0.5, -1.0], [1.5, 0.25]),
        # 0.5 · ±2 is cut at ±0.75: 0.75 · 2 = 1.5 and −0.75 · 0.5 = −0.375
        ([1.0, 0.5], [2.0, -2.0], [2.5, 0.125]),
        ([1.0, 0.5], [-2.0, 2.0], [-0.5, 0.875]),
        # the sums 2.75 + 0.5, 0.875 + 0.25, −0.75 − 0.5 and 0.125 − 0.25 leave the range
        ([2.75, 0.875], [0.5, 1.0], [3.0, 1.0]),
        ([-0.75, 0.125], [-0.5, -1.0], [-1.0, 0.0]),
    ],
)
def test_smoothed_action(action: list[float], noise: list[float], expected: list[float]) -> None:
    assert smooth(action, noise) == expected


@steady
@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2),
)
def test_smoothed_action_stays_in_range_and_near(share: list[float], noise: list[float]) -> None:
    action_A = LOW + torch.tensor(share) * (HIGH - LOW)
    smoothed_A = torch.tensor(smooth(action_A.tolist(), noise))
    assert (smoothed_A >= LOW).all()
    assert (smoothed_A <= HIGH).all()
    assert ((smoothed_A - action_A).abs() <= 0.75 * (HIGH - LOW) / 2 + 1e-6).all()


def test_td_target() -> None:
    reward_B = torch.tensor([1.0, 2.0, -3.0])
    terminated_B = torch.tensor([0.0, 1.0, 0.0])
    next_q_MB = torch.tensor([[4.0, 100.0, 8.0], [6.0, 200.0, -2.0]])
    # 1 + ½·min(4, 6); a terminal's 2 alone; −3 + ½·min(8, −2)
    assert td_target(reward_B, terminated_B, next_q_MB, 0.5).tolist() == [3.0, 2.0, -4.0]


@steady
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32))
def test_td_target_takes_the_smallest_of_each_transition(
    members: int, size: int, seed: int
) -> None:
    next_q_MB = torch.randn(members, size, generator=torch.Generator().manual_seed(seed))
    target_B = td_target(torch.zeros(size), torch.zeros(size), next_q_MB, 1.0)
    assert target_B.tolist() == [min(column) for column in next_q_MB.T.tolist()]


def test_critic_loss_and_gradient() -> None:
    q_NB = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    loss = critic_loss(q_NB, torch.tensor([2.0, 4.0]))
    loss.backward()
    assert loss.item() == 1.75  # errors −1, −2, 1, 1: (1 + 4 + 1 + 1) / 4
    assert q_NB.grad.tolist() == [[-0.5, -1.0], [0.5, 0.5]]  # 2 · error / 4


def test_fixed_actions_have_no_share_of_behavior_cloning() -> None:
    policy_action_BA = torch.tensor([[1.0, 0.5, -1.0], [2.0, 0.5, 0.0]], requires_grad=True)
    action_BA = torch.tensor([[0.0, 0.5, 0.0], [2.0, 0.7, 0.0]])
    free_A = torch.tensor([True, False, True])
    loss = behavior_cloning(policy_action_BA, action_BA, free_A)
    assert loss.item() == 0.5  # (1 + 0 + 1 + 0) / (2 rows × 2 actions that can vary)
    loss.backward()
    assert torch.equal(policy_action_BA.grad, torch.tensor([[0.5, 0, -0.5], [0, 0, 0]]))
    without = behavior_cloning(policy_action_BA[:, ::2], action_BA[:, ::2])
    assert torch.equal(loss, without)
    q_NB, one = torch.full((2, 2), 3.0), torch.tensor(1.0)
    whole = actor_loss(q_NB, one, policy_action_BA, action_BA, 0.4, free_A)
    assert whole.item() == pytest.approx(-3 + 0.4 * 0.5)
    replicas = behavior_cloning(policy_action_BA.expand(4, 2, 3), action_BA.expand(4, 2, 3), free_A)
    assert torch.equal(replicas, loss.expand(4))


def test_behavior_cloning_and_gradient() -> None:
    policy_action_BA = torch.tensor([[1.0, 0.0], [0.0, -1.0]], requires_grad=True)
    loss = behavior_cloning(policy_action_BA, torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    loss.backward()
    assert loss.item() == 1.5  # (1 + 0 + 4 + 1) / 4
    assert policy_action_BA.grad.tolist() == [[0.5, 0.0], [-1.0, -0.5]]  # 2 · difference / 4


Q_NB = [[1.0, 4.0], [3.0, 8.0]]  # Q̂ = [2, 6], mean 4
NORMALIZER = 2.0
POLICY_BA, ACTION_BA = [[1.0, 0.0], [0.0, -1.0]], [[0.0, 0.0], [2.0, 0.0]]  # cloning 1.5


@pytest.mark.parametrize("alpha", [2.0, torch.tensor(2.0)])
def test_actor_loss(alpha: Tensor | float) -> None:
    tensors = map(torch.tensor, (Q_NB, NORMALIZER, POLICY_BA, ACTION_BA))
    assert actor_loss(*tensors, alpha).item() == 1.0  # −4 / 2 + 2 · 1.5


def test_actor_loss_without_cloning_is_the_normalised_value() -> None:
    tensors = map(torch.tensor, (Q_NB, NORMALIZER, POLICY_BA, ACTION_BA))
    assert actor_loss(*tensors, 0.0).item() == -2.0


def test_actor_loss_gradients() -> None:
    q_NB, policy_BA = (torch.tensor(x, requires_grad=True) for x in (Q_NB, POLICY_BA))
    # The policy's own values as normaliser: mean|Q̂| = 4. A gradient through it would cancel
    # the first term's, as Q̂ / |Q̂| is constant.
    actor_loss(q_NB, q_NB.mean(0).abs().mean(), policy_BA, torch.tensor(ACTION_BA), 2.0).backward()
    assert q_NB.grad.tolist() == [[-0.0625, -0.0625], [-0.0625, -0.0625]]  # −1 / (4 numbers · 4)
    assert policy_BA.grad.tolist() == [[1.0, 0.0], [-2.0, -1.0]]  # α · 2 · difference / 4


def test_parts_of_a_softmax_that_lie_far_apart_have_all_or_nothing() -> None:
    """Of four ranks, whose largest logits are 0, 1, 5,000 and −5,000."""
    logits = [torch.tensor([0.0, shift]) for shift in (-1.0, 1.0, 5000.0, -5000.0)]
    parts = torch.stack([torch.logsumexp(logit_B.double(), -1) for logit_B in logits])
    given: list[Tensor] = [parts.mean()]
    shares = []
    sizes = (parts - parts.mean()).clamp(max=700).exp()
    for logit_B in logits:
        means = iter([given[0], sizes.mean()])
        shares.append(share_of_softmax(logit_B, lambda tensors, m=means: [next(m)]))  # type: ignore[misc]
    assert all(share.isfinite() for share in shares)
    assert [float(share) for share in shares] == [0.0, 0.0, 4.0, 0.0]


@steady
@given(st.floats(0.125, 1e4), st.integers(0, 2**32))
def test_actor_loss_does_not_see_the_scale_of_q(scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q_NB = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    action_BA = torch.zeros(4, 1, dtype=torch.float64)
    loss, scaled = (
        actor_loss(q, q.mean(0).abs().mean(), action_BA + 1, action_BA, 0.4)
        for q in (q_NB, scale * q_NB)
    )
    assert scaled.item() == pytest.approx(loss.item(), rel=1e-9, abs=1e-9)


def test_wrong_shapes_are_refused_instead_of_broadcast() -> None:
    one_B, two_B, two_MB, one_B1 = torch.ones(3), torch.ones(2), torch.ones(2, 2), torch.ones(3, 1)
    for reward_B, terminated_B, next_q_MB in (
        (two_B, two_B, torch.ones(2)),
        (two_B, one_B, two_MB),
        (one_B, one_B, two_MB),
        (torch.ones(2, 1), two_B, two_MB),
        (two_B, torch.ones(1), two_MB),
    ):
        with pytest.raises(ValueError, match="td_target"):
            td_target(reward_B, terminated_B, next_q_MB, 0.9)
    for q_NB, target_B in ((two_MB, one_B), (two_MB, torch.ones(2, 1)), (two_MB, torch.ones(1))):
        with pytest.raises(ValueError, match="critic_loss"):
            critic_loss(q_NB, target_B)
    with pytest.raises(ValueError, match="behavior_cloning"):
        behavior_cloning(one_B1, one_B)
    with pytest.raises(ValueError, match="behavior_cloning"):
        actor_loss(torch.ones(2, 3), torch.tensor(1.0), torch.ones(1, 1), one_B1, 0.4)
    with pytest.raises(ValueError, match="actor_loss"):  # a normaliser per member
        actor_loss(torch.ones(2, 3), torch.ones(2), one_B1, one_B1, 0.4)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (lambda q_MB: q_MB @ q_MB, "model.target_rule does not work: .*shapes"),
        (lambda q_MB: q_MB.mean(0) / 0 * 0, r"makes \[nan, nan, nan\] of finite values; it must"),
        (lambda q_MB: q_MB[:2].mean(1), r"makes \[2\] of values of shape \[2, 3\]"),
        (lambda q_MB: q_MB[0], "tells critics apart by their order"),
    ],
)
def test_a_rule_that_does_not_work_says_how(rule: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_target_rule(rule, 2, 10)


def test_target_rules() -> None:
    q_MB = torch.tensor([[1.0, 8.0], [3.0, 4.0], [5.0, 2.0], [1.0, 0.0]])
    assert minimum(q_MB).tolist() == [1.0, 0.0]
    # means of the first two, 2 and 6, and of the last two, 3 and 1
    assert minimum_of_group_means(q_MB).tolist() == [2.0, 1.0]
    zero_B = torch.zeros(2)
    target_B = td_target(zero_B, zero_B, q_MB, 0.5, minimum_of_group_means)
    assert target_B.tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="3 critics do not make two groups"):
        minimum_of_group_means(q_MB[:3])


def test_gaussian_log_prob() -> None:
    log_std_A = torch.tensor([0.0, math.log(2)])
    action_BA = torch.tensor([[1.0, 3.0], [0.0, 1.0]])
    mean_BA = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    # -½ (1 + 1) - log 2 - log 2π, and the same without the squares
    expected = torch.tensor([-1.0, 0.0]) - math.log(2) - math.log(2 * math.pi)
    torch.testing.assert_close(gaussian_log_prob(action_BA, mean_BA, log_std_A), expected)


@steady
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32))
def test_gaussian_log_prob_is_that_of_torch(size: int, actions: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(2 * size + 1, actions, generator=generator, dtype=torch.float64)
    action_BA, mean_BA, log_std_A = draw[:size], draw[size:-1], 2 * draw[-1]
    expected_B = torch.distributions.Normal(mean_BA, log_std_A.exp()).log_prob(action_BA).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(action_BA, mean_BA, log_std_A), expected_B)


@pytest.mark.parametrize(
    ("beta", "first", "second"),
    [(2.0, 0.25, 0.75), (1.0, 0.1, 0.9)],  # 1 : 3 and 1 : 9
)
def test_advantage_weighted_loss_and_gradient(beta: float, first: float, second: float) -> None:
    log_prob_B = torch.tensor([-1.0, -2.0], requires_grad=True)
    advantage_B = torch.tensor([5.0, 5.0 + 2 * math.log(3)], requires_grad=True)
    loss = advantage_weighted_loss(log_prob_B, advantage_B, beta)
    loss.backward()
    assert loss.item() == pytest.approx(first + 2 * second)
    assert log_prob_B.grad.tolist() == pytest.approx([-first, -second])
    assert advantage_B.grad is None


def test_advantage_weighted_loss_refuses_shapes_that_would_broadcast() -> None:
    for log_prob, advantage in (((2,), (2, 1)), ((2, 1), (2,)), ((2,), (1,))):
        with pytest.raises(ValueError, match="advantage_weighted_loss"):
            advantage_weighted_loss(torch.ones(log_prob), torch.ones(advantage), 1.0)


def test_density_ratio_loss() -> None:
    # -log(2/2) and -log(2/4) over two; -log(2/2), -log(1/2) and -log(1/2) over three
    loss = density_ratio_loss(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1 / 3, 1 / 3]))
    assert loss.item() == pytest.approx(math.log(2) / 2 + math.log(2) * 2 / 3)


def test_density_ratio_loss_of_a_dead_relu() -> None:
    before_relu = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    ratio_B = before_relu.relu()
    loss = density_ratio_loss(ratio_B, ratio_B)
    loss.backward()
    assert 0 < loss.item() < 20
    assert before_relu.grad[:2].tolist() == [0.0, 0.0]
    # (1/(w+1) - 1/(w(w+1))) / 3 at 2
    assert before_relu.grad[2].item() == pytest.approx((1 / 3 - 1 / 6) / 3)
    zero_B = torch.zeros(2, requires_grad=True)
    density_ratio_loss(zero_B, zero_B).backward()
    assert zero_B.grad.isfinite().all()


def test_density_ratio_loss_is_least_at_the_ratio_of_the_densities() -> None:
    offline_B = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    online_B = torch.tensor([0] * 1 + [1] * 3 + [2] * 6)
    ratio_S = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([ratio_S], max_iter=100, tolerance_change=0)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = density_ratio_loss(ratio_S[offline_B], ratio_S[online_B])
        value.backward()
        return value

    optimizer.step(loss)
    expected = torch.tensor([1 / 5, 3 / 3, 6 / 2], dtype=torch.float64)
    torch.testing.assert_close(ratio_S.detach(), expected, atol=1e-5, rtol=0)


def test_density_ratio_priority() -> None:
    # fifth roots 2, 1 and 0 over the mean of 1 and 2
    priority_B = density_ratio_priority(torch.tensor([32.0, 1.0, 0.0]), torch.tensor([1.0, 32.0]))
    assert priority_B.tolist() == pytest.approx([4 / 3, 2 / 3, 1e-3])
    # 10 over 1e-4, and 1e-5 over 1
    assert density_ratio_priority(torch.tensor([1e5]), torch.tensor([1e-20])).tolist() == [1e3]
    low = density_ratio_priority(torch.tensor([1e-25]), torch.tensor([1.0]))
    assert low.tolist() == pytest.approx([1e-3])
    # a network that says 0 everywhere offline
    priority_B = density_ratio_priority(torch.tensor([0.0, 1.0]), torch.zeros(3))
    assert priority_B.tolist() == pytest.approx([1e-3, 1e3])
