"""The squashed Gaussian: its density, its bounds, and the same actions everywhere it acts."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adabc_lightning.agent.gaussian import (
    GaussianOptions,
    SquashedActor,
    mean_and_log_std,
    sample,
    scaled,
)
from adabc_lightning.agent.methods import SAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.numpy_policy import NumpyPolicy, StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.temperature import temperature_loss
from adabc_lightning.env.exchange import Exchange, Publication
from adabc_lightning.env.robot import Robot

steady = settings(max_examples=50, deadline=None, derandomize=True)
numbers = st.floats(-2, 2)
LOW, HIGH = (-1.0, -0.5), (2.0, 0.25)


def one(mean: float, log_std: float, noise: float) -> tuple[float, float]:
    tensors = (torch.tensor([[x]], dtype=torch.float64) for x in (mean, log_std, noise))
    action, log_prob = sample(*tensors)
    return action.item(), log_prob.item()


def test_literals() -> None:
    # u = 0: the action is 0, the tanh's slope there 1, the density that of the normal at its mean.
    assert one(0.0, 0.0, 0.0) == (0.0, pytest.approx(-0.5 * math.log(2 * math.pi)))
    # u = 0.5 + 2 · 0.25 = 1, tanh 1 = 0.761594, 1 − tanh² = 0.419974:
    # −0.03125 − 0.693147 − 0.918939 + 0.867562 = −0.775774
    action, log_prob = one(0.5, math.log(2), 0.25)
    assert action == pytest.approx(0.7615942)
    assert log_prob == pytest.approx(-0.7757738, abs=1e-6)


@steady
@given(mean=numbers, log_std=st.floats(-1.5, 0.5))
def test_the_density_integrates_to_one(mean: float, log_std: float) -> None:
    noise = torch.linspace(-9, 9, 20_001, dtype=torch.float64).unsqueeze(1)
    whole = torch.full_like(noise, mean), torch.full_like(noise, log_std)
    action, log_prob = sample(*whole, noise)
    # In u, where da = (1 − a²) du; the product is the density in u only if log π is exact.
    raw = mean + math.exp(log_std) * noise[:, 0]
    slope = 1 / torch.cosh(raw) ** 2
    assert torch.trapezoid(log_prob.exp() * slope, raw).item() == pytest.approx(1, abs=1e-6)
    assert (action.abs() <= 1).all()


@steady
@given(mean=numbers, log_std=st.floats(-1.5, 0.5), noise=numbers)
def test_change_of_variables(mean: float, log_std: float, noise: float) -> None:
    _, log_prob = one(mean, log_std, noise)
    normal = torch.distributions.Normal(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(log_std, dtype=torch.float64).exp()
    )
    squashed = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform(cache_size=1)
    )
    action = torch.tanh(torch.tensor(mean + math.exp(log_std) * noise, dtype=torch.float64))
    assert log_prob == pytest.approx(squashed.log_prob(action).item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("mean", [-300.0, -30.0, 30.0, 300.0])
def test_at_the_bounds_density_and_gradient_are_finite(mean: float) -> None:
    mean_BA = torch.tensor([[mean]], requires_grad=True)
    action, log_prob = sample(mean_BA, torch.zeros(1, 1), torch.tensor([[0.5]]))
    assert action.item() == math.copysign(1, mean)
    # log(1 − tanh² u) → 2 log 2 − 2 |u|
    u = abs(mean + 0.5)
    expected = -0.125 - 0.5 * math.log(2 * math.pi) - (2 * math.log(2) - 2 * u)
    assert log_prob.item() == pytest.approx(expected, rel=1e-6)
    (grad,) = torch.autograd.grad(log_prob.sum(), mean_BA)
    assert grad.item() == pytest.approx(math.copysign(2, mean))


def test_temperature_rises_below_its_target() -> None:
    scale = torch.tensor([0.5], requires_grad=True)
    loss = temperature_loss(scale, torch.tensor(-3.0), -1.0)
    assert loss.item() == pytest.approx(0.5 * (-3 + 1))
    (grad,) = torch.autograd.grad(loss, scale)
    assert grad.item() == -2  # downhill is up


FORMS = [
    GaussianOptions(log_std_start=-0.5),
    GaussianOptions((-0.6, -0.4), -0.5, scalars=True),
    GaussianOptions((math.log(1e-5), math.log(10)), -0.5, norm="before"),
]


@pytest.fixture(params=FORMS)
def actor(request: pytest.FixtureRequest) -> SquashedActor:
    torch.manual_seed(0)
    actor = SquashedActor(3, LOW, HIGH, (8, 6), gaussian=request.param)
    with torch.no_grad():
        for parameter in (p for p in actor.parameters() if p.dim() == 1):
            parameter += 0.1 * torch.randn_like(parameter)  # no scale is 1, no shift 0
    return actor


def test_without_noise_it_is_the_tanh_of_its_mean_in_action_units(actor: SquashedActor) -> None:
    observation = torch.randn(5, 3)
    mean, log_std = mean_and_log_std(observation, actor.weights, actor.gaussian)
    expected = scaled(mean.tanh(), actor.action_low, actor.action_high)
    torch.testing.assert_close(actor(observation), expected)
    low, high = actor.gaussian.log_std_range
    assert ((low <= log_std) & (log_std <= high)).all()
    assert actor.log_std_range.tolist() == pytest.approx([low, high])


@pytest.mark.parametrize("gaussian", FORMS)
def test_log_sigma_starts_where_it_is_told(gaussian: GaussianOptions) -> None:
    actor = SquashedActor(3, LOW, HIGH, (8, 6), gaussian=gaussian)
    with torch.no_grad():
        actor.log_std_head.weight.zero_()
    _, log_std = mean_and_log_std(torch.randn(5, 3), actor.weights, gaussian)
    torch.testing.assert_close(log_std, torch.full((5, 2), -0.5))


def test_learnt_scalars_stretch_and_shift_log_sigma() -> None:
    actor = SquashedActor(
        3, LOW, HIGH, (8, 6), gaussian=GaussianOptions((-9, 9), -1.0, scalars=True)
    )
    observation = torch.randn(5, 3)
    _, before = mean_and_log_std(observation, actor.weights, actor.gaussian)
    with torch.no_grad():
        actor.scalars[0] += 1
        actor.scalars[1] += 0.25
    mean, after = mean_and_log_std(observation, actor.weights, actor.gaussian)
    torch.testing.assert_close(after, 2 * (before + 1) - 0.75)
    torch.testing.assert_close(actor(observation), scaled(mean.tanh(), *(
        actor.action_low, actor.action_high)))  # fmt: skip


@torch.no_grad()
def explored(actor: SquashedActor, observation: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The action of a draw, by PyTorch."""
    observation_BO = torch.from_numpy(observation.astype(np.float32)[None])
    mean_BA, log_std_BA = mean_and_log_std(observation_BO, actor.weights, actor.gaussian)
    noise_BA = torch.from_numpy(noise.astype(np.float32)[None])
    unit_BA, _ = sample(mean_BA, log_std_BA, noise_BA)
    return scaled(unit_BA, actor.action_low, actor.action_high)[0].numpy()


def test_numpy_pytorch_robot_and_file_sample_the_same_actions(
    actor: SquashedActor, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    observation = rng.standard_normal(3)
    stored = StoredPolicy.of_actor(actor.state_dict())
    again = StoredPolicy.of_arrays(stored.arrays())
    assert all(map(np.array_equal, again.arrays().values(), stored.arrays().values()))
    robot = Robot(tmp_path / "log", 3, LOW, HIGH, 5, seed=4)
    Exchange(tmp_path / "log").write_policy(Publication(stored, 0, 0, 0, False))
    policy = robot.ask()
    assert policy is not None
    noise = np.random.default_rng([4, 0]).standard_normal(2)
    acted = policy(observation)
    robot.close()
    numpy = NumpyPolicy(stored, LOW, HIGH).sample(observation.astype(np.float32), noise)
    np.testing.assert_allclose(acted, numpy, atol=1e-6)
    np.testing.assert_allclose(acted, explored(actor, observation, noise), atol=1e-6)
    calm = policy(observation, noise=False)
    with torch.no_grad():
        mean = actor(torch.from_numpy(observation.astype(np.float32))[None])[0]
    np.testing.assert_allclose(calm, mean.numpy(), atol=1e-6)
    assert np.abs(acted - calm).min() > 1e-3


def test_a_module_explores_by_its_newest_weights() -> None:
    module = OffToOnModule(
        EnvironmentSpec("Test-v0", 3, LOW, HIGH, None), hidden_sizes=(8,), method=SAC()
    )
    observation, noise = np.array([0.1, -0.2, 0.3]), np.array([0.5, -1.5])
    first = module.explore(observation, noise)
    np.testing.assert_allclose(first, explored(module.actor, observation, noise), atol=1e-6)
    with torch.no_grad():
        module.actor.log_std_head.bias += 1
    second = module.explore(observation, noise)
    np.testing.assert_allclose(second, explored(module.actor, observation, noise), atol=1e-6)
    assert np.abs(second - first).min() > 1e-3
