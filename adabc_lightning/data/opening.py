"""From the ring of the offline rows to the one that fine-tuning draws from and adds to."""

import sys
from collections.abc import Iterable

from torch import Tensor
from tqdm import tqdm

from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.origins import in_words, kept_of_each
from adabc_lightning.data.owner import Owner
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.symmetric import SymmetricRing
from adabc_lightning.errors import UserError, printable


def check_capacity(data: Owner, callbacks: Iterable[RunCallback], rows: int) -> None:
    """Without a callback that chooses rows all are kept: said now, not after pre-training.

    Args:
        data: of a run that begins.
        callbacks: of its trainer.
        rows: of its dataset.
    Raises: UserError: they do not fit into the online ring.
    """
    chosen = any(callback.chooses_rows for callback in callbacks)
    beside = data.offline_fraction is not None  # they lie beside the ring
    capacity = data.replay_capacity
    if not chosen and not beside and capacity is not None and rows > capacity:
        raise UserError(
            f"all {rows} transitions are kept, data.replay_capacity is {capacity};"
            " add the Downsampling callback or make the ring larger"
        )


def open_online(data: Owner) -> None:
    """Puts the online ring in the place of the offline one; the dataset is given up.

    Args:
        data: of a run at its hand-over, whose callbacks have chosen what is kept.
    Raises: UserError: each batch has a share of offline rows, and none is kept.
    """
    rows = data.replay.rows if data.kept is None else data.replay.rows[data.kept]
    _count_origins(data)
    # The same rows were chosen on every rank; each goes on with its share of them.
    mine, offline = rows[data.ranks.rank :: data.ranks.count], None
    if data.offline_fraction is not None:
        if not len(mine):
            raise UserError(
                f"data.offline_fraction is {data.offline_fraction}, but downsampling keeps "
                "none of the offline transitions; set downsampling.keep to 1"
            )
        mine, offline = mine[:0], mine
    capacity = data.replay_capacity
    if capacity is None:
        # A batch is drawn from a ring that is not empty.
        capacity = len(rows) * (offline is None) + data.schedule.online_env_steps
    data.replay = online_ring(data, mine, data.ranks.share(capacity), offline)
    data.dataset = data.kept = None


def _count_origins(data: Owner) -> None:
    """Of several datasets, what is kept of each; the first replica says it."""
    if data.dataset is None or not data.dataset.sources:
        return
    data.kept_of_each = kept_of_each(data.dataset.sources, data.dataset.episode_T, data.kept)
    if data.is_first:
        tqdm.write(printable(in_words(data.kept_of_each)), file=sys.stderr)


def online_ring(
    data: Owner, rows: Tensor, capacity: int, offline: Tensor | None = None
) -> ReplayRing:
    """A ring to fine-tune from.

    Args:
        data: of the run; the draws go on with the generator of the ring that it has.
        rows: ``[T, width]``, the oldest first.
        capacity: of the ring.
        offline: ``[M, width]``, what lies beside it with ``offline_fraction``; None for rows
            that are still to come.
    """
    generator, device = data.replay.generator, data.replay.device
    if data.offline_fraction is not None:
        offline = rows[:0] if offline is None else offline
        fraction = data.offline_fraction
        return SymmetricRing(data.layout, offline, fraction, rows, capacity, generator, device)
    return ReplayRing(data.layout, rows, capacity, generator, data.online_sampler, device)
