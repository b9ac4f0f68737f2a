"""An agent in float64 without a trainer, and whether its parts are those of a plain reference."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec

B, O, A = 8, 5, 2  # noqa: E741
LOW, HIGH = (-1.0, -0.5), (2.0, 0.25)  # neither symmetric nor the same in both dimensions


class Alone(OffToOnModule):
    """With the Adams that a trainer would have made."""

    LOW, HIGH = LOW, HIGH

    def __init__(self, method: Method, **model: Any) -> None:
        spec = EnvironmentSpec("Test-v0", O, self.LOW, self.HIGH, None)
        two = {"num_critics": 2, "subset_size": 2, "hidden_sizes": (7, 6)}
        super().__init__(spec, method=method, **two | model)  # type: ignore[arg-type]
        self.double()
        self._adams = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._adams

    def networks(self, name: str, target: bool = False) -> list[list[Tensor]]:
        """A part's weights, a list for each member of an ensemble, copied."""
        part = self.part(name)
        weights = part.target if target else part.weights
        assert weights is not None
        if name != "critics":
            return [[weight.detach().clone() for weight in weights]]
        return [[w[member].detach().clone() for w in weights] for member in range(self.num_critics)]


def random_batch(generator: torch.Generator, **more: Tensor) -> TensorDict:
    """``[B]`` transitions, actions within the range, some terminals."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    fields = {
        "observation": normal(B, O),
        "action": normal(B, A).clamp(torch.tensor(LOW), torch.tensor(HIGH)).double(),
        "reward": normal(B),
        "next_observation": normal(B, O),
        "terminated": (torch.rand(B, generator=generator) < 0.3).double(),
        "online": torch.zeros(B, dtype=torch.float64),
    }
    return TensorDict({**fields, **more}, [B])


def fields_of(batch: TensorDict, *more: str) -> dict[str, Tensor]:
    """What a reference's update takes."""
    names = ("observation", "action", "reward", "next_observation", "terminated", *more)
    return {name: batch[name] for name in names}


def assert_same(ours: list[list[Tensor]], theirs: list[Any], tolerance: float = 1e-9) -> None:
    """Every weight of every network within ``tolerance``."""
    for mine, plain in zip(ours, theirs, strict=True):
        for weight, parameter in zip(mine, plain, strict=True):
            torch.testing.assert_close(weight, parameter.detach(), atol=tolerance, rtol=0)


def moved(before: list[list[Tensor]], after: list[list[Tensor]]) -> bool:
    """Whether each network has moved so far that an agreement says something."""
    return all(
        max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True)) > 1e-3
        for one, other in zip(before, after, strict=True)
    )
