"""What a checkpoint holds of an :class:`~adabc_lightning.agent.module.OffToOnModule`."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import model_validator
from torch import Tensor

from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import (
    FLOATS,
    Count,
    Generator,
    Listing,
    Named,
    Saved,
    Text,
    Weights,
    absent,
    check,
    disagree,
    shown,
    tensor,
)


class _Moments(Saved):
    step: Annotated[Tensor, tensor(0)]
    exp_avg: Weights
    exp_avg_sq: Weights


class _Group(Saved):
    params: Listing[Count]


class Adam(Saved):
    """What PyTorch saves of one: moments by the number of the parameter, groups of parameters."""

    state: dict[int, _Moments]
    param_groups: Listing[_Group]


class AgentProgress(Saved):
    """Of a kept policy."""

    gradient_updates: Count
    deployed: Text = absent()
    """Name of the part that is the run's policy; absent: the actor."""


class Engine(Saved):
    """What made the updates, on which kind of device, with how many threads and which products."""

    name: Text
    device: Text
    threads: Count
    matmul_precision: Text


class AgentCounters(AgentProgress):
    """And what an agent goes on with: its generator, and the metrics since their last row."""

    seed: Count
    generator: Generator
    sums: Named[Annotated[Tensor, tensor(0, *FLOATS)]]
    counts: Named[Count]
    online_updates: Count = absent()  # what 0.1.0 did not save
    added: Listing[Text] = absent()
    copies: Listing[Text] = absent()
    engine: Engine | None = None

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


def check_adam(state: Any, parameters: Sequence[Tensor], where: str) -> None:
    """Whether the saved state of an Adam is that of one with these parameters.

    Args:
        state: of the checkpoint.
        parameters: of any shape ``[*]``, in the optimiser's order.
        where: the state's path, for the message.
    Raises: UserError: it is not.
    """
    try:
        check(Adam, state)
    except UserError as error:
        raise UserError(f"{where}/{error}") from error
    indices = list(range(len(parameters)))
    groups, moments = state["param_groups"], state["state"]
    if [group["params"] for group in groups] != [indices]:
        raise UserError(f"{where}/param_groups is not one group of {len(indices)} parameters")
    if moments and sorted(moments) != indices:
        raise UserError(f"{where}/state is not of {len(indices)} parameters")
    for index, entry in moments.items():
        shape = list(parameters[index].shape)
        for name in ("exp_avg", "exp_avg_sq"):
            if list(entry[name].shape) != shape:
                raise UserError(
                    f"{where}/state/{index}/{name} is {shown(entry[name])}; it must be of shape "
                    f"{shape}"
                )
