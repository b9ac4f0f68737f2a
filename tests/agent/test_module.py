"""The module's own loop: draws, delay, constants, and fifty updates against the plain reference."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adabc_lightning.agent.methods import AWAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.bench.plain import PlainAgent
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.seeding import torch_generator

SPEC = EnvironmentSpec("Hopper-v5", 11, (-1.0, -2.0, 0.0), (1.0, 2.0, 3.0), 1000)
G, B, N, M = 10, 16, 10, 2
CONSTANTS = {"gamma": 0.93, "tau": 0.11, "policy_delay": 2, "normalizer": "policy"}


class Alone(OffToOnModule):
    """The module without a trainer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(SPEC, hidden_sizes=(16, 16), **options)
        self._adams = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._adams


def batches(count: int, dtype: torch.dtype) -> list[Tensor]:
    """Random packed rows ``[G, B, width]``; some terminal, actions within the range."""
    layout = Layout(SPEC.observation_size, SPEC.action_size)
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(count, G, B, layout.width, generator=generator).to(dtype)
    rows[..., layout.columns["action"]] = rows[..., layout.columns["action"]].clamp(0, 1)
    rows[..., layout.columns["terminated"]] = (rows[..., 0] > 1).to(dtype)
    return list(rows)


def test_fifty_updates_of_the_training_step_agree_with_ten_separate_networks() -> None:
    # Every constant differs from its default and from every other, so that none can be swapped.
    ours = Alone(
        seed=4, num_critics=N, subset_size=M, learning_rate=3e-3, target_noise=0.6,
        target_noise_clip=0.7, **CONSTANTS,
    ).double()  # fmt: skip
    plain = PlainAgent(
        torch.float64, N, 11, 3, (16, 16), SPEC.action_low, SPEC.action_high, lr=3e-3,
        sigma=0.6, clip=0.7, **CONSTANTS,
    )  # fmt: skip
    plain.load(ours.actor, ours.critics)
    layout = Layout(11, 3)
    generator = torch_generator(4, "updates")  # the module's own stream, replayed
    fields = ("observation", "action", "reward", "next_observation", "terminated")
    for round_, rows in enumerate(batches(5, torch.float64)):
        alpha = 0.4 - 0.1 * round_
        ours.alpha.fill_(alpha)
        ours.training_step(layout.unpack(rows), round_)
        noise_GBA = torch.randn((G, B, 3), generator=generator)
        order_GN = torch.rand((G, N), generator=generator)
        for g in range(G):
            step = layout.unpack(rows[g])
            subset = order_GN[g].argsort(descending=True)[:M]
            values = [step[name] for name in fields]
            plain.update(*values, noise_GBA[g].double(), subset, alpha)
    assert ours.gradient_updates == 50
    pairs = [
        (ours.actor.weights, plain.actor),
        (ours.actor_target.weights, plain.actor_target),
    ]
    for weights, network in pairs:
        for weight, parameter in zip(weights, network.parameters(), strict=True):
            assert (weight - parameter).abs().max() < 1e-9
    for ensemble, networks in (
        (ours.critics, plain.critics),
        (ours.critics_target, plain.critic_targets),
    ):
        for member, network in enumerate(networks):
            for weight, parameter in zip(ensemble.weights, network.parameters(), strict=True):
                assert (weight[member] - parameter).abs().max() < 1e-9


def test_subsets_are_fresh_uniform_and_without_replacement() -> None:
    module = Alone(num_critics=5, subset_size=2)
    draws = module._draw(20_000, 1)
    noise_GBA, subset_GM = draws["target_noise"], draws["subset"]
    assert (subset_GM[:, 0] != subset_GM[:, 1]).all()
    counts = torch.bincount(subset_GM.flatten(), minlength=5) / 20_000
    assert torch.allclose(counts, torch.full((5,), 2 / 5), atol=0.02)
    pairs = {tuple(sorted(pair)) for pair in subset_GM[:200].tolist()}
    assert len(pairs) == 10  # all of them, so they are drawn anew each time
    assert abs(noise_GBA.mean()) < 0.02
    assert abs(noise_GBA.std() - 1) < 0.02


def test_metrics_are_means_since_the_last_call() -> None:
    module = Alone(num_critics=3)
    layout = Layout(11, 3)
    rows = batches(1, torch.float32)[0]
    rows[..., layout.columns["online"]] = 0.0
    rows[:, : B // 4, layout.columns["online"]] = 1.0
    module.training_step(layout.unpack(rows), 0)
    metrics = module.take_metrics()
    assert metrics["online/fraction"] == 0.25
    assert {"loss/critic", "loss/actor", "q/mean", "q/target", "q/policy"} <= set(metrics)
    assert module.take_metrics() == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_critics": 2, "subset_size": 3}, "1 ≤ subset_size ≤ num_critics"),
        ({"num_critics": 0, "subset_size": 0}, "1 ≤ subset_size ≤ num_critics"),
        ({"gamma": 1.1}, "model.gamma is 1.1; it must be between 0 and 1"),
        ({"tau": float("nan")}, "model.tau is nan"),
        ({"policy_delay": 0}, "model.policy_delay is 0"),
        ({"learning_rate": -1.0}, "model.learning_rate is -1.0"),
        ({"normalizer": "none"}, "model.normalizer is none; it must be policy or data"),
        ({"matmul_precision": "hihg"}, "model.matmul_precision is 'hihg'; did you mean 'high'?"),
        ({"precision": "bf1"}, "model.precision is 'bf1'; did you mean 'bf16'?"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        Alone(**options)
    assert sentence in str(raised.value)


def single(module: OffToOnModule, observation: np.ndarray) -> np.ndarray:
    """The action for one observation, which is that of PyTorch for a batch of it."""
    action = module.act(observation)
    assert action.dtype == np.float32
    assert action.shape == (3,)
    np.testing.assert_allclose(action, module.act(observation[None])[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(action, module.act(torch.from_numpy(observation)))  # type: ignore[arg-type]
    return action


@pytest.mark.parametrize("method", [None, AWAC()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_acting_alone_is_acting_in_a_batch(method: Any, dtype: Any) -> None:
    module = Alone(method=method, actor_hidden_sizes=(7, 33, 5))
    for seed in range(20):
        draws = np.random.default_rng(seed).standard_normal(SPEC.observation_size)
        single(module, (10.0**seed * 1e-9 * draws).astype(dtype))


def test_whatever_moves_the_weights_the_newest_act() -> None:
    module = Alone(policy_delay=1)
    observation = np.linspace(-1, 1, SPEC.observation_size)
    actions = [single(module, observation)]
    copied = copy.deepcopy(module)
    module.training_step(Layout(11, 3).unpack(batches(1, torch.float32)[0]), 0)
    actions.append(single(module, observation))
    np.testing.assert_array_equal(single(copied, observation), actions[0])
    for assign in (False, True):  # into the same tensors, and in the place of them
        other = Alone(seed=5 + assign)
        module.load_state_dict(other.state_dict(), assign=assign)
        actions.append(single(module, observation))
        np.testing.assert_array_equal(actions[-1], single(other, observation))
    for parameter in module.actor.parameters():  # as module.to does between devices
        parameter.data = parameter.data * 0.5
    actions.append(single(module, observation))
    assert len({action.tobytes() for action in actions}) == len(actions)


def test_the_seed_is_lightning_s_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert OffToOnModule(SPEC, hidden_sizes=(4,)).seed == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")  # as seed_everything(5) leaves it
    assert OffToOnModule(SPEC, hidden_sizes=(4,)).seed == 5
    assert OffToOnModule(SPEC, hidden_sizes=(4,), seed=2).seed == 2


def test_one_size_is_no_list_of_them() -> None:
    with pytest.raises(UserError, match=r"model\.hidden_sizes is 32; it must be a list of whole"):
        OffToOnModule(SPEC, hidden_sizes=32)  # type: ignore[arg-type]


def test_lightning_s_way_to_a_module_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"last\.ckpt, holds weights and no .*load_policy\(path\)"):
        OffToOnModule.load_from_checkpoint("runs/last.ckpt")
