"""The callbacks that every run has, in order, and the user's own in the place of one."""

from lightning import Callback

from adabc_lightning.callbacks import (
    AlphaController,
    Checkpointing,
    Downsampling,
    Evaluation,
    Guard,
    HandoverDiagnostics,
    Metrics,
    RunCallback,
)
from adabc_lightning.errors import UserError

PACKAGED: dict[str, type[RunCallback]] = {
    "downsampling": Downsampling,
    "alpha": AlphaController,
    "guard": Guard,
    "evaluation": Evaluation,
    "diagnostics": HandoverDiagnostics,
    "metrics": Metrics,
    "checkpoints": Checkpointing,  # Lightning puts it last
}
"""By the config's keys. Their order is that of events after an update or an episode."""


def take_places(callbacks: list[Callback]) -> list[tuple[str, Callback]]:
    """Replaces each packaged callback by the user's subclass of it, if there is one.

    Two α controllers, one behind the other, would leave what the last of them has chosen.

    Args:
        callbacks: of a Trainer; the packaged ones stand behind the user's.
    Returns: key and callback of each that took a place.
    Raises: UserError: there are two for one place.
    """
    took: list[tuple[str, Callback]] = []
    for key, kind in PACKAGED.items():
        *own, packaged = [each for each in callbacks if isinstance(each, kind)]
        if not own:
            continue
        if len(own) > 1:
            names = " and ".join(type(each).__qualname__ for each in own)
            raise UserError(f"trainer.callbacks has {names}; a run has one {kind.__name__}")
        callbacks.remove(own[0])
        callbacks[callbacks.index(packaged)] = own[0]
        own[0].place = kind.__name__
        took.append((key, own[0]))
    return took
