"""What a checkpoint gets of the data module, and how a run goes on from it."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.data.opening import online_ring
from adabc_lightning.data.owner import Owner
from adabc_lightning.data.returns import Unfinished
from adabc_lightning.data.same_run import (
    check_dataset,
    check_rewards,
    check_ring,
    rewards_of,
)
from adabc_lightning.env.scores import saved_reference
from adabc_lightning.errors import UserError, warn
from adabc_lightning.run.limits import check_memory
from adabc_lightning.run.ranks import digest
from adabc_lightning.run.seeding import torch_generator


def content(data: Owner) -> dict[str, Any]:
    """Collector, generator and, once the ring is online, its rows; plain containers only.

    Before the hand-over the rows are the dataset's; its fingerprint stands for them. On rank
    zero with those of the other ranks.

    Args:
        data: of a run.
    Raises: UserError: the ranks have come apart.
    """
    online = data.env_steps > 0
    replay = (
        data.replay.state_dict() if online else {"generator": data.replay.generator.get_state()}
    )
    if data.unfinished is not None and online:
        replay["pending"] = data.unfinished.rows
    state = {
        "batches": data.batches,
        "seed": data.seed,
        "env_id": data.env_id,
        "max_episode_steps": data.max_episode_steps,
        "env_kwargs": data.env_kwargs,
        "observation_parts": data.spec.observation_parts,
        "reference": saved_reference(data.reference),
        "reward": [data.learnt.scale, data.learnt.shift],
        "rewards": rewards_of(data),
        "dataset": data.fingerprint,
        "dataset_name": data.dataset_name,
        "collector": data.collector.state_dict(),
        "replay": replay,
    }
    if data.unfinished is not None:
        state["returns"] = data.unfinished.of
    if data.kept_of_each:
        state["kept_of_each"] = data.kept_of_each
    if data.ranks.count > 1:
        weights = digest(data.agent.state_dict())
        own = {"collector": state["collector"], "replay": replay}
        digests, others = zip(*data.ranks.gather_on_zero((weights, own)), strict=True)
        if len(set(digests)) > 1:
            raise UserError("the weights are not the same on every rank; nothing is saved")
        state["ranks"] = list(others[1:])
    return state


def restore(data: Owner, state_dict: dict[str, Any]) -> None:
    """The inverse of :func:`content`, after ``setup("fit")``.

    Args:
        data: of a run that goes on, in the checkpoint's environment.
        state_dict: what :func:`content` made.
    Raises: UserError: the checkpoint is of another dataset, or of other rewards.
    """
    check_rewards(data, state_dict)
    fixed = data.agent.actor.normalization  # the checkpoint's, by now
    known = None if fixed is None else Normalization(*(t.cpu() for t in fixed))
    data.learnt.normalization = known
    data.batches = state_dict["batches"]
    # Rank zero's own, as in a run on one device, and those of the others.
    parts = [state_dict, *state_dict.get("ranks", ())]
    exact, rank, count = len(parts) == data.ranks.count, data.ranks.rank, data.ranks.count
    mine = parts[rank] if rank < len(parts) else None
    same_seed = state_dict["seed"] == data.seed
    env_steps = state_dict["collector"]["env_steps"]
    data.check_devices(count, env_steps)
    # Of a run that is finished it need not be said how it would go on.
    over = data.schedule.finished(data.agent.gradient_updates, env_steps)
    if not exact and rank == 0 and not over:
        warn(
            f"the checkpoint is of {_devices(len(parts))}, this run is on {_devices(count)}: "
            "it goes on inexactly, with the same rows and other draws"
        )
    goes_on = False  # the episode under way
    if not env_steps and not same_seed:
        pass  # another seed fine-tunes from here with draws of its own
    elif mine is None:
        if env_steps:  # a new episode, with draws that no rank has made
            data.collector.load_state_dict({**data.collector.state_dict(), "env_steps": env_steps})
            purpose = f"sampler after {env_steps} steps"
            data.replay.generator.set_state(torch_generator(data.seed, purpose, rank).get_state())
    else:
        goes_on = data.collector.load_state_dict(mine["collector"])
        if not goes_on and not over:
            rank_zero_warn(
                f"the state of {data.env_id} cannot be saved, so this run resumes inexactly: "
                "a new episode starts"
            )
    check_dataset(data, state_dict)
    if data.env_steps == 0:
        if same_seed and mine is not None:
            data.replay.generator.set_state(mine["replay"]["generator"])
        return
    data.kept_of_each = state_dict.get("kept_of_each", [])
    rings = [part["replay"] for part in parts]
    _restore_ring(data, rings)
    if data.unfinished is not None:
        _restore_unfinished(data, data.unfinished, rings, goes_on)
    else:  # they waited for returns that this run's method does not learn
        for ring in rings[data.ranks.rank :: data.ranks.count]:
            for number, row in enumerate(ring.get("pending", ())):
                data.replay.add(row, number > 0)
    data.dataset = None


def _restore_unfinished(
    data: Owner, unfinished: Unfinished, rings: list[dict[str, Any]], goes_on: bool
) -> None:
    """The rows of episodes under way: those that do not go on end here; dealt out as rows are."""
    rank = data.ranks.rank
    for index in range(rank, len(rings), data.ranks.count):
        if index == rank and goes_on:
            continue
        unfinished.rows = rings[index].get("pending", unfinished.rows)
        for number, row in enumerate(unfinished.finish()):
            data.replay.add(row, number > 0)
    if goes_on:
        unfinished.rows = rings[rank].get("pending", unfinished.rows)


def _restore_ring(data: Owner, rings: list[dict[str, Any]]) -> None:
    """The rank's ring out of those of a checkpoint; dealt out anew where they are not as many."""
    check_ring(data, rings)
    saved, width = sum(ring["capacity"] for ring in rings), data.layout.width
    check_memory(saved * width, f"the checkpoint's ring of {saved} rows")
    rank, count = data.ranks.rank, data.ranks.count
    # None was overwritten yet, and none need be: the schedule may be a longer one.
    grows = data.replay_capacity is None and all(
        ring["writer"]["_write_count"] == len(ring["rows"]) for ring in rings
    )
    left = data.schedule.online_env_steps - data.env_steps
    pending = [len(ring.get("pending", ())) for ring in rings]  # their episodes are under way
    if len(rings) == count:
        ring = rings[rank]
        capacity = ring["capacity"]
        if grows:
            capacity = max(capacity, len(ring["rows"]) + pending[rank] + left // count)
        data.replay = online_ring(data, torch.empty(0, width), capacity)
        data.replay.load_state_dict(ring)
        return
    rows = merged(rings)
    if grows:
        saved = max(saved, len(rows) + sum(pending) + left)
    if rank < len(rings):
        data.replay.generator.set_state(rings[rank]["generator"])
    offline = None
    if "offline" in rings[0]:
        offline = torch.cat([ring["offline"] for ring in rings])[rank::count]
    data.replay = online_ring(data, rows[rank::count], data.ranks.share(saved), offline)


def merged(rings: Sequence[dict[str, Any]]) -> Tensor:
    """All rows of several ranks' saved rings, ``[T, width]``, the oldest first.

    Row i of the whole belongs to rank i mod K, and each rank draws its part of a batch from its own
    rows: every row is as likely as with one rank. The newest rows of all ranks count as equally
    old, in the order of the ranks.
    """
    parts = [_oldest_first(ring) for ring in rings]
    to_come = torch.cat([torch.arange(len(part), 0, -1) for part in parts])
    return torch.cat(parts)[torch.argsort(to_come, descending=True, stable=True)]


def _oldest_first(ring: dict[str, Any]) -> Tensor:
    """Rows ``[T, width]`` of a ring's :meth:`ReplayRing.state_dict`, in the order they came."""
    rows: Tensor = ring["rows"]
    if len(rows) < ring["capacity"]:
        return rows
    return rows.roll(-ring["writer"]["_cursor"], 0)


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count > 1)}"
