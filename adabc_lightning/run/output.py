"""Output is never a reason to stop: what can no longer be written goes nowhere. No PyTorch."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from adabc_lightning.errors import UserError

STREAMS = ("stdin", "stdout", "stderr")


class Lasting:
    """A text stream whose writes do not fail; after the first that would, it leads nowhere.

    So does its file descriptor, for all who write to it by themselves, and at Python's end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's own."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: the object was closed
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        """As the stream's own."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OSError):  # else its number may be another file's by now
            with suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class Answering(Lasting):
    """A text stream for the answer of a command, which is worth nothing if nobody gets it."""

    def _failed(self, error: Exception) -> None:
        """Raises: UserError: it cannot be written, but for a pipe that nobody reads any more."""
        if isinstance(error, BrokenPipeError) or not isinstance(error, OSError):
            raise error
        super()._failed(error)
        raise UserError(f"standard output cannot be written: {error.strerror}")


@contextmanager
def lasting(name: str, kind: type[Lasting] = Lasting) -> Iterator[None]:
    """Makes ``sys.stdout`` or ``sys.stderr`` a :class:`Lasting` stream, or an :class:`Answering`.

    Args:
        name: ``"stdout"`` or ``"stderr"``.
        kind: what it becomes.
    """
    before = getattr(sys, name)
    stream = kind(before)
    setattr(sys, name, stream)
    try:
        yield
    finally:
        with suppress(UserError, BrokenPipeError):  # what ends it has been said
            stream.flush()
        setattr(sys, name, before)


@contextmanager
def outliving_the_terminal() -> Iterator[None]:
    """A terminal that closes ends neither this process nor those that it starts (SIGHUP)."""
    before: Any = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGHUP, before)


def open_streams() -> None:
    """Gives a stream that the shell has closed (``2>&-``) to ``/dev/null``.

    Python has None for it, and the system would give its number to the next file: what a library
    prints would end up in a checkpoint.
    """
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "w" if number else "r")  # noqa: SIM115 (to the end)
            setattr(sys, name, nowhere)
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
