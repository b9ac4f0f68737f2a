"""What parts declare of their state: what a model lets pass, and what it says."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field, model_validator
from test_checkpoint_content import MISSING, changed
from torch import Tensor

from adabc_lightning.callbacks.saved import SavedRun
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.saved import check_run, read_run
from adabc_lightning.run.saved import (
    Count,
    Listing,
    Named,
    Number,
    Saved,
    absent,
    check,
    disagree,
    nested_counts,
    one_of,
    tensor,
)

V010 = Path(__file__).with_name("v010")


class Long(Saved):
    length: Count = Field(alias="the length")


class Part(Saved):
    """One of each."""

    count: Count
    later: Number | None = absent()
    weights: Named[Annotated[Tensor, tensor(1)]]
    parts: Listing[Annotated[Any, one_of(lambda value: Long)]]
    loops: Named[nested_counts(2)]  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _as_many(self) -> "Part":
        if self.count != len(self.parts):
            disagree(f"{{where}}/parts are {len(self.parts)}, {{where}}/count is {self.count}")
        return self


class Whole(Saved):
    part: Part


RIGHT: dict[str, Any] = {
    "part": {
        "count": 1,
        "weights": {"a": torch.zeros(3)},
        "parts": [{"the length": 3, "more": object()}],
        "loops": {"a": 1, "b": {"c": True, "d": {"e": 0}}},
    }
}
WRONG = [
    ("part", 3, "part is 3; it must be a mapping"),
    ("part/count", MISSING, "part/count is missing"),
    ("part/count", 2**53, "part/count is a number of many digits; it must be a whole number"),
    ("part/count", 2, "part/parts are 1, part/count is 2"),
    ("part/weights", {3: torch.zeros(3)}, "part/weights is a dict of 1; it must be a mapping from"),
    ("part/weights/a", torch.zeros(3, 1), "part/weights/a is a tensor [3, 1] of torch.float32; it"),
    ("part/parts", {}, "part/parts is a dict of 0; it must be a list"),
    ("part/parts/0", {}, "part/parts/0/the length is missing"),
    ("part/parts/0/the length", None, "part/parts/0/the length is None; it must be a whole"),
    ("part/loops/b/c", "x", "part/loops/b/c is 'x'; it must be a whole number"),
    ("part/loops/b/d/e", {}, "part/loops/b/d/e is a dict of 0; it must be a whole number"),
]


@pytest.mark.parametrize(("place", "value", "said"), WRONG, ids=[case[0] for case in WRONG])
def test_the_first_wrong_entry_is_said_by_its_path(place: str, value: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Whole, changed(RIGHT, place, value))
    assert str(caught.value).startswith(said)


def test_what_is_right_passes_and_stays_as_it_is() -> None:
    check(Whole, RIGHT)
    for later in (None, 0.5):
        check(Whole, changed(RIGHT, "part/later", later))
    weights = RIGHT["part"]["weights"]["a"]
    assert Whole.model_validate(RIGHT).part.weights["a"] is weights  # not a copy
    with pytest.raises(UserError, match=r"^its content is 3; it must be a mapping$"):
        check(Whole, 3)


@pytest.mark.parametrize("name", ["adaptive", "awac", "balanced"])
def test_every_callback_s_state_has_a_model_and_others_pass(name: str) -> None:
    content = read_run(V010 / name / "checkpoints" / "last.ckpt")
    known = SavedRun.model_fields["callbacks"].annotation.model_fields.keys()  # type: ignore[union-attr]
    assert content["callbacks"].keys() <= known
    check_run(changed(content, "callbacks/MyOwn", {"anything": 3}))
    for callback in content["callbacks"]:
        with pytest.raises(UserError, match=f"^callbacks/{callback} is 3; it must be a mapping$"):
            check_run(changed(content, f"callbacks/{callback}", 3))
