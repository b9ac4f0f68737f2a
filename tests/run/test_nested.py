"""Nested configs by their dotted keys."""

from typing import Any

import pytest

from adabc_lightning.run.nested import at


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"a": {"b": 3}}, 3),
        ({"a": {"b": None}}, None),
        ({"a": {}}, "nothing"),
        ({"a": None}, "nothing"),
        ({"a": [3]}, "nothing"),
        (None, "nothing"),
    ],
)
def test_a_value_by_its_dotted_key(config: Any, found: Any) -> None:
    assert at(config, "a.b", "nothing") == found
