"""IQL against a plain one, and what it promises."""

import math
from typing import Any

import pytest
import torch
from agreement import HIGH, LOW, Alone, B, assert_same, fields_of, moved, random_batch
from plain_iql import PlainIQL

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import AWAC, IQL, ReBRAC
from adabc_lightning.errors import UserError

# So much tau and lr that errors would show, and weights that reach their largest.
GAMMA, TAU, LR, BETA, EXPECTILE, LARGEST, LOG_STD = 0.9, 0.1, 3e-3, 2.0, 0.8, 1.5, (-0.2, 0.1)
UNITS = (7, 6)


def iql(dropout: float = 0.0, **model: Any) -> Alone:
    method = IQL(BETA, EXPECTILE, LARGEST, LOG_STD, dropout)
    constants = {"gamma": GAMMA, "tau": TAU, "learning_rate": LR, "policy_delay": 1}
    return Alone(method, **constants | model)


def plain(module: Alone) -> PlainIQL:
    (actor,), (value,) = module.networks("actor"), module.networks("value")
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    constants = GAMMA, TAU, LR, BETA, EXPECTILE, LARGEST, LOG_STD
    return PlainIQL(actor, module.networks("critics"), value, low, high, *constants)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("log_std", [(-0.1, 0.05), (0.3, -0.4)])  # within its limits, and beyond
def test_fifty_updates_agree_with_the_plain_reference(
    log_std: tuple[float, float], dropout: float
) -> None:
    module = iql(dropout)
    with torch.no_grad():
        module.actor.log_std.copy_(torch.tensor(log_std))
    agent = plain(module)
    names = ("actor", "critics", "value")
    start = {name: module.networks(name) for name in names}
    batches = torch.Generator().manual_seed(1)
    masks = torch.Generator()
    masks.set_state(module.generator.get_state())
    for _ in range(10):  # of five updates each
        steps = [random_batch(batches) for _ in range(5)]
        module.training_step(torch.stack(steps), 0)
        kept_GBU = (torch.rand(5, B, sum(UNITS), generator=masks) >= 0.25) / 0.75
        for step, kept_BU in zip(steps, kept_GBU.double(), strict=True):
            kept = kept_BU.split(UNITS, 1) if dropout else None
            agent.update(**fields_of(step), kept=kept)
    assert module.gradient_updates == 50
    assert_same(module.networks("actor"), [agent.actor])
    assert_same(module.networks("value"), [agent.value])
    assert_same(module.networks("critics"), agent.critics)
    assert_same(module.networks("critics", target=True), agent.targets)
    for name in names:
        assert moved(start[name], module.networks(name))


def test_it_has_no_target_but_the_critics_and_acts_with_its_own_deviation() -> None:
    module = iql(dropout=0.9)
    assert {name for name, _ in module.named_children()} == {
        "actor",
        "critics",
        "critics_target",
        "value",
    }
    with torch.no_grad():
        module.actor.log_std.copy_(torch.tensor([0.05, -3.0]))
    scale_A = module.exploration_scale()
    assert scale_A == pytest.approx([math.exp(0.05), math.exp(-0.2)])
    # Nothing is dropped while acting: twice the same action, that of the actor itself.
    observation = random_batch(torch.Generator().manual_seed(0))["observation"][0].numpy()
    action = module.float().act(observation)
    assert (action == module.act(observation)).all()
    expected = module.actor(torch.from_numpy(observation).float().unsqueeze(0))[0]
    torch.testing.assert_close(torch.from_numpy(action), expected.detach())


@pytest.mark.parametrize("method", [IQL(), AWAC()], ids=["IQL", "AWAC"])
def test_it_starts_orthogonal_with_gain_sqrt_2_in_every_layer(method: Method) -> None:
    module = Alone(method, hidden_sizes=(7, 7), policy_delay=1)
    for name in module.trained_parts:
        for network in module.networks(name):
            for weight in network[: len(network) // 2 * 2 : 2]:
                rows = weight if weight.shape[0] <= weight.shape[1] else weight.T
                torch.testing.assert_close(
                    rows @ rows.T, 2 * torch.eye(len(rows)).double(), atol=1e-5, rtol=0
                )
            assert all((bias == 0).all() for bias in network[1::2])


def test_without_dropout_no_random_number_is_drawn() -> None:
    module = iql()
    before = module.generator.get_state()
    module.training_step(torch.stack([random_batch(torch.Generator().manual_seed(1))]), 0)
    assert torch.equal(before, module.generator.get_state())


def test_no_action_beside_the_data_s_is_evaluated() -> None:
    """The actor's weights have no part in what value and critics learn."""
    results = []
    for shift in (0.0, 1.0):
        module = iql()
        with torch.no_grad():
            module.actor.weights[0].add_(shift)
        batches = torch.Generator().manual_seed(2)
        module.training_step(torch.stack([random_batch(batches) for _ in range(3)]), 0)
        results.append(module.networks("value") + module.networks("critics"))
    assert_same(*results, tolerance=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"largest_weight": math.inf}, "largest_weight is inf"),
        ({"expectile": 1.0}, "expectile is 1.0; it must be above 0 and below 1"),
        ({"expectile": math.nan}, "expectile is nan"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"log_std_range": (0.5, 1.0)}, "log_std_range is .*it must hold 0"),
        ({"log_std_range": (math.nan, 1.0)}, "log_std_range is"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"model.method.{message}"):
        IQL(**options)


def test_a_delay_that_nothing_waits_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.policy_delay is 2, but of .* IQL "):
        iql(policy_delay=2)
    assert iql(policy_delay=None).policy_delay == 1  # of itself it is what the method can have
    assert Alone(ReBRAC(), policy_delay=None).policy_delay == 2
