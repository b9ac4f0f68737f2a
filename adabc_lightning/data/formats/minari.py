"""Minari's datasets: a folder with ``metadata.json`` and each episode's arrays in HDF5.

Read without Minari, which would make the environment that the metadata describe, entry point
included. Its other format, Arrow, is read by Minari itself, after a check.
"""

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py

from adabc_lightning.data.formats.columns import Behind
from adabc_lightning.data.formats.episodic import EpisodeArrays, episodic_source
from adabc_lightning.data.formats.hdf5 import array, inside, parts
from adabc_lightning.data.formats.source import Reading, Source
from adabc_lightning.data.names import SCALARS
from adabc_lightning.env.scores import Reference
from adabc_lightning.errors import UserError, one_line
from adabc_lightning.run.limits import amount, check_claims, check_memory

FILE = "main_data.hdf5"
_SPACES = {"observation_space": "observation", "action_space": "action"}
_TYPES = tuple(f"{kind}{bits}" for kind in ("float", "int", "uint") for bits in (8, 16, 32, 64))
_KEYS = {"rewards": "rewards", "terminals": "terminations"}


def is_minari(folder: Path) -> bool:
    """Whether a folder is a dataset of Minari's (the one that holds ``data``)."""
    return (folder / "data" / "metadata.json").is_file()


def open_minari(folder: Path, where: str, reading: Reading, stack: ExitStack) -> Source:
    """A dataset in Minari's HDF5 format.

    Args:
        folder: the one that holds ``data``.
        where: what to call it in messages.
        reading: what the user knows.
        stack: closes the file when the log has been read.
    Raises: UserError: it is not what it should be.
    """
    metadata = check_minari_metadata(folder / "data" / "metadata.json")
    path = folder / "data" / FILE
    if not path.exists():
        raise UserError(
            f"{folder}/data has no {FILE}: Minari's Arrow format is read by id only, with "
            "MINARI_DATASETS_PATH set to the folder that the id begins in"
        )
    check_minari_file(path)
    file = stack.enter_context(h5py.File(path, "r"))
    episodes = [_episode(file, index, where) for index in range(metadata["total_episodes"])]
    if not all("success" in episode.columns for episode in episodes):
        for episode in episodes:
            episode.columns.pop("success", None)
    names = sorted(file["episode_0"]) if episodes else []
    source = episodic_source(where, episodes, names, reading, last_observation=True)
    source.env_id = _env_id(metadata)
    source.reference = _reference(where, metadata)
    source.stored = path.stat().st_size
    return source


def _episode(file: h5py.File, index: int, where: str) -> EpisodeArrays:
    label = f"episode_{index}"
    if label not in file:
        raise UserError(f"{where}: {label} is missing, the metadata count it")
    group = file[label]
    if not isinstance(group, h5py.Group):
        raise UserError(f"{where}: {label} must be a group of arrays")
    columns: dict[str, Any] = {}
    for key in ("observations", "actions"):
        if key in group:
            item = inside(group, key, where)
            columns[key] = parts(group, key, where) if isinstance(item, h5py.Group) else item
    for key, name in _KEYS.items():
        if name not in group:
            raise UserError(f"{where}: {label} has no {name!r}")
        columns[key] = array(group, name, where)
    if "infos" in group and isinstance(infos := inside(group, "infos", where), h5py.Group):
        found = [flag for flag in SCALARS["success"] if flag in infos]
        columns |= _success(array(infos, found[0], where), columns) if found else {}
    return EpisodeArrays(label, columns)


def _success(flags: h5py.Dataset, columns: dict[str, Any]) -> dict[str, Any]:
    """Flags of each step; where a reset's info comes first, those behind it."""
    steps = columns["rewards"].shape[0] if columns["rewards"].shape else 0
    if flags.shape not in ((steps,), (steps + 1,)) or flags.dtype.kind not in "biuf":
        return {}
    return {"success": flags if flags.shape == (steps,) else Behind(flags)}


def _env_id(metadata: dict[str, Any]) -> str | None:
    try:
        found = json.loads(metadata["env_spec"])["id"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _reference(where: str, metadata: dict[str, Any]) -> Reference | None:
    limits = [metadata.get(f"ref_{end}_score") for end in ("min", "max")]
    if None in limits:
        return None
    try:
        low, high = (float(limit) for limit in limits)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: ref_min_score and ref_max_score must be numbers") from error
    if not -math.inf < low < high < math.inf:  # also catches NaN
        raise UserError(f"{where}: ref_min_score is {low}, ref_max_score {high}; it must be below")
    return Reference(low, high)


def check_minari_file(path: Path) -> None:
    """Minari's HDF5 file: no links, no absurd claims.

    Raises: UserError: it links elsewhere, is kept elsewhere or claims more than it can hold.
    """
    arrays: list[h5py.Dataset] = []
    with h5py.File(path, "r") as file:

        def elsewhere(name: str, link: Any) -> str | None:
            """The name of what is not in this file, which ends the visit."""
            item = file[name] if isinstance(link, h5py.HardLink) else None
            if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
                arrays.append(item)
                return None
            return None if isinstance(item, h5py.Group) else name

        if (name := file.visititems_links(elsewhere)) is not None:
            raise UserError(f"{path}: {name!r} must be in this file, no link to elsewhere")
        check_claims(arrays, path.stat().st_size, str(path))
        check_memory(sum(math.prod(array.shape or ()) for array in arrays), str(path))


def check_minari_metadata(path: Path) -> dict[str, Any]:
    """Refuses what Minari would act upon when it opens a dataset.

    Without a space it makes the environment that the file describes, entry point included, so
    that the file could run any code; and it makes an array of as many numbers as it is told.

    Returns: the metadata.
    Raises: UserError: no JSON mapping, spaces that are no flat boxes, or absurd counts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        spaces = {key: json.loads(content[key]) for key in _SPACES}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise UserError(f"{path} has no {error}, without which no dataset can be read") from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = one_line(str(error))
        raise UserError(f"{path} is not the metadata of a Minari dataset: {reason}") from error
    for key, space in spaces.items():
        kind = space.get("type") if isinstance(space, dict) else space
        if kind == "Dict" and key == "observation_space":
            continue  # what of it is flat is known from the arrays
        shape = space.get("shape") if kind == "Box" else None
        if not isinstance(shape, list) or len(shape) != 1:
            raise UserError(f"{path} needs a flat Box {_SPACES[key]} space, not {kind!s:.40}")
        ends = [space.get(end) for end in ("low", "high")]
        if space.get("dtype") not in _TYPES or any(
            not isinstance(end, list) or [len(end)] != shape for end in ends
        ):
            raise UserError(f"{path}: {key!r} needs a dtype and bounds for each of its numbers")
    stored = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
    for key in ("total_episodes", "total_steps"):
        count = content.get(key)
        if not isinstance(count, int) or not 0 <= count <= stored:
            raise UserError(
                f"{path}: {key!r} must be a whole number that {amount(stored)} can hold"
            )
    return content


def open_arrow(name: str, folder: Path, reading: Reading) -> Source:
    """A dataset in Minari's Arrow format, read whole by Minari.

    Args:
        name: its id.
        folder: the one that holds ``data``.
        reading: what the user knows.
    Raises: UserError: it is not what it should be.
    """
    import minari

    where = f"Minari dataset {name!r}"
    metadata = check_minari_metadata(folder / "data" / "metadata.json")
    if json.loads(metadata["observation_space"])["type"] != "Box":
        raise UserError(f"{where}: in the Arrow format only a flat Box observation space is read")

    def episodes() -> Iterator[EpisodeArrays]:
        for index, episode in enumerate(minari.load_dataset(name).iterate_episodes()):
            columns = {"observations": episode.observations, "actions": episode.actions}
            columns |= {"rewards": episode.rewards, "terminals": episode.terminations}
            yield EpisodeArrays(f"episode_{index}", columns)

    names = ["observations", "actions", "rewards", "terminations", "truncations"]
    source = episodic_source(where, list(episodes()), names, reading, last_observation=True)
    source.env_id, source.reference = _env_id(metadata), _reference(where, metadata)
    return source
