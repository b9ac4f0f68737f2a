"""One process at a time: the kernel's locks, which end with their process, however it ends.

On Linux and macOS; Windows, which has no ``flock``, is not supported. Not by filelock (4.2): its
release takes the lock from the processes that have inherited it, and it raises on file systems
without locks.
"""

import fcntl
import os
import platform
import re
import time
from pathlib import Path
from typing import IO, Any

from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import no_link, writing

NAME = ".lock"


def hold(file: IO[Any]) -> bool:
    """Locks an open file until it is closed.

    Returns: False where another process (or another handle of this one) has it. On a file
        system without locks everybody gets it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class FolderLock:
    """Keeps others out of a folder, and tells them who is in.

    The file ``.lock`` stays when the lock is gone: removing it would let two processes lock two
    files of that name.

    Args:
        what: that is at work in it, as the start of a sentence: ``"a run"``.
        option: what to choose another folder by.
    """

    def __init__(self, what: str, option: str) -> None:
        self._what, self._option = what, option
        self._file: IO[str] | None = None

    def take(self, folder: Path, patience: float = 0.0) -> None:
        """Locks a folder, which is made if it is not there; once more is the same as once.

        Args:
            folder: what to lock.
            patience: seconds to wait for another process.
        Raises: UserError: another process is at work in it, or it cannot be written.
        """
        if self._file is not None:
            return
        path = folder / NAME
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            # Open as long as the lock.
            file = open(path, "a+", encoding="utf-8", opener=no_link)  # noqa: SIM115
        until = time.monotonic() + patience
        while not (held := hold(file)) and time.monotonic() < until:
            time.sleep(0.1)
        if not held:
            with file:
                file.seek(0)
                who = _who(file.read().strip())
            raise UserError(
                f"{self._what} is at work in {folder} ({who}); wait for it, or choose another "
                f"{self._option}"
            )
        self._file = file
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()

    def fileno(self) -> int:
        """For processes that inherit the lock: it ends with the last of them."""
        assert self._file is not None
        return self._file.fileno()

    def release(self) -> None:
        """Lets others in; without a lock nothing happens."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _who(said: str) -> str:
    """The process that a lock's file names; one that has ended has left it to those it started."""
    match = re.fullmatch(r"process (\d+) on (.*)", said)
    if match is None or match[2] != platform.node():
        return said or "another process"
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return f"process {match[1]} has ended, but one that it started is still at work"
    except OSError:  # somebody else's
        pass
    return said
