"""AWAC against a plain one, and its exploration."""

import functools
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from reference import PlainAWAC
from tensordict import TensorDict
from test_update import HIDDEN, HIGH, LOW, A, B, O, random_batch, same, snapshot
from tiny import register_toy, tiny_run, write_log
from torch import Tensor

from adabc_lightning.agent.losses import minimum
from adabc_lightning.agent.methods import AWAC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.state import UpdateOptions
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.transitions import Layout
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import stream_seed

ACTOR_HIDDEN = (7, 6, 5)
# So much tau, lr and decay that errors would show; a temperature at which weights differ.
GAMMA, TAU, LR, BETA, DECAY = 0.9, 0.1, 3e-3, 0.3, 0.5


def awac(monkeypatch: pytest.MonkeyPatch, log_std: tuple[float, float]) -> OffToOnModule:
    """A module in float64 with optimisers, as the trainer would have it."""
    module = OffToOnModule(
        EnvironmentSpec("Test-v0", O, LOW, HIGH, None),
        num_critics=2,
        subset_size=2,
        hidden_sizes=HIDDEN,
        actor_hidden_sizes=ACTOR_HIDDEN,
        gamma=GAMMA,
        tau=TAU,
        policy_delay=1,
        learning_rate=LR,
        actor_weight_decay=DECAY,
        method=AWAC(BETA),
    ).double()
    with torch.no_grad():
        module.actor.log_std.copy_(torch.tensor(log_std))
    optimizers = module.configure_optimizers()
    monkeypatch.setattr(module, "optimizers", lambda use_pl_optimizer: optimizers)
    return module


def options_of(module: OffToOnModule) -> UpdateOptions:
    low, high = module.actor.action_low, module.actor.action_high
    return UpdateOptions(GAMMA, TAU, minimum, low, high)


def plain(module: OffToOnModule) -> PlainAWAC:
    agent = PlainAWAC(
        O, A, HIDDEN, ACTOR_HIDDEN, LOW, HIGH, GAMMA, TAU, LR, BETA, weight_decay=DECAY
    )
    agent.load(module.actor, module.critics)
    return agent


def assert_agree(module: OffToOnModule, agent: PlainAWAC) -> None:
    ours: list[Tensor] = list(module.actor.weights)
    theirs: list[Tensor] = [*agent.mean.parameters(), agent.log_std]
    for ensemble, members in (
        (module.critics, agent.critics),
        (module.critics_target, agent.critic_targets),
    ):
        ours += ensemble.weights
        theirs += [
            torch.stack(same) for same in zip(*(m.parameters() for m in members), strict=True)
        ]
    for weight, parameter in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, parameter, atol=1e-9, rtol=0)


# The second case starts with one deviation above its limit and one below: they have no gradient.
@pytest.mark.parametrize("log_std", [(-0.5, 0.3), (2.5, -10.5)])
def test_thirty_updates_agree_with_the_plain_reference(
    log_std: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = awac(monkeypatch, log_std)
    agent = plain(module)
    start = snapshot((module.actor.weights, module.critics.weights, module.critics_target.weights))
    batches = torch.Generator().manual_seed(1)
    noises = torch.Generator()
    noises.set_state(module.generator.get_state())
    for _ in range(10):  # of three updates each
        steps = [random_batch(batches) for _ in range(3)]
        noise_GBA, policy_noise_GBA = (torch.randn(3, B, A, generator=noises) for _ in range(2))
        module.training_step(torch.stack(steps), 0)
        for step, noise_BA, policy_noise_BA in zip(steps, noise_GBA, policy_noise_GBA, strict=True):
            fields = {name: value for name, value in step.items() if name != "online"}
            agent.update(**fields, noise=noise_BA.double(), policy_noise=policy_noise_BA.double())
    assert module.gradient_updates == 30
    assert_agree(module, agent)
    after = snapshot((module.actor.weights, module.critics.weights, module.critics_target.weights))
    for before, now in zip(start, after, strict=True):
        assert (now - before).abs().max() > 1e-3  # the agreement is not one in standing still


def test_samples_reach_the_clip_and_follow_the_current_policy_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = awac(monkeypatch, (0.5, -1.0))
    low, high = module.actor.action_low, module.actor.action_high
    batch = random_batch(torch.Generator().manual_seed(2))
    noise_BA = torch.randn(B, A, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    options = options_of(module)
    actor, next_observation_BO = module.actor.weights, batch["next_observation"]
    action_BA = module.method.sample(actor, next_observation_BO, noise_BA, options)
    assert ((low <= action_BA) & (action_BA <= high)).all()
    clipped = (action_BA == low) | (action_BA == high)
    assert clipped[:, 0].any()
    assert not clipped[:, 1].all()
    mean_BA = module.actor(batch["next_observation"])
    unclipped = (mean_BA + noise_BA * torch.exp(torch.tensor([0.5, -1.0])) * (high - low) / 2)[
        ~clipped
    ]
    torch.testing.assert_close(action_BA[~clipped], unclipped.detach())
    with torch.no_grad():
        module.actor.weights[-2].add_(1.0)  # the mean's last bias
    other_BA = module.method.sample(actor, next_observation_BO, noise_BA, options)
    assert not torch.equal(other_BA, action_BA)


def test_alpha_has_no_part_and_each_loss_moves_its_own_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = []
    for alpha in (0.0, 8.0):
        module = awac(monkeypatch, (0.0, 0.0))
        state, options = module.agent_state(), options_of(module)
        batch = random_batch(torch.Generator().manual_seed(4))
        noise_BA = torch.randn(B, A, generator=torch.Generator().manual_seed(5))
        draws = {"target_noise": noise_BA, "policy_noise": noise_BA, "subset": torch.arange(2)}
        arguments = state, batch, draws, {"alpha": torch.tensor(alpha)}, options
        actor, targets = snapshot(state["actor"].weights), snapshot(state["critics"].target)
        module.method.update(*arguments)
        assert same(actor, state["actor"].weights)
        assert same(targets, state["critics"].target)
        critics = snapshot(state["critics"][:2])
        module.method.delayed(*arguments)
        assert same(critics, state["critics"][:2])
        moved = zip(targets, state["critics"].target, strict=True)
        assert not any(same([a], b) for a, b in moved)
        results.append(snapshot(state["actor"].weights))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(beta: float) -> None:
    with pytest.raises(UserError, match=r"method\.beta"):
        AWAC(beta)


@pytest.mark.parametrize("scale", [None, (0.1, 0.1), (0.3, 0.01)])
def test_the_collector_acts_with_the_scale_it_is_given(scale: tuple[float, float] | None) -> None:
    env = gymnasium.make(register_toy())  # actions of ±1 and ±3
    collector = Collector(env, Layout(3, 2), seed=4)
    spec = EnvironmentSpec.of(env, register_toy())
    module = OffToOnModule(spec, method=None if scale is None else AWAC(), hidden_sizes=(4,))
    with torch.no_grad():
        for parameter in module.actor.net.parameters():
            parameter.zero_()
        if scale is not None:
            module.actor.log_std.copy_(torch.tensor(scale).log())
    explore = functools.partial(module.explore, scale=0.2)
    rows = torch.stack([collector.step(explore) for _ in range(50)])
    noise = np.random.default_rng(stream_seed(4, "exploration")).standard_normal((50, 2))
    expected = noise * np.array([1, 3]) * np.array(scale or (0.2, 0.2))
    expected = expected.clip([-1, -3], [1, 3])
    np.testing.assert_allclose(Layout(3, 2).unpack(rows)["action"], expected, rtol=1e-5)


def test_a_run_explores_with_the_policy_s_own_deviation(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    trainer, module, data = tiny_run(
        tmp_path / "run",
        register_toy(),
        log,
        schedule=Schedule(2, 20, 1, evaluation_every=100),
        # A policy that stands still, and exploration noise that AWAC must not use.
        model={"num_critics": 2, "subset_size": 2, "method": AWAC(), "learning_rate": 0.0},
        data={"exploration_noise": 5.0},
    )
    with torch.no_grad():
        module.actor.log_std.copy_(torch.tensor([-1.0, -3.0]))
    trainer.fit(module, data)
    rows: TensorDict = data.layout.unpack(data.replay.rows[60:])
    noise = np.random.default_rng(stream_seed(0, "exploration")).standard_normal((20, 2))
    limit = np.array([1, 3])
    expected = module.act(rows["observation"].numpy()) + noise * np.exp([-1, -3]) * limit
    np.testing.assert_allclose(rows["action"], expected.clip(-limit, limit), rtol=1e-4, atol=1e-5)
    assert np.abs(noise * np.exp([-1, -3])).max() > 0.3
