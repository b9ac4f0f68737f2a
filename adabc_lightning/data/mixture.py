"""Several datasets as one: their shares of a batch, and which of their episodes are used."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.origins import Origin
from adabc_lightning.data.samplers import UniformSampler
from adabc_lightning.env.observations import agree, described
from adabc_lightning.errors import UserError, key_of, nearest

_BEST = re.compile(r"best (\d{1,3}(?:\.\d+)?) ?%")
_KEYS = ("path", "weight", "filter", "reward", "action_scale")


@dataclass(frozen=True)
class Part:
    """One dataset of several.

    Args:
        path: as ``data.dataset`` alone.
        weight: its share of the rows of an offline batch, by its ratio to the others'; None: what
            they leave, by the number of its rows.
        filter: ``success``, the episodes with a step flagged so; ``best 10 %``, the tenth of them
            with the largest returns; None: all.
        reward, action_scale: its own ``data.reward`` and ``data.action_scale``; None: the common
            ones. A ``reward`` of ``logged`` is the file's own.
    """

    path: str
    weight: float | None = None
    filter: str | None = None
    reward: str | None = None
    action_scale: float | None = None


def parts_of(
    dataset: str | PathLike[str] | Sequence[str | PathLike[str] | Mapping[str, Any]] | None,
) -> list[Part]:
    """The value of ``data.dataset`` as a list.

    Raises: UserError: it is no name or list, an entry is neither a name nor a mapping of
        :class:`Part`, or its values are out of range.
    """
    if dataset is None:
        return []
    if not isinstance(dataset, PathLike | Sequence):
        kind = type(dataset).__name__
        raise UserError(
            f"data.dataset is a {kind} in memory, but rows are read from files: "
            "numpy.savez('log.npz', observations=…, actions=…, rewards=…, next_observations=…, "
            "terminals=…, timeouts=…) writes one (docs/data_formats.md); or give its name, a path "
            "or a list of them"
        )
    if not dataset or (isinstance(dataset, str) and not dataset.strip()):
        kind = "text" if isinstance(dataset, str) else "list"
        raise UserError(f"data.dataset is an empty {kind}; give a dataset, or null for none")
    if isinstance(dataset, str | PathLike):
        return [Part(str(dataset))]
    parts = [_part(entry) for entry in dataset]
    given = [part.weight for part in parts if part.weight is not None]
    if given and len(given) < len(parts) and sum(given) >= 1:
        raise UserError(
            f"the weights in data.dataset add up to {sum(given):g} and leave nothing for those "
            "without; give all of them one, or make them smaller"
        )
    return parts


def _part(entry: str | PathLike[str] | Mapping[str, Any]) -> Part:
    if isinstance(entry, str | PathLike):
        entry = {"path": entry}
    if not isinstance(entry, Mapping):
        raise UserError(f"data.dataset has the entry {entry!r}; it must be a name or a mapping")
    for key in entry:
        if key not in _KEYS:
            raise UserError(f"an entry of data.dataset has the key {key!r}; {nearest(key, _KEYS)}")
    path, weight, chosen, reward, scale = (entry.get(key) for key in _KEYS)
    path = str(path) if isinstance(path, PathLike) else path
    if not isinstance(path, str) or not path.strip():
        raise UserError("an entry of data.dataset has no path; give a file or a dataset's name")
    for name, number in (("weight", weight), ("action_scale", scale)):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if number is not None and not (is_number and 0 < number < math.inf):
            raise UserError(f"the {name} of {path!r} is {number!r}; it must be a positive number")
    if reward is not None and not isinstance(reward, str):
        raise UserError(
            f"the reward of {path!r} is {reward!r}; it must be a function as module:name, success "
            "or logged"
        )
    if chosen is not None:
        match = _BEST.fullmatch(chosen) if isinstance(chosen, str) else None
        if chosen != "success" and not (match and 0 < float(match[1]) <= 100):
            raise UserError(
                f"the filter of {path!r} is {chosen!r}; it must be success, or a share such as "
                "'best 10 %'"
            )
    weight, scale = (None if number is None else float(number) for number in (weight, scale))
    return Part(path, weight, chosen, reward, scale)


def filtered(dataset: OfflineDataset, chosen: str | None) -> OfflineDataset:
    """The episodes that a filter leaves.

    Args:
        dataset: all of them.
        chosen: see :class:`Part`.
    Raises: UserError: nothing is left, or nothing says which ones succeeded.
    """
    if chosen is None:
        return dataset
    returns = dataset.episode_return_E
    if chosen == "success":
        if dataset.success_E is None:
            raise UserError(f"dataset {dataset.name!r} has no 'success' to filter by")
        keep_E = dataset.success_E
    else:
        match = _BEST.fullmatch(chosen)
        assert match is not None
        count = max(1, round(float(match[1]) / 100 * len(returns)))
        keep_E = torch.zeros(len(returns), dtype=torch.bool)
        keep_E[returns.argsort(descending=True, stable=True)[:count]] = True
    keep_T = keep_E[dataset.episode_T]
    if not keep_T.any():
        raise UserError(f"dataset {dataset.name!r}: the filter {chosen!r} leaves no transition")
    number_E = keep_E.cumsum(0) - 1
    terminals = int(dataset.terminal_T[keep_T.numpy()].sum())
    unfinished = len(returns) - dataset.terminals - dataset.timeouts
    last_unfinished = int(bool(unfinished) and bool(keep_E[-1]))
    return replace(
        dataset,
        rows=dataset.rows[keep_T],
        episode_T=number_E[dataset.episode_T[keep_T]],
        episode_return_E=returns[keep_E],
        episode_length_E=dataset.episode_length_E[keep_E],
        terminals=terminals,
        timeouts=int(keep_E.sum()) - terminals - last_unfinished,
        success_E=None if dataset.success_E is None else dataset.success_E[keep_E],
        success_T=None if dataset.success_T is None else dataset.success_T[keep_T],
    )


def mixed(datasets: Sequence[OfflineDataset]) -> OfflineDataset:
    """All rows of several datasets, one after the other.

    Args:
        datasets: at least one.
    Returns: a dataset whose ``sources`` say which rows came from which.
    Raises: UserError: they are of other sizes.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    for other in datasets[1:]:
        for size, what in (("observation_size", "observations"), ("action_size", "actions")):
            ours, theirs = getattr(first.layout, size), getattr(other.layout, size)
            if ours != theirs:
                raise UserError(
                    f"{what} of {ours} numbers ({first.name!r}) and of {theirs} ({other.name!r}) "
                    "do not mix; the datasets must be of the same task"
                )
        if first.observation_parts and other.observation_parts:
            ours, theirs = first.observation_parts, other.observation_parts
            if not agree(ours, theirs):
                raise UserError(
                    f"observations of {described(ours)} ({first.name!r}) and of "
                    f"{described(theirs)} ({other.name!r}) do not mix; choose the same by "
                    f"{key_of('observation_keys')}"
                )
    named = {dataset.env_id for dataset in datasets}
    episodes = torch.tensor([len(dataset.episode_return_E) for dataset in datasets])
    offsets = episodes.cumsum(0) - episodes
    return OfflineDataset(
        name=" + ".join(dataset.name for dataset in datasets),
        layout=first.layout,
        rows=torch.cat([dataset.rows for dataset in datasets]),
        episode_T=torch.cat([d.episode_T + int(o) for d, o in zip(datasets, offsets, strict=True)]),
        episode_return_E=torch.cat([dataset.episode_return_E for dataset in datasets]),
        episode_length_E=torch.cat([dataset.episode_length_E for dataset in datasets]),
        terminals=sum(dataset.terminals for dataset in datasets),
        timeouts=sum(dataset.timeouts for dataset in datasets),
        reference=next((d.reference for d in datasets if d.reference is not None), None),
        env_id=first.env_id if len(named) == 1 else None,
        unresolved=tuple(sorted({name for dataset in datasets for name in dataset.unresolved})),
        success_E=_joined([dataset.success_E for dataset in datasets]),
        success_T=_joined([dataset.success_T for dataset in datasets]),
        observation_parts=next(filter(None, (d.observation_parts for d in datasets)), None),
        sources=tuple(Origin(d.name, len(d.rows), len(d.episode_return_E)) for d in datasets),
        reward=" + ".join(dict.fromkeys(dataset.reward for dataset in datasets)),
    )


def _joined(flags: Sequence[Tensor | None]) -> Tensor | None:
    known = [flag for flag in flags if flag is not None]
    return torch.cat(known) if len(known) == len(flags) else None


def sampler_for(parts: Sequence[Part], rows: Sequence[int]) -> UniformSampler:
    """What draws offline batches: each part's share of them, uniformly within a part.

    Args:
        parts: of the dataset.
        rows: of each.
    """
    if all(part.weight is None for part in parts):
        return UniformSampler()
    given = sum(part.weight for part in parts if part.weight is not None)
    rest = sum(count for part, count in zip(parts, rows, strict=True) if part.weight is None)
    scale = 1.0 if rest else 1 / given
    return ShareSampler(
        rows,
        [
            part.weight * scale if part.weight is not None else (1 - given) * count / rest
            for part, count in zip(parts, rows, strict=True)
        ],
    )


class ShareSampler(UniformSampler):
    """Draws part i with probability ``shares[i]``, and one of its rows uniformly.

    Args:
        rows: of each part, in the order that they lie in.
        shares: of each part; they add up to 1.
    """

    def __init__(self, rows: Sequence[int], shares: Sequence[float]) -> None:
        self.shares = tuple(shares)
        self._count = torch.tensor(tuple(rows))
        self._start = self._count.cumsum(0) - self._count
        self._ends = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)[:-1]

    def draw(self, rows: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices ``[count]``."""
        draw_2B = torch.rand((2, count), generator=generator, dtype=torch.float64)
        part_B = torch.searchsorted(self._ends, draw_2B[0], right=True)
        count_B = self._count[part_B]
        # The product may round up to the count itself.
        within_B = (draw_2B[1] * count_B).long().minimum(count_B - 1)
        return self._start[part_B] + within_B
