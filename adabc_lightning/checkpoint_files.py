"""The newest checkpoint of a run, the one before it, and whether they are whole."""

import os
import zipfile
from contextlib import suppress
from pathlib import Path

FOLDER, LAST, PREVIOUS = "checkpoints", "last.ckpt", "previous.ckpt"


def newest(folder: Path) -> list[Path]:
    """What a run can go on from, the newest first; only files that exist.

    Args:
        folder: the run's folder; it need not exist.
    """
    paths = [folder / FOLDER / name for name in (LAST, PREVIOUS)]
    return [path for path in paths if path.is_file()]


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is as it was written, by its checksums.

    PyTorch writes a zip archive with a CRC-32 of each record, and ignores them when it loads one:
    a flipped bit would become a wrong weight.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
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
