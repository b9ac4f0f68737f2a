"""What acts in training is what the newest weights say, wherever they lie."""

import numpy as np
import pytest
import torch

from adabc_lightning.agent import live_policy
from adabc_lightning.agent.method import Method
from adabc_lightning.agent.methods import RLPD, TD3BC
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.agent.spec import EnvironmentSpec

SPEC = EnvironmentSpec("Test-v0", 3, (-1.0, -0.5), (2.0, 0.25), None)
OBSERVATION, NOISE = np.array([0.1, -0.2, 0.3]), np.array([0.5, -1.5])
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def module(method: Method, seed: int = 0) -> OffToOnModule:
    agent = OffToOnModule(SPEC, hidden_sizes=(8, 8), method=method, seed=seed)
    agent.actor.normalize(Normalization(torch.full((3,), 0.2 + seed), torch.full((3,), 3.0)))
    return agent


@pytest.mark.parametrize("place", ["here", "elsewhere", pytest.param("cuda", marks=on_gpu)])
@pytest.mark.parametrize("method", [TD3BC(), RLPD()])
def test_the_newest_weights_act_as_a_batch_does(
    method: Method, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In NumPy from their own memory, or fetched as from a device; a batch is PyTorch's."""
    if place == "elsewhere":
        monkeypatch.setattr(live_policy, "elsewhere", lambda tensor: True)
    agent = module(method).to("cuda" if place == "cuda" else "cpu")
    seen = []

    def acts_anew() -> None:
        found = agent.act(OBSERVATION)
        together = agent.act(np.stack([OBSERVATION, OBSERVATION]))
        np.testing.assert_allclose(together[1], found, atol=1e-6)
        assert np.abs(agent.explore(OBSERVATION, NOISE, 0.1) - found).min() > 1e-3
        seen.append(found.tobytes())

    acts_anew()
    with torch.no_grad():  # in place, as an update does
        agent.actor.weights[1].add_(0.1)
    acts_anew()
    weight = agent.actor.weights[3]
    weight.data = weight.data + 0.1  # in the place of the old ones, as replicas do
    acts_anew()
    agent.load_state_dict(module(method, seed=1).state_dict())  # the normalization as well
    acts_anew()
    assert len(set(seen)) == 4
    expected = module(method, seed=1).act(OBSERVATION)
    np.testing.assert_array_equal(agent.act(OBSERVATION), expected)
