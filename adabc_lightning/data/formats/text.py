"""Text: JSON Lines or CSV, as its first character tells."""

from pathlib import Path

from adabc_lightning.data.formats.json_lines import json_source
from adabc_lightning.data.formats.packed import line_of, lines_of, opened
from adabc_lightning.data.formats.separated import csv_source
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.errors import UserError


def open_text(path: Path, reading: Reading) -> Source:
    """A log as text; the first character tells JSON Lines from CSV.

    Args:
        path: the file, packed or not.
        reading: what the user knows.
    Raises: UserError: it is damaged, packed beyond belief, or is no log.
    """
    with opened(path) as file:
        line = line_of(file, path)
        if not line.strip() and not any(map(str.strip, lines_of(file, path))):
            raise UserError(f"{path} is empty")
    if line.lstrip().startswith("{"):
        return json_source(path, line, reading)
    if line.lstrip().startswith("["):
        raise UserError(f"{path} is one JSON array; write an object a line (JSON Lines)")
    return csv_source(path, line, reading)
