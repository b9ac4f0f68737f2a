"""SPOT against a plain one: its first stage, its cooling, and what it promises."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement import HIGH, LOW, A, Alone, B, assert_same, fields_of, moved, random_batch
from plain_spot import PlainSPOT
from tiny import register_toy, tiny_run, write_log
from torch import Tensor

from adabc_lightning.agent.methods import SPOT, TD3BC
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule

GAMMA, TAU, LR, ACTOR_LR, VAE_LR, BETA, SIGMA, CLIP = 0.9, 0.1, 3e-3, 2e-3, 4e-3, 0.75, 1.0, 1.25
WEIGHT, END, COOLING = 0.5, 0.25, 40
UNITS = (7, 6)


def spot(vae_updates: int = 10, dropout: float = 0.25, **options: Any) -> Alone:
    method = SPOT(
        weight=WEIGHT,
        weight_end=END,
        cooling_updates=COOLING,
        vae_updates=vae_updates,
        vae_learning_rate=VAE_LR,
        vae_beta=BETA,
        vae_width=9,
        dropout=dropout,
        actor_learning_rate=ACTOR_LR,
        target_noise=SIGMA,
        target_noise_clip=CLIP,
        **options,
    )
    return Alone(method, gamma=GAMMA, tau=TAU, learning_rate=LR)


def plain(module: Alone) -> PlainSPOT:
    (actor,), (vae,) = module.networks("actor"), module.networks("vae")
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return PlainSPOT(
        actor,
        module.networks("critics"),
        vae[:6],
        vae[6:],
        low,
        high,
        *(GAMMA, TAU, LR, ACTOR_LR, VAE_LR, BETA, SIGMA, CLIP),
    )


def drawn(generator: torch.Generator, updates: int, dropout: float) -> dict[str, Tensor]:
    """The random numbers of a training step, in the order in which they are drawn."""
    noise = torch.randn(updates, B, A, generator=generator)
    latent = torch.randn(updates, B, 2 * A, generator=generator)
    numbers = {"noise": noise, "latent_noise": latent}
    for name in ("kept", "target_kept") if dropout else ():
        uniform = torch.rand(updates, B, sum(UNITS), generator=generator)
        numbers[name] = (uniform >= dropout) / (1 - dropout)
    return {name: value.double() for name, value in numbers.items()}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_sixty_updates_agree_with_the_plain_reference(dropout: float) -> None:
    """Ten of the VAE (the boundary inside a training step), ten of TD3, forty of fine-tuning."""
    module = spot(dropout=dropout)
    agent = plain(module)
    start = {name: module.networks(name) for name in ("actor", "critics", "vae")}
    batches, numbers = torch.Generator().manual_seed(1), torch.Generator()
    numbers.set_state(module.generator.get_state())
    frozen = None
    for number in range(0, 60, 4):
        if number == 20:
            module.hand_over()
        steps = [random_batch(batches) for _ in range(4)]
        module.training_step(torch.stack(steps), 0)
        draws = drawn(numbers, 4, dropout)
        # λ stays for the updates of a training step.
        weight = WEIGHT * max(END, 1 - max(0, number - 20) / COOLING)
        for g, step in enumerate(steps):
            own = {name: value[g] for name, value in draws.items()}
            if number + g < 10:
                agent.train_vae(step["observation"], step["action"], own["latent_noise"])
                continue
            for name in ("kept", "target_kept"):
                own[name] = own[name].split(UNITS, 1) if dropout else None
            even = (number + g + 1) % 2 == 0
            agent.update(**fields_of(step), **own, weight=weight if even else None)
        if number < 8:
            assert_same(module.networks("actor"), start["actor"], tolerance=0)
            assert_same(module.networks("critics"), start["critics"], tolerance=0)
        elif number == 8:
            frozen = module.networks("vae")
    assert module.gradient_updates == 60
    assert_same(module.networks("actor"), [agent.actor])
    assert_same(module.networks("actor", target=True), [agent.actor_target])
    assert_same(module.networks("critics"), agent.critics)
    assert_same(module.networks("critics", target=True), agent.critic_targets)
    assert_same(module.networks("vae"), [agent.encoder + agent.decoder])
    assert_same(module.networks("vae"), frozen, tolerance=0)  # it has stood still since
    for name in start:
        assert moved(start[name], module.networks(name))


def test_the_weight_cools_linearly_to_its_floor_after_the_hand_over() -> None:
    method = SPOT(weight=0.5, weight_end=0.2, cooling_updates=1000)
    steps = {None: 0.5, 0: 0.5, 1: 0.4995, 500: 0.25, 799: 0.1005, 800: 0.1, 10**7: 0.1}
    for updates, weight in steps.items():
        assert method.coefficients_at(updates, 7)["support_weight"] == pytest.approx(weight)
        whole = SPOT(weight=0.5, weight_end=0.2)  # over all of fine-tuning
        assert whole.coefficients_at(updates, 1000)["support_weight"] == pytest.approx(weight)
    assert SPOT(weight=0.5, weight_end=1.0).coefficients_at(10, 10) == {"support_weight": 0.5}
    module = spot(vae_updates=0)
    batches = torch.Generator().manual_seed(1)

    def step(updates: int) -> float:
        module.training_step(torch.stack([random_batch(batches) for _ in range(updates)]), 0)
        return module.coefficients["support_weight"].item()

    assert step(6) == WEIGHT
    module.hand_over()
    assert module.coefficients["support_weight"] == WEIGHT
    assert step(10) == pytest.approx(WEIGHT * 0.75)
    assert step(30) == pytest.approx(WEIGHT * END)


def test_without_a_weight_it_is_td3() -> None:
    """With one critic TD3+BC at α = 0 is TD3, too."""
    method = SPOT(
        weight=0.0, vae_updates=0, dropout=0.0, target_noise=SIGMA, target_noise_clip=CLIP
    )
    one = {"num_critics": 1, "subset_size": 1, "gamma": GAMMA, "tau": TAU, "learning_rate": LR}
    ours, td3 = Alone(method, **one), Alone(TD3BC(SIGMA, CLIP), **one, alpha_offline=0.0)
    with torch.no_grad():
        for name in ("actor", "critics"):
            for mine, theirs in ((ours.part(name), td3.part(name)),):
                for to, source in zip(
                    (*mine.weights, *mine.target), (*theirs.weights, *theirs.target), strict=True
                ):
                    to.copy_(source)
    numbers = torch.Generator()
    for number in range(6):
        step = torch.stack([random_batch(torch.Generator().manual_seed(number))])
        numbers.set_state(ours.generator.get_state())
        td3.generator.set_state(numbers.get_state())
        ours.training_step(step, 0)
        td3.training_step(step, 0)
    for name in ("actor", "critics"):
        assert_same(ours.networks(name), td3.networks(name))
        assert_same(ours.networks(name, target=True), td3.networks(name, target=True))


def test_how_it_starts() -> None:
    module = spot(small_end=True)
    for name, limit in (("actor", 1e-3), ("critics", 3e-3)):
        for network in module.networks(name):
            for parameter in network[-2:]:
                assert 0 < parameter.abs().max() <= limit
            # PyTorch's own: within 1/√fan_in, weights and biases
            for weight, bias in zip(network[:-2:2], network[1:-2:2], strict=True):
                bound = 1 / math.sqrt(weight.shape[1])
                for parameter in (weight, bias):
                    assert 0.5 * bound < parameter.abs().max() <= bound
    plain_end = spot().networks("critics")
    assert all(network[-2].abs().max() > 0.1 for network in plain_end)
    shapes = [tuple(tensor.shape) for tensor in module.networks("vae")[0][::2]]
    observation, latent = len(module.networks("actor")[0][0][0]), 2 * A
    encoder = [(9, observation + A), (9, 9), (2 * latent, 9)]
    assert shapes == [*encoder, (9, observation + latent), (9, 9), (A, 9)]


@pytest.mark.parametrize("offline_updates", [4, 3, 0])
def test_a_pre_training_of_the_vae_alone_is_refused(offline_updates: int, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.hdf5", 3, 2)
    schedule = Schedule(offline_updates, 2, 1)
    model = {"method": SPOT(vae_updates=4)}
    trainer, module, data = tiny_run(
        tmp_path / "run", register_toy(), log, schedule=schedule, model=model
    )
    message = rf"offline_updates is {offline_updates}, but the first 4 updates of .* SPOT train"
    with pytest.raises(UserError, match=message):
        trainer.fit(module, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -0.1}, "weight is -0.1"),
        ({"weight": math.nan}, "weight is nan"),
        ({"weight_end": 1.5}, "weight_end is 1.5; it must be between 0 and 1"),
        ({"cooling_updates": 0}, "cooling_updates is 0"),
        ({"vae_updates": -1}, "vae_updates is -1"),
        ({"vae_learning_rate": math.inf}, "vae_learning_rate is inf"),
        ({"vae_beta": -1.0}, "vae_beta is -1.0"),
        ({"vae_width": 0}, "vae_width is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"actor_learning_rate": -1.0}, "actor_learning_rate is -1.0"),
        ({"target_noise": math.inf}, "target_noise is inf"),
        ({"target_noise_clip": math.nan}, "target_noise_clip is nan"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"model.method.{message}"):
        SPOT(**options)
