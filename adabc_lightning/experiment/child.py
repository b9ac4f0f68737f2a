"""``python -m adabc_lightning.experiment.child fit …``: ends when the process that started it does.

A worker of a cluster may be killed at any time; its run then goes on elsewhere, so that the
process it has started must not. Standard input is a pipe that nobody writes to: it ends with the
worker, however that ends.
"""

import os
import signal
import sys
import threading

from adabc_lightning.__main__ import main


def _watch() -> None:
    """Kills the process group, with the environments' processes, once the pipe has ended."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    sys.exit(main())
