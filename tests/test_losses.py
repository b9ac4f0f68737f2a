"""Every equation against numbers worked out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adabc_lightning.losses import (
    actor_loss,
    behavior_cloning,
    critic_loss,
    smoothed_action,
    td_target,
)

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


def test_behavior_cloning_and_gradient() -> None:
    policy_action_BA = torch.tensor([[1.0, 0.0], [0.0, -1.0]], requires_grad=True)
    loss = behavior_cloning(policy_action_BA, torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    loss.backward()
    assert loss.item() == 1.5  # (1 + 0 + 4 + 1) / 4
    assert policy_action_BA.grad.tolist() == [[0.5, 0.0], [-1.0, -0.5]]  # 2 · difference / 4


Q_NB = [[1.0, 4.0], [3.0, 8.0]]  # Q̂ = [2, 6], mean 4
NORMALIZER_B = [-3.0, 1.0]  # mean of absolute values 2, mean −1
POLICY_BA, ACTION_BA = [[1.0, 0.0], [0.0, -1.0]], [[0.0, 0.0], [2.0, 0.0]]  # cloning 1.5


@pytest.mark.parametrize("alpha", [2.0, torch.tensor(2.0)])
def test_actor_loss(alpha: Tensor | float) -> None:
    tensors = map(torch.tensor, (Q_NB, NORMALIZER_B, POLICY_BA, ACTION_BA))
    assert actor_loss(*tensors, alpha).item() == 1.0  # −4 / 2 + 2 · 1.5


def test_actor_loss_without_cloning_is_the_normalised_value() -> None:
    tensors = map(torch.tensor, (Q_NB, NORMALIZER_B, POLICY_BA, ACTION_BA))
    assert actor_loss(*tensors, 0.0).item() == -2.0


def test_actor_loss_gradients() -> None:
    q_NB, policy_BA = (torch.tensor(x, requires_grad=True) for x in (Q_NB, POLICY_BA))
    # The policy's own values as normaliser: mean|Q̂| = 4. A gradient through it would cancel
    # the first term's, as Q̂ / |Q̂| is constant.
    actor_loss(q_NB, q_NB.mean(0), policy_BA, torch.tensor(ACTION_BA), 2.0).backward()
    assert q_NB.grad.tolist() == [[-0.0625, -0.0625], [-0.0625, -0.0625]]  # −1 / (4 numbers · 4)
    assert policy_BA.grad.tolist() == [[1.0, 0.0], [-2.0, -1.0]]  # α · 2 · difference / 4


@steady
@given(st.floats(0.125, 1e4), st.integers(0, 2**32))
def test_actor_loss_does_not_see_the_scale_of_q(scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q_NB = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    action_BA = torch.zeros(4, 1, dtype=torch.float64)
    loss, scaled = (
        actor_loss(q, q.mean(0), action_BA + 1, action_BA, 0.4) for q in (q_NB, scale * q_NB)
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
        actor_loss(torch.ones(2, 3), one_B, torch.ones(1, 1), one_B1, 0.4)
    with pytest.raises(ValueError, match="actor_loss"):  # a normaliser per member
        actor_loss(torch.ones(2, 3), torch.ones(2, 3), one_B1, one_B1, 0.4)
