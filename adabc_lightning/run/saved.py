"""What the parts of a run save, declared beside them; checked before anything is made of a file.

A file without foreign objects may still hold a text where a number belongs, or a tensor of 10¹²
numbers in four bytes. A part's state is a :class:`Saved` model of the types below. What a model
cannot know, such as the sizes of this run's networks, is left to those who take the entries.
"""

from collections.abc import Callable
from typing import Annotated, Any, NoReturn, TypeVar

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from torch import Tensor

from adabc_lightning.errors import UserError

_LARGEST = 2**53  # of a counter; sums of a few of them are still sizes
FLOATS = (torch.float32, torch.float64)

Item = TypeVar("Item")


class Saved(BaseModel):
    """A mapping with certain entries; others are nobody's business."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)


def check(model: type[Saved], content: Any) -> None:
    """Whether a file's content is what a model says; nothing of it is copied.

    Raises: UserError: the first entry that is missing or wrong, by its path.
    """
    try:
        model.model_validate(content)
    except ValidationError as error:
        raise UserError(_sentence(error.errors(include_url=False)[0])) from None


def wrong(wanted: str) -> NoReturn:
    """For a validator: the value must be something else."""
    raise PydanticCustomError("wrong", "{wanted}", {"wanted": wanted})


def disagree(sentence: str) -> NoReturn:
    """For a validator of several entries: ``{where}`` stands for the path of what has them."""
    raise PydanticCustomError("disagree", "{sentence}", {"sentence": sentence})


def absent() -> Any:
    """The default of an entry that may be missing, but not None."""
    return Field(default=None)


def one_of(choose: Callable[[Any], type[Saved]]) -> PlainValidator:
    """Validates by a model that depends on the value."""
    return PlainValidator(lambda value: choose(value).model_validate(value))


def tensor(dimensions: int | None = None, *types: torch.dtype) -> PlainValidator:
    """A tensor with as many numbers as its size says, which some views have not."""

    def validate(value: Any) -> Tensor:
        plain = isinstance(value, Tensor) and value.layout is torch.strided
        if not plain or value.is_nested or value.is_quantized or value.device.type != "cpu":
            wrong("a dense tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            wrong("a tensor whose numbers are all in the file")
        if dimensions not in (None, value.ndim):
            wrong(f"a tensor of {dimensions} dimensions")
        if types and value.dtype not in types:
            wrong(f"a tensor of {' or '.join(map(str, types))}")
        return value

    return PlainValidator(validate)


def shown(value: Any) -> str:
    """A value of any kind in a few words."""
    if isinstance(value, Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {value.dtype}"
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return "a number of many digits"  # Python refuses to print the longest
    return f"{value!r:.40}"


def plain(right: Callable[[Any], bool], wanted: str) -> PlainValidator:
    """Whether a value is what a message says that it must be."""

    def validate(value: Any) -> Any:
        return value if right(value) else wrong(wanted)

    return PlainValidator(validate)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _is_number(value: Any) -> bool:
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    return right and abs(value) < 1e300  # also catches NaN


def _named(value: Any) -> Any:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        wrong("a mapping from names")
    return value


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else wrong("a list")


Count = Annotated[int, plain(_is_count, "a whole number, 0 or more and below 2⁵³")]
Number = Annotated[float, plain(_is_number, "a finite number")]
Text = Annotated[str, plain(lambda value: isinstance(value, str), "a text")]
Weights = Annotated[Tensor, tensor(None, *FLOATS, torch.float16, torch.bfloat16)]
Generator = Annotated[Tensor, tensor(1, torch.uint8)]
"""The state of one of PyTorch's."""
Named = Annotated[dict[str, Item], BeforeValidator(_named)]
"""A mapping from names."""
Listing = Annotated[list[Item], BeforeValidator(_listed)]
"""A list or a tuple."""


class NumpyGenerator(Saved):
    """The state of one of NumPy's, which checks the rest itself."""

    bit_generator: Text


def _sentence(error: Any) -> str:
    path = "/".join(f"{part!s:.40}" for part in error["loc"])
    if error["type"] == "missing":
        return f"{path} is missing"
    if error["type"] == "disagree":
        return error["ctx"]["sentence"].replace("{where}", path).removeprefix("/")
    wanted = error["ctx"]["wanted"] if error["type"] == "wrong" else "a mapping"
    return f"{path or 'its content'} is {shown(error['input'])}; it must be {wanted}"


def nested_counts(levels: int) -> Any:
    """The type of mappings of counters and flags, at any depth up to ``levels``."""
    leaf = plain(lambda value: isinstance(value, bool) or _is_count(value),
                 "a whole number, 0 or more and below 2⁵³")  # fmt: skip
    kind: Any = Annotated[Any, leaf]
    for _ in range(levels):
        kind = Annotated[Any, _mapping_or(leaf, TypeAdapter(dict[Any, kind]))]
    return kind


def _mapping_or(leaf: PlainValidator, mapping: TypeAdapter) -> PlainValidator:
    def validate(value: Any) -> Any:
        return mapping.validate_python(value) if isinstance(value, dict) else leaf.func(value)  # type: ignore[call-arg]

    return PlainValidator(validate)
