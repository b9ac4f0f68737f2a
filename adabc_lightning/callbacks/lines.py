"""Lines on stderr while a run trains, beside a progress bar."""

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm


def say(trainer: Any, line: str) -> None:
    """One line, of rank zero; a replica's begins with its name.

    Args:
        trainer: of the run, or the replica; None where a data module is used without one.
        line: as it is to stand there.
    """
    if trainer is not None and not trainer.is_global_zero:
        return
    replica = hasattr(trainer, "run_folder")  # whose own folder lies below that
    name = f"{Path(trainer.default_root_dir).name}: " if replica else ""
    tqdm.write(f"{name}{line}", file=sys.stderr)
