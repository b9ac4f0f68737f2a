"""For every test, also in the processes it starts: no W&B, and one thread (networks are tiny)."""

import os
from collections.abc import Iterator

import matplotlib.font_manager
import pytest

os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A process with a home of its own would list the fonts anew, and say so where that takes long.
os.environ.setdefault("MPLCONFIGDIR", matplotlib.get_cachedir())


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """The command line flushes denormals for the whole process; hypothesis wants them back."""
    yield
    import torch

    torch.set_flush_denormal(False)
