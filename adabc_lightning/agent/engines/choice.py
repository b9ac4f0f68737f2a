"""Which engine a run has."""

import shutil
from collections.abc import Callable

import torch
from lightning.pytorch.utilities import rank_zero_warn

from adabc_lightning.agent.engines.compiled import Compiled
from adabc_lightning.agent.engines.cuda_graph import CompiledGraph, CudaGraph
from adabc_lightning.agent.engines.eager import Eager
from adabc_lightning.agent.engines.engine import Engine

_ON_CPU, _ON_GPU = ("eager", "compiled", 100_000), ("cuda_graph", "compiled_graph", 200_000)
"""The plain engine, the compiled one, and the updates of a run from which on that pays. Compiling
takes half a minute, which it has saved after a tenth of them on a CPU, nearly all on an H100."""

ENGINES: dict[str, Callable[[], Engine]] = {
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
        name: one of :data:`ENGINES`, or ``"auto"``: what the run had before on such a device, so
            that it goes on with the same bits; for a new one a CUDA graph on a GPU, elsewhere the
            plain update; either compiled where a run is long enough to earn back the half minute
            that it takes and, on a CPU, a C++ compiler is installed.
        device: the agent's.
        total_updates: gradient updates of the whole schedule.
        before: the engine that made the updates of a resumed run; None where that is not known.
    """
    if name == "auto":
        if before in ENGINES and (device.type == "cuda" or not before.endswith("graph")):
            name = before
        else:
            plain, compiled, worth = _ON_GPU if device.type == "cuda" else _ON_CPU
            name = plain if total_updates < worth else compiled
    if name == "compiled" and device.type == "cpu" and not any(map(shutil.which, ("g++", "c++"))):
        rank_zero_warn("the update is not compiled: no C++ compiler (g++) is installed")
        name = "eager"
    return ENGINES[name]()
