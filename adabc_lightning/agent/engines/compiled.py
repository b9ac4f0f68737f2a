"""Updates by ``torch.compile``, compared with the plain ones before they are believed."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from adabc_lightning.agent.engines.eager import Eager, Step
from adabc_lightning.agent.engines.engine import AddMetrics, Work, ignore
from adabc_lightning.agent.engines.proof import prove


class Compiled(Eager):
    """Losses, gradients, Adam and Polyak fused by ``torch.compile`` into a function each.

    The compiled code is kept in PyTorch's cache (``TORCHINDUCTOR_CACHE_DIR``), so the next run
    starts in seconds. What it does is compared with the plain code before it is believed.
    """

    name = "compiled"

    def __init__(self) -> None:
        # The gradients are part of the functions, not taken of them.
        torch._dynamo.config.trace_autograd_ops = True
        self._functions: tuple[Step, Step, Step] | None = None
        self._tried: set[tuple[bool | None, bool]] = set()

    def _steps(self, work: Work) -> tuple[Step, Step, Step]:
        """Each is compiled at its first call; an engine is a run's, which has one method."""
        if self._functions is None:
            steps = super()._steps(work)
            # On a CPU called a hundred times a second: their arguments pass through C++, not
            # Python. On a GPU a graph is called, and C++ would take four times as long to compile.
            cpp = work.options.action_low.device.type == "cpu"
            options: dict[str, Any] = {"guard_filter_fn": _may_change, "cpp_wrapper": cpp}
            update, delayed, prepare = (
                torch.compile(step, fullgraph=True, dynamic=False, options=options)
                for step in steps
            )
            self._functions = update, delayed, prepare
        return self._functions

    def __call__(self, work: Work, add: AddMetrics) -> None:
        """See :class:`Engine`; the first call of each phase compiles."""
        kinds = {(follows, work.options.online) for follows in work.delayed_after}
        if self.name == "compiled" and not self._tried.issuperset(kinds):
            start = time.perf_counter()
            which = sorted(work.delayed_after.index(follows) for follows, _ in kinds - self._tried)
            # The very slices of the batch that follow: others would be compiled for, too.
            if wrong := prove(lambda: self.make(work, which, ignore), work, which):
                rank_zero_warn(f"the update is not compiled: {wrong}")
                self.name, self._functions = "eager", super()._steps(work)
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
