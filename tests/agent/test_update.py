"""The fast update against the plain one, and each of its promises on its own."""

import copy
import math
import runpy
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import pytest
import torch
from paths import REPOSITORY
from tensordict import TensorDict
from tensordict.nn import EnsembleModule, TensorDictModule
from torch import Tensor, nn
from torchrl.modules import MLP

from adabc_lightning.agent.engines import Eager
from adabc_lightning.agent.engines.rounding import disagreement
from adabc_lightning.agent.losses import minimum
from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.agent.mlp import mlp
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.networks import Actor, CriticEnsemble, q_values
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.state import AdamState, AgentState, Metrics, Part, UpdateOptions, copied
from adabc_lightning.agent.update import bias_correction, mean_abs, step_adam
from adabc_lightning.commands.bench.plain import PlainAgent
from adabc_lightning.commands.bench.shapes import Shapes
from adabc_lightning.commands.bench.updates import Packaged

N, M, B, O, A = 4, 2, 8, 5, 2  # noqa: E741
HIDDEN = (12, 9)
LOW, HIGH = (-1.0, -0.5), (2.0, 0.25)  # neither symmetric nor the same in both dimensions
# So much noise that both of its clips are reached, so much tau and lr that errors would show.
SIGMA, CLIP, TAU, GAMMA, LR = 1.0, 1.25, 0.1, 0.9, 3e-3


def fresh(dtype: torch.dtype = torch.float64) -> tuple[Actor, CriticEnsemble, AgentState]:
    """Networks of a fixed seed, their targets and their Adams."""
    torch.manual_seed(0)
    actor = Actor(O, LOW, HIGH, HIDDEN).to(dtype)
    critics = CriticEnsemble(N, O, A, HIDDEN).to(dtype)
    state = {
        name: Part(
            network.weights,
            AdamState.of(torch.optim.Adam(network.weights, lr=LR, fused=True), LR),
            copy.deepcopy(network).requires_grad_(False).weights,
        )
        for name, network in (("actor", actor), ("critics", critics))
    }
    return actor, critics, state


def options(dtype: torch.dtype = torch.float64) -> UpdateOptions:
    low, high = torch.tensor(LOW, dtype=dtype), torch.tensor(HIGH, dtype=dtype)
    return UpdateOptions(GAMMA, TAU, minimum, low, high)


def update_critics(
    state: AgentState, batch: TensorDict, noise_BA: Tensor, subset_M: Tensor
) -> Metrics:
    draws = {"target_noise": noise_BA, "subset": subset_M}
    return TD3BC(SIGMA, CLIP).update(state, batch, draws, {}, options(batch["reward"].dtype))


def update_actor_and_targets(
    state: AgentState, batch: TensorDict, alpha: Tensor, normalizer: str = "policy"
) -> Metrics:
    method = TD3BC(SIGMA, CLIP, normalizer)
    return method.delayed(state, batch, {}, {"alpha": alpha}, options(batch["reward"].dtype))


def test_what_divides_q_is_the_mean_of_absolute_values_of_all_processes() -> None:
    q_B, one = torch.tensor([-3.0, 1.0], requires_grad=True), options(torch.float32)
    mean = mean_abs(q_B, one)
    assert (mean.item(), mean.requires_grad) == (2.0, False)  # the mean is −1
    another = replace(one, average=lambda tensors: [(mean + 4) / 2 for mean in tensors])
    assert mean_abs(q_B, another).item() == 3.0


def plain(dtype: torch.dtype, normalizer: str, policy_delay: int) -> PlainAgent:
    return PlainAgent(
        dtype, N, O, A, HIDDEN, LOW, HIGH, GAMMA, TAU, policy_delay, LR, SIGMA, CLIP, normalizer
    )


def random_batch(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> TensorDict:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    fields = {
        "observation": normal(B, O),
        "action": normal(B, A).clamp(torch.tensor(LOW), torch.tensor(HIGH)).to(dtype),
        "reward": normal(B),
        "next_observation": normal(B, O),
        "terminated": (torch.rand(B, generator=generator) < 0.3).to(dtype),
        "online": torch.zeros(B, dtype=dtype),
    }
    return TensorDict(fields, [B])


def random_draws(
    generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Noise ``[B, A]`` and a subset ``[M]``."""
    noise_BA = torch.randn(B, A, generator=generator, dtype=dtype)
    return noise_BA, torch.randperm(N, generator=generator)[:M]


def networks(state: AgentState) -> list[object]:
    return [weights for part in state.values() for weights in (part.weights, part.target)]


def snapshot(weights: object) -> list[Tensor]:
    """Copies of all tensors in (nested) tuples and lists."""
    if isinstance(weights, Tensor):
        return [weights.detach().clone()]
    return [leaf for part in weights if not isinstance(part, float) for leaf in snapshot(part)]


def same(before: list[Tensor], after: object) -> bool:
    """Bitwise equality of a snapshot with what is there now."""
    return all(torch.equal(a, b) for a, b in zip(before, snapshot(after), strict=True))


def assert_agree(state: AgentState, agent: PlainAgent, tolerance: float) -> None:
    """Every weight of every network within ``tolerance``."""
    ours = (*state["actor"].weights, *(state["actor"].target or ()))
    theirs = [*agent.actor.parameters(), *agent.actor_target.parameters()]
    for stacked, members in (
        (state["critics"].weights, agent.critics),
        (state["critics"].target or (), agent.critic_targets),
    ):
        ours += stacked
        theirs += [
            torch.stack(same) for same in zip(*(m.parameters() for m in members), strict=True)
        ]
    for weight, parameter in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, parameter, atol=tolerance, rtol=0)


@pytest.mark.parametrize("normalizer", ["policy", "data"])
def test_fifty_updates_agree_with_the_plain_reference(normalizer: str) -> None:
    actor, critics, state = fresh()
    agent = plain(torch.float64, normalizer, policy_delay=2)
    agent.load(actor, critics)
    start, generator = snapshot(networks(state)), torch.Generator().manual_seed(1)
    for update in range(1, 51):
        batch, (noise_BA, subset_M) = random_batch(generator), random_draws(generator)
        alpha = torch.tensor(0.4 * (update % 8), dtype=torch.float64)  # 0 to 2.8
        update_critics(state, batch, noise_BA, subset_M)
        if update % 2 == 0:
            update_actor_and_targets(state, batch, alpha, normalizer)
        del batch["online"]
        agent.update(**batch, noise=noise_BA, subset=subset_M, alpha=alpha)
    assert_agree(state, agent, 1e-9)
    for before, after in zip(start, snapshot(networks(state)), strict=True):
        assert (after - before).abs().max() > 1e-3  # the agreement is not one in standing still


def test_alpha_weighs_the_same_whatever_the_unit_of_actions() -> None:
    """A power of two changes no digit, and critics that see the same do as well."""
    scale = 64.0
    _, _, state = fresh()
    _, critics, scaled = fresh()
    for weights in (critics.weights, scaled["critics"].target or ()):
        weights[0].data[..., O:] /= scale
    batch = random_batch(torch.Generator().manual_seed(3))
    other = batch.clone()
    other["action"] *= scale
    constants = options()
    low, high = constants.action_low * scale, constants.action_high * scale
    method, alpha = TD3BC(SIGMA, CLIP), {"alpha": torch.tensor(0.4)}
    ours = method.delayed(state, batch, {}, alpha, constants)
    theirs = method.delayed(
        scaled, other, {}, alpha, replace(constants, action_low=low, action_high=high)
    )
    assert ours == theirs
    for one, another in zip(state["actor"].weights, scaled["actor"].weights, strict=True):
        assert torch.equal(one, another)


@pytest.mark.parametrize("normalizer", ["policy", "data"])
def test_first_update_agrees_in_float32(normalizer: str) -> None:
    actor, critics, state = fresh(torch.float32)
    agent = plain(torch.float32, normalizer, policy_delay=1)
    agent.load(actor, critics)
    generator = torch.Generator().manual_seed(2)
    batch = random_batch(generator, torch.float32)
    noise_BA, subset_M = random_draws(generator, torch.float32)
    update_critics(state, batch, noise_BA, subset_M)
    update_actor_and_targets(state, batch, torch.tensor(0.4), normalizer)
    del batch["online"]
    agent.update(**batch, noise=noise_BA, subset=subset_M, alpha=0.4)
    assert_agree(state, agent, 1e-6)


@pytest.mark.parametrize("policy_delay", [1, 2, 3])
def test_actor_and_targets_move_on_every_policy_delay_th_update(
    policy_delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EnvironmentSpec("Test-v0", O, LOW, HIGH, None)
    agent = OffToOnModule(spec, N, M, HIDDEN, policy_delay=policy_delay)
    optimizers = agent.configure_optimizers()
    monkeypatch.setattr(agent, "optimizers", lambda use_pl_optimizer: optimizers)
    generator = torch.Generator().manual_seed(3)
    delayed = [*agent.actor.weights, *agent.actor_target.weights, *agent.critics_target.weights]
    for update in range(1, 8):
        before, critics = snapshot(delayed), snapshot(agent.critics.weights)
        agent.training_step(random_batch(generator, torch.float32)[None], 0)
        moved = [not torch.equal(a, b) for a, b in zip(before, delayed, strict=True)]
        assert moved == [update % policy_delay == 0] * len(delayed)
        assert not same(critics, agent.critics.weights)


def test_critic_step_leaves_everything_else_unchanged() -> None:
    _, _, state = fresh()
    others = state["actor"], state["critics"].target
    before, generator = snapshot(others), torch.Generator().manual_seed(4)
    update_critics(state, random_batch(generator), *random_draws(generator))
    assert same(before, others)


def test_actor_step_leaves_critics_and_their_adam_unchanged() -> None:
    _, _, state = fresh()
    before = snapshot(state["critics"][:2])
    batch = random_batch(torch.Generator().manual_seed(5))
    update_actor_and_targets(state, batch, torch.tensor(0.4))
    assert same(before, state["critics"][:2])


@pytest.mark.parametrize("member", range(N))
def test_only_the_drawn_target_members_matter(member: int) -> None:
    generator = torch.Generator().manual_seed(6)
    batch, noise_BA = random_batch(generator), torch.randn(B, A, generator=generator)
    subset_M = torch.tensor([3, 1])

    def critics_after(shift: float) -> list[Tensor]:
        _, _, state = fresh()
        (state["critics"].target or ())[-1][member] -= (
            shift  # the output bias: lower than all others
        )
        update_critics(state, batch, noise_BA.double(), subset_M)
        return snapshot(state["critics"].weights)

    unmoved = [torch.equal(a, b) for a, b in zip(critics_after(0), critics_after(10), strict=True)]
    assert unmoved == [member not in subset_M] * len(unmoved)


def test_metrics_are_those_of_the_losses() -> None:
    _, _, state = fresh()
    generator = torch.Generator().manual_seed(7)
    batch, (noise_BA, subset_M) = random_batch(generator), random_draws(generator)
    batch["terminated"] = torch.ones(B, dtype=torch.float64)  # so the target is the reward
    observation, action, reward = batch["observation"], batch["action"], batch["reward"]
    q_NB = q_values(observation, action, state["critics"].weights).detach()
    metrics = update_critics(state, batch, noise_BA, subset_M)
    assert metrics["q/mean"] == pytest.approx(q_NB.mean().item())
    assert metrics["q/target"] == pytest.approx(reward.mean().item())
    assert metrics["loss/critic"] == pytest.approx((q_NB - reward).square().mean().item())

    actor = Actor(O, LOW, HIGH, HIDDEN).double()
    with torch.no_grad():
        for copied, weight in zip(actor.weights, state["actor"].weights, strict=True):
            copied.copy_(weight)
        q_policy_B = q_values(observation, actor(observation), state["critics"].weights).mean(0)
        half_A = (torch.tensor(HIGH) - torch.tensor(LOW)) / 2
        distance = ((actor(observation) - action) / half_A).square().mean().item()
    metrics = update_actor_and_targets(state, batch, torch.tensor(3.0))
    assert metrics["q/policy"] == pytest.approx(q_policy_B.mean().item())
    assert metrics["loss/behavior_cloning"] == pytest.approx(distance)
    expected = -q_policy_B.mean() / q_policy_B.abs().mean() + 3 * distance
    assert metrics["loss/actor"] == pytest.approx(expected.item())
    assert not any(value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("weight_grads", [True, False])
@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("sizes", [(4, 1), (3, 5, 2), (4, 6, 1), (2, 5, 4, 3, 1)])
def test_handwritten_backward(
    sizes: tuple[int, ...], members: int | None, weight_grads: bool
) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    stack = () if members is None else (members,)

    def leaf(*shape: int, needs_grad: bool = True) -> Tensor:
        leaf = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return leaf.requires_grad_(needs_grad)

    x = leaf(6, sizes[0])
    weights = [
        leaf(*stack, *shape, needs_grad=weight_grads)
        for fan_in, fan_out in pairwise(sizes)
        for shape in ((fan_out, fan_in), (fan_out,))
    ]
    assert torch.autograd.gradcheck(lambda x, *weights: mlp(x, weights), (x, *weights))
    if weight_grads:  # data as input needs no gradient, as in the critics' step
        x = x.detach()
        assert torch.autograd.gradcheck(lambda *weights: mlp(x, weights), tuple(weights))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by PyTorch
def test_gradients_outlive_the_compilers_tracing() -> None:
    """torch 2.11 traces a function whose result was written in place to gradients of zero."""
    weights = tuple(
        torch.randn(*shape, requires_grad=True)
        for into, out in pairwise((O, *HIDDEN, A))
        for shape in ((N, out, into), (N, out))
    )
    x = torch.randn(B, O)
    assert mlp(x, weights)._version == 0  # how often it was written to: fails with any torch

    def gradients(x: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(mlp(x, weights).square().sum(), weights)

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        traced = torch.compile(gradients, backend="eager", fullgraph=True)(x, weights)
    assert all(gradient.any() for gradient in traced)
    assert all(map(torch.equal, traced, gradients(x, weights)))


def test_ensemble_equals_tensordicts_and_vmap() -> None:
    torch.manual_seed(8)
    critics = CriticEnsemble(N, O, A, HIDDEN)
    observation_BO, action_BA = torch.randn(B, O), torch.randn(B, A)
    input_BI = torch.cat([observation_BO, action_BA], 1)
    q_NB = critics(observation_BO, action_BA)
    assert q_NB.shape == (N, B)

    net = MLP(in_features=O + A, out_features=1, num_cells=list(HIDDEN), activation_class=nn.ReLU)
    ensemble = EnsembleModule(TensorDictModule(net, ["x"], ["q"]), num_copies=N)
    ensemble.params_td.data.update_(TensorDict({"module": critics.params.data}, [N]))
    expected_NB = ensemble(TensorDict({"x": input_BI}, [B]))["q"].squeeze(-1)
    torch.testing.assert_close(q_NB, expected_NB)

    names = [name for name, _ in net.named_parameters()]
    stacked = dict(zip(names, critics.weights, strict=True))
    one_member = lambda weights: torch.func.functional_call(net, weights, input_BI)  # noqa: E731
    torch.testing.assert_close(q_NB, torch.func.vmap(one_member)(stacked).squeeze(-1))


def test_adam_step_is_pytorchs_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(9)
    ours = [torch.randn(shape, generator=generator) for shape in ((7, 5), (7,), (3, 2, 9))]
    theirs = [weight.clone().requires_grad_() for weight in ours]
    # Ours lives in an optimiser, too: its state is what a checkpoint saves.
    owner = torch.optim.Adam(ours, lr=LR, fused=True)
    adam = torch.optim.Adam(theirs, lr=LR, fused=True)
    for step in range(1, 6):
        gradients = tuple(torch.randn(weight.shape, generator=generator) for weight in ours)
        step_adam(Part(tuple(ours), AdamState.of(owner, LR)), gradients)
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient
        adam.step()
        assert same(snapshot(theirs), ours)
        for mine, other in zip(owner.state.values(), adam.state.values(), strict=True):
            assert mine.keys() == other.keys()
            assert all(torch.equal(mine[name], other[name]) for name in other)
            assert mine["step"] == step
        restored = torch.optim.Adam(ours, lr=1.0, fused=True)
        restored.load_state_dict(owner.state_dict())
        owner = restored


def test_a_loss_twice_as_large_is_an_epsilon_half_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means and sums over two critics (docs/methods.md)."""
    gradients = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)) * 1e-7  # ε matters
    found = {}
    for factor, epsilon in ((1.0, 1e-8), (2.0, 2e-8), (2.0, 1e-8)):
        monkeypatch.setattr("adabc_lightning.agent.update._EPSILON", epsilon)
        weights = torch.zeros(7)
        moments = [torch.zeros(7)], [torch.zeros(7)], [torch.zeros(())]
        part = Part((weights,), AdamState(*moments, 1e-3))
        for gradient in gradients:
            step_adam(part, (factor * gradient,))
        found[factor, epsilon] = weights
    assert torch.equal(found[1.0, 1e-8], found[2.0, 2e-8])
    assert not torch.equal(found[1.0, 1e-8], found[2.0, 1e-8])


def test_critics_start_independent_and_normal() -> None:
    torch.manual_seed(10)
    critics = CriticEnsemble(3, 60, 4, (128, 128))
    for weight, bias in zip(critics.weights[::2], critics.weights[1::2], strict=True):
        assert (bias == 0).all()
        std = 1 / (2 * math.sqrt(weight.shape[-1]))
        if weight.shape[1] == 1:  # 128 numbers are too few for statistics
            continue
        torch.testing.assert_close(weight.std((1, 2)), torch.full((3,), std), atol=0, rtol=0.03)
        # 4.55 % of a normal lie beyond two std; the authors' call cuts none of them off.
        assert 0.035 < (weight.abs() > 2 * std).float().mean() < 0.056
        correlation = torch.corrcoef(weight.flatten(1)) - torch.eye(3)
        assert correlation.abs().max() < 0.05


def test_actor_starts_as_pytorch_does() -> None:
    torch.manual_seed(11)
    actor = Actor(30, LOW, HIGH, (200,))
    for weight, bias in zip(actor.weights[::2], actor.weights[1::2], strict=True):
        bound = 1 / math.sqrt(weight.shape[-1])  # uniform, weight and bias
        assert 0.98 * bound < weight.abs().max() <= bound
        assert 0 < bias.abs().max() <= bound
    action = actor(100 * torch.randn(300, 30))  # saturated: the bounds, per dimension
    torch.testing.assert_close(action.amin(0), torch.tensor(LOW))
    torch.testing.assert_close(action.amax(0), torch.tensor(HIGH))


def test_a_gradient_of_another_memory_layout_is_the_same_gradient() -> None:
    """As autograd makes it of a batched product with a transposed weight."""
    gradient = torch.arange(6.0).view(2, 3) - 2
    results = []
    for given in (gradient, gradient.T.contiguous().T):
        weight = torch.ones(2, 3, requires_grad=True)
        adam = AdamState.of(torch.optim.Adam([weight], lr=LR, fused=True), LR)
        for scale in (1.0, 0.1):
            step_adam(Part((weight,), adam), (scale * given,))
        results.append(weight.detach())
    assert torch.equal(*results)
    assert results[0].unique().numel() > 2


@pytest.mark.parametrize("beta", [0.9, 0.999])
def test_adam_s_corrections_have_all_digits_of_float32(beta: float) -> None:
    """Where 1 − β^t itself has lost four of them at the first step."""
    steps = torch.cat([torch.arange(1.0, 5000), torch.tensor([1e4, 1e5, 3.5e6])])
    exact = bias_correction(beta, steps.double())
    torch.testing.assert_close(1 - beta ** steps.double(), exact, atol=0, rtol=1e-12)
    torch.testing.assert_close(bias_correction(beta, steps).double(), exact, atol=0, rtol=3e-7)


def test_each_saving_of_the_update_can_be_left_out() -> None:
    """``benchmarks/update_speed.py`` measures the same update, as fast as it is without one."""
    ways = runpy.run_path(str(REPOSITORY / "benchmarks" / "update_speed.py"))["WAYS"]
    shapes, found = Shapes(num_critics=2, batch_size=8, hidden=(8, 8), rows=60), {}
    for name, (kind, patches) in ways.items():
        torch.manual_seed(0)
        agent = kind(shapes, torch.device("cpu"), Eager())
        state = agent.agent_state()
        before = copied(state)
        with ExitStack() as stack:
            for each in patches:
                stack.enter_context(patch.object(*each))
            agent.run(2)
        assert getattr(agent, "fetched", 1), name
        found[name] = kind, copied(state)
        assert not all(map(torch.equal, before, found[name][1])), name
    expected = found["as it is"][1]
    for name, (kind, after) in found.items():
        if kind.sample is Packaged.sample:  # of the same batches
            assert disagreement(state, before, after, expected, 2) is None, name
