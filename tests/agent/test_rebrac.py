"""ReBRAC against a plain one: its two weights, before and after the hand-over."""

import math
from typing import Any

import pytest
import torch
from agreement import HIGH, LOW, A, Alone, B, assert_same, fields_of, moved, random_batch
from plain_rebrac import PlainReBRAC
from tensordict import TensorDict

from adabc_lightning.agent.methods import TD3BC, ReBRAC
from adabc_lightning.errors import UserError

GAMMA, TAU, LR, SIGMA, CLIP = 0.9, 0.1, 3e-3, 1.0, 1.25
BETA_1, END, DECAY, BETA_2, BETA_2_ONLINE = 0.5, 0.25, 40, 0.5, 0.125


def batch_of(generator: torch.Generator) -> TensorDict:
    """With the action that followed, known of two thirds of the rows."""
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    share = torch.rand(B, A, generator=generator, dtype=torch.float64)
    known = (torch.rand(B, generator=generator) < 0.7).double()
    next_action = (low + share * (high - low)) * known.unsqueeze(1)
    return random_batch(generator, next_action=next_action, next_action_known=known)


def rebrac(**model: Any) -> Alone:
    method = ReBRAC(BETA_1, END, DECAY, BETA_2, BETA_2_ONLINE, SIGMA, CLIP)
    constants = {"gamma": GAMMA, "tau": TAU, "learning_rate": LR, "critic_norm": "after"}
    return Alone(method, **constants | model)


def plain(module: Alone) -> PlainReBRAC:
    (actor,) = module.networks("actor")
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return PlainReBRAC(actor, module.networks("critics"), low, high, GAMMA, TAU, LR, SIGMA, CLIP)


def test_fifty_updates_agree_with_the_plain_reference() -> None:
    """Ten before the hand-over, forty behind it."""
    module = rebrac()
    agent = plain(module)
    start = {name: module.networks(name) for name in ("actor", "critics")}
    batches, numbers = torch.Generator().manual_seed(1), torch.Generator()
    numbers.set_state(module.generator.get_state())
    for number in range(0, 50, 5):
        if number == 10:
            module.hand_over()
        steps = [batch_of(batches) for _ in range(5)]
        module.training_step(torch.stack(steps), 0)
        noise_GBA = torch.randn(5, B, A, generator=numbers).double()
        # The weights stay for the updates of a training step.
        beta_1 = BETA_1 * max(END, 1 - max(0, number - 10) / DECAY)
        for g, step in enumerate(steps):
            agent.update(
                **fields_of(step, "next_action", "next_action_known"),
                noise=noise_GBA[g],
                critic_weight=BETA_2 if number < 10 else BETA_2_ONLINE,
                actor_weight=beta_1 if (number + g + 1) % 2 == 0 else None,
            )
    assert module.gradient_updates == 50
    assert_same(module.networks("actor"), [agent.actor])
    assert_same(module.networks("actor", target=True), [agent.actor_target])
    assert_same(module.networks("critics"), agent.critics)
    assert_same(module.networks("critics", target=True), agent.critic_targets)
    for name in start:
        assert moved(start[name], module.networks(name))


def test_the_weights_turn_at_the_hand_over_and_then_decay_to_the_floor() -> None:
    method = ReBRAC(0.4, 0.5, 1000, 0.1)
    for updates, actor, critic in (
        (None, 0.4, 0.1),
        (0, 0.4, 0.0),
        (250, 0.3, 0.0),
        (499, 0.2004, 0.0),
        (500, 0.2, 0.0),
        (10**7, 0.2, 0.0),
    ):
        turned = method.coefficients_at(updates, 7)
        assert turned == {"actor_weight": pytest.approx(actor), "critic_weight": critic}
    assert ReBRAC(0.4, 1.0).coefficients_at(10**7, 10**7)["actor_weight"] == 0.4
    whole = ReBRAC(0.4, 0.5)  # over all of fine-tuning
    for updates, actor in ((250, 0.3), (499, 0.2004), (500, 0.2), (1000, 0.2)):
        assert whole.coefficients_at(updates, 1000)["actor_weight"] == pytest.approx(actor)
    assert whole.coefficients_at(0, 0)["actor_weight"] == 0.4  # a run without fine-tuning
    module = rebrac()
    assert module.coefficients["critic_weight"] == BETA_2
    module.hand_over()  # already the first update of fine-tuning has the other one
    assert module.coefficients["critic_weight"] == BETA_2_ONLINE


def test_a_row_whose_next_action_is_unknown_has_no_penalty() -> None:
    targets = []
    for weight in (0.0, 0.5):
        module = rebrac()
        module.method.critic_weight = weight
        module._set_coefficients()
        batch = batch_of(torch.Generator().manual_seed(3))
        batch["next_action_known"].zero_()
        module.training_step(torch.stack([batch]), 0)
        targets.append(module.take_metrics()["q/target"])
    assert targets[0] == targets[1]


def test_without_its_own_terms_it_is_td3_bc() -> None:
    """β₂ = 0, no LayerNorm, one critic, limits of ±1, and targets that stand still."""
    one = {"num_critics": 1, "subset_size": 1, "tau": 0.0, "learning_rate": LR, "gamma": GAMMA}
    alpha = 0.75
    method = ReBRAC(alpha / A, 1.0, 1, 0.0, 0.0, SIGMA, CLIP)
    ours = Unit(method, **one)
    td3 = Unit(TD3BC(SIGMA, CLIP), **one, alpha_offline=alpha)
    with torch.no_grad():
        for name in ("actor", "critics"):
            mine, theirs = ours.part(name), td3.part(name)
            pairs = zip(
                (*mine.weights, *mine.target), (*theirs.weights, *theirs.target), strict=True
            )
            for to, source in pairs:
                to.copy_(source)
    td3.generator.set_state(ours.generator.get_state())
    batches = torch.Generator().manual_seed(4)
    steps = torch.stack([batch_of(batches) for _ in range(10)])
    ours.training_step(steps, 0)
    td3.training_step(steps, 0)
    for name in ("actor", "critics"):
        assert_same(ours.networks(name), td3.networks(name), tolerance=1e-8)


class Unit(Alone):
    """With action limits of ±1."""

    LOW, HIGH = (-1.0, -1.0), (1.0, 1.0)


def test_how_it_starts() -> None:
    module = rebrac(hidden_sizes=(7, 6, 5))
    for name, limit, step in (("actor", 1e-3, 2), ("critics", 3e-3, 4)):
        for network in module.networks(name):
            assert len(network) == 3 * step + 2
            for parameter in network[-2:]:
                assert 0 < parameter.abs().max() <= limit
            for weight, bias in zip(network[:-2:step], network[1:-2:step], strict=True):
                bound = 1 / math.sqrt(weight.shape[1])
                assert 0.5 * bound < weight.abs().max() <= bound
                assert (bias == torch.tensor(0.1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actor_weight": -0.1}, "actor_weight is -0.1"),
        ({"actor_weight": math.nan}, "actor_weight is nan"),
        ({"actor_weight_end": 1.5}, "actor_weight_end is 1.5; it must be between 0 and 1"),
        ({"decay_updates": 0}, "decay_updates is 0"),
        ({"critic_weight": math.inf}, "critic_weight is inf"),
        ({"critic_weight_online": -1.0}, "critic_weight_online is -1.0"),
        ({"target_noise": -1.0}, "target_noise is -1.0"),
        ({"target_noise_clip": math.nan}, "target_noise_clip is nan"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"model.method.{message}"):
        ReBRAC(**options)
