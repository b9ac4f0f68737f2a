"""What a method of one's own may get wrong, found where it comes in and not deep in an engine.

See :class:`~adabc_lightning.agent.method.Method` for what is asked of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from adabc_lightning.agent.method import Method, Trained
from adabc_lightning.errors import UserError


def check_method(method: Any) -> None:
    """Whether it is one.

    Raises: UserError: it is none.
    """
    if not isinstance(method, Method):
        what = method.__name__ if isinstance(method, type) else repr(method)
        raise UserError(
            f"model.method is {what:.100}; it must be an instance of a subclass of "
            "adabc_lightning.agent.method.Method"
        )


def check_parts(parts: Mapping[str, Trained], method: Method) -> None:
    """Whether they are networks whose weights are known, actor and critics among them.

    Raises: UserError: they are not.
    """
    for name in ("actor", "critics"):
        if name not in parts:
            raise UserError(f"{_named(method)} has no part {name}; parts() must have one")
    for name, part in parts.items():
        if not isinstance(part, Trained):
            raise UserError(
                f"the part {name} of {_named(method)} is a {type(part).__name__}; it must be "
                "adabc_lightning.agent.method.Trained(network, learning_rate)"
            )
        if not hasattr(part.network, "weights"):
            raise UserError(
                f"the part {name} of {_named(method)} is a {type(part.network).__name__} without "
                "weights; it must have its parameters as that attribute, a sequence in the order "
                "in which update() takes them"
            )


def check_draws(draws: Mapping[str, Tensor], updates: int, method: Method) -> None:
    """Whether there are some for each update.

    Args:
        draws: what :meth:`Method.draw` has made, of any shape ``[G, *]``.
        updates: G.
        method: whose they are.
    Raises: UserError: there are not.
    """
    for name, drawn in draws.items():
        if not drawn.dim() or len(drawn) != updates:
            raise UserError(
                f"the draws {name} of {_named(method)} have the shape {list(drawn.shape)}; they "
                f"must begin with the {updates} updates that they are for"
            )


def check_follows(follows: Sequence[bool], updates: int, method: Method) -> None:
    """Whether :meth:`Method.delayed_after` has answered for each update.

    Raises: UserError: it has not; updates would be left out, or be said to be there.
    """
    if len(follows) != updates:
        raise UserError(
            f"delayed_after() of {_named(method)} returns {len(follows)} answers for {updates} "
            "updates; it must say of each whether delayed() follows"
        )


def check_metrics(metrics: Any, shape: Sequence[int], method: Method, step: str) -> None:
    """Whether they are scalars.

    Args:
        metrics: what its steps have returned.
        shape: of a scalar: ``[]``, or ``[R]`` of replicas in one.
        method: whose they are.
        step: the name of the one of its functions that made them.
    Raises: UserError: they are not.
    """
    if not isinstance(metrics, Mapping):
        raise UserError(
            f"{step}() of {_named(method)} returns a {type(metrics).__name__}; it must return its "
            "metrics, scalars by name"
        )
    for name, value in metrics.items():
        if not isinstance(value, Tensor):
            what = f"a {type(value).__name__}"
        elif value.shape != shape:
            what = f"of the shape {list(value.shape)}"
        elif value.requires_grad:
            what = "with a gradient"
        else:
            continue
        raise UserError(
            f"the metric {name} of {_named(method)} is {what}; it must be a tensor of one number "
            "without gradient, such as loss.detach()"
        )


def _named(method: Method) -> str:
    return f"model.method {type(method).__name__}"
