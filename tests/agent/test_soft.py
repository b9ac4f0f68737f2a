"""RLPD, CQL, Cal-QL and WSRL against plain ones: fifty updates, every part's weights."""

from typing import Any

import pytest
import torch
from soft_reference import PlainSoft
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import CQL, RLPD, SAC, WSRL, CalQL
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.errors import UserError

N, M, B, O, A = 4, 2, 5, 3, 2  # noqa: E741
HIDDEN = (7, 6)
LOW, HIGH = (-1.0, -0.5), (2.0, 0.25)
GAMMA, TAU, LR, ACTOR_LR = 0.9, 0.1, 3e-3, 2e-3


def agent_of(
    monkeypatch: pytest.MonkeyPatch, method: Method, norm: bool, online: bool
) -> OffToOnModule:
    """A module in float64 with optimisers, as the trainer would have it."""
    module = OffToOnModule(
        EnvironmentSpec("Test-v0", O, LOW, HIGH, None),
        num_critics=N,
        subset_size=M,
        hidden_sizes=HIDDEN,
        gamma=GAMMA,
        tau=TAU,
        policy_delay=1,
        learning_rate=LR,
        critic_norm="before" if norm else None,
        method=method,
    ).double()
    optimizers = module.configure_optimizers()
    monkeypatch.setattr(module, "optimizers", lambda use_pl_optimizer: optimizers)
    module.online = online
    return module


def plain_of(module: OffToOnModule, **constants: Any) -> PlainSoft:
    method: Any = module.method
    names = ("backup_entropy", "actor_value", "entropy_per_action")
    names += ("importance", "temperature", "floor", "target_gap", "calibrate")
    given = {name: getattr(method, name) for name in names if hasattr(method, name)}
    kinds = {WSRL: "wsrl", CQL: "cql", CalQL: "cql"}
    given["kind"] = kinds.get(type(method), "sac")
    sizes = {"observation_size": O, "action_size": A, "hidden": HIDDEN, "n": N}
    rates = {"gamma": GAMMA, "tau": TAU, "lr": LR, "actor_lr": ACTOR_LR}
    agent = PlainSoft(low=LOW, high=HIGH, **sizes, **rates, **given, **constants)
    agent.load(module.actor.weights, module.critics.weights)
    return agent


def batches(generator: torch.Generator, count: int) -> TensorDict:
    def normal(*shape: int) -> Tensor:
        return torch.randn(count, B, *shape, generator=generator, dtype=torch.float64)

    low, high = torch.tensor(LOW, dtype=torch.float64), torch.tensor(HIGH, dtype=torch.float64)
    fields = {
        "observation": normal(O),
        "action": torch.minimum(torch.maximum(normal(A), low), high),
        "reward": normal(),
        "next_observation": normal(O),
        "terminated": (torch.rand(count, B, generator=generator) < 0.3).double(),
        "online": torch.zeros(count, B, dtype=torch.float64),
        "mc_return": normal(),
    }
    return TensorDict(fields, [count, B])


def assert_agree(module: OffToOnModule, agent: PlainSoft) -> None:
    stacked = [
        [torch.stack(same) for same in zip(*(net.parameters() for net in nets), strict=True)]
        for nets in (agent.critics, agent.targets)
    ]
    ours = [*module.actor.weights, *module.critics.weights, *module.critics_target.weights]
    theirs = [*agent.actor_parameters(), *stacked[0], *stacked[1]]
    ours.append(module.temperature.weights[0][0])
    theirs.append(agent.raw_alpha)
    if hasattr(module, "multiplier"):
        ours.append(module.multiplier.log[0])
        theirs.append(agent.log_multiplier)
    for weight, parameter in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, parameter.reshape(weight.shape), atol=1e-9, rtol=0)


CQL_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "max backup, no importance": {
        "max_target_backup": True,
        "importance": False,
        "temperature": 0.7,
    },
    "lagrange, floor, entropy": {"target_gap": 0.8, "floor": 1.0, "backup_entropy": True},
    "some heads": {"heads": 2, "max_target_backup": True, "backup_entropy": True},
}
CASES = [
    (SAC(ACTOR_LR), False, True),
    (SAC(ACTOR_LR, backup_entropy=False), True, False),
    (RLPD(ACTOR_LR), True, True),
    *[(CQL(2.0, 0.5, 3, actor_learning_rate=ACTOR_LR, **o), False, False)
      for o in CQL_OPTIONS.values()],
    (CQL(2.0, 0.5, 3, actor_learning_rate=ACTOR_LR), False, True),
    (CalQL(weight=2.0, samples=3, actor_learning_rate=ACTOR_LR), False, True),
    (WSRL(weight=2.0, samples=3, actor_learning_rate=ACTOR_LR), True, False),
    (WSRL(weight=2.0, samples=3, actor_learning_rate=ACTOR_LR), True, True),
]  # fmt: skip


@pytest.mark.parametrize("method", [CQL(), CalQL(), WSRL()])
def test_a_delay_that_nothing_waits_for_is_refused(method: Method) -> None:
    spec = EnvironmentSpec("Test-v0", O, LOW, HIGH, None)
    with pytest.raises(
        UserError, match=r"policy_delay is 2, but of model\.method \w+ no step waits"
    ):
        OffToOnModule(spec, policy_delay=2, method=method)
    assert OffToOnModule(spec, policy_delay=2, method=RLPD()).policy_delay == 2  # in pre-training


@pytest.mark.parametrize(("method", "norm", "online"), CASES)
def test_fifty_updates_agree_with_the_plain_reference(
    method: Method, norm: bool, online: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = agent_of(monkeypatch, method, norm, online)
    agent = plain_of(module, norm=norm)
    start = [weight.detach().clone() for weight in module.parameters()]
    generator = torch.Generator().manual_seed(1)
    drawn: list[dict[str, Tensor]] = []
    real = module._draw

    def recorded(updates: int, size: int) -> dict[str, Tensor]:
        drawn.append({k: v.double() if v.is_floating_point() else v
                      for k, v in real(updates, size).items()})  # fmt: skip
        return drawn[-1]

    monkeypatch.setattr(module, "_draw", recorded)
    for _ in range(10):  # of five updates each
        batch = batches(generator, 5)
        module.training_step(batch, 0)
        for g in range(5):
            one, numbers = batch[g], {name: numbers[g] for name, numbers in drawn[-1].items()}
            conservative = isinstance(method, CQL) and not (isinstance(method, WSRL) and online)
            if conservative:
                weight = method.weight_online if online else method.weight
                agent.conservative(one, numbers, weight)
                continue
            agent.soft_critics(one, numbers)
            # Once per environment step, on its last batch but for WSRL's; SAC in every update.
            if isinstance(method, WSRL):
                if g == 4:  # on all of its rows, one behind the other
                    rows = {"observation": batch["observation"].reshape(5 * B, O)}
                    noise = drawn[-1]["policy_noise"].reshape(5 * B, A)
                    agent.soft_actor(rows, {"policy_noise": noise})
            elif type(method) is SAC or not online or g == 4:
                agent.soft_actor(one, numbers)
    assert module.gradient_updates == 50
    assert_agree(module, agent)
    moved = [(a - b).abs().max() for a, b in zip(module.parameters(), start, strict=True)]
    targets = [name.split(".")[0].endswith("_target") for name, _ in module.named_parameters()]
    assert all(m > 1e-3 for m, t in zip(moved, targets, strict=True) if not t)
