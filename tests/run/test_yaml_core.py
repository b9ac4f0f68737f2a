"""YAML 1.2's core schema, against its table; what is written reads back in either version."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from paths import REPOSITORY

from adabc_lightning.env.options import read_env_kwargs
from adabc_lightning.errors import UserError
from adabc_lightning.run.yaml_core import RefusedError, dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("on", "off", "yes", "no", "Y", "1_000", "0b11", "1:30", "=")),
        *(
            ("true", True),
            ("True", True),
            ("FALSE", False),
            ("null", None),
            ("~", None),
            ("", None),
        ),
        *(("010", 10), ("-7", -7), ("+1", 1), ("08", 8), ("0o10", 8), ("0x1F", 31)),
        *(("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1.5e+3", -1500.0)),
        *((".inf", math.inf), ("-.INF", -math.inf), ("2001-01-02", "2001-01-02"), ("'1'", "1")),
    ],
)
def test_the_core_schema(text: str, value: Any) -> None:
    read = load_yaml(f"a: {text}")["a"]
    assert (type(read), read) == (type(value), value)


def test_not_a_number() -> None:
    assert math.isnan(load_yaml(".nan"))


def test_merge_keys_give_no_key_twice() -> None:
    text = "{x: &x {a: 1, b: 2}, deep: [{y: &y {<<: *x, a: 3}}], z: {<<: *y, b: 4}}"
    assert load_yaml(text)["z"] == {"a": 3, "b": 4}


@pytest.mark.parametrize("text", ["{a: 1, a: 1}", '{a: 1, "a": 2}', "- {b: {a: 1, c: 2, a: 3}}"])
def test_a_key_given_twice(text: str) -> None:
    with pytest.raises(RefusedError, match="'a' is given in line 1 and again in line 1"):
        load_yaml(text)


MERGED = "a0: &a0 {b: 1, c: 2}\n"
LAUGHS = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9))


def test_merges_that_grow_without_end_are_refused_before_they_do() -> None:
    assert load_yaml(MERGED + LAUGHS[: LAUGHS.index("a4")])["a3"] == {"b": 1, "c": 2}
    said = r"merge keys \(<<\) make 100,000 entries or more in line 6"
    with pytest.raises(RefusedError, match=said):
        load_yaml(MERGED + LAUGHS)
    many = load_yaml("".join(f"{i}: 1\n" for i in range(100_001)))  # its reader has a limit
    assert len(many) == 100_001
    with pytest.raises(RefusedError, match="entries or more in line 1"):
        load_yaml("a: &a {<<: *a}")


@pytest.mark.parametrize("text", ["!!int abc", "{a: !!int b}", "1" * 5000, "{a: 1, a: 1}", "{"])
def test_what_no_one_can_read_is_no_mapping_of_an_environment(text: str) -> None:
    with pytest.raises(UserError, match=r"^--env-kwargs is .*; it must be a mapping such as"):
        read_env_kwargs(text)


LOOKALIKES = st.from_regex(r"[-+0-9a-fox_.:e~]{1,6}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | LOOKALIKES
VALUES = st.recursive(SCALARS, lambda x: st.lists(x) | st.dictionaries(LOOKALIKES, x), max_leaves=5)


@given(VALUES)
def test_what_is_written_reads_back_in_either_version(value: Any) -> None:
    text = dump_yaml({"value": value})
    assert load_yaml(text) == yaml.safe_load(text) == {"value": value}


def test_the_packaged_files_mean_the_same_in_either_version() -> None:
    files = [
        path for name in ("configs", "experiments") for path in (REPOSITORY / name).rglob("*.yaml")
    ]
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert load_yaml(text) == yaml.safe_load(text), path
