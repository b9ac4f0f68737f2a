"""What the commands that train leave out of what libraries and other processes say."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from adabc_lightning.errors import one_line

PACKAGE = Path(__file__).parents[1]


@contextmanager
def muted(follows: bool) -> Iterator[None]:
    """Silences stderr within it on ranks other than zero; an error that leaves it is printed."""
    if not follows:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        yield


def quieten() -> None:
    """Leaves out what libraries say about themselves, and where in our code a warning is."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 still uses what PyTorch 2.13 and jsonargparse 4.49 deprecate.
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.(cli|utilities\._pytree)")
    warnings.formatwarning = _formatted


# As Lightning left it, which is there before this is: read once, as many runs may be planned in one
# process.
_others = warnings.formatwarning


def _formatted(
    message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Ours as :func:`~adabc_lightning.errors.warn` writes them."""
    if issubclass(category, UserWarning) and Path(filename).is_relative_to(PACKAGE):
        return f"warning: {one_line(str(message))}\n"
    return _others(message, category, filename, lineno, line)
