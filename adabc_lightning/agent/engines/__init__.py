"""How the G updates of a training step run: one by one, compiled, or as one CUDA graph.

All of them call the same functions of a method (:mod:`adabc_lightning.agent.method`); an engine
changes how fast they run and their last bits, never what they compute. One that does not work here
says so in one line and goes on as :class:`Eager`, or, on a GPU, as a graph of plain updates.
"""

from adabc_lightning.agent.engines.choice import ENGINES, make_engine
from adabc_lightning.agent.engines.compiled import Compiled
from adabc_lightning.agent.engines.cuda_graph import CompiledGraph, CudaGraph
from adabc_lightning.agent.engines.eager import Eager
from adabc_lightning.agent.engines.engine import AddMetrics, Engine, Work

__all__ = [
    "ENGINES",
    "AddMetrics",
    "Compiled",
    "CompiledGraph",
    "CudaGraph",
    "Eager",
    "Engine",
    "Work",
    "make_engine",
]
