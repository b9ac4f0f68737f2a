"""What a checkpoint holds of an :class:`~adabc_lightning.agent.module.OffToOnModule`."""

from typing import Annotated

from pydantic import model_validator
from torch import Tensor

from adabc_lightning.run.checkpoint_content import Adam
from adabc_lightning.run.saved import (
    FLOATS,
    Count,
    Generator,
    Listing,
    Named,
    Saved,
    Weights,
    disagree,
    tensor,
)


class AgentProgress(Saved):
    """Of a kept policy."""

    gradient_updates: Count


class AgentCounters(AgentProgress):
    """And what an agent goes on with: its generator, and the metrics since their last row."""

    seed: Count
    generator: Generator
    sums: Named[Annotated[Tensor, tensor(0, *FLOATS)]]
    counts: Named[Count]

    @model_validator(mode="after")
    def _means(self) -> "AgentCounters":
        if self.sums.keys() != self.counts.keys() or not all(self.counts.values()):
            disagree("{where}/sums and {where}/counts disagree")
        return self


class SavedActor(Saved):
    """The entries of a kept policy that are the agent's."""

    agent: AgentProgress
    state_dict: Named[Weights]


class SavedAgent(SavedActor):
    """The entries of a run's checkpoint that are the agent's."""

    agent: AgentCounters
    optimizer_states: Listing[Adam]
