"""Datasets on this machine: packaged, D4RL's, Minari's, and those in a folder of the user's."""

import os
from collections.abc import Iterator
from pathlib import Path

from adabc_lightning.commands.doctor.finding import Finding

SHOWN = 12  # names of one place
DEPTH = 4  # folders below Minari's root: namespace/…/name-v0


def datasets(folder: Path | None) -> Iterator[Finding]:
    """What each place holds.

    Args:
        folder: one more place to look for ``*.hdf5``, None for none.
    """
    from adabc_lightning.commands.preview import minari_root
    from adabc_lightning.data import d4rl
    from adabc_lightning.data.datasets import packaged_datasets

    yield Finding("datasets", f"packaged: {', '.join(packaged_datasets())}")
    files = {file.name: (name, file.size) for name, file in d4rl.FILES.items()}
    here = d4rl.folder()
    found: list[str] = []
    broken: list[str] = []
    for path in sorted(here.glob("*.hdf5")) if here.is_dir() else []:
        name, size = files.get(path.name, (path.name, None))
        (found if size in (None, path.stat().st_size) else broken).append(name)
    yield _place("D4RL", here, found)
    if broken:
        yield Finding(
            "D4RL", f"of another size than D4RL's: {_listed(broken)}", "note",
            "remove them, and --data.download true fetches them again.",
        )  # fmt: skip
    root = minari_root()
    yield _place("Minari", root, sorted(minari_datasets(root)))
    if folder is not None:
        yield from user_files(folder)


def minari_datasets(root: Path) -> Iterator[str]:
    """Ids of the datasets below Minari's folder."""
    for place, folders, _ in os.walk(root):
        names = Path(place).relative_to(root)
        if "data" in folders:
            yield names.as_posix()
        if "data" in folders or len(names.parts) >= DEPTH:
            folders.clear()


def user_files(folder: Path) -> Iterator[Finding]:
    """Which HDF5 files have D4RL's columns."""
    from adabc_lightning.data.episodes import check_needed
    from adabc_lightning.data.formats.find import open_log
    from adabc_lightning.data.formats.source import Reading
    from adabc_lightning.errors import UserError, reason

    found = []
    for path in sorted(folder.glob("*.hdf5")):
        try:
            with open_log(path, Reading()) as source:
                check_needed(source, Reading())
                found.append(f"{path.name} ({source.rows:,})")
        except (UserError, OSError) as error:
            yield Finding(
                path.name, reason(error)[:200], "note",
                "write it again with observations, actions, rewards and terminals.",
            )  # fmt: skip
    yield _place("--data-dir", folder, found)


def _place(about: str, folder: Path, names: list[str]) -> Finding:
    return Finding(about, f"{_listed(names) if names else 'no datasets'} in {folder}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
