"""docs/paper_map.md names code, keys and files: all of them exist."""

import importlib
import re
from functools import reduce

import yaml
from paths import REPOSITORY

WORDS = re.findall(r"`([\w./]+)`", (REPOSITORY / "docs/paper_map.md").read_text(encoding="utf-8"))
FILES = [word for word in WORDS if re.search(r"\.(py|yaml)$", word)]
DOTTED = [word.split(".") for word in WORDS if "." in word and word not in FILES]


def test_every_function_and_class_exists() -> None:
    names = [parts for parts in DOTTED if len(parts) > 2]
    assert len(names) > 20
    for room, module, *parts in names:
        found: object = importlib.import_module(f"adabc_lightning.{room}.{module}")
        assert reduce(getattr, parts, found) is not None, parts


def test_every_key_exists() -> None:
    base = yaml.safe_load((REPOSITORY / "configs/base.yaml").read_text(encoding="utf-8"))
    keys = [parts for parts in DOTTED if len(parts) == 2]
    assert len(keys) > 20
    for group, name in keys:
        assert name in base[group], f"{group}.{name}"


def test_every_file_exists_and_none_is_left_out() -> None:
    methods = {f"configs/{word}.yaml" for word in WORDS if word.startswith("method/")}
    for name in methods.union(FILES):
        assert (REPOSITORY / name).exists(), name
    packaged = {f"configs/method/{path.name}" for path in REPOSITORY.glob("configs/method/*.yaml")}
    assert methods == packaged
    assert {f"experiments/{p.name}" for p in REPOSITORY.glob("experiments/fig*.yaml")} <= set(FILES)
