"""NumPy's npz: arrays by D4RL's names, OGBench's trajectories, Stable-Baselines3's buffers.

Pickled objects would run code: they are refused. Arrays are read in pieces, as they are unpacked.
"""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from adabc_lightning.data.formats.columns import array_source
from adabc_lightning.data.formats.source import FINAL, Block, Reading, Source
from adabc_lightning.data.names import VECTORS, Named, assign
from adabc_lightning.errors import UserError, one_line, reason
from adabc_lightning.run.limits import check_bytes, check_memory


class Member:
    """An array of an npz file, of which the rows are read as they are asked for, in order.

    Args:
        archive: open as long as this is used.
        info: the member.
        where: the file, for messages.
    Raises: UserError: it holds less than its header says.
    """

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> None:
        self._archive, self._info, self._where = archive, info, where
        self._file: IO[bytes] | None = None
        self._row = 0
        self._whole: np.ndarray | None = None
        with archive.open(info) as file:
            self.shape, self._fortran, self.dtype = _header(file)
            self._skip = file.tell()
        if self.dtype.hasobject:  # nothing of them is read
            return
        if math.prod(self.shape) * self.dtype.itemsize > info.file_size:
            raise UserError(f"{where}: {one_line(info.filename)} holds less than its header says")

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows; those before the last ones that were asked for mean unpacking from the start."""
        start, stop, _ = rows.indices(self.shape[0])
        if self._fortran and len(self.shape) > 1:  # its rows lie all over it
            if self._whole is None:
                with self._archive.open(self._info) as file:
                    file.seek(self._skip)
                    data = _exactly(file, math.prod(self.shape) * self.dtype.itemsize, self._where)
                whole = np.frombuffer(data, self.dtype)
                self._whole = whole.reshape(self.shape[::-1]).T
            return self._whole[start:stop]
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self._file is None or start < self._row:
            self.close()
            self._file = self._archive.open(self._info)
            self._file.seek(self._skip)
            self._row = 0
        self._file.seek((start - self._row) * size, 1)
        data = _exactly(self._file, (stop - start) * size, self._where)
        self._row = stop
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])

    def close(self) -> None:
        """Gives back what it has unpacked."""
        if self._file is not None:
            self._file.close()
        self._file = self._whole = None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        header = np.lib.format.read_array_header_2_0
    return header(file)


def _exactly(file: IO[bytes], size: int, where: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise UserError(f"{where} is no readable npz file: an array ends before its header says")
    return data


def open_npz(path: Path, reading: Reading, stack: ExitStack) -> Source:
    """A log in an npz file.

    Args:
        path: the file.
        reading: what the user knows.
        stack: closes the file when the log has been read.
    Raises: UserError: it is damaged, claims more than it can hold, or is no log.
    """
    where = str(path)
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        claimed = sum(info.file_size for info in infos)
        check_bytes(claimed, path.stat().st_size, where)
        check_memory(claimed // 16, where)  # a row of float16 is read into four times as much
        arrays = {
            info.filename.removesuffix(".npy"): Member(archive, info, where) for info in infos
        }
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise all kinds
        raise UserError(_unreadable(where, error)) from error
    objects = [name for name, member in arrays.items() if member.dtype.hasobject]
    if wanted := [name for name in objects if assign([name], where) != Named()]:
        raise UserError(
            f"{where} is no readable npz file: Object arrays cannot be loaded, they would run code "
            f"({one_line(wanted[0])})"
        )
    arrays = {name: member for name, member in arrays.items() if name not in objects}
    for member in arrays.values():
        stack.callback(member.close)
    source = _layout(where, arrays, reading)
    blocks = source.blocks

    def careful(keys: Sequence[str], most: int) -> Iterator[Block]:
        try:
            yield from blocks(keys, most)
        except UserError:
            raise
        except Exception as error:  # as above
            raise UserError(_unreadable(where, error)) from error

    source.blocks, source.stored = careful, path.stat().st_size
    return source


def _unreadable(where: str, error: Exception) -> str:
    return f"{where} is no readable npz file: {reason(error)}"


def _layout(where: str, arrays: dict[str, Any], reading: Reading) -> Source:
    named = assign(list(arrays), where)
    observations = arrays.get(named.single.get("observations", ""))
    if observations is not None and len(observations.shape) == 3:
        return _several_environments(where, arrays, reading)
    source = array_source(where, arrays, reading)
    others = {"next_observations", "timeouts", "episode", "dones"}
    ogbench = {"masks", "qpos"} & set(arrays)
    if "terminals" in source.scalars and ogbench and not any(key in named for key in others):
        return _ogbench(where, arrays, source)
    return source


def _ogbench(where: str, arrays: dict[str, Any], source: Source) -> Source:
    """OGBench's trajectories of T + 1 rows: ``terminals`` is 1 at the last one, no transition.

    Raw ones have no rewards. With a task's come ``masks``, 0 where the task is done and nothing is
    bootstrapped.
    """
    plain, has_masks = source.blocks, "masks" in arrays
    if has_masks and arrays["masks"].shape[:1] != (source.rows,):
        raise UserError(f"{where}: 'masks' has {arrays['masks'].shape} numbers, not {source.rows}")
    source.scalars = [*source.scalars, FINAL]
    source.read = [*source.read, *(["masks"] if has_masks else [])]

    def blocks(keys: Sequence[str], most: int) -> Iterator[Block]:
        start = 0
        wanted = [key for key in keys if key != FINAL]
        for block in plain(wanted, most):
            if "terminals" in block:
                last = np.asarray(block["terminals"]).reshape(-1)
                wrong = np.flatnonzero((last != 0) & (last != 1))
                if len(wrong):
                    raise UserError(
                        f"{where}: 'terminals' must be 0 or 1, but {source.place(start + wrong[0])}"
                        f" is {last[wrong[0]]}"
                    )
                block[FINAL] = last == 1
                block["terminals"] = np.zeros(len(last))
                if has_masks:
                    mask = arrays["masks"][start : start + len(last)].reshape(-1)
                    block["terminals"] = np.where(block[FINAL], 0, 1 - mask)
                start += len(last)
            yield block

    source.blocks = blocks
    source.notes.append(
        f"{where}: read as OGBench's layout: 'terminals' is 1 in the last row of a trajectory, "
        "which is an observation only"
        + (", and 'masks' is 0 where the task ends" if has_masks else "; nothing is a terminal")
    )
    return source


class _Turned:
    """``[T, n_envs, …]`` as ``[T · n_envs, …]``, read by whole steps of all environments."""

    def __init__(self, member: Any, vector: bool) -> None:
        self._member, self._count = member, member.shape[1]
        self._rest = member.shape[2:] if vector else ()
        self.shape = (member.shape[0] * member.shape[1], *self._rest)
        self.dtype = member.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        steps = self._member[start // self._count : -(-stop // self._count)]
        return steps.reshape(-1, *self._rest)


def _several_environments(where: str, arrays: dict[str, Any], reading: Reading) -> Source:
    """Stable-Baselines3's buffers, ``[T, n_envs, …]``: each environment's steps in order.

    Or episodes of one length, ``[E, T, …]``, where all flags of ends lie at their last steps.
    """
    named = assign(list(arrays), where)
    steps, count = arrays[named.single["observations"]].shape[:2]
    ends_AB = _ends(arrays, named, (steps, count))
    # Of environments the last one alone would have ended otherwise, more than once.
    elsewhere = bool(ends_AB[:, :-1].any())
    stacked = not elsewhere and count > 1 and int(ends_AB[:, -1].sum()) > 1
    what = "episodes and steps" if stacked else "steps and environments"
    turned = dict(arrays)
    for key, name in named.single.items():
        shape = arrays[name].shape
        if (
            shape[:2] != (steps, count)
            or 0 in shape
            or math.prod(shape[2:]) != shape[-1] ** (len(shape) > 2)
        ):
            raise UserError(
                f"{where}: {key!r} must be [{steps}, {count}, …], {what} as in "
                f"'observations', not empty, but is {list(shape)}"
            )
        turned[name] = _Turned(arrays[name], key in VECTORS)
    slow, fast = np.repeat(np.arange(steps), count), np.tile(np.arange(count), steps)
    for key, values in zip(
        ("step", "episode"), (fast, slow) if stacked else (slow, fast), strict=True
    ):
        if key in named:
            raise UserError(
                f"{where} has {named.single[key]!r} beside arrays of {what}; leave it out: steps "
                "are in order there"
            )
        turned[key] = values
    source = array_source(where, turned, reading)
    plain = source.blocks
    source.blocks = lambda keys, most: plain(keys, max(count, most // count * count))
    source.turned = source.own_ids = True
    if stacked:
        source.notes.append(f"{where}: read as {steps:,} episodes of {count:,} steps")
    elif not elsewhere and count > 1:
        source.notes.append(
            f"{where}: read as Stable-Baselines3's layout, {steps:,} steps of {count:,} "
            f"environments; of {steps:,} episodes of {count:,} steps flag the ends as timeouts"
        )
    return source


def _ends(arrays: dict[str, Any], named: Named, shape: tuple[int, int]) -> np.ndarray:
    """``[A, B]`` bool: whatever is flagged as an end."""
    names = [named.single[key] for key in ("terminals", "timeouts", "dones") if key in named]
    ends_AB = np.zeros(shape, bool)
    for flag in (arrays[name][0 : shape[0]] for name in names):
        if flag.size == ends_AB.size:  # else it is refused
            ends_AB |= flag.reshape(shape) != 0
    return ends_AB
