"""Checks of plain values: what passes is silent, what does not is refused in one sentence.

They are put together: ``mapping(optional(count))`` is one from names to whole numbers or None.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from adabc_lightning.errors import UserError

Check = Callable[[Any, str], None]
"""Raises :class:`UserError` unless a value is right; the text says where it is."""

_LARGEST = 2**53  # of a counter; sums of a few of them are still sizes


def refuse(value: Any, where: str, wanted: str) -> None:
    """Raises: UserError: always."""
    if isinstance(value, Tensor) and value.is_nested:
        shown = "a nested tensor"
    elif isinstance(value, Tensor):
        shown = f"a tensor {list(value.shape)} of {value.dtype}"
    elif isinstance(value, (dict, list, tuple)):
        shown = f"a {type(value).__name__} of {len(value)}"
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        shown = "a number of many digits"  # Python refuses to print the longest
    else:
        shown = f"{value!r:.40}"
    raise UserError(f"{where} is {shown}; it must be {wanted}")


def count(value: Any, where: str) -> None:
    """A whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        refuse(value, where, "a whole number, 0 or more and below 2⁵³")


def number(value: Any, where: str) -> None:
    """A finite number."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not right or not abs(value) < 1e300:  # also catches NaN
        refuse(value, where, "a finite number")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        refuse(value, where, "true or false")


def text(value: Any, where: str) -> None:
    """A text."""
    if not isinstance(value, str):
        refuse(value, where, "a text")


def tensor(dimensions: int | None = None, *types: torch.dtype) -> Check:
    """A tensor with as many numbers as its size says, which some views have not."""

    def check(value: Any, where: str) -> None:
        plain = isinstance(value, Tensor) and value.layout is torch.strided
        if not plain or value.is_nested or value.is_quantized or value.device.type != "cpu":
            refuse(value, where, "a dense tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            refuse(value, where, "a tensor whose numbers are all in the file")
        if dimensions not in (None, value.ndim):
            refuse(value, where, f"a tensor of {dimensions} dimensions")
        if types and value.dtype not in types:
            refuse(value, where, f"a tensor of {' or '.join(map(str, types))}")

    return check


def optional(check: Check) -> Check:
    """Nothing, or what passes a check."""
    return lambda value, where: None if value is None else check(value, where)


def listing(check: Check) -> Check:
    """A list or tuple of what passes a check."""

    def each(value: Any, where: str) -> None:
        if not isinstance(value, (list, tuple)):
            refuse(value, where, "a list")
        for index, item in enumerate(value):
            check(item, f"{where}/{index}")

    return each


def mapping(check: Check, keys: type = str) -> Check:
    """A mapping from names, or from indices, to what passes a check."""

    def each(value: Any, where: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, keys) for key in value):
            refuse(value, where, "a mapping from names" if keys is str else "a mapping")
        for key, item in value.items():
            check(item, f"{where}/{key!s:.40}")

    return each


def record(entries: Mapping[str, Check], may_lack: Collection[str] = ()) -> Check:
    """A mapping with certain keys; others are nobody's business."""

    def each(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse(value, where or "its content", "a mapping")
        for key, check in entries.items():
            if key in value:
                check(value[key], f"{where}/{key}".lstrip("/"))
            elif key not in may_lack:
                raise UserError(f"{where}/{key} is missing".lstrip("/"))

    return each


def both(first: Check, second: Check) -> Check:
    """What passes two checks."""

    def check(value: Any, where: str) -> None:
        first(value, where)
        second(value, where)

    return check
