"""What a run says of the libraries that made it, also where this one is not installed."""

import importlib.metadata
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest

from adabc_lightning import __version__
from adabc_lightning.__main__ import main
from adabc_lightning.callbacks.summary import PACKAGE
from adabc_lightning.commands.collect.card import library_versions
from adabc_lightning.commands.doctor.machine import packages
from adabc_lightning.run import versions
from adabc_lightning.run.versions import version

TINY = shlex.split(
    "fit --config hopper --schedule.offline_updates 2 --schedule.online_env_steps 1"
    " --schedule.updates_per_env_step 1 --schedule.evaluation_every 2 --evaluation.episodes 1"
    " --model.hidden_sizes [8] --data.batch_size 4 --trainer.enable_progress_bar false"
)


@pytest.fixture
def _unpacked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this package were a folder on the path and no more."""
    found = importlib.metadata.Distribution.from_name

    def all_but_this(name: str) -> Any:
        if name == "adabc_lightning":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", all_but_this)
    versions.installed.cache_clear()
    yield
    versions.installed.cache_clear()


def test_versions_are_those_that_were_installed() -> None:
    assert version("adabc_lightning") == __version__
    assert version("numpy") == numpy.__version__
    assert version("shlex") == "not installed"  # found, but without a version of its own
    assert version("no_such_package") == "not installed"


def test_a_build_that_the_installer_was_not_told_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("wheel_of_pypi")
    monkeypatch.setattr(versions, "installed", lambda name: "2.11.0")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for said in ("2.11.0+cu130", "2.11.1", None):
        module.__dict__["__version__"] = said
        wanted = said if said == "2.11.0+cu130" else "2.11.0"
        assert version("wheel_of_pypi") == wanted


@pytest.mark.usefixtures("_unpacked")
def test_a_run_from_a_folder_goes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--trainer.default_root_dir", "run"]) == 0
    summary = json.loads(Path("run", "summary.json").read_text())
    assert summary["finished"] is True
    assert summary["versions"]["adabc_lightning"] == f"{__version__} (not installed)"
    assert library_versions()["adabc_lightning_version"] == f"{__version__} (not installed)"
    (finding,) = packages()
    assert (finding.state, finding.found) == (
        *("note", "adabc_lightning runs from a folder, not installed"),
    )


def test_nothing_else_asks_for_a_version_that_may_not_be_there() -> None:
    asking = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "importlib.metadata" in path.read_text(encoding="utf-8")
    }
    assert asking == {"run/versions.py", "commands/doctor/machine.py"}
