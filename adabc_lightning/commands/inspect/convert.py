"""A dataset in another layout: D4RL's HDF5, or Minari's; what is read back has the same rows."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.writer import parts_entry, write_columns, write_minari
from adabc_lightning.env.make import make_env
from adabc_lightning.env.rollout import Rollout
from adabc_lightning.env.stepping import close
from adabc_lightning.errors import UserError


def convert(
    dataset: OfflineDataset,
    target: Path,
    env_id: str | None,
    limit: int | None,
    card: dict[str, Any],
    made: Mapping[str, Any],
) -> None:
    """Writes it; the target appears once it is whole.

    Args:
        dataset: what was read.
        target: a file, ``.hdf5`` or ``.h5``, or a Minari id.
        env_id: for Minari, which stores its spaces.
        limit: its time limit in steps, None for its own.
        card: name → number or text.
        made: ``kwargs`` and ``observation_keys`` of the environment.
    Raises: UserError: it cannot be written, or Minari cannot hold it.
    """
    if target.suffix in (".hdf5", ".h5"):
        write_columns(target, dataset.as_d4rl(), card | parts_entry(dataset.observation_parts))
        return
    from minari.storage.datasets_root_dir import get_dataset_path

    assert env_id is not None
    episodes = list(_episodes(dataset, str(target)))
    env = make_env(env_id, limit, **made)
    try:
        write_minari(get_dataset_path(str(target)), str(target), episodes, env, card)
    finally:
        close(env)


def _episodes(dataset: OfflineDataset, target: str) -> Iterator[Rollout]:
    fields = dataset.as_d4rl()
    ends = np.flatnonzero(fields["terminals"] | fields["timeouts"]) + 1
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        following = fields["next_observations"][start:end]
        if not np.array_equal(fields["observations"][start + 1 : end], following[:-1]):
            raise UserError(
                f"--convert {target}: Minari stores T + 1 observations of an episode, but in "
                f"episode {number} next observations are not the next row's; convert to FILE.hdf5"
            )
        terminated = bool(fields["terminals"][end - 1])
        yield Rollout(
            0,
            np.concatenate([fields["observations"][start:end], following[-1:]]),
            fields["actions"][start:end],
            fields["rewards"][start:end],
            terminated,
            not terminated,
            fields["success"][start:end] if "success" in fields else None,
        )
