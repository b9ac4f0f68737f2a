"""LeRobot's folders, versions 2 and 3: ``meta/info.json`` and Parquet files below ``data``.

``observation.state`` and other flat features are the observation, ``action`` the action,
``next.reward`` the reward; ``episode_index`` tells episodes and ``frame_index`` their order. Images
and videos are not read.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from adabc_lightning.data.formats.folder import files_of, open_shards
from adabc_lightning.data.formats.parquet import open_parquet
from adabc_lightning.data.formats.source import Block, Reading, Source
from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run.limits import DEFLATE, amount

INFO = Path("meta", "info.json")
_LARGEST = 16 << 20  # bytes


def open_lerobot(folder: Path, reading: Reading) -> Source:
    """All episodes.

    Args:
        folder: the dataset's.
        reading: what the user knows.
    Raises: UserError: files are missing, or it is no dataset of version 2 or 3.
    """
    info = _info(folder / INFO)
    paths = files_of(folder / "data", (".parquet",)) if (folder / "data").is_dir() else []
    if not paths:
        raise UserError(f"{folder} has {INFO}, but no Parquet file below data")
    source = open_shards(folder, paths, reading, open_parquet)
    frames, tasks = (_count(folder, info, key, source) for key in ("total_frames", "total_tasks"))
    plain = source.blocks

    def blocks(keys: Sequence[str], most: int) -> Iterator[Block]:
        rows = 0
        for block in plain(keys, most):
            rows += len(next(iter(block.values())))
            yield block
        if frames is not None and rows != frames:
            raise UserError(
                f"{folder}: {INFO} says that there are {frames} frames, but data has {rows}; "
                "files are missing, or of another version"
            )

    source.blocks = blocks
    source.rows = frames or None
    if tasks is not None and tasks > 1:
        source.notes.append(f"{folder} holds {tasks} tasks, which are learnt as one")
    return source


def _count(folder: Path, info: dict[str, object], key: str, source: Source) -> int | None:
    count, stored = info.get(key), source.stored or 0
    if count is None or (type(count) is int and 0 <= count <= DEFLATE * stored):
        return count
    raise UserError(
        f"{folder / INFO}: {key!r} must be a whole number that {amount(stored)} of data can hold"
    )


def _info(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path} is too large to be LeRobot's")
        content = json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {one_line(str(error))}") from error
    version = content.get("codebase_version") if isinstance(content, dict) else None
    if not isinstance(version, str) or version[:2] not in ("v2", "v3"):
        raise UserError(
            f"{path} must be of LeRobot's version 2 or 3, but says {one_line(str(version))[:40]}; "
            "LeRobot converts older ones"
        )
    return content
