"""Logs as tables: CSV, Parquet and npz, in the shape of D4RL's columns.

CSV and Parquet have a column per number: ``observation_0`` … , ``action_0`` … , ``reward``,
``terminal``, and where they are known ``timeout``, ``next_observation_0`` … and ``episode``. An npz
file has D4RL's arrays: ``observations [T, O]``, ``actions [T, A]``, ``rewards [T]``, ``terminals
[T]``, and the same optional ones. ``episode`` is a number or a text that is the same in all rows of
an episode: where it changes, the episode before was cut off, unless its last row is a terminal.
"""

import csv
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from adabc_lightning.data.columns import check_columns, check_room
from adabc_lightning.errors import UserError
from adabc_lightning.run.limits import check_bytes, check_memory

# What a table calls D4RL's columns; Gymnasium's and Minari's names will do as well.
_VECTORS = {
    "observation": "observations",
    "action": "actions",
    "next_observation": "next_observations",
}
_SCALARS = {
    **{"reward": "rewards", "rewards": "rewards", "episode": "episode"},
    **dict.fromkeys(("terminal", "terminals", "terminated", "terminations"), "terminals"),
    **dict.fromkeys(("timeout", "timeouts", "truncated", "truncations"), "timeouts"),
}
_NUMBERED = re.compile(r"(observation|action|next_observation)_(\d{1,6})")
_NEEDED = ("observation_0", "action_0", "reward", "terminal")
_LISTED = 20  # names in a message


def read_table(path: Path) -> dict[str, np.ndarray]:
    """D4RL's columns of a CSV, Parquet or npz file, checked; nothing in the file is executed.

    Args:
        path: a file whose suffix is one of :data:`FORMATS`.
    Returns: ``observations [T, O]``, ``actions [T, A]``, ``rewards [T]``, ``terminals [T]``, and,
        where the table has them or ``episode`` says so, ``timeouts [T]`` and
        ``next_observations [T, O]``.
    Raises: UserError: a column is missing, of the wrong type or shape, or the file is damaged.
    """
    columns = FORMATS[path.suffix.lower()](path)
    episode_T = columns.pop("episode", None)
    check_columns(columns, list(columns), str(path))
    check_room(columns, str(path))
    rows = len(columns["observations"])
    if episode_T is not None:
        if episode_T.shape != (rows,):
            raise UserError(f"{path}: 'episode' must be [rows], but is {list(episode_T.shape)}")
        ends_T = np.append(episode_T[1:] != episode_T[:-1], True)
        flagged_T = columns.get("timeouts", np.zeros(rows)).reshape(-1)
        columns["timeouts"] = np.where(ends_T, 1, flagged_T)
    return columns


def _csv(path: Path) -> dict[str, np.ndarray]:
    check_memory(2 * path.stat().st_size, str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(1 << 20)
            delimiter = max(",;\t", key=line.count)
            names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
            wanted = _wanted(names, path)
            ids: dict[str, int] = {}
            converters: dict[int | str, Callable[[str], float]] = {}
            for key, _, index in wanted:
                if key == "episode":
                    converters[index] = lambda text: float(ids.setdefault(text, len(ids)))
                elif key in ("terminals", "timeouts"):
                    converters[index] = _flag
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # no rows: refused below
                    values = np.loadtxt(
                        file,
                        delimiter=delimiter,
                        usecols=[index for *_, index in wanted],
                        converters=converters,
                        comments=None,
                        quotechar='"',
                        ndmin=2,
                    )
            except ValueError as error:
                raise UserError(f"{path}: {_located(str(error), names)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8; a CSV file must be") from error
    return _gathered({(key, place): values[:, i] for i, (key, place, _) in enumerate(wanted)})


def _flag(text: str) -> float:
    word = text.strip().lower()
    return float(word == "true") if word in ("true", "false") else float(word)


def _located(message: str, names: list[str]) -> str:
    """NumPy's message with the line as editors count and the column by its name."""

    def line(match: re.Match[str]) -> str:
        column = int(match[2]) - 1
        name = names[column] if 0 <= column < len(names) else match[2]
        return f"line {int(match[1]) + 2}, column {name}"

    text = re.sub(r"row (\d+), column (\d+)", line, message.partition(";")[0])
    # Here NumPy counts rows from 1.
    ragged = re.sub(
        r"invalid column index (\d+) at row (\d+) with (\d+) columns",
        lambda m: (
            f"line {int(m[2]) + 1} has {m[3]} values, but {names[int(m[1])]} is number "
            f"{int(m[1]) + 1}"
        ),
        text,
    )
    return ragged.rstrip(".")


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet needs pyarrow: pip install 'adabc_lightning[tables]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = _wanted(names, path)
            check_memory(4 * file.metadata.num_rows * len(wanted), str(path))
            table = file.read(columns=[names[index] for *_, index in wanted])
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no readable Parquet file: {reason}") from error
    found = {}
    for key, place, index in wanted:
        column = table.column(names[index])
        array = column.to_numpy()
        if array.dtype.kind not in "biuf" and key != "episode":
            raise UserError(f"{path}: column {names[index]} must be numeric, but is {column.type}")
        found[key, place] = array
    return _gathered(found)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        _check_npz(path)
        # Pickled objects would run code: they are refused.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            keys = {**{key: key for key in _VECTORS.values()}, **_VECTORS, **_SCALARS}
            return {keys[name]: file[name] for name in file.files if name in keys}
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is no readable npz file: {reason}") from error


def _check_npz(path: Path) -> None:
    """Sizes that the headers claim, before NumPy makes room for them."""
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        check_bytes(sum(info.file_size for info in members), path.stat().st_size, str(path))
        check_memory(sum(info.file_size for info in members) // 2, str(path))
        for info in members:
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                header = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    header = np.lib.format.read_array_header_2_0
                shape, _, dtype = header(member)
            if not dtype.hasobject and math.prod(shape) * dtype.itemsize > info.file_size:
                raise UserError(f"{path}: {info.filename} holds less than its header says")


FORMATS: Mapping[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".npz": _npz,
}
"""Suffix → what reads such a file."""


def _wanted(names: Sequence[str], path: Path) -> list[tuple[str, int, int]]:
    """Which columns are read: D4RL's key, the place in a vector (0 for scalars), the index."""
    wanted: dict[tuple[str, int], int] = {}
    for index, name in enumerate(names):
        numbered = _NUMBERED.fullmatch(name)
        if numbered is None and name not in _SCALARS:
            continue
        column = (_VECTORS[numbered[1]], int(numbered[2])) if numbered else (_SCALARS[name], 0)
        if column in wanted:
            raise UserError(f"{path} has the columns {names[wanted[column]]} and {name}; give one")
        wanted[column] = index
    for need, key in zip(_NEEDED, ("observations", "actions", "rewards", "terminals"), strict=True):
        if (key, 0) not in wanted:
            listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
            raise UserError(f"{path} has no column {need}; it has: {listed or 'nothing'}")
    for name, key in _VECTORS.items():
        places = sorted(place for k, place in wanted if k == key)
        gap = next((i for i, place in enumerate(places) if place != i), None)
        if gap is not None:
            raise UserError(f"{path} has {name}_{places[gap]}, but no {name}_{gap}")
    return [(key, place, index) for (key, place), index in sorted(wanted.items())]


def _gathered(found: Mapping[tuple[str, int], np.ndarray]) -> dict[str, np.ndarray]:
    """Columns ``[T]`` by key and place; those of vectors joined to ``[T, N]``."""
    columns: dict[str, list[np.ndarray]] = {}
    for (key, _), values in sorted(found.items(), key=lambda item: item[0]):
        columns.setdefault(key, []).append(values)
    vectors = _VECTORS.values()
    return {key: np.stack(v, 1) if key in vectors else v[0] for key, v in columns.items()}
