"""``metrics.csv``: started, cut back to where a checkpoint was made, written row by row."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import NotWritten, no_link, replace_text, writing


class MetricsFile:
    """One file of rows; what it has and a checkpoint does not know of is dropped."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes, of this file or of the one that a checkpoint says."""
        self.columns: Sequence[str] = ()
        self.digest: str | None = None
        """SHA-256 of these bytes; None where a checkpoint of an earlier version does not say it."""
        self._hash = hashlib.sha256()
        self._path: Path | None = None

    @property
    def is_open(self) -> bool:
        """Whether rows can be written: not on any rank but zero."""
        return self._path is not None

    def go_on(self, path: Path) -> list[dict[str, str]] | None:
        """Opens it and cuts it back to :attr:`size`; its columns stay those that it has.

        Args:
            path: where it is to be.
        Returns: its rows; None where there is none to go on with, and one is to be started.
        Raises: UserError: it belongs to another run.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.size and path.exists() and self._begins(path):
            self._cut(path)
            with open(path, newline="", opener=no_link) as file:  # an earlier version's columns
                self.columns, *rows = csv.reader(file)
            return [dict(zip(self.columns, row, strict=False)) for row in rows]
        if path.exists():
            raise UserError(
                f"{path} exists and belongs to another run; choose another "
                "default_root_dir or go on with that run's checkpoint"
            )
        return None

    def start(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes a new one.

        Args:
            columns: their names, in order.
            rows: that it has from the beginning.
        """
        assert self._path is not None
        self.columns = columns
        text = io.StringIO()
        csv.writer(text).writerow(columns)
        csv.writer(text).writerows(map(self._cells, rows))
        replace_text(self._path, text.getvalue())
        self.size, self._hash = 0, hashlib.sha256()
        self._measure()

    def append(self, row: Mapping[str, Any]) -> None:
        """On disk before any checkpoint says so; no half row stays where the disk is full."""
        assert self._path is not None
        try:
            with writing(self._path), open(self._path, "a", newline="", opener=no_link) as file:
                csv.writer(file).writerow(self._cells(row))
                file.flush()
                os.fsync(file.fileno())
        except NotWritten:
            with suppress(FileNotFoundError):  # the folder is gone
                self._cut(self._path)
            raise
        self._measure()

    def _cut(self, path: Path) -> None:
        with open(path, "r+b", opener=no_link) as file:
            file.truncate(self.size)

    def _begins(self, path: Path) -> bool:
        """Whether a file begins with what a checkpoint says."""
        with open(path, "rb", opener=no_link) as file:
            known = file.read(self.size)
        self._hash = hashlib.sha256(known)
        return len(known) == self.size and self.digest in (None, self._hash.hexdigest())

    def _measure(self) -> None:
        """Takes note of what was written."""
        assert self._path is not None
        with open(self._path, "rb") as file:
            file.seek(self.size)
            self._hash.update(file.read())
            self.size = file.tell()
        self.digest = self._hash.hexdigest()

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        return [row.get(name, "") for name in self.columns]
