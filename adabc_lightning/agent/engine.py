"""How the G updates of a training step run: one by one, compiled, or as one CUDA graph.

All three call the same two functions of :mod:`adabc_lightning.agent.update`; an engine changes how
fast they run and their last bits, never what they compute. One that does not work here says so in
one line and goes on as :class:`Eager`.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.update import (
    AgentState,
    UpdateOptions,
    update_actor_and_targets,
    update_critics,
)

# Compiling takes half a minute and saves a fifth of an update: it pays after a tenth of this.
_WORTH_COMPILING = 100_000

AddMetric = Callable[[str, Tensor, int], None]
"""Takes a metric's name, its sum over some updates, and their number."""


class Draws(NamedTuple):
    """The randomness of G updates, on the agent's device."""

    noise_GBA: Tensor
    """Standard normal, for the target action."""
    policy_noise_GBA: Tensor | None
    """Standard normal, for the actor's loss; None for a deterministic policy."""
    subset_GM: Tensor
    """Indices of the drawn critics."""


class Work(NamedTuple):
    """The arguments of a training step."""

    state: AgentState
    """Written in place."""
    batch: TensorDict
    """``[G, B]`` transitions."""
    draws: Draws
    alpha: Tensor
    """Scalar, read anew by each update."""
    options: UpdateOptions
    moves: tuple[bool, ...]
    """For each of the G updates whether it moves the actor and the targets."""


class Engine(Protocol):
    """Makes the updates of a training step."""

    def __call__(self, work: Work, add: AddMetric) -> None:
        """Runs the G updates of ``work`` and hands their metrics to ``add``."""


class Eager:
    """One update after the other, as written: the inner loop of Algorithm 1."""

    def __init__(self) -> None:
        self._critics, self._actor = update_critics, update_actor_and_targets

    def __call__(self, work: Work, add: AddMetric) -> None:
        """See :class:`Engine`."""
        state, batch, (noise_GBA, policy_noise_GBA, subset_GM), alpha, options, moves = work
        for g, move_actor in enumerate(moves):
            step = batch[g]
            metrics = self._critics(state, step, noise_GBA[g], subset_GM[g], options)
            if move_actor:
                noise_BA = None if policy_noise_GBA is None else policy_noise_GBA[g]
                metrics |= self._actor(state, step, alpha, options, noise_BA)
            for name, value in metrics.items():
                add(name, value, 1)


class Compiled(Eager):
    """Losses, gradients, Adam and Polyak fused by ``torch.compile`` into two functions.

    The compiled code is kept in PyTorch's cache (``TORCHINDUCTOR_CACHE_DIR``), so the next run
    starts in seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        # The gradients are part of the functions, not taken of them.
        torch._dynamo.config.trace_autograd_ops = True
        # Called a hundred times a second: their arguments pass through C++, not Python.
        torch._inductor.config.cpp_wrapper = True
        self._critics = torch.compile(update_critics, fullgraph=True, dynamic=False)
        self._actor = torch.compile(update_actor_and_targets, fullgraph=True, dynamic=False)
        self._tried: set[bool] = set()

    def __call__(self, work: Work, add: AddMetric) -> None:
        """See :class:`Engine`; the first call compiles."""
        if self._tried.issuperset(work.moves):
            super().__call__(work, add)
            return
        start, before = time.perf_counter(), copied(work.state)
        metrics: list[tuple[str, Tensor, int]] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's compiler uses what PyTorch deprecates
                super().__call__(work, lambda *metric: metrics.append(metric))
        except Exception as error:  # whatever the compiler stumbles over
            rank_zero_warn(f"the update is not compiled: {first_line(error)}")
            restore(work.state, before)
            self._critics, self._actor = update_critics, update_actor_and_targets
            metrics, self._tried = [], {True, False}
            super().__call__(work, lambda *metric: metrics.append(metric))
        else:
            self._tried.update(work.moves)
            rank_zero_info(f"compiled the update in {time.perf_counter() - start:.0f} s")
        for metric in metrics:
            add(*metric)


class CudaGraph:
    """G updates as one CUDA graph: the host launches one thing, and waits for nothing.

    A graph is captured for each pattern of updates that move the actor and each batch shape;
    the batch and the draws are copied into its own tensors, α is read where it lives.
    """

    def __init__(self) -> None:
        self._eager = Eager()
        self._graphs: dict[Any, _Captured] | None = {}

    def __call__(self, work: Work, add: AddMetric) -> None:
        """See :class:`Engine`; the first call captures."""
        if self._graphs is None:
            self._eager(work, add)
            return
        key = work.moves, tuple(work.batch.batch_size)
        if key not in self._graphs:
            before = copied(work.state)
            try:
                self._graphs[key] = _Captured(self._eager, work)
            except Exception as error:  # no CUDA here, or an objective that waits for the host
                rank_zero_warn(f"no CUDA graph of the updates: {first_line(error)}")
                self._graphs = None
            restore(work.state, before)
        if self._graphs is None:
            self._eager(work, add)
        else:
            self._graphs[key].replay(work, add)


class _Captured:
    """One graph, the tensors it reads, and the sums of metrics it writes."""

    _WARM_UP = 3  # before a capture, so that libraries have made their handles and workspaces

    def __init__(self, run: Eager, work: Work) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._graph = torch.cuda.CUDAGraph()
        self._batch = work.batch.clone()
        noise, policy_noise, subset = work.draws
        policy_noise = None if policy_noise is None else policy_noise.clone()
        self._draws = Draws(noise.clone(), policy_noise, subset.clone())
        work = work._replace(batch=self._batch, draws=self._draws)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self._WARM_UP):
                run(work, lambda *_: None)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._graph):
            run(work, self._add)

    def _add(self, name: str, value: Tensor, count: int) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] = self._counts.get(name, 0) + count

    def replay(self, work: Work, add: AddMetric) -> None:
        """Runs the graph on the batch and the draws of ``work``."""
        self._batch.update_(work.batch)
        for mine, given in zip(self._draws, work.draws, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given, non_blocking=True)
        self._graph.replay()
        for name, total in self._sums.items():
            add(name, total, self._counts[name])


NAMED: dict[str, Callable[[], Engine]] = {
    "eager": Eager,
    "compiled": Compiled,
    "cuda_graph": CudaGraph,
}


def make_engine(name: str, device: torch.device, total_updates: int) -> Engine:
    """The engine of a run.

    Args:
        name: one of :data:`NAMED`, or ``"auto"``: a CUDA graph on a GPU, elsewhere the
            compiled update where a run is long enough to earn back the half minute that it takes
            and a C++ compiler is installed, else the plain one.
        device: the agent's.
        total_updates: gradient updates of the whole schedule, so that a resumed run takes the
            same engine and with it the same bits.
    """
    if name == "auto":
        if device.type == "cuda":
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


def tensors(state: Any) -> list[Tensor]:
    """All tensors of an :class:`AgentState`, of any shape ``[*]``, in order."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, Sequence):
        return [tensor for part in state for tensor in tensors(part)]
    return []


def copied(state: AgentState) -> list[Tensor]:
    """Copies of its tensors, for :func:`restore`."""
    return [tensor.detach().clone() for tensor in tensors(state)]


@torch.no_grad()
def restore(state: AgentState, before: list[Tensor]) -> None:
    """Undoes what happened since :func:`copied`."""
    for tensor, saved in zip(tensors(state), before, strict=True):
        tensor.copy_(saved)
