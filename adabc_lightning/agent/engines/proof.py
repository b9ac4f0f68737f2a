"""Whether an engine makes the updates that the plain code makes, on a run's own batch.

A compiler or a driver can be wrong without a word (on PyTorch 2.11 every gradient of a compiled
update was zero): an agent that is not trained looks like one, for hours.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor
from torch.utils._pytree import tree_map_only

from adabc_lightning.agent.engines.eager import Eager
from adabc_lightning.agent.engines.engine import Work, ignore
from adabc_lightning.agent.engines.rounding import disagreement
from adabc_lightning.agent.state import Part, copied, restore


def prove(run: Callable[[], None], work: Work, which: Sequence[int]) -> str | None:
    """Makes some updates by an engine and by the plain code; the state stays what it was.

    Args:
        run: makes them by the engine.
        work: their arguments.
        which: of the G updates.
    Returns: None where they agree, else what the engine stumbled over or did otherwise.
    """
    state, before = work.state, copied(work.state)

    def after(make: Callable[[], None]) -> list[Tensor]:
        try:
            make()
            return copied(state)
        finally:
            restore(state, before)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler uses what PyTorch deprecates
            found = after(run)
    except Exception as error:  # whatever it stumbles over
        return _first_line(error)
    plain = Eager()
    expected = after(lambda: plain.make(work, which, ignore))
    products, updates = work.options.products, len(which)
    wrong = disagreement(state, before, found, expected, updates, products)
    if wrong is None:
        return None
    try:  # what rounding does is measured then, not estimated
        exact = in_float64(work)
        plain.make(exact, which, ignore)
    except Exception:  # a method of somebody's own may be of one type only; memory is short
        return wrong
    return disagreement(state, before, found, expected, updates, products, copied(exact.state))


def in_float64(work: Work) -> Work:
    """The same with copies of all its numbers, and no other products."""

    def double(tensor: Tensor) -> Tensor:
        copy = tensor.detach().clone()
        copy = copy.double() if copy.is_floating_point() else copy
        return copy.requires_grad_(tensor.requires_grad)

    def own(part: Part) -> Part:
        copy = tree_map_only(Tensor, double, part)
        if part.adam is None:
            return copy
        steps = [count.clone() for count in part.adam.steps]  # float32, as Adam's kernel has them
        return copy._replace(adam=copy.adam._replace(steps=steps))

    options = work.options
    return work._replace(
        state={name: own(part) for name, part in work.state.items()},
        batch=work.batch.apply(double),
        draws=tree_map_only(Tensor, double, work.draws),
        coefficients=tree_map_only(Tensor, double, work.coefficients),
        options=replace(
            options,
            action_low=double(options.action_low),
            action_high=double(options.action_high),
            products=None,
        ),
    )


def _first_line(error: Exception) -> str:
    """What an exception says first, and what a compiler in it does, without the pages around."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    compiler = [line for line in lines[1:] if "error: " in line]
    return ": ".join([*lines[:1], *compiler[:1]]) or type(error).__name__
