"""The run store: what workers without a common folder share, behind any fsspec URL."""

import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from adabc_lightning.errors import UserError, first_cause
from adabc_lightning.run.checkpoint_files import FOLDER, LAST, PREVIOUS

MARK = "checkpoints.url"  # in a folder's copy without checkpoints: where these are
NOT_STORED = ("wandb", "tensorboard", ".lock", PREVIOUS)  # the store's last.ckpt is always whole


class Store:
    """Folders of runs below a URL.

    Args:
        url: any that fsspec knows: ``s3://bucket/fig2``, ``file:///mnt/fig2``.
    Raises: UserError: fsspec does not know the kind, or lacks a library for it.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        if "://" not in url:
            raise UserError(f"--store: {url!r} is no URL such as s3://bucket/fig2")
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise UserError(f"--store: {url} cannot be used: {first_cause(error)}") from error
        self.url, self.root = url.rstrip("/"), self.root.rstrip("/")
        self._pushed: dict[Path, tuple[int, int]] = {}

    def names(self, folder: str = "") -> set[str]:
        """All files below a folder, relative to it.

        Raises: UserError: the store does not answer.
        """
        top = f"{self.root}/{folder}".rstrip("/")
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(top)
        except Exception as error:  # of as many kinds as there are stores
            raise UserError(f"--store: {self.url}: {first_cause(error)}") from error
        return {path.removeprefix(f"{top}/") for path in found if not path.endswith(".part")}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self.fs.exists(f"{self.root}/{name}"))

    def fetch(self, name: str, target: Path) -> None:
        """Copies a file from the store, whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.tmp")
        self.fs.get_file(f"{self.root}/{name}", str(part))
        part.replace(target)
        self._pushed[target] = (target.stat().st_mtime_ns, target.stat().st_size)

    def push(self, folder: Path, name: str, rows_alone: bool = True) -> None:
        """Copies a run's folder, and its log, where they have changed since the last time.

        In an order that a loss in the middle cannot harm, as in a folder whose process was killed:
        rows may lie after the checkpoint, never before, and a summary that says finished is last.

        Args:
            folder: a run's, in which a process may be at work; every file in it is replaced whole
                or appended to.
            name: of the folder in the store.
            rows_alone: whether to copy where nothing is new but rows of ``metrics.csv``: a file is
                copied whole each time, and nobody goes on from rows before the next checkpoint.
        """
        files = [
            path
            for path in folder.rglob("*")
            if _is_stored(path.relative_to(folder)) and self._is_new(path)
        ]
        if not rows_alone and all(path.name == "metrics.csv" for path in files):
            return
        with ExitStack() as stack:
            opened = []
            for path in sorted(files, key=_rank, reverse=True):  # the checkpoint before its rows
                with suppress(FileNotFoundError):
                    opened.append((path, stack.enter_context(open(path, "rb"))))
            for path, file in reversed(opened):
                self._put(path, file, f"{name}/{path.relative_to(folder).as_posix()}")
        log = folder.with_name(f"{folder.name}.log")
        if self._is_new(log):
            with open(log, "rb") as file:
                self._put(log, file, f"{name}.log")

    def _is_new(self, path: Path) -> bool:
        """Whether it is a file, and not as it was when it was copied."""
        if not path.is_file():
            return False
        state = path.stat()
        return self._pushed.get(path) != (state.st_mtime_ns, state.st_size)

    def _put(self, path: Path, file: BinaryIO, name: str) -> None:
        state = os.fstat(file.fileno())
        target = f"{self.root}/{name}"
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        with self.fs.open(f"{target}.part", "wb") as part:
            shutil.copyfileobj(file, part)
        self.fs.mv(f"{target}.part", target)
        self._pushed[path] = state.st_mtime_ns, state.st_size


def is_small(name: str) -> bool:
    """Whether a stored file is no checkpoint."""
    return FOLDER not in PurePosixPath(name).parts


def _rank(path: Path) -> int:
    """0 for what goes first."""
    if path.name == "summary.json":
        return 3
    return 2 if path.name == LAST else int(path.parent.name == FOLDER)


def _is_stored(path: Path) -> bool:
    """Of a file's path below its run."""
    return not path.name.endswith(".tmp") and not any(part in NOT_STORED for part in path.parts)
