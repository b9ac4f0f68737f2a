"""A checkpoint of one agent or of several, read and checked entry by entry."""

from pathlib import Path
from typing import Any

from adabc_lightning.callbacks.saved import SavedLoops, SavedRun
from adabc_lightning.errors import UserError
from adabc_lightning.run.checkpoint_files import read_checkpoint
from adabc_lightning.run.saved import Listing, check


class SavedReplicas(SavedLoops):
    """Of several agents; each of theirs is a whole one."""

    replicas: Listing[Any]


def check_run(content: Any) -> None:
    """Whether a checkpoint's entries are what a run writes.

    Args:
        content: of the file.
    Raises: UserError: the first entry that is missing or wrong, by its path.
    """
    if not (isinstance(content, dict) and "replicas" in content):
        check(SavedRun, content)
        return
    check(SavedReplicas, content)
    for index, replica in enumerate(content["replicas"]):
        try:
            check(SavedRun, replica)
        except UserError as error:
            raise UserError(f"in replicas/{index}, {error}") from error
    counters = {
        (r["agent"]["gradient_updates"], r["ReplayDataModule"]["collector"]["env_steps"])
        for r in content["replicas"]
    }
    if len(counters) != 1:
        raise UserError("the replicas are not equally far")


def read_run(path: Path, *, replicas: int = 1) -> dict[str, Any]:
    """A run's checkpoint; arguments and errors as :func:`read_checkpoint`."""
    return read_checkpoint(path, check_run, replicas=replicas)
