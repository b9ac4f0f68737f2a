"""What a type annotation accepts, as the end of a sentence about a value that it does not."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from inspect import isabstract
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from adabc_lightning.errors import UserError

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}
_YAML = {"None": "null", "True": "true", "False": "false"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", dict: "mappings"}

_PACKAGE = "adabc_lightning."


def as_whole(text: str) -> int:
    """Digits, or 1e6, which YAML and Python read as 1000000.0; 1_000 is none.

    Raises: ValueError: it is no whole number.
    """
    if not re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?(e\+?[0-9]{1,2})?", text.lower()):
        raise ValueError("no whole number")
    number = int(text) if text.lstrip("+-").isdigit() else float(text)
    if number != int(number):
        raise ValueError("no whole number")
    return int(number)


def wrong_value(key: str, value: Any, kind: Any) -> UserError:
    """What to say about a value that an annotation does not allow.

    Args:
        key: with dots, as a config has it.
        value: from Python, or as YAML spells it.
        kind: the annotation.
    """
    try:
        shown = str(value)
    except ValueError:  # Python refuses to print the longest
        shown = "a number of many digits"
    wanted = in_words(kind, value)
    return UserError(f"{key} is {_YAML.get(shown, f'{shown:.100}')}; it must be {wanted}")


def in_words(kind: Any, value: Any = None) -> str:
    """What a type annotation accepts: ``"a whole number, 1 or more, or null"``.

    Args:
        kind: the annotation; its limits are those of pydantic's ``Field``.
        value: what was given instead; where it is a number only the limits are said.
    """
    *most, last = dict.fromkeys(_alternatives(kind, value))
    comma = "," if any(words.endswith((" or more", " of them")) for words in most) else ""
    return f"{', '.join(most)}{comma} or {last}" if most else last


def is_function(kind: Any) -> bool:
    """Whether an annotation is that of a function."""
    return get_origin(kind) is Callable


def _alternatives(kind: Any, value: Any) -> list[str]:
    if kind in _WORDS:
        return [_WORDS[kind]]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return [_limited(arguments[0], _limits(arguments[1:]), value)]
    if origin is Literal:
        return [str(choice) for choice in arguments]
    if origin in (Union, UnionType):
        every = [word for argument in arguments for word in _alternatives(argument, value)]
        return sorted(every, key="null".__eq__)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["a mapping"]
    if isinstance(origin, type) and issubclass(origin, Iterable):
        item, limits = arguments[0], ""
        if get_origin(item) is Annotated:
            item, *constraints = get_args(item)
            limits = _limits(constraints)
        kinds = get_args(item) if get_origin(item) in (Union, UnionType) else (item,)
        items = " or ".join(
            _PLURALS.get(get_origin(kind) or kind, getattr(kind, "__name__", "items"))
            for kind in kinds
        )
        return [f"a list of {items}" + (f", each {limits}" if limits else "")]
    if is_function(kind):
        return [
            "the dotted path of a function whose arguments and result are annotated, (q: Tensor) "
            "-> Tensor, such as adabc_lightning.agent.losses.minimum"
        ]
    if isabstract(kind):
        packaged = [part for part in _subclasses(kind) if part.__module__.startswith(_PACKAGE)]
        names = ", ".join(sorted(part.__name__ for part in packaged))
        where = packaged[0].__module__.rpartition(".")[0]
        return [f"the dotted path of a class ({where} has {names})"]
    return [f"a {getattr(kind, '__name__', kind)}"]


def _limited(base: Any, limits: str, value: Any) -> str:
    (words,) = _alternatives(base, value)
    if not limits:
        return words
    if base in (int, float):
        joined = f"{words}, {limits}" if limits.endswith(" or more") else f"{words} {limits}"
        return limits if _is_number(base, value) else joined
    return f"{words}, {limits}"


def _limits(constraints: Iterable[Any]) -> str:
    """Those of numbers and of a list's length; empty without any."""
    limits = [limit for field in constraints for limit in getattr(field, "metadata", ())]
    has = {name: getattr(limit, name) for limit in limits
           for name in ("ge", "gt", "le", "lt", "min_length") if hasattr(limit, name)}  # fmt: skip
    if "min_length" in has:
        return f"at least {has['min_length']} of them"
    match has:
        case {"ge": low, "le": high}:
            return f"between {low} and {high}"
        case {"ge": low} if len(has) == 1:
            return f"{low} or more"
    names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{names[name]} {bound}" for name, bound in has.items())


def _is_number(base: type, value: Any) -> bool:
    """Whether a value is a finite one of the kind, or spelt so: only its size is wrong."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    if base is int:  # neither 2.0 nor 1_000
        return re.fullmatch(r"[-+]?[0-9]+", str(value)) is not None
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _subclasses(kind: Any) -> list[Any]:
    return [each for part in kind.__subclasses__() for each in (part, *_subclasses(part))]
