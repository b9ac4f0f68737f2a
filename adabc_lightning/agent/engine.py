"""How the G updates of a training step run: one by one, compiled, or as one CUDA graph.

All three call the same functions of a method (:mod:`adabc_lightning.agent.method`); an engine
changes how fast they run and their last bits, never what they compute. One that does not work here
says so in one line and goes on as :class:`Eager`.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.method import Method
from adabc_lightning.agent.products import products_in
from adabc_lightning.agent.proof import disagreement
from adabc_lightning.agent.state import (
    AgentState,
    Dials,
    Draws,
    Metrics,
    UpdateOptions,
    copied,
    restore,
)

# Compiling takes half a minute and saves a fifth of an update: it pays after a tenth of this.
_WORTH_COMPILING = 100_000

AddMetric = Callable[[str, Tensor, int], None]
"""Takes a metric's name, its sum over some updates, and their number."""

Step = Callable[[AgentState, TensorDict, Draws, Dials, UpdateOptions], Metrics]
"""A method's :meth:`~adabc_lightning.agent.method.Method.update`, ``delayed`` or ``prepare``."""


class Work(NamedTuple):
    """The arguments of a training step."""

    method: Method
    state: AgentState
    """Written in place."""
    batch: TensorDict
    """``[G, B]`` transitions."""
    draws: Draws
    """Of G updates, on the agent's device."""
    dials: Dials
    """Read anew by each update."""
    options: UpdateOptions
    moves: tuple[bool | None, ...]
    """For each of the G updates whether the delayed steps follow; None for one that prepares."""


class Engine(Protocol):
    """Makes the updates of a training step."""

    name: str
    """Of what makes them: ``"eager"`` where something else did not work."""

    def __call__(self, work: Work, add: AddMetric) -> None:
        """Runs the G updates of ``work`` and hands their metrics to ``add``."""


class Eager:
    """One update after the other, as written: the inner loop of Algorithm 1."""

    name = "eager"

    def _steps(self, method: Method) -> tuple[Step, Step, Step]:
        """What makes every update's steps, the delayed ones, and those that prepare."""
        return method.update, method.delayed, method.prepare

    def __call__(self, work: Work, add: AddMetric) -> None:
        """See :class:`Engine`."""
        self.make(work, range(len(work.moves)), add)

    def make(self, work: Work, which: Iterable[int], add: AddMetric) -> None:
        """Some of the G updates of ``work``."""
        with products_in(work.options.products):
            self._make(work, which, add)

    def _make(self, work: Work, which: Iterable[int], add: AddMetric) -> None:
        update, delayed, prepare = self._steps(work.method)
        batches = work.batch.unbind(0)  # in half the time of one by one
        for g in which:
            draws = {name: drawn[g] for name, drawn in work.draws.items()}
            arguments = work.state, batches[g], draws, work.dials, work.options
            moves = work.moves[g]
            metrics = prepare(*arguments) if moves is None else update(*arguments)
            if moves and work.method.gathers:
                before = [i for i in range(g) if work.moves[i]]
                since = slice(before[-1] + 1 if before else 0, g + 1)
                draws = {name: drawn[since] for name, drawn in work.draws.items()}
                arguments = work.state, work.batch[since], draws, work.dials, work.options
            if moves:
                metrics = metrics | delayed(*arguments)
            for name, value in metrics.items():
                add(name, value, 1)


class Compiled(Eager):
    """Losses, gradients, Adam and Polyak fused by ``torch.compile`` into a function each.

    The compiled code is kept in PyTorch's cache (``TORCHINDUCTOR_CACHE_DIR``), so the next run
    starts in seconds. What it does is compared with the plain code before it is believed.
    """

    name = "compiled"

    def __init__(self) -> None:
        # The gradients are part of the functions, not taken of them.
        torch._dynamo.config.trace_autograd_ops = True
        # Called a hundred times a second: their arguments pass through C++, not Python.
        torch._inductor.config.cpp_wrapper = True
        self._functions: tuple[Step, Step, Step] | None = None
        self._tried: set[tuple[bool | None, bool]] = set()

    def _steps(self, method: Method) -> tuple[Step, Step, Step]:
        """Each is compiled at its first call; an engine is a run's, which has one method."""
        if self._functions is None:
            steps = method.update, method.delayed, method.prepare
            options: dict[str, Any] = {"guard_filter_fn": _may_change}
            update, delayed, prepare = (
                torch.compile(step, fullgraph=True, dynamic=False, options=options)
                for step in steps
            )
            self._functions = update, delayed, prepare
        return self._functions

    def __call__(self, work: Work, add: AddMetric) -> None:
        """See :class:`Engine`; the first call of each phase compiles."""
        kinds = {(moves, work.options.online) for moves in work.moves}
        if self.name == "compiled" and not self._tried.issuperset(kinds):
            start = time.perf_counter()
            which = sorted(work.moves.index(moves) for moves, _ in kinds - self._tried)
            # The very slices of the batch that follow: others would be compiled for, too.
            if wrong := prove(lambda: self.make(work, which, _ignore), work, which):
                rank_zero_warn(f"the update is not compiled: {wrong}")
                self.name, self._functions = "eager", super()._steps(work.method)
            else:
                rank_zero_info(f"compiled the update in {time.perf_counter() - start:.0f} s")
            self._tried |= kinds
        super().__call__(work, add)


def _may_change(guards: Sequence[Any]) -> list[bool]:
    """Which of a compiled function's guards are looked at in each call.

    Not those of modules, functions and classes that it finds by name, nor of a TensorDict's
    insides: they stay what they are, and are most of them. Numbers and tensors are compared as
    ever.
    """
    values = ("CONSTANT_MATCH", "EQUALS_MATCH", "TENSOR_MATCH")
    return [
        guard.guard_type in values
        or not (guard.is_global or guard.guard_type == "NOT_PRESENT_IN_GENERIC_DICT")
        for guard in guards
    ]


class CudaGraph:
    """G updates as one CUDA graph: the host launches one thing, and waits for nothing.

    A graph is captured for each pattern of updates that move the actor and each batch shape;
    the batch and the draws are copied into its own tensors, dials are read where they live. What
    it does is compared with the plain code before it is believed.
    """

    name = "cuda_graph"
    _of = ""  # what kind of updates

    def __init__(self, updates: Eager | None = None) -> None:
        self._updates = updates or Eager()
        self._graphs: dict[Any, _Captured] = {}

    def __call__(self, work: Work, add: AddMetric) -> None:
        """See :class:`Engine`; the first call captures."""
        key = work.moves, work.options.online, tuple(work.batch.batch_size)
        if self.name != "eager" and key not in self._graphs:

            def capture() -> None:
                before = copied(work.state)
                captured = _Captured(self._updates, work)
                restore(work.state, before)
                captured.replay(work, _ignore)
                self._graphs[key] = captured

            # Without CUDA, or of a method that waits for the host, there is none.
            if wrong := prove(capture, work, range(len(work.moves))):
                rank_zero_warn(f"no CUDA graph of the {self._of}updates: {wrong}")
                self._graphs.pop(key, None)
                self._give_up()
        if self.name == "eager":
            self._updates(work, add)
        elif key in self._graphs:
            self._graphs[key].replay(work, add)
        else:
            self(work, add)

    def _give_up(self) -> None:
        self.name, self._updates = "eager", Eager()


class CompiledGraph(CudaGraph):
    """A graph of compiled updates, which have fewer kernels; of the plain ones where that fails.

    No GPU has run it yet: ``auto`` does not take it.
    """

    name = "compiled_graph"
    _of = "compiled "

    def __init__(self) -> None:
        super().__init__(Compiled())

    def _give_up(self) -> None:
        super()._give_up()
        if self._of and torch.cuda.is_available():
            self.name, self._of = "cuda_graph", ""
            self._graphs.clear()


def prove(run: Callable[[], None], work: Work, which: Sequence[int]) -> str | None:
    """Makes some updates by an engine and by the plain code; the state stays what it was.

    Args:
        run: makes them by the engine.
        work: their arguments.
        which: of the G updates.
    Returns: None where they agree, else what the engine stumbled over or did otherwise.
    """
    state, before = work.state, copied(work.state)

    def after(make: Callable[[], None]) -> list[Tensor]:
        try:
            make()
            return copied(state)
        finally:
            restore(state, before)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler uses what PyTorch deprecates
            found = after(run)
    except Exception as error:  # whatever it stumbles over
        return first_line(error)
    expected = after(lambda: Eager().make(work, which, _ignore))
    return disagreement(state, before, found, expected, len(which), work.options.products)


def _ignore(*_: object) -> None:
    """For metrics that nobody wants."""


class _Captured:
    """One graph, the tensors it reads, and the sums of metrics it writes."""

    _WARM_UP = 3  # before a capture, so that libraries have made their handles and workspaces

    def __init__(self, run: Eager, work: Work) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._graph = torch.cuda.CUDAGraph()
        self._batch = work.batch.clone()
        self._draws = {name: drawn.clone() for name, drawn in work.draws.items()}
        work = work._replace(batch=self._batch, draws=self._draws)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self._WARM_UP):
                run.make(work, range(len(work.moves)), _ignore)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._graph):
            run.make(work, range(len(work.moves)), self._add)

    def _add(self, name: str, value: Tensor, count: int) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] = self._counts.get(name, 0) + count

    def replay(self, work: Work, add: AddMetric) -> None:
        """Runs the graph on the batch and the draws of ``work``."""
        self._batch.update_(work.batch)
        for name, given in work.draws.items():
            self._draws[name].copy_(given, non_blocking=True)
        self._graph.replay()
        for name, total in self._sums.items():
            add(name, total, self._counts[name])


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


def first_line(error: Exception) -> str:
    """What an exception says first, without the pages that compilers add."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
