"""The plain updates, one by one."""

from collections.abc import Callable, Iterable

from tensordict import TensorDict

from adabc_lightning.agent.contract import check_metrics
from adabc_lightning.agent.engines.engine import AddMetrics, Work
from adabc_lightning.agent.products import products_in
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions

Step = Callable[[AgentState, TensorDict, Draws, Coefficients, UpdateOptions], Metrics]
"""A method's :meth:`~adabc_lightning.agent.method.Method.update`, ``delayed`` or ``prepare``."""


class Eager:
    """One update after the other, as written: the inner loop of Algorithm 1."""

    name = "eager"

    def _steps(self, work: Work) -> tuple[Step, Step, Step]:
        """What makes every update's steps, the delayed ones, and those that prepare."""
        method = work.method
        return method.update, method.delayed, method.prepare

    def __call__(self, work: Work, add: AddMetrics) -> None:
        """See :class:`Engine`."""
        self.make(work, range(len(work.delayed_after)), add)

    def make(self, work: Work, which: Iterable[int], add: AddMetrics) -> None:
        """Some of the G updates of ``work``."""
        update, delayed, prepare = self._steps(work)
        batches = work.batch.unbind(0)  # in half the time of one by one
        size, method = work.batch.batch_size[1:-1], work.method
        with products_in(work.options.products):
            for g in which:
                draws = {name: drawn[g] for name, drawn in work.draws.items()}
                arguments = work.state, batches[g], draws, work.coefficients, work.options
                follows = work.delayed_after[g]
                metrics = prepare(*arguments) if follows is None else update(*arguments)
                check_metrics(metrics, size, method, "prepare" if follows is None else "update")
                if follows:
                    if method.gathers:
                        before = [i for i in range(g) if work.delayed_after[i]]
                        since = slice(before[-1] + 1 if before else 0, g + 1)
                        draws = {name: drawn[since] for name, drawn in work.draws.items()}
                        batch = work.batch[since]
                        arguments = work.state, batch, draws, work.coefficients, work.options
                    more = delayed(*arguments)
                    check_metrics(more, size, method, "delayed")
                    metrics = metrics | more
                add(metrics, 1)
