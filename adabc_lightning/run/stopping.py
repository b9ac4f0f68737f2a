"""What SIGINT, SIGTERM and SIGUSR1 do: they end a command, or ask a run to end. No PyTorch."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The last is what Slurm sends before its time limit, if asked to (``--signal=USR1@90``)."""
AT_ONCE_SECONDS = 1.0
"""From this many seconds after the first, a second signal means "now"."""
AFTER_IMPORT_SECONDS = 0.05
"""Seconds until a signal that came during an import is sent again."""


def speaks() -> bool:
    """Whether this process is the first of those that one launcher started on a machine.

    What all of them find, or are told, is said by it.
    """
    return not os.environ.get("WORLD_SIZE") or os.environ.get("LOCAL_RANK", "0") == "0"


class Stopped(SystemExit):
    """Ends this process for a signal; any other ``SystemExit`` is of somebody else's code."""


def _importing(frame: FrameType | None, outermost: FrameType) -> bool:
    """Whether a module is being imported: many catch whatever comes, and go on without a part.

    Args:
        frame: what runs.
        outermost: below it nothing is looked at: it may itself be a part of an import.
    """
    while frame is not None and frame is not outermost:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class _Deferred:
    """A signal that came within an import: it is sent again until that is over."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._sent = self._over = False
        self._timer: threading.Timer | None = None

    def waits(self, number: int) -> bool:
        """Whether a signal has to wait: not where it is another, a second after the first."""
        again, self._sent = self._sent, False
        now = time.monotonic()
        self._first = now if self._first is None else self._first
        if not again and now - self._first >= AT_ONCE_SECONDS:
            return False
        if again or self._timer is None:
            self._timer = threading.Timer(AFTER_IMPORT_SECONDS, self._send, [number])
            self._timer.daemon = True
            self._timer.start()
        return True

    def cancel(self) -> None:
        """Sends nothing any more."""
        self._over = True

    def _send(self, number: int) -> None:
        if not self._over:
            self._sent = True
            # To the main thread, so that it ends what waits there.
            signal.pthread_kill(threading.main_thread().ident or 0, number)


@contextmanager
def stopping(account: Callable[[], str] = str) -> Iterator[None]:
    """A signal exits with 128 + its number after ``stopped by SIGTERM`` and an account.

    One that comes while a module is imported waits for the end of that, unless another comes a
    second later.

    Args:
        account: the rest of the sentence, what became of the work; asked when the signal comes.
    """
    over = False
    deferred = _Deferred()
    outermost = sys._getframe(2)  # who enters; contextlib is in between

    def stop(number: int, frame: FrameType | None) -> None:
        if over:  # given back late, by a Stop that had taken it: no command is left to end
            signal.signal(number, before[number])
            signal.raise_signal(number)
            return
        if _importing(frame, outermost) and deferred.waits(number):
            return
        deferred.cancel()
        if speaks():
            below_a_bar = "\n" if sys.stderr.isatty() else ""
            said = f"{below_a_bar}stopped by {signal.Signals(number).name}{account()}\n"
            with suppress(OSError, ValueError):  # whatever was being printed goes on after it
                os.write(sys.stderr.fileno(), said.encode())
        raise Stopped(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        over = True
        for number, handler in before.items():
            # A Stop that still holds a signal waits for a supervisor's second one.
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


class Stop:
    """The signals as a wish: whoever can stop without a loss looks for it, and ends.

    A second signal does not wait, if it comes a second after the first or later: supervisors signal
    a process and its group in one go.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal that came."""
        self._asked_at = 0.0
        self._ended = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """From now on; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.asked, self._ended = None, False
        for number in SIGNALS:
            if (handler := signal.getsignal(number)) != self._heard:
                self._before[number] = handler
                signal.signal(number, self._heard)

    def release(self) -> None:
        """Gives the signals back, unless one ends the process: its twin may come late."""
        if self.asked is None:
            self._give_back()

    def end(self, number: int) -> NoReturn:
        """Raises: Stopped: 128 + the signal's number."""
        self._ended = True
        raise Stopped(128 + number)

    def _heard(self, number: int, frame: Any) -> None:
        if self.asked is None:
            self.asked, self._asked_at = number, time.monotonic()
        elif time.monotonic() - self._asked_at < AT_ONCE_SECONDS:
            return
        elif self._ended:  # and whoever caught that goes on: it is for others
            self._give_back()
            signal.raise_signal(number)
        else:
            raise Stopped(128 + number)  # with what the disk has

    def _give_back(self) -> None:
        for number in SIGNALS:  # also those that somebody has put back since the last time
            if signal.getsignal(number) == self._heard:
                signal.signal(number, self._earlier(number))

    def _earlier(self, number: int) -> Any:
        """Who had a signal before this and other runs that are over; else the system's default."""
        handler, seen = self._before.get(number), [self]
        while isinstance(run := getattr(handler, "__self__", None), Stop) and run._ended:
            if run in seen:
                handler = None
                break
            seen.append(run)
            handler = run._before.get(number)
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        return default if handler is None else handler
