"""Offline datasets, D4RL's HDF5, tables or Minari's, as packed transition rows.

Sources: D4RL's layouts (Fu et al. 2020; v2 stores ``timeouts`` and ``next_observations``, v0
may lack both) and Minari's ``EpisodeData``. An episode ends at a true terminal or at a time
limit; where a row is flagged as both, the terminal wins. A time limit is never a terminal, so
it never stops bootstrapping.
"""

import hashlib
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from adabc_lightning.data import d4rl
from adabc_lightning.data.columns import (
    check_minari_file,
    check_minari_metadata,
    hdf5_columns,
    minari_columns,
)
from adabc_lightning.data.tables import FORMATS, read_table
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.scores import Reference
from adabc_lightning.errors import UserError, nearest, warn

ASSETS = Path(__file__).parent.parent / "assets"
BLOCK_ROWS = 131_072  # rows read at once: a few megabytes, however long the file
AtLimit = Literal["terminal", "timeout"]
"""What an episode's end is that is flagged ``terminals`` at exactly the time limit."""
# So many of the episodes that end at the limit make it improbable that their terminals are true.
SUSPICIOUS_SHARE, SUSPICIOUS_EPISODES = 0.9, 2
D4RL_NAME = re.compile(
    r"(hopper|halfcheetah|walker2d|ant|pen|door|hammer|relocate)-[a-z-]+-v\d", re.ASCII
)
MINARI_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+", re.ASCII)


@dataclass(frozen=True)
class OfflineDataset:
    """Every usable transition of a dataset, and what its episodes earned.

    Args:
        name: what the user asked for.
        layout: columns of ``rows``.
        rows: ``[T, layout.width]`` float32, in the order logged; ``online`` is 0.
        episode_T: ``[T]`` int64, each row's index into the per-episode tensors.
        episode_return_E: ``[E]`` float64, undiscounted raw return as logged: rows dropped
            for lack of a next state count.
        episode_length_E: ``[E]`` int64, environment steps as logged.
        terminals: episodes ended by a true terminal.
        timeouts: episodes ended by a time limit.
        reference: the dataset's own score references, None where it has none.
        env_id: the environment that the dataset says it was logged in, None where it does not.
    """

    name: str
    layout: Layout
    rows: Tensor
    episode_T: Tensor
    episode_return_E: Tensor
    episode_length_E: Tensor
    terminals: int
    timeouts: int
    reference: Reference | None
    env_id: str | None = None

    def fingerprint(self) -> str:
        """SHA-256 of the shapes and some 1,000 evenly spaced rows: is it still the same data?"""
        digest = hashlib.sha256(repr((tuple(self.rows.shape), self.layout)).encode())
        digest.update(self.rows[:: max(1, len(self.rows) // 1000)].cpu().numpy().tobytes())
        digest.update(self.episode_length_E.numpy().tobytes())
        return digest.hexdigest()

    def columns(self) -> dict[str, np.ndarray]:
        """The rows in D4RL's v2 layout; the last kept one of an episode without end is a timeout.

        Returns: ``observations [T, O]``, ``actions [T, A]``, ``rewards [T]``,
            ``next_observations [T, O]``, ``terminals [T]``, ``timeouts [T]``.
        """
        rows, column = self.rows.numpy(), self.layout.columns
        terminal_T = rows[:, column["terminated"]] > 0
        ends_T = np.append(np.diff(self.episode_T.numpy()) != 0, True)
        return {
            "observations": rows[:, column["observation"]],
            "actions": rows[:, column["action"]],
            "rewards": rows[:, column["reward"]],
            "next_observations": rows[:, column["next_observation"]],
            "terminals": terminal_T,
            "timeouts": ends_T & ~terminal_T,
        }


def packaged_datasets() -> list[str]:
    """Names of the datasets that come with the package, sorted."""
    return sorted(path.stem.replace("_", "-") for path in ASSETS.glob("*.hdf5"))


def load_dataset(
    dataset: str,
    *,
    max_episode_steps: int | None = None,
    download: bool = False,
    terminals_at_limit: AtLimit = "terminal",
) -> OfflineDataset:
    """Load a dataset by file path, packaged name, D4RL name or Minari id, tried in this order.

    Args:
        dataset: a D4RL-style HDF5 file, a CSV, Parquet or npz file
            (:mod:`adabc_lightning.data.tables`), one of ``packaged_datasets()``, a name of
            ``d4rl.FILES`` such as ``hopper-medium-v0``, or a Minari id such as
            ``mujoco/hopper/medium-v0``.
        max_episode_steps: the environment's time limit in steps; it ends the episodes of HDF5
            files without ``timeouts`` (None: only a terminal does), and terminals at it are
            suspicious.
        download: fetch a dataset of D4RL or Minari that is not on this machine.
        terminals_at_limit: what episodes end with that are flagged ``terminals`` at exactly the
            time limit; ``"timeout"`` for logs that record every end as a terminal. Left at
            ``"terminal"``, a log that looks like one of those gets a warning.
    Returns: the dataset, on the CPU.
    Raises: UserError: no such dataset, or its contents are not what they should be.
    """
    if terminals_at_limit not in ("terminal", "timeout"):
        raise UserError(f"terminals_at_limit is {terminals_at_limit!r}; known: terminal, timeout")
    path = Path(os.path.expanduser(dataset))
    limit = max_episode_steps, terminals_at_limit
    try:
        if path.is_file():
            return _load_file(dataset, path, *limit)
        if dataset in packaged_datasets():
            packaged = ASSETS / f"{dataset.replace('-', '_')}.hdf5"
            return _load_file(dataset, packaged, *limit)
        if dataset in d4rl.FILES:
            return _load_file(dataset, d4rl.locate(dataset, download=download), *limit)
        if D4RL_NAME.fullmatch(dataset):
            raise UserError(
                f"{dataset!r} looks like a dataset of D4RL, but is none that is known here; give "
                f"the path of its HDF5 file; {nearest(dataset, list(d4rl.FILES))}"
            )
        if MINARI_ID.fullmatch(dataset):
            return _load_minari(dataset, download, *limit)
    except UserError:
        raise
    except Exception as error:  # damaged bytes, no network: h5py and Minari raise all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"dataset {dataset!r} cannot be read: {reason}") from error
    raise UserError(
        f"dataset {dataset!r} is no file (looked for {path.absolute()}), no packaged dataset, "
        "no D4RL name such as 'hopper-medium-v0' and no Minari id such as "
        f"'mujoco/hopper/medium-v0'; {nearest(dataset, packaged_datasets())}"
    )


def _load_file(
    name: str, path: Path, max_episode_steps: int | None, at_limit: AtLimit
) -> OfflineDataset:
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"max_episode_steps is {max_episode_steps}, but must be at least 1")
    if path.suffix.lower() in FORMATS:
        return _assemble(name, str(path), read_table(path), max_episode_steps, at_limit)
    if not h5py.is_hdf5(path):
        raise UserError(f"{path} is not a readable HDF5 file")
    with h5py.File(path, "r") as file:
        columns = hdf5_columns(file, path)
        dataset = _assemble(name, str(path), columns, max_episode_steps, at_limit)
        env_id = file.attrs.get("env_id")
        return replace(dataset, env_id=env_id if isinstance(env_id, str) else None)


def _load_minari(
    name: str, download: bool, max_episode_steps: int | None, at_limit: AtLimit
) -> OfflineDataset:
    import minari
    from minari.storage.datasets_root_dir import get_dataset_path

    path = get_dataset_path(name)
    if not (path / "data").exists() and not download:
        raise UserError(
            f"Minari dataset {name!r} is not at {path}: fetch it with `minari download {name}` or "
            "--data.download true, give the path of an HDF5 file or a packaged dataset's name "
            f"({', '.join(packaged_datasets())}), or make a stand-in with "
            "`python -m adabc_lightning collect`"
        )
    if not (path / "data").exists():
        minari.download_dataset(name)
    check_minari_metadata(path / "data" / "metadata.json")
    file = path / "data" / "main_data.hdf5"
    if file.exists():  # Minari's other format has no links
        check_minari_file(file)
    source = minari.load_dataset(name)
    columns = minari_columns(source, name)
    where = f"Minari dataset {name!r}"
    dataset = _assemble(name, where, columns, max_episode_steps, at_limit)
    if source.env_spec is not None:
        dataset = replace(dataset, env_id=source.env_spec.id)
    limits = [source.storage.metadata.get(f"ref_{end}_score") for end in ("min", "max")]
    if None in limits:
        return dataset
    low, high = map(float, limits)
    if not -math.inf < low < high < math.inf:  # also catches NaN
        raise UserError(f"{where}: ref_min_score is {low}, ref_max_score {high}; it must be below")
    return replace(dataset, reference=Reference(low, high))


def _assemble(
    name: str,
    where: str,
    columns: dict[str, Any],
    max_episode_steps: int | None,
    at_limit: AtLimit,
) -> OfflineDataset:
    """Find the episodes in D4RL's columns, arrays or HDF5 datasets, and pack what is usable."""
    terminal_T = _flags(where, "terminals", columns)
    if "timeouts" in columns:
        timeout_T = _flags(where, "timeouts", columns)
    else:
        timeout_T = _every(max_episode_steps, terminal_T)
    timeout_T &= ~terminal_T
    end_T = terminal_T | timeout_T
    end_T[-1] = True  # the last episode may be unfinished
    start_E = np.flatnonzero(np.append(True, end_T[:-1]))
    length_E = np.diff(start_E, append=len(end_T))
    last_L = (start_E + length_E - 1)[length_E == max_episode_steps]
    flagged_L = last_L[terminal_T[last_L]]
    if at_limit == "timeout":
        terminal_T[flagged_L], timeout_T[flagged_L] = False, True
    elif len(flagged_L) >= max(SUSPICIOUS_EPISODES, SUSPICIOUS_SHARE * len(last_L)):
        warn(
            f"{where}: {len(flagged_L)} of {len(last_L)} episodes of exactly {max_episode_steps} "
            "steps, the time limit, end flagged as terminals, which stops bootstrapping there; "
            "if the limit ended them, set data.terminals_at_limit to timeout"
        )
    reward_T = columns["rewards"][()].reshape(-1).astype(np.float64)

    # Without a stored next state there is none after the end of an episode: such a row is
    # dropped, unless it is a terminal, where Eq. 3 never bootstraps and its own one will do.
    has_next = "next_observations" in columns
    kept_K = np.flatnonzero(has_next | terminal_T | ~end_T)
    if len(kept_K) == 0:
        raise UserError(f"{where} has no step with a known next observation")

    layout = Layout(columns["observations"].shape[1], columns["actions"].shape[1])
    packed = np.zeros((len(kept_K), layout.width), np.float32)
    out = {field: packed[:, column] for field, column in layout.columns.items()}
    out["terminated"][:] = terminal_T[kept_K]
    _gather(where, "rewards", columns, (kept_K, out["reward"]))
    _gather(where, "actions", columns, (kept_K, out["action"]))
    if has_next:
        _gather(where, "observations", columns, (kept_K, out["observation"]))
        _gather(where, "next_observations", columns, (kept_K, out["next_observation"]))
    else:
        next_K = np.where(terminal_T[kept_K], kept_K, kept_K + 1)
        targets = (kept_K, out["observation"]), (next_K, out["next_observation"])
        _gather(where, "observations", columns, *targets)
    return OfflineDataset(
        name=name,
        layout=layout,
        rows=torch.from_numpy(packed),
        episode_T=torch.from_numpy(np.repeat(np.arange(len(start_E)), length_E)[kept_K]),
        episode_return_E=torch.from_numpy(np.add.reduceat(reward_T, start_E)),
        episode_length_E=torch.from_numpy(length_E),
        terminals=int(terminal_T.sum()),
        timeouts=int(timeout_T.sum()),
        reference=None,
    )


def _gather(
    where: str, key: str, columns: dict[str, Any], *targets: tuple[np.ndarray, np.ndarray]
) -> None:
    """``out[:] = column[source]`` in float32, for each (ascending source, out), block by block."""
    for start in range(0, len(columns[key]), BLOCK_ROWS):
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
            block = columns[key][start : start + BLOCK_ROWS].astype(np.float32, copy=False)
        wrong = np.argwhere(~np.isfinite(block))
        if len(wrong):
            value, row = block[tuple(wrong[0])], start + wrong[0][0]
            raise UserError(f"{where}: {key!r} must be finite in float32, but row {row} is {value}")
        for source, out in targets:
            to = slice(*np.searchsorted(source, (start, start + BLOCK_ROWS)))
            out[to] = block.reshape(len(block), *out.shape[1:])[source[to] - start]


def _flags(where: str, key: str, columns: dict[str, Any]) -> np.ndarray:
    """``[T]`` bool from whatever type the flags are stored in."""
    flag_T = columns[key][()].reshape(-1)
    wrong = np.flatnonzero((flag_T != 0) & (flag_T != 1))
    if len(wrong):
        value, row = flag_T[wrong[0]], wrong[0]
        raise UserError(f"{where}: {key!r} must be 0 or 1, but row {row} is {value}")
    return np.asarray(flag_T == 1)


def _every(limit: int | None, terminal_T: np.ndarray) -> np.ndarray:
    """``[T]`` bool: every ``limit``-th step since the last terminal; never without a limit."""
    if limit is None:
        return np.zeros_like(terminal_T)
    step_T = np.arange(len(terminal_T))
    start_T = np.maximum.accumulate(np.where(np.append(True, terminal_T[:-1]), step_T, 0))
    return np.asarray((step_T - start_T) % limit == limit - 1)
