"""What a callback of a run may do beside Lightning's hooks."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lightning import Callback, Trainer
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.errors import UserError
from adabc_lightning.run.interaction import Interaction
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.trainer import callbacks_of


class RunCallback(Callback):
    """A callback with all hooks of a run; each does nothing until it is overridden.

    Where ``data`` is an argument, it is the
    :class:`~adabc_lightning.data.module.ReplayDataModule`.
    """

    columns: Sequence[str] = ()
    """What it measures and hands to :func:`adabc_lightning.callbacks.metrics.record`: columns of
    ``metrics.csv`` beside those that every run has."""
    before_rows: ClassVar[bool] = False
    """Whether what it measures belongs into the row of the same update or step: it is then refused
    behind the callback that writes the rows."""
    writes_rows: ClassVar[bool] = False
    """Whether it writes the rows of ``metrics.csv``."""
    chooses_rows: ClassVar[bool] = False
    """Whether it sets ``data.kept`` at the hand-over; its :meth:`on_hand_over` then comes before
    those of the others, who make something of what is kept."""
    holds_alpha: ClassVar[bool] = False
    """Whether it may hold α above what Eq. 2 makes of it, and lets it go again."""
    locks_folder: ClassVar[bool] = False
    """Whether it sees to it that one run at a time is at work in the folder."""

    place: str | None = None
    """Name of the packaged callback whose place it takes: a checkpoint has its state under that."""

    trained: Callable[[], OffToOnModule | None] | None = None
    """A weak reference to the module that a fit has begun with: its state is of that run."""

    @property
    def state_key(self) -> str:
        """Where a checkpoint has its state; see :attr:`place`."""
        return self.place or super().state_key

    def on_hand_over(self, data: Any, agent: OffToOnModule) -> None:
        """Called once, between the last offline update and the first environment step."""

    def before_evaluation(self, trainer: Trainer, data: Any, agent: OffToOnModule) -> None:
        """Called before each evaluation that the schedule asks for, as a part of it.

        It comes after everything else that an update or an episode brings. What a signal cuts is
        made anew, from the state before it: nothing may change until the last episode has ended.
        Where it cuts the evaluation itself, this is called once more, too.
        """

    def check_row(self, trainer: Trainer, agent: OffToOnModule, values: dict[str, float]) -> None:
        """Looks at a row of the metrics before it is written; where it raises, it is in no file."""

    def on_idle(self, data: Any, agent: OffToOnModule) -> None:
        """Called some times a second while a run waits for a log, and after each step of an
        evaluation; may raise to end the run.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Of one that learns: all that must be finite, ``[*]``, by name, on one device."""
        return {}

    def add_to_summary(self) -> dict[str, Any]:
        """Keys of ``summary.json`` that only runs with it have."""
        return {}

    def planned_interaction(
        self, schedule: Schedule, env_steps: int, limit: int | None
    ) -> Interaction | None:
        """Episodes that it will make beside training and evaluation, for a plan.

        Args:
            schedule: of the run.
            env_steps: of fine-tuning, made already; 0 before the hand-over.
            limit: of an episode, in environment steps; None for none.
        Returns: None for nothing.
        """
        return None


_OURS_ALONE = (
    "on_hand_over",
    "before_evaluation",
    "check_row",
    "on_idle",
    "add_to_summary",
    "planned_interaction",
)
"""Names that hardly mean something else; ``columns`` and ``tensors`` may."""


def run_callbacks(trainer: Any) -> list[RunCallback]:
    """Those of a trainer, or of a replica in its place, in their order; none without a trainer."""
    return [each for each in callbacks_of(trainer) if isinstance(each, RunCallback)]


def take_note(trainer: Any) -> None:
    """Training begins: from now on its callbacks are of this run."""
    for own in run_callbacks(trainer):
        own.trained = weakref.ref(trainer.lightning_module)


def _has_learnt(agent: OffToOnModule | None) -> bool:
    """Whether it has made an update; one that is no more had the time to."""
    return agent is None or agent.gradient_updates > 0


def _check_kinds(callbacks: list[RunCallback]) -> None:
    """Raises: UserError: one is a kind of another, and both would do the same work."""
    for one in callbacks:
        for other in callbacks:
            if type(one) is not type(other) and isinstance(one, type(other)):
                kind = type(other).__name__
                raise UserError(
                    f"the callbacks {type(one).__name__} and {kind} are of one kind, {kind}, of "
                    "which a run has one; leave one of them out"
                )


def check_callbacks(trainer: Any) -> None:
    """Whether none has a hook that nobody would call, and what is measured comes before its row.

    Raises: UserError: one that is no :class:`RunCallback` has, they are in another order, two are
        of one kind, or one has been in an earlier fit.
    """
    writer = None
    for own in run_callbacks(trainer):
        if own.trained is not None and _has_learnt(own.trained()):
            raise UserError(
                f"the callback {type(own).__name__} has been in an earlier fit, whose numbers it "
                "would mix with this one's; make the callbacks anew for each fit"
            )
        if own.writes_rows:
            writer = own
        elif own.before_rows and writer is not None:
            late, writes = type(own).__name__, type(writer).__name__
            raise UserError(
                f"the callback {late} comes after {writes}, and what it measures would be in the "
                f"row of a later step; give {late} before {writes}"
            )
    _check_kinds(run_callbacks(trainer))
    for callback in callbacks_of(trainer):
        named = [name for name in _OURS_ALONE if hasattr(callback, name)]
        if named and not isinstance(callback, RunCallback):
            raise UserError(
                f"the callback {type(callback).__name__} has {named[0]}, but is no RunCallback, "
                "whose hook that is; derive it from adabc_lightning.callbacks.RunCallback"
            )
