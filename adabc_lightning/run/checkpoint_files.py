"""The newest checkpoint of a run and the one before it; reading one, whole and with sense.

Imports no PyTorch until one is read.
"""

import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from adabc_lightning.errors import UserError, reason
from adabc_lightning.run.moved import todays_checkpoint

FOLDER = "checkpoints"
EXPORTED = (".onnx", ".pt2")  # suffixes of the files that export writes
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
PRETRAINED = "pretrained.ckpt"


class Damaged(UserError):
    """A checkpoint's file is not as it was written."""


def newest(folder: Path) -> list[Path]:
    """What a run can go on from, the newest first; only files that exist.

    ``pretrained.ckpt`` counts only where it is alone: a disk that filled up after pre-training left
    nothing else.

    Args:
        folder: the run's folder; it need not exist.
    """
    paths = [folder / FOLDER / name for name in (LAST, PREVIOUS)]
    found = [path for path in paths if path.is_file()]
    pretrained = folder / FOLDER / PRETRAINED
    return found or ([pretrained] if pretrained.is_file() else [])


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is as it was written, by its checksums.

    PyTorch writes a zip archive with a CRC-32 of each record, and ignores them when it loads one:
    a flipped bit would become a wrong weight.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch compresses nothing, so that no record is larger than its file.
            stored = all(not entry.compress_type for entry in archive.infolist())
            return stored and archive.testzip() is None
    except Exception:  # no archive, or one whose directory is damaged: of all kinds
        return False


def keep_previous(last: Path) -> None:
    """Gives the newest checkpoint a second name, under which it survives its replacement.

    One that is damaged gets none: what already has that name is better.
    """
    if not is_whole(last):
        return
    previous = last.with_name(PREVIOUS)
    temporary = previous.with_name(f".{PREVIOUS}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(last, temporary)
    except OSError:  # a file system without hard links
        os.replace(last, previous)
        return
    os.replace(temporary, previous)
    with suppress(FileNotFoundError):  # renaming between two names of one file does nothing
        temporary.unlink()


def load_whole(path: Path) -> Any:
    """What a checkpoint's file holds; nothing in it is executed.

    Raises: Damaged: the file is not as it was written. UserError: there is no such file, or it is
        of another kind.
    """
    import torch  # slow, and those who only look for files need not

    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    if path.suffix in EXPORTED:
        raise UserError(f"{path} is a file of an export; give its folder, {path.parent}")
    damaged = Damaged(f"{path} is no readable checkpoint: it is damaged or cut off")
    if not is_whole(path):
        raise damaged
    try:
        return todays_checkpoint(torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError as error:  # as it was written, but not by this package
        raise UserError(f"{path} is no readable checkpoint") from error
    except Exception as error:  # in what describes the records, which has no checksum
        raise damaged from error


def read_checkpoint(
    path: Path, check: Callable[[Any], None], *, policy_only: bool = False, replicas: int = 1
) -> dict[str, Any]:
    """A checkpoint's content, of which every entry is what a run writes.

    Args:
        path: the file.
        check: raises :class:`UserError` where the content is not what its owners save.
        policy_only: whether a kept policy (``checkpoints/policies/``) will do as well.
        replicas: how many agents go on from it; one takes no file of several.
    Raises: Damaged, UserError: as :func:`load_whole`, or it is no checkpoint of this package.
    """
    checkpoint = load_whole(path)
    if not isinstance(checkpoint, dict) or not {"agent", "replicas"} & checkpoint.keys():
        raise UserError(f"{path} is no checkpoint of adabc_lightning")
    if replicas == 1 and "replicas" in checkpoint:
        raise UserError(
            f"{path} holds several replicas; give that of one of them, such as "
            f"{path.parent.parent / 'replica_0' / FOLDER / path.name}"
        )
    if not policy_only and "optimizer_states" not in checkpoint:
        raise UserError(
            f"{path} holds a policy and nothing else, which collect, export and rollout can use; "
            "give a checkpoint such as last.ckpt or best.ckpt"
        )
    try:
        check(checkpoint)
    except UserError as error:
        raise UserError(f"{path} is no checkpoint that a run wrote: {error}") from error
    return checkpoint


def not_taken(path: str | Path, error: Exception) -> UserError:
    """What to say when the parts of a run do not take a checkpoint's entries.

    Args:
        path: the checkpoint's file.
        error: what one of them raised.
    """
    return UserError(f"{path} cannot be taken up: {reason(error):.300}")
