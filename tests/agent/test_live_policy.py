"""What acts in training is what the newest weights say, wherever they lie."""

import numpy as np
import pytest
import torch

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import RLPD, TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.agent.spec import EnvironmentSpec

SPEC = EnvironmentSpec("Test-v0", 3, (-1.0, -0.5), (2.0, 0.25), None)
OBSERVATION, NOISE = np.array([0.1, -0.2, 0.3]), np.array([0.5, -1.5])


def module(method: Method) -> OffToOnModule:
    torch.manual_seed(0)
    return OffToOnModule(SPEC, hidden_sizes=(8, 8), method=method)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
        ),
    ],
)
@pytest.mark.parametrize("method", [TD3BC(), RLPD()])
def test_the_newest_weights_act_as_on_the_cpu(method: Method, device: str) -> None:
    agent, reference = module(method).to(device), module(method)

    def agree() -> np.ndarray:
        found, expected = agent.act(OBSERVATION), reference.act(OBSERVATION)
        np.testing.assert_array_equal(found, expected)
        drawn = [each.explore(OBSERVATION, NOISE, 0.1) for each in (agent, reference)]
        np.testing.assert_array_equal(*drawn)
        together = agent.act(np.stack([OBSERVATION, OBSERVATION]))
        np.testing.assert_allclose(together[1], found, atol=1e-6)
        return found

    first = agree()
    with torch.no_grad():  # in place, as an update does
        for each in (agent, reference):
            each.actor.weights[1].add_(0.1)
    second = agree()
    for each in (agent, reference):  # in the place of the old ones, as replicas do
        weight = each.actor.weights[3]
        weight.data = weight.data + 0.1
    third = agree()
    for each in (agent, reference):
        each.actor.normalize(Normalization(torch.full((3,), 0.2), torch.full((3,), 3.0)))
    last = agree()
    assert len({action.tobytes() for action in (first, second, third, last)}) == 4


def test_an_agent_that_moves_acts_on() -> None:
    agent, half = module(TD3BC()), module(TD3BC()).double()
    before = agent.act(OBSERVATION)
    assert np.array_equal(before, half.float().act(OBSERVATION))
