"""A signal ends a command with one line, where nothing else listens for it. No PyTorch."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def speaks() -> bool:
    """Whether this process is the first of those that one launcher started on a machine.

    What all of them find, or are told, is said by it.
    """
    return not os.environ.get("WORLD_SIZE") or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def stopping(account: Callable[[], str] = str) -> Iterator[None]:
    """SIGINT and SIGTERM exit with 130 and 143 after ``stopped by SIGTERM`` and an account.

    Args:
        account: the rest of the sentence, what became of the work; asked when the signal comes.
    """

    def stop(number: int, frame: Any) -> None:
        if speaks():
            below_a_bar = "\n" if sys.stderr.isatty() else ""
            said = f"{below_a_bar}stopped by {signal.Signals(number).name}{account()}\n"
            with suppress(OSError, ValueError):  # whatever was being printed goes on after it
                os.write(sys.stderr.fileno(), said.encode())
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # Whoever has taken it since, and kept it, waits for a supervisor's second one.
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
