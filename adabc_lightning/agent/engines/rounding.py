"""What rounding explains of the difference between two engines' updates, and what it does not."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adabc_lightning.agent import float32
from adabc_lightning.agent.state import AgentState

_ROUNDINGS = 2**13
"""A gradient is a sum over the batch of products of a few layers. Its relative error is at most the
unit roundoff times the roundings on the way to each term, times how much larger the terms are than
their sum: some ten times some hundred, where a conservative critic takes values of actions from
each other that are nearly the same, and ten to be safe."""
_LARGEST = 0.5
"""What an error may reach however coarse the numbers: an update that is missing has 1."""
_MOVED = 0.25
"""Of the weights: Adam moves one whose gradient is all rounding by a whole step in either
direction, so that their error is larger than the gradients'."""
_TIMES = 8
"""An engine may differ from the plain update by so many times the plain update's own distance from
float64, where that is more than the estimate above, as where large numbers cancel in a sum."""


def unit_roundoff(
    dtype: torch.dtype, device: torch.device, products: torch.dtype | None = None
) -> float:
    """Of the operands of matrix products.

    Args:
        dtype, device: of the weights.
        products: what networks multiply in, where that is another type; float32 otherwise is as
            ``torch.set_float32_matmul_precision`` has it.
    """
    dtype = products or dtype
    if dtype is not torch.float32:
        return torch.finfo(dtype).eps / 2
    precision = torch.get_float32_matmul_precision()
    if precision == "medium":  # bfloat16, unless oneDNN is exact here
        return 2**-25 if device.type == "cpu" and float32.exact() else 2**-9
    return 2**-12 if precision == "high" and device.type == "cuda" else 2**-25  # TensorFloat-32


def disagreement(
    state: AgentState,
    before: Sequence[Tensor],
    found: Sequence[Tensor],
    expected: Sequence[Tensor],
    updates: int,
    products: torch.dtype | None = None,
    exact: Sequence[Tensor] | None = None,
) -> str | None:
    """What rounding does not explain of the difference between two engines' updates.

    Args:
        state: which part each tensor belongs to.
        before: :func:`~adabc_lightning.agent.state.copied` from it, of any shapes ``[*]``.
        found, expected: the same after the same updates, by an engine and by the plain code.
        updates: how many.
        products: what networks multiply in; None for the type of their weights.
        exact: the same after the plain updates in float64, so that what rounding does is measured;
            None: it is estimated alone.
    Returns: the rest of a sentence about the first part that disagrees, None where none does.
    """
    first = 0
    for name, part in state.items():
        count, trained = len(part.weights), 0 if part.adam is None else len(part.adam.steps)
        sizes = [count, trained, trained, trained, 0 if part.target is None else count]
        ends = [first + sum(sizes[: index + 1]) for index in range(len(sizes))]
        kinds = ["weights", "gradients", "squared gradients", "steps", "target"]
        weight = part.weights[0]
        roundoff = unit_roundoff(weight.dtype, weight.device, products)
        gradients = min(_LARGEST, _ROUNDINGS * roundoff * updates)
        bounds = [_MOVED, gradients, 2 * gradients, 0.0, _MOVED]
        members = max(0, part.weights[0].dim() - 2)  # of an ensemble, of a stack of agents
        table = list(zip(kinds, sizes, ends, bounds, strict=True))
        for kind, size, end, allowed in [*table[1:4], table[0], table[4]]:  # causes first
            where = slice(end - size, end)
            stacked = 0 if kind == "steps" else members
            error = _error(before[where], found[where], expected[where], stacked)
            if exact is not None:
                rounding = _error(before[where], expected[where], exact[where], stacked)
                allowed = max(allowed, min(_LARGEST, _TIMES * rounding))
            if not error <= allowed:  # also catches NaN
                return (
                    f"the {kind} of its {name} differ from the plain update's by {error:.2g} of "
                    f"their change, where rounding explains {allowed:.2g}"
                )
        first = ends[-1]
    return None


def _error(
    before: Sequence[Tensor], found: Sequence[Tensor], expected: Sequence[Tensor], members: int
) -> float:
    """Norm of the difference as a fraction of that of the expected change.

    The largest one of all members, which the first so many dimensions count. What the plain code
    itself makes of numbers that are not finite is for others to say.
    """

    def norms(after: Sequence[Tensor], origin: Sequence[Tensor]) -> Tensor:
        differences = [(a - b).double() for a, b in zip(after, origin, strict=True)]
        squares = [
            each.square().flatten(min(members, each.dim())).sum(-1)
            if each.dim() > members
            else each.square()
            for each in differences
        ]
        return torch.stack([each for each in squares if each.dim() == members]).sum(0).sqrt()

    if not before or not all(torch.isfinite(each).all() for each in expected):
        return 0.0
    change, error = norms(expected, before), norms(found, expected)
    return float(torch.where(error == 0, 0.0, error / change).amax())
