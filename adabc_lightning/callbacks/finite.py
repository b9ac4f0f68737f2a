"""Whether all that an agent learns with is made of numbers."""

import math

import torch
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.hooks import run_callbacks
from adabc_lightning.errors import NotFinite


def agent_tensors(agent: OffToOnModule) -> dict[str, Tensor]:
    """All that an update reads and writes, and the sums of the metrics (``[]``), by name."""
    tensors = {name: tensor.detach() for name, tensor in agent.state_dict().items()}
    names: dict[Tensor, str] = {parameter: name for name, parameter in agent.named_parameters()}
    for optimizer in agent.trainer.optimizers:
        for parameter, state in optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    tensors[f"Adam's {key} of {names[parameter]}"] = state[key]
    return tensors | {f"sum of {name}": total for name, total in agent.sums.items()}


def all_tensors(agent: OffToOnModule) -> list[dict[str, Tensor]]:
    """Those of the agent, and of each callback that learns as well, of any shape ``[*]``."""
    learners = [callback.tensors() for callback in run_callbacks(agent.trainer)]
    return [agent_tensors(agent), *filter(None, learners)]


def check_all(agent: OffToOnModule) -> None:
    """Raises: NotFinite: as :func:`check_tensors`."""
    for tensors in all_tensors(agent):
        check_tensors(tensors)


def check_tensors(tensors: dict[str, Tensor]) -> None:
    """One pass over everything, one number fetched.

    Args:
        tensors: of any shape ``[*]``, by name; an empty one has nothing to check.
    Raises: NotFinite: with the name of the first tensor that holds NaN or infinities.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
    if not tensors:
        return
    norms = torch._foreach_norm(list(tensors.values()), math.inf)
    finite = torch.isfinite(torch.stack([norm.reshape(()) for norm in norms]))
    if bool(finite.all()):
        return
    name = list(tensors)[int((~finite).nonzero()[0])]
    bad = int((~torch.isfinite(tensors[name])).sum())
    raise NotFinite(f"{name} holds {bad} numbers of {tensors[name].numel()} that are not finite")
