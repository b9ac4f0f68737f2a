"""Process-wide settings that cost nothing and buy speed; call before PyTorch does any work."""

import ctypes
import logging
import os
import sys
import warnings

from adabc_lightning.run.threads import spin_less

# glibc's mallopt parameters and the values that keep freed tensors inside the process.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def tune() -> None:
    """Allocator, denormals, NumPy's threads, and how PyTorch's wait for each other.

    * glibc gives large tensors back to the kernel at each free and pays for every page again
      at the next allocation; docs/performance.md has what keeping them is worth.
    * Adam's second moments of dead units become denormal, which is slow on CPUs; flushing
      must be set before PyTorch starts its worker threads, later it reaches one thread only.
    """
    # Where HOME cannot be written, it says so in lines of its own before every command.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # NumPy acts on one observation, or a few: threads cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spin_less()
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc accepts
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
            libc.mallopt(_M_TOP_PAD, 256 << 20)
        except (OSError, AttributeError):  # another libc: its defaults stay
            pass
    import torch

    torch.set_flush_denormal(True)
    # Before 2.4 NumPy wonders at it, eight lines long.
    warnings.filterwarnings("ignore", "The value of the smallest subnormal", UserWarning)
