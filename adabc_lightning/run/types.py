"""Arguments with limits: declared once, refused alike from a config and from Python.

jsonargparse checks what a config or a command line gives against the annotations, pydantic's
constraints included, before anything is made; :func:`declared` checks what Python gives.
Either way the refusal is :func:`adabc_lightning.run.words.wrong_value`.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Signature, signature
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from adabc_lightning.run.words import as_whole, wrong_value


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take it for 0 or 1
        raise ValueError("no number")
    return value


def _whole(value: Any) -> Any:
    """Also of a command line's words, which jsonargparse may hand on as they are."""
    if isinstance(value, str):
        return as_whole(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("no whole number")
        return int(value)
    return _no_flag(value)


Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_no_flag), Field(allow_inf_nan=False)]
Positive = Annotated[Whole, Field(ge=1)]
Count = Annotated[Whole, Field(ge=0)]
NonNegative = Annotated[Real, Field(ge=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
AboveZero = Annotated[Real, Field(gt=0)]
Seconds = AboveZero
Share = Annotated[Real, Field(ge=0, lt=1)]
"""What may be none of it, but not all."""
Limit = Annotated[float, BeforeValidator(_no_flag), Field(ge=0)]
"""Infinite for none."""
Sizes = Annotated[Sequence[Positive], Field(min_length=1)]
"""Units of a network's hidden layers."""

Class = TypeVar("Class", bound=type)


class _Shown:
    """The signature of a class as ``help`` shows it: plain types, which take a word each.

    Args:
        owner: the class; others that inherit its constructor show the same.
        init: its constructor.
    """

    def __init__(self, owner: type, init: Callable[..., None]) -> None:
        plain, (_, *parameters) = get_type_hints(init), signature(init).parameters.values()
        self._owner = owner
        self._signature = Signature(
            [each.replace(annotation=plain.get(each.name, each.annotation)) for each in parameters]
        )

    def __get__(self, instance: Any, owner: type) -> Signature:
        if instance is not None or owner.__init__ is not self._owner.__init__:  # type: ignore[misc]
            raise AttributeError("a constructor of its own has another signature")
        return self._signature


def declared(key: str) -> Callable[[Class], Class]:
    """Decorates a class: its constructor checks the arguments that are declared.

    Those are the ones with limits (``Annotated[…]``) or choices (``Literal[…]``); the others pass
    as they are. What concerns several arguments is for the constructor itself to check.

    Args:
        key: where a config has them: ``"data"`` for ``data.batch_size``.
    """

    def decorate(owner: Class) -> Class:
        init = owner.__init__  # type: ignore[misc]
        parameters = signature(init)
        hints = get_type_hints(init, include_extras=True)
        kinds = {name: kind for name, kind in hints.items() if _declares(kind)}
        adapters: dict[str, TypeAdapter] = {}

        @wraps(init)
        def checked(*args: Any, **kwargs: Any) -> None:
            if not adapters:  # they take a while, and not every class that is imported is made
                adapters.update({name: TypeAdapter(kind) for name, kind in kinds.items()})
            given = parameters.bind(*args, **kwargs)
            for name, value in given.arguments.items():
                try:
                    if name in adapters:
                        given.arguments[name] = adapters[name].validate_python(value)
                except ValidationError:
                    raise wrong_value(f"{key}.{name}", value, kinds[name]) from None
            init(*given.args, **given.kwargs)

        owner.__init__ = checked  # type: ignore[misc]
        owner.__signature__ = _Shown(owner, init)  # type: ignore[attr-defined]
        owner.declared_key = key  # type: ignore[attr-defined]
        return owner

    return decorate


def _declares(kind: Any) -> bool:
    return get_origin(kind) in (Annotated, Literal) or any(map(_declares, get_args(kind)))
