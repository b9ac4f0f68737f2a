"""Every public name is documented, with shapes where arrays go in or out; types are complete."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import REPOSITORY
from torch import Tensor

import adabc_lightning
from adabc_lightning import callbacks

ARRAY = re.compile(r"\b(Tensor|ndarray)\b")
# Aliases whose own docstring gives the shapes: mlp.Weights, envs.Policy, losses.TargetRule.
ALIAS = re.compile(r"tuple\[(torch\.)?Tensor, \.\.\.\]|Callable\[")
HAS_SUFFIX = re.compile(r"_[A-Z]+$")  # noise_BA is [B, A]
# "[T, A]"; a scalar; or where to look instead.
SHAPE = re.compile(r"\[[^\]]*\]|\bscalars?\b|\bmean\b|:(class|func|meth|data):`", re.IGNORECASE)


def modules() -> Iterator[Any]:
    for module in pkgutil.walk_packages(adabc_lightning.__path__, "adabc_lightning."):
        yield importlib.import_module(module.name)


def callables(module: Any) -> Iterator[tuple[str, Callable[..., Any] | None, str | None]]:
    """Name, function (None for a class without a constructor) and docstring of what is public."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        where = f"{module.__name__}.{name}"
        if inspect.isfunction(thing):
            yield where, thing, thing.__doc__
        elif inspect.isclass(thing):
            yield where, vars(thing).get("__init__"), thing.__doc__
            for member_name, member in vars(thing).items():
                if isinstance(member, property):
                    member = member.fget
                member = getattr(member, "__func__", member)
                if inspect.isfunction(member) and not member_name.startswith("_"):
                    # What overrides a method keeps its shapes.
                    docs = [
                        getattr(vars(base).get(member_name), "__doc__", None) or ""
                        for base in thing.__mro__
                    ]
                    yield f"{where}.{member_name}", member, docs[0] and "\n".join(docs)


def problem(function: Callable[..., Any] | None, docstring: str | None) -> str | None:
    """What is missing, None where nothing is."""
    if not (docstring or "").strip():
        return "no docstring"
    annotations = getattr(function, "__annotations__", {})
    arrays = [
        name
        for name, kind in annotations.items()
        if ARRAY.search(ALIAS.sub("", text := str(kind)))
        and not text.startswith(("typing.Callable", "collections.abc.Callable"))
        and not HAS_SUFFIX.search(name)
    ]
    if arrays and not SHAPE.search(docstring or ""):
        return f"no shapes of {', '.join(arrays)}"
    return None


def test_every_public_name_is_documented_with_shapes() -> None:
    found = [entry for module in modules() for entry in callables(module)]
    assert len(found) > 300
    problems = {name: problem(*rest) for name, *rest in found}
    assert {name: text for name, text in problems.items() if text} == {}
    for module in modules():
        assert module.__doc__, module.__name__


def test_the_check_finds_what_is_missing() -> None:
    def bare(x):
        return x

    def shapeless(values: np.ndarray) -> float:
        """Their largest."""
        return float(values.max())

    def shaped(values: np.ndarray) -> float:
        """The largest of ``[T]``."""
        return float(values.max())

    def suffixed(action_BA: Tensor) -> None:
        """Does nothing."""

    def returns(count: int) -> dict[str, Tensor]:
        """Some numbers."""
        return {}

    found = [problem(f, f.__doc__) for f in (bare, shapeless, shaped, suffixed, returns)]
    assert found == ["no docstring", "no shapes of values", None, None, "no shapes of return"]


@pytest.mark.parametrize("module", [adabc_lightning, callbacks])
def test_what_is_exported_is_in_the_documentation(module: Any) -> None:
    text = (REPOSITORY / "docs" / "python_api.md").read_text(encoding="utf-8")
    for name in module.__all__:
        assert hasattr(module, name)
        assert f"`{name}`" in text, name


def test_types_are_part_of_the_package() -> None:
    assert (Path(adabc_lightning.__file__).parent / "py.typed").is_file()
