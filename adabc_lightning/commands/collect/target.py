"""``--out``: the file or the Minari dataset that is made, and the partial file beside it."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from adabc_lightning.data.datasets import D4RL_NAME, MINARI_ID
from adabc_lightning.errors import UserError


@dataclass(frozen=True)
class Target:
    """Where the dataset goes.

    Args:
        name: as given.
        path: the file, or the folder of the Minari dataset.
        partial: the file of episodes beside it.
        minari: whether it is Minari's.
    """

    name: str
    path: Path
    partial: Path
    minari: bool


def find_target(options: Namespace) -> Target:
    """What ``--out`` stands for.

    Raises: UserError: it is neither a file's name nor a Minari id, or it exists.
    """
    name, kind = options.out, options.format
    if kind is None:
        if Path(name).suffix in (".hdf5", ".h5"):
            kind = "hdf5"
        elif MINARI_ID.fullmatch(name):
            kind = "minari"
        else:
            raise UserError(f"--out {name} is neither FILE.hdf5 nor a Minari id such as mine/x-v0")
    if kind == "minari":
        if not MINARI_ID.fullmatch(name):
            raise UserError(f"--out {name} is no Minari id; it must be like mine/hopper-v0")
        if D4RL_NAME.fullmatch(name):
            raise UserError(
                f"--out {name} is a dataset of D4RL's; choose another, like mine/{name}"
            )
        from minari.storage.datasets_root_dir import get_dataset_path  # slow

        path = get_dataset_path(name)
        partial = get_dataset_path() / f".{name.replace('/', '-')}.part"
    else:
        path = Path(name)
        partial = path.with_name(f".{path.name}.part")
        if path.is_dir():
            raise UserError(f"--out {name} is a folder; give the name of a file")
    if path.exists() and not options.overwrite:
        raise UserError(f"{path} exists; choose another --out, or replace it with --overwrite")
    return Target(name, path, partial, kind == "minari")
