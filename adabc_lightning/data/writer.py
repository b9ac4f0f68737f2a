"""Files of collected episodes: a partial one that survives a kill, then D4RL's HDF5 or Minari's."""

import json
import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import gymnasium
import h5py
import numpy as np

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.formats.hdf5 import PARTS
from adabc_lightning.env.flat import FlatObservation
from adabc_lightning.env.observations import Parts
from adabc_lightning.env.rollout import Rollout
from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import no_link, replacing, writing
from adabc_lightning.run.lock import hold

_EXTRA, _BLOCK = 16_384, 1 << 20  # bytes that HDF5 adds to an episode; written at once
_RECORD = struct.Struct("<IIQ??I")  # part, steps, reset seed, terminated, truncated, CRC-32


class PartialFile:
    """Finished episodes in order, appended one by one; a kill costs the unfinished ones only.

    A line of JSON, then a record per episode: a fixed head, and observations, actions and
    rewards as float32. What a kill or a full disk left of a last record is cut off.

    Args:
        path: the file; it goes on where an earlier command with the same options stopped.
        options: whatever the episodes depend on, name → plain value.
        spec: sizes of observations and actions.
        anew: drop what an earlier command with other options left.
    Raises: UserError: the file was begun with other options, is in use, or cannot be written.
    """

    def __init__(
        self, path: Path, options: dict[str, Any], spec: EnvironmentSpec, anew: bool = False
    ) -> None:
        self.path, self._spec = path, spec
        self.index: list[tuple[int, int, float]] = []
        """(part, steps, return) of each episode."""
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = "r+b" if path.exists() else "w+b"
            self._file: IO[bytes] = open(path, mode, opener=no_link)  # noqa: SIM115 - while it grows
            try:
                self._lock()
                self._open(json.loads(json.dumps(options)), anew)
            except BaseException:
                self._file.close()
                raise

    def _open(self, options: dict[str, Any], anew: bool) -> None:
        line = self._file.readline()
        begun = _parsed(line)
        differs = [n for n in options if begun is not None and begun.get(n) != options[n]][:1]
        if begun is not None and differs and not anew:
            (name,) = differs
            raise UserError(
                f"{self.path} was begun with {name} {_shown(begun.get(name))}, not "
                f"{_shown(options[name])}; go on with the same options, or start again with "
                "--overwrite"
            )
        if begun is None and line.endswith(b"\n") and not anew:
            raise UserError(f"{self.path} is no partial dataset; move it away")
        if begun is None or differs:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps(options).encode() + b"\n")
            self._file.flush()
        self._start = end = self._file.tell()
        for part, episode in self._records():
            self.index.append((part, len(episode.rewards), total(episode)))
            end = self._file.tell()
        self._file.seek(end)
        self._file.truncate()

    def _lock(self) -> None:
        """Refuses a second writer."""
        if not hold(self._file):
            raise UserError(f"another command is writing {self.path}; wait for it")

    def append(self, part: int, episode: Rollout) -> None:
        """Adds an episode and hands it to the system: a kill of this process cannot undo it."""
        arrays = (episode.observations, episode.actions, episode.rewards)
        floats = b"".join(array.astype("<f4", copy=False).tobytes() for array in arrays)
        steps = len(episode.rewards)
        ended = episode.terminated, episode.truncated
        head = _RECORD.pack(part, steps, episode.seed, *ended, zlib.crc32(floats))
        with writing(self.path):
            self._file.write(head + floats)
            self._file.flush()
        self.index.append((part, steps, total(episode)))

    def episodes(self) -> Iterator[Rollout]:
        """All of them, in order."""
        self._file.seek(self._start)
        for _, episode in self._records():
            yield episode

    def _records(self) -> Iterator[tuple[int, Rollout]]:
        o, a = self._spec.observation_size, self._spec.action_size
        while len(head := self._file.read(_RECORD.size)) == _RECORD.size:
            part, steps, seed, *ended, checksum = _RECORD.unpack(head)
            floats = self._file.read(4 * ((steps + 1) * o + steps * (a + 1)))
            if zlib.crc32(floats) != checksum:
                return
            values = np.frombuffer(floats, "<f4").astype(np.float32, copy=False)
            observations, actions, rewards = np.split(
                values, [(steps + 1) * o, (steps + 1) * o + steps * a]
            )
            observations, actions = observations.reshape(-1, o), actions.reshape(-1, a)
            yield part, Rollout(seed, observations, actions, rewards, *ended)

    def close(self, delete: bool = False) -> None:
        """Lets go of the file, which is no longer needed where ``delete`` says so."""
        with suppress(OSError):  # what a full disk has not taken was said when it was added
            self._file.close()
        if delete:
            self.path.unlink(missing_ok=True)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The options in a partial file's first line; None for anything else."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if line.endswith(b"\n") and isinstance(content, dict) else None


def total(episode: Rollout) -> float:
    """The undiscounted return of the rewards as they are stored."""
    return float(episode.rewards.sum(dtype=np.float64))


def write_hdf5(
    target: Path, episodes: Iterable[Rollout], transitions: int, spec: EnvironmentSpec, card: dict
) -> None:
    """D4RL's v2 layout, gzip, the card as attributes; the file appears once it is whole.

    Args:
        target: replaced where it exists.
        episodes: in order.
        transitions: how many they are in all.
        spec: sizes.
        card: name → number or text.
    Raises: UserError: it cannot be written.
    """
    n, o, a = transitions, spec.observation_size, spec.action_size
    columns = {
        "observations": np.empty((n, o), np.float32),
        "actions": np.empty((n, a), np.float32),
        "rewards": np.empty(n, np.float32),
        "next_observations": np.empty((n, o), np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.zeros(n, bool),
    }
    start = 0
    for episode in episodes:
        end = start + len(episode.rewards)
        columns["observations"][start:end] = episode.observations[:-1]
        columns["next_observations"][start:end] = episode.observations[1:]
        columns["actions"][start:end] = episode.actions
        columns["rewards"][start:end] = episode.rewards
        columns["terminals" if episode.terminated else "timeouts"][end - 1] = True
        start = end
    write_columns(target, columns, card | parts_entry(spec.observation_parts))


def parts_entry(parts: Parts | None) -> dict[str, str]:
    """The attribute that says which columns are which part of an observation; of none nothing."""
    return {} if parts is None else {PARTS: json.dumps(parts)}


def write_columns(target: Path, columns: Mapping[str, np.ndarray], card: dict) -> None:
    """The same from columns ``[T]`` or ``[T, N]`` by D4RL's names; errors as above."""
    # In memory first: where a disk is full, HDF5 tries again at the process's end, and crashes it.
    with h5py.File(str(target), "w", driver="core", backing_store=False) as file:
        for key, column in columns.items():
            # Level 1: floats of a simulator hardly get smaller with more.
            file.create_dataset(
                key, data=column, compression="gzip", compression_opts=1, shuffle=True
            )
        file.attrs.update(card)
        file.flush()
        image = file.id.get_file_image()
    with replacing(target) as whole:
        whole.write(image)


def write_minari(
    target: Path, name: str, episodes: Iterable[Rollout], env: gymnasium.Env, card: dict
) -> None:
    """A local Minari dataset, the card in its metadata; the folder appears once it is whole.

    Args:
        target: the dataset's folder, replaced where it exists.
        name: the dataset's id.
        episodes: in order.
        env: the environment, for its spec and spaces; Dict observations are stored as such.
        card: name → number or text.
    Raises: UserError: it cannot be written.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.storage.datasets_root_dir import get_dataset_path

    buffers = []
    for index, episode in enumerate(episodes):
        last = np.arange(len(episode.rewards)) == len(episode.rewards) - 1
        buffers.append(
            EpisodeBuffer(
                id=index,
                seed=episode.seed,
                observations=_as_the_space_has(env, episode.observations),
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=last & episode.terminated,
                truncations=last & (not episode.terminated),
                infos=_infos(episode),
            )
        )
    temporary = get_dataset_path() / f".{name.replace('/', '-')}.tmp"
    _check_space(target, buffers)
    before = os.environ.get("MINARI_DATASETS_PATH")
    try:
        with writing(target), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Minari wants an author, an e-mail address, …
            shutil.rmtree(temporary, ignore_errors=True)
            os.environ["MINARI_DATASETS_PATH"] = str(temporary)
            made = minari.create_dataset_from_buffers(
                name, buffers, description=card["description"], **_environment(env)
            )
            made.storage.update_metadata({key: card[key] for key in card if key != "description"})
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                shutil.rmtree(target)
            os.replace(temporary / name, target)
    finally:
        if before is None:
            os.environ.pop("MINARI_DATASETS_PATH", None)
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
        shutil.rmtree(temporary, ignore_errors=True)


def _check_space(target: Path, buffers: Sequence[Any]) -> None:
    """Before Minari writes: where it is refused the space, HDF5 crashes the process.

    Raises: NotWritten: a file as long as the arrays and what HDF5 adds cannot be written.
    """
    names = "observations", "actions", "rewards", "terminations", "truncations", "infos"
    parts = (part for each in buffers for name in names for part in _leaves(getattr(each, name)))
    needed = sum(np.asarray(part).nbytes for part in parts) + _EXTRA * (1 + len(buffers))
    trial = target.with_name(f".{target.name}.space")
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(trial, "wb", opener=no_link) as file:
                for start in range(0, needed, _BLOCK):
                    file.write(bytes(min(_BLOCK, needed - start)))
    finally:
        trial.unlink(missing_ok=True)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    else:
        yield value


def _infos(episode: Rollout) -> dict[str, Any]:
    """Flags of success, behind that of the reset, as Minari has it."""
    return {} if episode.success is None else {"success": np.append(False, episode.success)}


def _as_the_space_has(env: gymnasium.Env, observations: np.ndarray) -> Any:
    return env.nested(observations) if isinstance(env, FlatObservation) else observations


def _environment(env: gymnasium.Env) -> dict[str, Any]:
    """What Minari stores of an environment: its spaces, and how to make it, where JSON can say."""
    kept = {"observation_space": env.observation_space, "action_space": env.action_space}
    if isinstance(env, FlatObservation):  # as if it had not been made flat
        kept["observation_space"], env = env.nested_space(), env.env
    try:
        assert env.spec is not None
        env.spec.to_json()
    except (ValueError, TypeError):  # registered with a class or function in place of its name
        return kept
    return {"env": env, **kept}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
