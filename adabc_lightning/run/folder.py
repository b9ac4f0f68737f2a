"""The folder of a run: where it lies, what may be written into it, what it resumes from."""

import itertools
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adabc_lightning.errors import UserError
from adabc_lightning.run.allowed import allowing
from adabc_lightning.run.atomic import refuse_url, remove_strays
from adabc_lightning.run.checkpoint_files import (
    FOLDER,
    LAST,
    Damaged,
    is_whole,
    newest,
    read_checkpoint,
)
from adabc_lightning.run.config_files import load
from adabc_lightning.run.record import load_json

Check = Callable[[Any], None]


def fresh_folder(env_id: str, seed: int) -> Path:
    """``runs/ENV-seedS-TIME-PID``, or with a number after it where that exists.

    The folder is made long after its name, and others may start in the same second.
    """
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    name = f"{env_id.replace('/', '-').replace(':', '-')}-seed{seed}-{stamp}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for name in names if not (folder := Path("runs", name)).exists())


def checkpoint_to_resume(
    folder: Path, ckpt_path: str | None, check: Check, replicas: int = 1
) -> str | None:
    """The checkpoint a run in a folder starts from; never on top of another run's results.

    Args:
        folder: the run's folder; it need not exist.
        ckpt_path: a file, a run's folder for its newest, or ``"last"`` for this folder's own.
        check: of a checkpoint's content, see :func:`read_checkpoint`.
        replicas: how many agents go on from it.
    Returns: an existing checkpoint; None to start from the beginning.
    Raises: UserError: the folder holds a run or cannot be written, or there is no checkpoint.
    """
    _check_place(folder)
    own = goes_on(folder, ckpt_path)
    if not own:
        refuse_a_second_run(folder)
    if ckpt_path is None:
        return None
    path = folder if ckpt_path == "last" else Path(ckpt_path)
    if path == folder or path.is_dir():
        if not newest(path):
            if not own:
                raise UserError(f"{path} is a folder without a run's checkpoint")
            if started := _started_from(folder):
                raise UserError(
                    f"nothing was saved in {folder}, whose run started from {started}; start it "
                    "from there again, in another --trainer.default_root_dir"
                )
            print(f"no checkpoint in {folder} yet: starting from the beginning", file=sys.stderr)
            return None
        path, checkpoint = _newest_whole(path, check, replicas)
    else:
        checkpoint = read_checkpoint(path, check, replicas=replicas)
    if own:
        refuse_other_count(folder, checkpoint, replicas)
    return str(path)


def _check_place(folder: Path) -> None:
    """Raises: UserError: it is no folder, cannot be made or cannot be written."""
    refuse_url(folder)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return
    if existing != folder:
        what = ", but no folder can be made there"
    else:
        what = ", a folder that cannot be written" if folder.is_dir() else ", which is a file"
    raise UserError(f"trainer.default_root_dir is {folder}{what}")


def goes_on(folder: Path, ckpt_path: str | None) -> bool:
    """Whether ``ckpt_path`` continues the folder's own run.

    It is ``last``, the folder's ``last.ckpt``, or the folder itself.
    """
    if ckpt_path is None:
        return False
    names = folder.resolve(), (folder / FOLDER / LAST).resolve()
    return ckpt_path == "last" or Path(ckpt_path).resolve() in names


def goes_on_in_place(trainer: Any) -> bool:
    """Whether a trainer goes on from a checkpoint of its own folder; not another run from it."""
    folder, path = getattr(trainer, "run_folder", trainer.default_root_dir), trainer.ckpt_path
    if path is None or goes_on(Path(folder), str(path)):
        return path is not None
    places = Path(folder).resolve(), Path(folder, FOLDER).resolve()  # which may be a link
    return any(map(Path(path).resolve().is_relative_to, places))


def refuse_a_second_run(folder: Path) -> None:
    """Raises: UserError: the folder holds a run."""
    if any((folder / name).exists() for name in ("config.yaml", "metrics.csv", FOLDER)):
        raise UserError(
            f"{folder} already holds a run; go on with it by --ckpt_path last, or choose "
            "another --trainer.default_root_dir"
        )


def refuse_other_count(folder: Path, checkpoint: dict[str, Any], replicas: int) -> None:
    """Raises: UserError: several agents would go on in the folder of one."""
    if replicas > 1 and "replicas" not in checkpoint:
        raise UserError(
            f"{folder} holds the run of one agent, model.replicas is {replicas}; choose another "
            "--trainer.default_root_dir, and give this one's pretrained.ckpt as --ckpt_path"
        )


def _newest_whole(folder: Path, check: Check, replicas: int) -> tuple[Path, dict[str, Any]]:
    """A run's newest checkpoint that is not damaged, and a line where it is not the newest."""
    found = newest(folder)
    for path in found:
        try:
            checkpoint = read_checkpoint(path, check, replicas=replicas)
        except Damaged:
            continue
        if path.name != LAST:
            what = "damaged or cut off" if path != found[0] else "missing"
            print(f"warning: {folder / FOLDER / LAST} is {what}: going on from {path}, one "
                  "checkpoint earlier", file=sys.stderr)  # fmt: skip
        return path, checkpoint
    raise UserError(
        f"{' and '.join(map(str, found))}: damaged or cut off; start a new run from another "
        "checkpoint by --ckpt_path, or from the beginning, in another --trainer.default_root_dir"
    )


def _started_from(folder: Path) -> str | None:
    """The other run's checkpoint that a run in a folder started from; None for no such run."""
    config = folder / "config.yaml"
    path = load(config).get("ckpt_path") if config.is_file() else None
    return path if path and not goes_on(folder, path) else None


def how_to_go_on(folder: Path, begun: bool = False) -> str:
    """The rest of a sentence about a run that ended early: what is left, and what to do.

    Args:
        folder: the run's.
        begun: whether it had been made.
    """
    if begun and not folder.exists():
        return (
            "the folder is no longer there; if it was moved, go on where it is now, by "
            "--trainer.default_root_dir and --ckpt_path last"
        )
    found = newest(folder)
    whole = next(filter(is_whole, found), None)
    if whole is not None:
        again = words_to_go_on(folder)
        return f"the last good checkpoint is {whole}; once it can be, go on with {again}"
    if found or _started_from(folder):
        return "nothing whole was saved before; start again in another --trainer.default_root_dir"
    if (folder / "config.yaml").is_file():
        again = words_to_go_on(folder)
        return f"nothing was saved before; once it can be, start again with {again}"
    return "nothing was saved before; once it can be, the same command starts anew"


def words_to_go_on(folder: Path | str) -> str:
    """What is typed after ``fit``, or called in Python, to go on with a run of this process.

    Args:
        folder: the run's; its ``config.yaml`` has all but the packages that were allowed. One that
            was made of parts in Python has none.
    """
    if not Path(folder, "config.yaml").is_file():
        last = str(Path(folder, FOLDER, LAST))
        return f"parts made anew and trainer.fit(…, ckpt_path={last!r}, weights_only=True)"
    words = ["--trainer.default_root_dir", str(folder), "--ckpt_path", "last", *allowing()]
    return shlex.join(words)


def commands_of(folder: Path) -> list[str]:
    """The command lines that a run's ``summary.json`` knows; none where it cannot be read."""
    try:
        found = load_json(folder / "summary.json").get("commands")
    except UserError:
        return []
    return [str(line) for line in found] if isinstance(found, list) else []


def clear(folder: Path, anew: bool) -> None:
    """Removes what a kill left that lies after the checkpoint; the callbacks write it again.

    Args:
        folder: of a run that goes on.
        anew: whether it does so from the beginning, because nothing was saved yet.
    """
    for place in (folder, folder / FOLDER, folder / FOLDER / "policies"):
        remove_strays(place)
    (folder / "report.html").unlink(missing_ok=True)
    if anew:
        for name in ("metrics.csv", "summary.json"):
            (folder / name).unlink(missing_ok=True)
