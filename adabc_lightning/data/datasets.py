"""Offline datasets by name or path, in whatever layout, as packed transition rows.

:mod:`adabc_lightning.data.formats` reads the layouts. An episode ends at a true terminal or at a
time limit; where a row is flagged as both, the terminal wins. A time limit is never a terminal,
so it never stops bootstrapping.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from adabc_lightning.data import d4rl
from adabc_lightning.data.actions import scale_actions
from adabc_lightning.data.formats.find import is_log, open_log
from adabc_lightning.data.formats.minari import FILE as MINARI_FILE
from adabc_lightning.data.formats.minari import open_arrow, open_minari
from adabc_lightning.data.formats.source import LOGGED, SUCCESS, Reading, Source
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.packaged import ASSETS, packaged_datasets
from adabc_lightning.data.packing import AtLimit, pack
from adabc_lightning.data.rewards import Reward, relabelled
from adabc_lightning.errors import UserError, nearest, reason, warn

BLOCK_ROWS = 131_072  # rows read at once: a few megabytes, however long the file
D4RL_NAME = re.compile(
    r"(hopper|halfcheetah|walker2d|ant|pen|door|hammer|relocate|antmaze|maze2d|kitchen)-[a-z-]+-v\d",
    re.ASCII | re.IGNORECASE,
)
MINARI_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+", re.ASCII)


def load_dataset(
    dataset: str,
    *,
    max_episode_steps: int | None = None,
    download: bool = False,
    terminals_at_limit: AtLimit = "terminal",
    reading: Reading | None = None,
) -> OfflineDataset:
    """Load a dataset by path, packaged name, D4RL name or Minari id, tried in this order.

    Args:
        dataset: a file or folder in one of the layouts of :mod:`adabc_lightning.data.formats`, one
            of ``packaged_datasets()``, a name of ``d4rl.FILES`` such as ``hopper-medium-v0``, or
            a Minari id such as ``mujoco/hopper/medium-v0``.
        max_episode_steps: the environment's time limit in steps; it ends the episodes of logs
            in which nothing else does but terminals (None: only a terminal does), and terminals at
            it are suspicious.
        download: fetch a dataset of D4RL or Minari that is not on this machine.
        terminals_at_limit: what episodes end with that are flagged ``terminals`` at exactly the
            time limit; ``"timeout"`` for logs that record every end as a terminal.
            Left at ``"terminal"``, a log that looks like one of those gets a warning.
        reading: what only the user knows of the log; None: nothing.
    Returns: the dataset, on the CPU.
    Raises: UserError: no such dataset, or its contents are not what they should be.
    """
    if terminals_at_limit not in ("terminal", "timeout"):
        raise UserError(f"terminals_at_limit is {terminals_at_limit!r}; known: terminal, timeout")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"max_episode_steps is {max_episode_steps}, but must be at least 1")
    reading = reading or Reading()
    function = None if reading.reward in (None, LOGGED, SUCCESS) else Reward(reading.reward)
    try:
        with _opened(dataset, download, reading) as source:
            found = pack(
                dataset,
                source,
                limit=max_episode_steps,
                at_limit=terminals_at_limit,
                reading=reading,
                block_rows=BLOCK_ROWS,
            )
            for sentence in source.notes:
                warn(sentence)
        if reading.action_scale != 1:
            scale_actions(found, reading.action_scale)
        return found if function is None else relabelled(found, function)
    except UserError:
        raise
    except Exception as error:  # damaged bytes, no network: h5py and Minari raise all kinds
        raise UserError(f"dataset {dataset!r} cannot be read: {reason(error)}") from error


def _opened(dataset: str, download: bool, reading: Reading) -> AbstractContextManager[Source]:
    path = Path(os.path.expanduser(dataset))
    if path.is_file() or (dataset and path.is_dir() and is_log(path)):
        return open_log(path, reading)
    if dataset in packaged_datasets():
        return open_log(ASSETS / f"{dataset.replace('-', '_')}.hdf5", reading)
    if dataset in d4rl.FILES:
        return open_log(d4rl.locate(dataset, download=download), reading)
    if (name := D4RL_NAME.fullmatch(dataset)) and not _minari_is_here(dataset):
        family = [known for known in d4rl.FILES if known.startswith(f"{name[1].lower()}-")]
        hint = nearest(dataset, family) if family else "Minari's are such as D4RL/antmaze/umaze-v1"
        raise UserError(
            f"{dataset!r} looks like a dataset of D4RL, but is none that is known here; give "
            f"the path of its HDF5 file; {hint}"
        )
    if MINARI_ID.fullmatch(dataset):
        return _minari(dataset, download, reading)
    if dataset and path.is_dir():
        raise UserError(
            f"dataset {dataset!r} is a folder without a dataset: it holds no HDF5, Parquet, npz, "
            "CSV, TSV or JSON Lines file"
        )
    raise UserError(
        f"dataset {dataset!r} is no file (looked for {path.absolute()}), no packaged dataset, "
        "no D4RL name such as 'hopper-medium-v0' and no Minari id such as "
        f"'mujoco/hopper/medium-v0'; {nearest(dataset, packaged_datasets())}"
    )


def _minari_is_here(name: str) -> bool:
    """Whether a dataset of Minari has this name: its first ones were named as D4RL's.

    Minari's own ``get_dataset_path`` makes the folder that it names.
    """
    folder = os.environ.get("MINARI_DATASETS_PATH", os.path.expanduser("~/.minari/datasets"))
    return Path(folder, name, "data").exists()


@contextmanager
def _minari(name: str, download: bool, reading: Reading) -> Iterator[Source]:
    import minari
    from minari.storage.datasets_root_dir import get_dataset_path

    path = get_dataset_path(name)
    if not (path / "data").exists():
        if not download:
            raise UserError(
                f"Minari dataset {name!r} is not at {path}: fetch it with `minari download {name}` "
                "or fit --data.download true, give the path of an HDF5 file or a packaged "
                f"dataset's name ({', '.join(packaged_datasets())}), or make a stand-in with "
                "`python -m adabc_lightning collect`"
            )
        minari.download_dataset(name)
    with ExitStack() as stack:
        if (path / "data").is_dir() and not (path / "data" / MINARI_FILE).exists():
            yield open_arrow(name, path, reading)
        else:
            yield open_minari(path, f"Minari dataset {name!r}", reading, stack)
