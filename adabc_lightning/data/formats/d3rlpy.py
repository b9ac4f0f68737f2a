"""d3rlpy's ``ReplayBuffer.dump`` (version 2.1): ``observations_0``, ``actions_0`` and so on.

Its older dumps (``MDPDataset.dump``) are arrays beside each other, as D4RL's.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from adabc_lightning.data.formats.episodic import EpisodeArrays, episodic_source
from adabc_lightning.data.formats.hdf5 import array
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.errors import UserError
from adabc_lightning.run.limits import check_claims


def is_d3rlpy(file: h5py.File) -> bool:
    """Whether a file is such a dump."""
    return "columns" in file and ("num_episodes" in file or "total_size" in file)


def open_d3rlpy(file: h5py.File, path: Path, reading: Reading) -> Source:
    """All episodes; one that is not terminated ends at a time limit.

    Raises: UserError: an array is missing, or not as the others.
    """
    where = str(path)
    if "num_episodes" not in file:
        raise UserError(
            f"{where} is a dump of d3rlpy 2.0, which d3rlpy itself no longer reads; write it again "
            "with 2.1 or later"
        )
    count = _number(file, "num_episodes", where)
    if count is None or not 0 < int(count) <= path.stat().st_size:
        raise UserError(f"{where}: 'num_episodes' must be a number that the file can hold")
    arrays: list[h5py.Dataset] = []
    episodes = [_episode(file, index, where, arrays) for index in range(int(count))]
    check_claims(arrays, path.stat().st_size, where)
    names = ["observations", "actions", "rewards", "terminated"]
    source = episodic_source(where, episodes, names, reading, last_observation=False)
    source.stored = path.stat().st_size
    return source


def _number(file: h5py.File, name: str, where: str) -> Any:
    """What is stored as one number; None, and nothing is read, where it is anything else."""
    found = array(file, name, where)
    return found[()] if found.shape == () and found.dtype.kind in "biuf" else None


def _episode(file: h5py.File, index: int, where: str, arrays: list[h5py.Dataset]) -> EpisodeArrays:
    label = f"episode {index}"
    columns: dict[str, Any] = {}
    for key in ("observations", "actions", "rewards"):
        name = f"{key}_{index}"
        if name not in file:
            several = f"{name}_0" in file
            raise UserError(
                f"{where} has no {name!r}"
                + ("; observations of several arrays are not read" if several else "")
            )
        columns[key] = array(file, name, where)
    arrays += columns.values()
    rows = (columns["actions"].shape or (0,))[0]
    name = f"terminated_{index}"
    terminated = _number(file, name, where) if name in file else 0
    if terminated not in (0, 1):
        raise UserError(f"{where}: {name!r} must be true or false")
    check_claims(arrays[-3:], Path(where).stat().st_size, where)
    flags = np.zeros(rows, bool)
    flags[-1:] = bool(terminated)
    return EpisodeArrays(label, columns | {"terminals": flags})
