"""What PyTorch saves of an Adam, whoever steps it."""

from collections.abc import Sequence
from typing import Annotated, Any

from torch import Tensor

from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import Count, Listing, Saved, Weights, check, shown, tensor


class _Moments(Saved):
    step: Annotated[Tensor, tensor(0)]
    exp_avg: Weights
    exp_avg_sq: Weights


class _Group(Saved):
    params: Listing[Count]


class Adam(Saved):
    """Moments by the number of the parameter, and one or more groups of parameters."""

    state: dict[int, _Moments]
    param_groups: Listing[_Group]


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
