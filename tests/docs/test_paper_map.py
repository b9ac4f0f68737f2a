"""docs/paper_map.md names code, keys and files: all of them exist."""

import importlib
import re
from functools import reduce

import yaml
from paths import REPOSITORY

WORDS = re.findall(r"`([\w./]+)`", (REPOSITORY / "docs/paper_map.md").read_text(encoding="utf-8"))
MODULES = ("losses", "control", "td3bc", "module", "networks", "update", "scores")


def test_every_function_and_class_exists() -> None:
    names = [w for w in WORDS if w.split(".")[0] in (*MODULES, "callbacks", "data")]
    names = [name for name in names if not re.match(r"data\.[a-z_]+$", name)]  # keys
    assert len(names) > 20
    for name in names:
        parts = name.split(".")
        depth = 2 if parts[0] in ("callbacks", "data") else 1
        module = importlib.import_module(".".join(["adabc_lightning", *parts[:depth]]))
        assert reduce(getattr, parts[depth:], module) is not None, name


def test_every_key_exists() -> None:
    base = yaml.safe_load((REPOSITORY / "configs/base.yaml").read_text(encoding="utf-8"))
    groups = [group for group in base if isinstance(base[group], dict)]
    keys = [w.split(".") for w in WORDS if re.match(rf"({'|'.join(groups)})\.[a-z_]+$", w)]
    assert len(keys) > 20
    for group, name in keys:
        assert name in base[group], f"{group}.{name}"


def test_every_file_exists_and_none_is_left_out() -> None:
    files = {w for w in WORDS if re.search(r"\.(py|yaml)$", w)}
    methods = {f"configs/{w}.yaml" for w in WORDS if w.startswith("method/")}
    for name in files | methods:
        assert (REPOSITORY / name).exists(), name
    packaged = {f"configs/method/{path.name}" for path in REPOSITORY.glob("configs/method/*.yaml")}
    assert methods == packaged
    assert {f"experiments/{p.name}" for p in REPOSITORY.glob("experiments/fig*.yaml")} <= files
