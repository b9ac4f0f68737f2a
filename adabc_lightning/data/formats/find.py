"""Which reader a file or a folder needs: found by its first bytes, not by its suffix alone."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from adabc_lightning.data.formats.d3rlpy import is_d3rlpy, open_d3rlpy
from adabc_lightning.data.formats.folder import files_of, open_shards
from adabc_lightning.data.formats.hdf5 import flat_source
from adabc_lightning.data.formats.json_lines import json_source
from adabc_lightning.data.formats.lerobot import INFO, open_lerobot
from adabc_lightning.data.formats.minari import is_minari, open_minari
from adabc_lightning.data.formats.npz import open_npz
from adabc_lightning.data.formats.packed import GZIP, ZSTD, line_of, lines_of, opened
from adabc_lightning.data.formats.parquet import open_parquet
from adabc_lightning.data.formats.robomimic import is_robomimic, open_robomimic
from adabc_lightning.data.formats.separated import csv_source
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.errors import UserError

TEXT = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
_PACKED = (".gz", ".zst", ".zstd")
# Each suffix is a format of its own. JSON beside shards says something about them.
SHARDS = tuple(
    f"{suffix}{packed}"
    for packed in (*_PACKED, "")
    for suffix in (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".npz", ".hdf5", ".h5")
)
_KNOWN = "Parquet, npz, CSV, TSV and JSON Lines (these three also as .gz or .zst)"


@contextmanager
def open_log(path: Path, reading: Reading) -> Iterator[Source]:
    """A log, open as long as the context is.

    Args:
        path: a file, or a folder of a layout that is known.
        reading: what the user knows of it.
    Raises: UserError: it is in no layout that is known, or damaged.
    """
    with ExitStack() as stack:
        yield (open_folder if path.is_dir() else open_file)(path, reading, stack)


def is_log(folder: Path) -> bool:
    """Whether anything in a folder could be a log."""
    return is_minari(folder) or (folder / INFO).is_file() or bool(files_of(folder, SHARDS))


def open_folder(folder: Path, reading: Reading, stack: ExitStack) -> Source:
    """A log in a folder: Minari's, LeRobot's, or shards that are all of one format.

    Raises: UserError: as above.
    """
    if is_minari(folder):
        return open_minari(folder, str(folder), reading, stack)
    if (folder / INFO).is_file():
        return open_lerobot(folder, reading)
    paths = files_of(folder, SHARDS)
    kinds = {next(s for s in SHARDS if path.name.lower().endswith(s)): path for path in paths}
    if len(kinds) != 1:
        named = ", ".join(str(path.relative_to(folder)) for path in kinds.values()) or "no log"
        raise UserError(
            f"{folder} must hold files of one format, but has {named}; give one of them"
        )
    return open_shards(folder, paths, reading, open_file)


def open_file(path: Path, reading: Reading, stack: ExitStack) -> Source:
    """A log in one file; closed with ``stack``.

    Raises: UserError: as above.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    if not magic:
        raise UserError(f"{path} is empty")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = next((s for s in reversed(suffixes) if s not in _PACKED), "")
    if h5py.is_hdf5(path):
        return _hdf5(stack.enter_context(h5py.File(path, "r")), path, reading, stack)
    if magic.startswith(b"PAR1") or suffix == ".parquet":
        return open_parquet(path, reading, stack)
    if magic.startswith(b"PK") or suffix == ".npz":
        if suffix != ".npz" and not _is_npz(path):
            raise UserError(f"{path} is a zip file, but no npz file; unpack it first")
        return open_npz(path, reading, stack)
    if suffix in TEXT or magic.startswith((GZIP, ZSTD)):
        return _text(path, reading)
    if suffix in (".hdf5", ".h5", ".hdf"):
        raise UserError(f"{path} is not a readable HDF5 file")
    if magic.startswith(b"\x80") or suffix in (".pkl", ".pickle", ".pt", ".pth"):
        raise UserError(
            f"{path} is a pickle, which would run code when it is opened; store its arrays with "
            "numpy.savez"
        )
    raise UserError(f"{path} is not a readable HDF5 file, nor of another format: {_KNOWN}")


def _text(path: Path, reading: Reading) -> Source:
    """JSON Lines or CSV, packed or not, as its first character tells."""
    with opened(path) as file:
        line = line_of(file, path)
        if not line.strip() and not any(map(str.strip, lines_of(file, path))):
            raise UserError(f"{path} is empty")
    if line.lstrip().startswith("{"):
        return json_source(path, line, reading)
    if line.lstrip().startswith("["):
        raise UserError(f"{path} is one JSON array; write an object a line (JSON Lines)")
    return csv_source(path, line, reading)


def _hdf5(file: h5py.File, path: Path, reading: Reading, stack: ExitStack) -> Source:
    if is_robomimic(file):
        return open_robomimic(file, path, reading)
    if is_d3rlpy(file):
        return open_d3rlpy(file, path, reading)
    if "episode_0" in file and is_minari(path.parent.parent):
        return open_minari(path.parent.parent, str(path), reading, stack)
    return flat_source(file, path, reading)


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
