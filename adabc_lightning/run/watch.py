"""When one process of a run ends before its time, all of them end within seconds, and one says why.

Each waits, in a thread, for a message from the others, over sockets that the kernel closes when a
process dies, however it dies: nothing is polled, and it works across machines. The stop is hard
(``os._exit``): the main thread may be inside a collective that never returns.
"""

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing import util
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from adabc_lightning.errors import UserError, one_line

_DONE, _FAILED = 0, 1
_SIZE = 4096  # bytes of a message
_PATIENCE = 4.0  # seconds within which the others' word, or the rank's own, goes first


class Watch:
    """Rank zero watches all others, each of them rank zero.

    Args:
        rank, count: of this process, of how many.
        folder: of the run, for the sentence that says how to go on.
        children: processes that this one has started.
    """

    def __init__(
        self, rank: int, count: int, folder: Path, children: Sequence[subprocess.Popen]
    ) -> None:
        self._rank, self._folder, self._children = rank, folder, children
        self._group = dist.new_group(backend="gloo", timeout=timedelta(days=1000))
        names: list[Any] = [None] * count
        me = f"process {os.getpid()} on {platform.node()}"
        dist.all_gather_object(names, me, group=self._group)
        self._names: list[str] = names
        self._closed = False
        self._speaks = threading.Lock()  # who has it ends this process; never released
        self._peers = list(range(1, count)) if rank == 0 else [0]
        self._threads = [
            threading.Thread(target=self._listen, args=(peer,), daemon=True, name=f"rank {peer}")
            for peer in self._peers
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Tells the others that this rank is done, and waits until they are."""
        if self._closed:
            return
        self._closed = True
        self._tell(_DONE)
        for thread in self._threads:
            thread.join(timeout=60)
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=60)

    def fail(self, exception: BaseException) -> None:
        """Ends the other ranks because of an exception in this one.

        What is meant for the user is said once, by rank zero: another rank hands its sentence over
        and does not come back from here. A collective that another rank's end has broken is not
        reported: that end is.
        """
        if self._closed:
            return
        if isinstance(exception, UserError):
            if self._rank:
                self._tell(_FAILED, 2, str(exception))
                time.sleep(10 * _PATIENCE)  # until rank zero has said it and ends this process
            status = 2
        elif isinstance(exception, (SystemExit, KeyboardInterrupt)):
            code = getattr(exception, "code", None)
            status = code if isinstance(code, int) else 1
        else:
            time.sleep(_PATIENCE)
            status = 1
        self._speaks.acquire()
        text = "" if self._rank == 0 else f"{type(exception).__name__}: {exception}"
        self._tell(_FAILED, status, text)

    def _tell(self, kind: int, status: int = 0, text: str = "") -> None:
        data = bytes([kind, status % 256]) + one_line(text).encode()
        data = data[:_SIZE].ljust(_SIZE, b"\0")
        message = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        for peer in self._peers:
            with suppress(RuntimeError):  # it is gone already
                dist.send(message, dst=peer, group=self._group)

    def _listen(self, peer: int) -> None:
        message = torch.zeros(_SIZE, dtype=torch.uint8)
        try:
            dist.recv(message, src=peer, group=self._group)
        except RuntimeError:  # the connection is closed
            sentence = (
                f"rank {peer} ({self._names[peer]}) ended without a word, killed or out of memory"
            )
            self._end(1, sentence if self._rank < 2 else "")
            return
        kind, status, *text = message.tolist()
        if kind == _DONE:
            return
        sentence = bytes(text).rstrip(b"\0").decode(errors="replace")
        if self._rank == 0 and sentence:
            time.sleep(_PATIENCE)  # an error of all ranks is said by this one
            sentence = f"rank {peer}: {sentence}"
        self._end(status, sentence)

    def _end(self, status: int, sentence: str) -> None:
        from adabc_lightning.run.folder import how_to_go_on

        self._speaks.acquire()
        try:
            if self._rank == 0:
                self._tell(_FAILED, status)
            if sentence:
                go_on = how_to_go_on(self._folder)
                text = f"error: {one_line(sentence)}; every rank has stopped; {go_on}"
                print(text, file=sys.__stderr__)
            sys.stdout.flush()
            threading.Timer(1, os._exit, [status]).start()
            # Else Python's tracker of semaphores complains of those left.
            util._run_finalizers()  # type: ignore[attr-defined]
        finally:  # whatever of it fails
            os._exit(status)
