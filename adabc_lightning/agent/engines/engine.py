"""What every engine is: something that is given a training step's work and makes its updates."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tensordict import TensorDict

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions

AddMetrics = Callable[[Metrics, int], None]
"""Takes metrics' sums over some updates, and their number."""


def ignore(*_: object) -> None:
    """An :data:`AddMetrics` for metrics that nobody wants."""


class Work(NamedTuple):
    """The arguments of a training step."""

    method: Method
    state: AgentState
    """Written in place."""
    batch: TensorDict
    """``[G, B]`` transitions; ``[G, R, B]`` of replicas in one."""
    draws: Draws
    """Of G updates, on the agent's device."""
    coefficients: Coefficients
    """Read anew by each update."""
    options: UpdateOptions
    delayed_after: tuple[bool | None, ...]
    """For each of the G updates whether the delayed steps follow; None for one that prepares."""


class Engine(Protocol):
    """Makes the updates of a training step."""

    name: str
    """Of what makes them: ``"eager"`` where something else did not work."""

    def __call__(self, work: Work, add: AddMetrics) -> None:
        """Runs the G updates of ``work`` and hands their metrics to ``add``."""
