"""For every test, also in the processes it starts: no W&B, and one thread (networks are tiny).

Tests that run commands as a user would take :func:`as_a_user` and so the defaults, W&B included.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import matplotlib.font_manager
import pytest

# Files of minutes, the longest first: one that is begun last leaves the other processors idle.
LONG = (
    *("agent/test_engine", "commands/test_experiment_ray", "run/test_resume"),
    *("commands/test_experiment", "run/test_distributed", "commands/test_methods"),
    *("agent/test_products", "replicas/test_replicas", "docs/test_examples"),
    *("commands/test_configs", "run/test_process", "commands/test_bench", "commands/test_export"),
    *("run/test_output", "commands/test_cli", "run/test_kill", "data/test_log"),
)

os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A process with a home of its own would list the fonts anew, and say so where that takes long.
os.environ.setdefault("MPLCONFIGDIR", matplotlib.get_cachedir())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files first, in every process alike."""
    place = {Path(__file__).parent / f"{name}.py": index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """The command line flushes denormals for the whole process; hypothesis wants them back."""
    yield
    import torch

    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def global_seed() -> Iterator[None]:
    """What ``seed_everything`` leaves in the environment is the seed of agents that have none."""
    yield
    os.environ.pop("PL_GLOBAL_SEED", None)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A run that a signal ended keeps listening, for a late twin of it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured on a busy machine is not for the user's own runs."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def as_a_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of somebody new, also for processes: a home, no W&B account, so W&B offline."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    return home
