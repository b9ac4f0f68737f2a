"""Updates as a CUDA graph, compared with the plain ones before they are believed."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from adabc_lightning.agent.engines.compiled import Compiled
from adabc_lightning.agent.engines.eager import Eager
from adabc_lightning.agent.engines.engine import AddMetrics, Work, ignore
from adabc_lightning.agent.engines.proof import prove
from adabc_lightning.agent.state import Metrics, copied, restore


class CudaGraph:
    """G updates as one CUDA graph: the host launches one thing, and waits for nothing.

    A graph is captured for each pattern of updates that move the actor and each batch shape;
    the batch and the draws are copied into its own tensors, coefficients are read where they live.
    What it does is compared with the plain code before it is believed.
    """

    name = "cuda_graph"
    _of = ""  # what kind of updates

    def __init__(self, updates: Eager | None = None) -> None:
        self._updates = updates or Eager()
        self._graphs: dict[Any, _Captured] = {}

    def __call__(self, work: Work, add: AddMetrics) -> None:
        """See :class:`Engine`; the first call captures."""
        key = work.delayed_after, work.options.online, tuple(work.batch.batch_size)
        while self.name != "eager" and key not in self._graphs:
            self._capture(work, key)
        if self.name == "eager":
            self._updates(work, add)
        else:
            self._graphs[key].replay(work, add)

    def _capture(self, work: Work, key: Any) -> None:
        """Makes a graph and runs it once, for the proof; without one it gives up."""

        def capture() -> None:
            before = copied(work.state)
            captured = _Captured(self._updates, work)
            restore(work.state, before)
            captured.replay(work, ignore)
            self._graphs[key] = captured

        start = time.perf_counter()
        # Without CUDA, or of a method that waits for the host, there is none.
        if wrong := prove(capture, work, range(len(work.delayed_after))):
            wrong = wrong if torch.cuda.is_available() else "there is no GPU here; they are plain"
            rank_zero_warn(f"no CUDA graph of the {self._of}updates: {wrong}")
            self._graphs.pop(key, None)
            self._give_up()
        elif self._of and len(self._graphs) == 1:
            rank_zero_info(f"compiled the update in {time.perf_counter() - start:.0f} s")

    def _give_up(self) -> None:
        self.name, self._updates = "eager", Eager()


class CompiledGraph(CudaGraph):
    """A graph of compiled updates, of half the kernels; of the plain ones where that fails."""

    name = "compiled_graph"
    _of = "compiled "

    def __init__(self) -> None:
        super().__init__(Compiled())

    def _give_up(self) -> None:
        super()._give_up()
        if self._of and torch.cuda.is_available():
            self.name, self._of = "cuda_graph", ""
            self._graphs.clear()


class _Captured:
    """One graph, the tensors it reads, and the metrics it writes."""

    _WARM_UP = 3  # before a capture, so that libraries have made their handles and workspaces

    def __init__(self, run: Eager, work: Work) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._batch = work.batch.clone()
        self._draws = {name: drawn.clone() for name, drawn in work.draws.items()}
        work = work._replace(batch=self._batch, draws=self._draws)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self._WARM_UP):
                run.make(work, range(len(work.delayed_after)), ignore)
        torch.cuda.current_stream().wait_stream(stream)
        each: list[Metrics] = []
        with torch.cuda.graph(self._graph):
            run.make(work, range(len(work.delayed_after)), lambda metrics, _: each.append(metrics))
            self._sums = summed(each)

    def replay(self, work: Work, add: AddMetrics) -> None:
        """Runs the graph on the batch and the draws of ``work``."""
        for name, mine in self._batch.items():
            mine.copy_(work.batch.get(name), non_blocking=True)
        for name, mine in self._draws.items():
            mine.copy_(work.draws[name], non_blocking=True)
        self._graph.replay()
        for count, sums in self._sums.items():
            add(sums, count)


def summed(each: Sequence[Metrics]) -> dict[int, Metrics]:
    """Number of updates → the sums of the metrics of so many, by a few kernels for all of them.

    Args:
        each: of one update, which may lack what others have; scalars, or ``[R]`` of replicas.
    """
    values: dict[str, list[Tensor]] = {}
    for metrics in each:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    sums: dict[int, Metrics] = {}
    for count in sorted(set(map(len, values.values()))):
        some = {name: found for name, found in values.items() if len(found) == count}
        together = torch.stack([value for found in some.values() for value in found])
        totals = together.unflatten(0, (len(some), count)).sum(1)
        sums[count] = dict(zip(some, totals.unbind(), strict=True))
    return sums
