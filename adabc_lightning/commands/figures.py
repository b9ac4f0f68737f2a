"""How commands write their figures: whole files, and the same bytes for the same numbers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import replacing

STYLE: Any = {"svg.hashsalt": "adabc_lightning", "font.size": 8, "axes.titlesize": 8}
"""Of Matplotlib. A fixed salt and no date: the same numbers give the same file."""
_WITHOUT_TIME: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


def check_plot(path: Path) -> None:
    """Raises: UserError: ``--plot`` is no figure's name, or there is no Matplotlib to draw it."""
    if path.suffix.removeprefix(".") not in _WITHOUT_TIME:
        raise UserError(f"--plot is {path}; it must end in .svg, .png or .pdf")
    if find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib: pip install 'adabc_lightning[report]'")


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
