"""What a Trainer, or a replica in its place, is asked for."""

from collections.abc import Iterable
from typing import TypeVar

from lightning import Callback, Trainer

Kind = TypeVar("Kind", bound=Callback)


def callbacks_of(trainer: Trainer | None) -> list[Callback]:
    """The list itself; an empty one where a module is used without a trainer."""
    return [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]


def first_of(callbacks: Iterable[Callback], kind: type[Kind]) -> Kind | None:
    """The first callback of a kind; None where there is none."""
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def find(trainer: Trainer | None, kind: type[Kind]) -> Kind | None:
    """The first of a trainer's callbacks of a kind; None where there is none."""
    return first_of(callbacks_of(trainer), kind)
