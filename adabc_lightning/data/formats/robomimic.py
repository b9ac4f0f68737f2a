"""robomimic's HDF5: ``data/demo_N`` with arrays of its own, observations by name.

``dones`` may mean success, the end of the demonstration, or both (robomimic's ``done_mode``), so
that it ends nothing unless ``data.done_means`` says what; a demonstration's end is a time limit.
Rewards flag success where the file says that they are not shaped (``reward_shaping`` of its
``env_args``).
"""

import json
import re
from pathlib import Path
from typing import Any

import h5py

from adabc_lightning.data.formats.episodic import EpisodeArrays, episodic_source
from adabc_lightning.data.formats.hdf5 import array, attribute, inside, parts, texts
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run.limits import check_claims

_DEMO = re.compile(r"\D*(\d{1,9})")


def is_robomimic(file: h5py.File) -> bool:
    """Whether a file has demonstrations in a group ``data``."""
    if "data" not in file or not isinstance(file.get("data", getlink=True), h5py.HardLink):
        return False
    return isinstance(file["data"], h5py.Group) and any(map(_DEMO.fullmatch, file["data"]))


def open_robomimic(file: h5py.File, path: Path, reading: Reading) -> Source:
    """All demonstrations, or those of one of the file's masks, by their numbers.

    Raises: UserError: one is not as the others, or the mask is not there.
    """
    where = str(path)
    data = inside(file, "data", where)
    demos = sorted(filter(_DEMO.fullmatch, data), key=_number)
    if reading.mask is not None:
        wanted = _mask(file, path, reading.mask, set(demos))
        demos = [name for name in demos if name in wanted]
    arrays: list[h5py.Dataset] = []
    sparse = _is_sparse(data)
    episodes = [_episode(data, name, where, arrays, sparse) for name in demos]
    check_claims(arrays, path.stat().st_size, where)
    names = sorted(data[demos[0]]) if demos else []
    source = episodic_source(where, episodes, names, reading, last_observation=False)
    source.stored = path.stat().st_size
    return source


def _number(name: str) -> int:
    match = _DEMO.fullmatch(name)
    assert match is not None
    return int(match[1])


def _is_sparse(data: h5py.Group) -> bool:
    """Whether rewards are 1 for success and 0 otherwise, by the arguments of the environment."""
    try:
        shaping = json.loads(attribute(data, "env_args"))["env_kwargs"]["reward_shaping"]
    except (KeyError, TypeError, ValueError, OSError, RecursionError):
        return False
    return shaping is False


def _episode(
    data: h5py.Group, name: str, where: str, arrays: list[h5py.Dataset], sparse: bool
) -> EpisodeArrays:
    demo = inside(data, name, where)
    if not isinstance(demo, h5py.Group):
        raise UserError(f"{where}: 'data/{name}' must be a group of arrays")
    if "obs" not in demo:
        raise UserError(
            f"{where}: {name} has no 'obs'; it has: {', '.join(map(one_line, sorted(demo)))}; "
            "make observations with robomimic's dataset_states_to_obs.py"
        )
    columns: dict[str, Any] = {}
    for key, group in {"observations": "obs", "next_observations": "next_obs"}.items():
        if group in demo:
            columns[key] = parts(demo, group, where)
            arrays += columns[key].values()
    for key in ("actions", "rewards", "dones"):
        if key in demo:
            columns[key] = array(demo, key, where)
            arrays.append(columns[key])
    if sparse and "rewards" in columns:
        columns["success"] = columns["rewards"]
    return EpisodeArrays(name, columns)


def _mask(file: h5py.File, path: Path, name: str, demos: set[str]) -> set[str]:
    """Those of the demonstrations that a mask names."""
    where = str(path)
    group = inside(file, "mask", where) if "mask" in file else {}
    if isinstance(group, h5py.Dataset):
        raise UserError(f"{where}: 'mask' must be a group of arrays, a mask in each")
    if name not in group:
        known = ", ".join(map(one_line, sorted(group))) or "none"
        raise UserError(f"{where} has no mask {name!r}; it has: {known}")
    wanted: set[str] = set()
    what = f"{where}: mask {name!r}"
    for _, block in texts(array(group, name, where), what, path.stat().st_size):
        if lost := sorted(set(block) - demos):
            raise UserError(f"{what} has {one_line(lost[0])}, data has not")
        wanted.update(block)
    return wanted
