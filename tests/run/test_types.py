"""Limits that are declared: the same sentence from the command line and from Python."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.parser import Parser
from adabc_lightning.errors import UserError
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.types import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Real,
    Seconds,
    Sizes,
    Whole,
    declared,
)
from adabc_lightning.run.words import in_words

Few = Annotated[Whole, Field(ge=1, le=9)]
Below = Annotated[Real, Field(ge=0, lt=1)]


@declared("part")
class Part:
    """Has one of each.

    Args:
        given: nothing is declared of it.
    """

    def __init__(
        self,
        given: Any = None,
        positive: Positive = 1,
        count: Count = 0,
        real: Real = 0.0,
        more: NonNegative = 0.0,
        fraction: Fraction = 0.5,
        below: Below = 0.5,
        few: Few | None = None,
        seconds: Seconds | None = None,
        choice: Literal["a", "b"] = "a",
        sizes: Sizes = (256,),
    ) -> None:
        self.values = {name: value for name, value in locals().items() if name != "self"}


WRONG: list[tuple[str, Any, str]] = [
    ("positive", 0, "part.positive is 0; it must be 1 or more"),
    ("positive", 1.5, "part.positive is 1.5; it must be a whole number, 1 or more"),
    ("positive", True, "part.positive is true; it must be a whole number, 1 or more"),
    ("positive", None, "part.positive is null; it must be a whole number, 1 or more"),
    ("count", -1, "part.count is -1; it must be 0 or more"),
    ("real", float("inf"), "part.real is inf; it must be a number"),
    ("more", float("nan"), "part.more is nan; it must be a number, 0 or more"),
    ("more", "abc", "part.more is abc; it must be a number, 0 or more"),
    ("fraction", 2.0, "part.fraction is 2.0; it must be between 0 and 1"),
    ("fraction", float("nan"), "part.fraction is nan; it must be a number between 0 and 1"),
    ("fraction", "abc", "part.fraction is abc; it must be a number between 0 and 1"),
    ("below", 1.0, "part.below is 1.0; it must be at least 0 and below 1"),
    ("few", 10, "part.few is 10; it must be between 1 and 9 or null"),
    ("seconds", 0, "part.seconds is 0; it must be above 0 or null"),
    ("choice", "c", "part.choice is c; it must be a or b"),
    ("sizes", [4, 0], "part.sizes is [4, 0]; it must be a list of whole numbers, each 1 or more, "),
    ("sizes", [], "part.sizes is []; it must be a list of whole numbers, each 1 or more, at least"),
    ("sizes", 3, "part.sizes is 3; it must be a list of whole numbers, each 1 or more, at least "),
]


def sentence(make: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_both_ways_say_the_same(name: str, value: Any, said: str) -> None:
    from_python = sentence(lambda: Part(**{name: value}))
    assert from_python.startswith(said)
    parser = Parser(parser_mode="omegaconf+")
    parser.add_class_arguments(Part, "part")
    spelt = {"None": "null", "True": "true"}.get(str(value), value)
    assert sentence(lambda: parser.parse_args([f"--part.{name}={spelt}"])) == from_python
    if value is not None:  # to jsonargparse an object's None is the default
        assert sentence(lambda: parser.parse_object({"part": {name: value}})) == from_python


def test_what_is_right_passes() -> None:
    values = {"positive": np.int64(3), "more": 2, "few": None, "seconds": 0.5, "sizes": (4, 5)}
    made = Part("x", **values).values
    assert made == Part().values | values | {"given": "x"}
    assert type(made["positive"]) is int  # plain, so that a checkpoint can hold it
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        Part(other=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("spelt", ["1000", "1e3", "+1E+3", "1000.0", "1.0e3", "10.0e2"])
def test_a_whole_number_may_be_spelt_as_one_likes(spelt: str) -> None:
    parser = Parser(parser_mode="omegaconf+")
    parser.add_class_arguments(Part, "part")
    given = parser.parse_args([f"--part.positive={spelt}"]).part.positive
    assert given == Part(positive=float(spelt)).values["positive"] == 1000
    assert type(given) is int


@pytest.mark.parametrize(
    "spelt", ["1_000", "1.5", "1.2345e3", "1e-3", "1e999", "inf", "nan", "٣", "1e3x"]
)
def test_other_spellings_are_none(spelt: str) -> None:
    parser = Parser(parser_mode="omegaconf+")
    parser.add_class_arguments(Part, "part")
    said = sentence(lambda: parser.parse_args([f"--part.positive={spelt}"]))
    assert said.startswith(f"part.positive is {spelt}; it must be a whole number, 1 or more")


def test_a_dataclass_is_checked_when_it_is_changed() -> None:
    @declared("length")
    @dataclass(frozen=True)
    class Length:
        updates: Positive = 1

    with pytest.raises(UserError, match=r"^length\.updates is 0; it must be 1 or more$"):
        replace(Length(2), updates=0)


def test_types_with_limits_in_words() -> None:
    assert in_words(Positive) == "a whole number, 1 or more"
    assert in_words(Positive | None) == "a whole number, 1 or more, or null"
    assert in_words(Fraction) == "a number between 0 and 1"
    assert in_words(Real) == "a number"


def test_help_shows_plain_types_of_whoever_has_the_constructor() -> None:
    class Heir(Schedule):
        """With the same constructor."""

    class Other(OffToOnModule):
        def __init__(self, spec: EnvironmentSpec, width: int) -> None:
            """Its own."""

    shown = str(signature(OffToOnModule))
    assert "gamma: float = 0.99, tau: float = 0.005, policy_delay: Optional[int] = None" in shown
    assert "Annotated" not in shown
    assert "self" not in signature(OffToOnModule).parameters
    assert signature(Heir) == signature(Schedule)

    @declared("data")
    class Called:
        def __init__(self, share: Fraction = 0.5) -> None:
            """Any."""

        def __call__(self, x: int) -> int:
            return x

    assert list(signature(Called).parameters) == ["share"]
    assert list(signature(Called()).parameters) == ["x"]  # of what it is called with
    assert list(signature(Other).parameters) == ["spec", "width"]
