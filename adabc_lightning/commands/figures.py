"""How commands write their figures: whole files, and the same bytes for the same numbers."""

from pathlib import Path
from typing import Any

from adabc_lightning.run.atomic import replacing

_WITHOUT_TIME: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


def save(figure: Any, path: Path) -> None:
    """Writes a Matplotlib figure as its suffix says.

    Args:
        figure: drawn.
        path: ``.svg``, ``.png`` or ``.pdf``.
    Raises: NotWritten: the system refused; an old file stays.
    """
    kind = path.suffix.removeprefix(".")
    with replacing(path) as file:
        figure.savefig(file, format=kind, metadata=_WITHOUT_TIME[kind])
