"""How Lightning writes and reads a run's checkpoints: whole files, and no objects in them."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from adabc_lightning.run.atomic import replacing
from adabc_lightning.run.checkpoint_files import LAST, keep_previous, load_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes into the target folder, syncs, then renames; what was ``last.ckpt`` stays.

    Lightning's own writes to $TMPDIR and moves: across file systems that move is a copy, and
    a kill in the middle left an empty file.
    """

    loaded = False
    """Whether a checkpoint was read."""

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """A checkpoint's content, on the CPU; other objects only where they are asked for.

        Raises: UserError: there is none, it is damaged, or it holds other objects.
        """
        self.loaded = True
        if weights_only is False:
            return super().load_checkpoint(path, map_location, weights_only)
        return load_whole(Path(path))

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Saves all or nothing.

        Raises: NotWritten: the disk is full or the like; the old file stays.
        """
        target = Path(path)
        with replacing(target) as file:
            torch.save(checkpoint, file)
            file.flush()
            if target.name == LAST:
                keep_previous(target)
