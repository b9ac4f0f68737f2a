"""Whether an engine makes the updates that the plain code makes, on a run's own batch.

A compiler or a driver can be wrong without a word (on PyTorch 2.11 every gradient of a compiled
update was zero): an agent that is not trained looks like one, for hours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from adabc_lightning.agent.state import AgentState, tensors

_ROUNDINGS = 2**10
"""A gradient is a sum over the batch of products of a few layers. Its relative error is at most the
unit roundoff times the roundings on the way to each term, times how much larger the terms are than
their sum: some ten times some ten for these networks, and ten to be safe."""
_LARGEST = 0.5
"""What an error may reach however coarse the numbers: an update that is missing has 1."""
_MOVED = 0.25
"""Of the weights: Adam moves one whose gradient is all rounding by a whole step in either
direction, so that their error is larger than the gradients'."""


def unit_roundoff(dtype: torch.dtype, device: torch.device) -> float:
    """Of the operands of matrix products, as ``torch.set_float32_matmul_precision`` has them."""
    if dtype is not torch.float32:
        return torch.finfo(dtype).eps / 2
    precision = torch.get_float32_matmul_precision()
    if precision == "medium":
        return 2**-9  # bfloat16
    return 2**-12 if precision == "high" and device.type == "cuda" else 2**-25  # TensorFloat-32


def disagreement(
    state: AgentState,
    before: Sequence[Tensor],
    found: Sequence[Tensor],
    expected: Sequence[Tensor],
    updates: int,
) -> str | None:
    """What rounding does not explain of the difference between two engines' updates.

    Args:
        state: which part each tensor belongs to.
        before: :func:`~adabc_lightning.agent.state.copied` from it, of any shapes ``[*]``.
        found, expected: the same after the same updates, by an engine and by the plain code.
        updates: how many.
    Returns: the rest of a sentence about the first part that disagrees, None where none does.
    """
    first = 0
    for name, part in state.items():
        weights = slice(first, first + len(tensors(part.weights)))
        trained = 0 if part.adam is None else len(part.adam.first_moments)
        moments = slice(weights.stop, weights.stop + trained)
        kinds = [("gradients", moments, None), ("weights", weights, _MOVED)]
        for kind, where, bound in kinds:
            error = _error(before[where], found[where], expected[where])
            roundoff = unit_roundoff(before[weights][0].dtype, before[weights][0].device)
            allowed = bound or min(_LARGEST, _ROUNDINGS * roundoff * updates)
            if not error <= allowed:  # also catches NaN
                return (
                    f"the {kind} of its {name} differ from the plain update's by {error:.1%}, "
                    f"where rounding explains {allowed:.1g}"
                )
        first += len(tensors(part))
    return None


def _error(before: Sequence[Tensor], found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Norm of the difference as a fraction of that of the expected change."""
    changes = [(b - a).double() for a, b in zip(before, expected, strict=True)]
    errors = [(b - a).double() for a, b in zip(expected, found, strict=True)]
    if not changes:
        return 0.0
    change = torch.stack([each.norm() for each in changes]).norm()
    error = torch.stack([each.norm() for each in errors]).norm()
    return float(error / change) if change > 0 else (0.0 if error == 0 else float("inf"))
