"""A ``fit`` (``python -m …child fit …``) that ends when the process that started it does.

A worker of a cluster may be killed at any time; its run then goes on elsewhere, so that the
process it has started must not. Standard input is a pipe that nobody writes to: it ends with the
worker, however that ends.
"""

import os
import signal
import threading
from runpy import run_module


def _watch() -> None:
    """Kills the process group, with the environments' processes, once the pipe has ended."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    run_module("adabc_lightning", run_name="__main__")
