"""Files that are there whole or not at all, and one sentence when the disk does not take them."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from adabc_lightning.errors import UserError


class NotWritten(UserError):
    """A file could not be written: the disk is full, a quota is used up, a folder is read-only."""


def refuse_url(path: Path) -> None:
    """A folder ``s3:`` would be made, and the machine's disk be taken for a bucket.

    Raises: UserError: the path was a URL, before it was a path.
    """
    scheme = path.parts[0] if path.parts else ""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", scheme) and not Path(scheme).exists():
        raise UserError(f"{path} is a URL; it must be a file or folder of this machine")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says about a file into one sentence.

    Raises: NotWritten: the system refused. UserError: the path was a URL.
    """
    refuse_url(path)
    try:
        yield
    except (OSError, RuntimeError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        reason = refusal.strerror or " ".join(str(refusal).split())
        raise NotWritten(f"{path} cannot be written: {reason}") from error


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file that takes its target's name only once it is whole and on disk.

    It is written in the target's folder, where renaming replaces the old file in one step; a kill
    leaves the old file, and at most ``.NAME.….tmp`` beside it. The name is this call's own: jobs of
    an array write the same files at the same time, and the last one's stays.

    Args:
        target: what to write or replace; its folder is made.
    Raises: NotWritten: the system refused; the old file stays, and no temporary one.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):  # there is none, or its folder is a file
            temporary.unlink()
        raise


def replace_text(target: Path, text: str) -> None:
    """A whole file of UTF-8; errors as :func:`replacing`."""
    with replacing(target) as file:
        file.write(text.encode())


def no_link(path: str, flags: int) -> int:
    """The opener of ``open`` for what is written in place: a file, and the one in its folder.

    A run's folder may be a stranger's, and where our file belongs there a link to any other.

    Raises: NotWritten: there is a link, a pipe or a folder.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotWritten(f"{path} is a link and would lead elsewhere; remove it") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a pipe that nobody reads, a folder
            raise NotWritten(f"{path} is no file; remove it") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotWritten(f"{path} is no file; remove it")
    return handle


def sync_folder(folder: Path) -> None:
    """Makes the new name itself survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_strays(folder: Path) -> None:
    """Removes what :func:`replacing` left in a folder when it was killed."""
    for stray in folder.glob(".*.tmp"):
        stray.unlink(missing_ok=True)


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's own error; PyTorch's writer covers it with one about positions in the file."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
