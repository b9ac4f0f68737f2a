"""Which engine a run has."""

import shutil
from collections.abc import Callable

import torch
from lightning.pytorch.utilities import rank_zero_warn

from adabc_lightning.agent.engines.compiled import Compiled
from adabc_lightning.agent.engines.cuda_graph import CompiledGraph, CudaGraph
from adabc_lightning.agent.engines.eager import Eager
from adabc_lightning.agent.engines.engine import Engine

# Compiling takes half a minute and saves a fifth of an update: it pays after a tenth of this.
_WORTH_COMPILING = 100_000

NAMED: dict[str, Callable[[], Engine]] = {
    "eager": Eager,
    "compiled": Compiled,
    "cuda_graph": CudaGraph,
    "compiled_graph": CompiledGraph,
}


def make_engine(
    name: str, device: torch.device, total_updates: int, before: str | None = None
) -> Engine:
    """The engine of a run.

    Args:
        name: one of :data:`NAMED`, or ``"auto"``: what the run had before on such a device, so that
            it goes on with the same bits; for a new one a CUDA graph on a GPU, elsewhere the
            compiled update where a run is long enough to earn back the half minute that it takes
            and a C++ compiler is installed, else the plain one.
        device: the agent's.
        total_updates: gradient updates of the whole schedule.
        before: the engine that made the updates of a resumed run; None where that is not known.
    """
    if name == "auto":
        if before in NAMED and (device.type == "cuda" or not before.endswith("graph")):
            name = before
        elif device.type == "cuda":
            name = "cuda_graph"
        elif total_updates < _WORTH_COMPILING:
            name = "eager"
        else:
            name = "compiled"
    if name == "compiled" and device.type == "cpu" and not any(map(shutil.which, ("g++", "c++"))):
        rank_zero_warn("the update is not compiled: no C++ compiler (g++) is installed")
        name = "eager"
    return NAMED[name]()
