"""What a checkpoint gets of the data module, and how a run goes on from it."""

from typing import Any, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.normalization import Normalization
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.formats.source import LOGGED
from adabc_lightning.data.learnt import Learnt
from adabc_lightning.data.loading import Loading
from adabc_lightning.data.log import LogCollector
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.returns import Unfinished
from adabc_lightning.data.rewards import Reward
from adabc_lightning.data.shards import merged
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.observations import as_parts, described
from adabc_lightning.errors import UserError, one_line, warn
from adabc_lightning.run.limits import check_memory
from adabc_lightning.run.ranks import Ranks, digest
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import torch_generator


class Owner(Protocol):
    """Whose state it is; see :class:`~adabc_lightning.data.module.ReplayDataModule`."""

    env_id: str
    seed: int
    batches: int
    max_episode_steps: int | None
    env_kwargs: dict[str, Any]
    spec: EnvironmentSpec
    dataset: OfflineDataset | None
    dataset_name: str | None
    kept_of_each: list[dict[str, Any]]
    replay: ReplayRing
    replay_capacity: int | None
    offline_fraction: float | None
    unfinished: Unfinished | None
    loading: Loading
    learnt: Learnt
    online_reward: Reward | None
    collector: Collector | LogCollector
    ranks: Ranks
    schedule: Schedule
    layout: Layout

    @property
    def agent(self) -> OffToOnModule:
        """The module being trained."""

    @property
    def env_steps(self) -> int:
        """Of all ranks."""

    def check_devices(self, count: int, env_steps: int = 0) -> None:
        """Whether a run on ``count`` devices comes out even."""

    def online_ring(self, rows: Tensor, capacity: int, offline: Tensor | None = None) -> ReplayRing:
        """A ring to fine-tune from, of ``rows`` ``[T, width]``."""


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
        "reward": [data.learnt.scale, data.learnt.shift],
        "rewards": _rewards(data),
        "dataset": None if data.dataset is None else data.dataset.fingerprint(),
        "dataset_name": data.dataset_name,
        "collector": data.collector.state_dict(),
        "replay": replay,
    }
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
        data: of a run that goes on.
        state_dict: what :func:`content` made.
    Raises: UserError: the checkpoint is of another environment or dataset.
    """
    if state_dict["env_id"] != data.env_id:
        raise UserError(
            f"the checkpoint was trained in {state_dict['env_id']!r:.100}, data.env_id is "
            f"{data.env_id!r}; resume in the environment of the run"
        )
    _check_environment(data, state_dict)
    reward = [data.learnt.scale, data.learnt.shift]
    if (theirs := state_dict.get("reward", [1.0, 0.0])) != reward:  # 0.1.0 had no others
        raise UserError(
            f"the checkpoint was trained with data.reward_scale and data.reward_shift {theirs}, "
            f"not {reward}; resume with those of the run"
        )
    _check_rewards(data, state_dict)
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
    if not env_steps and not same_seed:
        pass  # another seed fine-tunes from here with draws of its own
    elif mine is None:
        if env_steps:  # a new episode, with draws that no rank has made
            data.collector.load_state_dict({**data.collector.state_dict(), "env_steps": env_steps})
            purpose = f"sampler after {env_steps} steps"
            data.replay.generator.set_state(torch_generator(data.seed, purpose, rank).get_state())
    elif not data.collector.load_state_dict(mine["collector"]):
        exact = False
        if not over:
            rank_zero_warn(
                f"the state of {data.env_id} cannot be saved, so this run resumes inexactly: "
                "a new episode starts"
            )
    if data.env_steps == 0:
        fingerprint = None if data.dataset is None else data.dataset.fingerprint()
        if state_dict["dataset"] != fingerprint:
            name = state_dict.get("dataset_name")  # older checkpoints do not know it
            what = "other data" if name is None else f"other data ({name!r}, as it was then)"
            raise UserError(
                f"the checkpoint was pre-trained on {what} than data.dataset "
                f"{data.dataset_name!r}; resume with the dataset of the run"
            )
        if same_seed and mine is not None:
            data.replay.generator.set_state(mine["replay"]["generator"])
        return
    data.kept_of_each = state_dict.get("kept_of_each", [])
    rings = [part["replay"] for part in parts]
    _restore_ring(data, rings)
    if data.unfinished is not None:
        if mine is not None:
            data.unfinished.rows = rings[rank].get("pending", data.unfinished.rows)
        if not exact:  # another episode starts
            for row in data.unfinished.finish():
                data.replay.add(row)
    data.dataset = None


def _rewards(data: Owner) -> dict[str, Any]:
    online = data.online_reward
    return {"offline": data.loading.rewards, "online": None if online is None else online.name}


def _check_rewards(data: Owner, state: dict[str, Any]) -> None:
    """Raises: UserError: the rows of the checkpoint have rewards of other names than this run's."""
    if "rewards" not in state:  # earlier versions took them from the log and the environment
        logged = [LOGGED] * len(data.loading.parts)
        theirs: dict[str, Any] = {"offline": logged, "online": None}
    else:
        theirs = state["rewards"]
    ours, begun = _rewards(data), state["collector"]["env_steps"] > 0
    same_data = state.get("dataset_name", data.dataset_name) == data.dataset_name
    if same_data and theirs["offline"] != ours["offline"]:
        raise UserError(
            f"the checkpoint was trained with data.reward {_listed(theirs['offline'])}, not "
            f"{_listed(ours['offline'])}; resume with that of the run"
        )
    if begun and theirs["online"] != ours["online"]:
        raise UserError(
            "the checkpoint's steps of fine-tuning have the rewards of "
            f"{theirs['online'] or 'the environment'}, this run's would have those of "
            f"{ours['online'] or 'the environment'}; resume with data.reward_online of the run"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(name[:100] for name in names) or "none"


def _check_environment(data: Owner, state_dict: dict[str, Any]) -> None:
    """Raises: UserError: it was made in another way, or other parts of observations were seen."""
    kwargs = state_dict.get("env_kwargs") or {}  # checkpoints of 0.1.0 have none
    if kwargs != data.env_kwargs:
        raise UserError(
            f"the checkpoint was trained with data.env_kwargs {one_line(str(kwargs))[:100]}, not "
            f"{data.env_kwargs}; resume with those of the run"
        )
    parts, ours = as_parts(state_dict.get("observation_parts")), data.spec.observation_parts
    if parts != ours:
        theirs, mine = (described(some) if some else "no parts" for some in (parts, ours))
        raise UserError(
            f"the checkpoint was trained on observations of {theirs}, {data.env_id!r} now has "
            f"{mine}; resume with the environment and data.observation_keys of the run"
        )


def _restore_ring(data: Owner, rings: list[dict[str, Any]]) -> None:
    """The rank's ring out of those of a checkpoint; dealt out anew where they are not as many.

    Raises: UserError: they are of another environment or another capacity.
    """
    saved = sum(ring["capacity"] for ring in rings)
    if data.replay_capacity not in (None, saved):
        raise UserError(
            f"data.replay_capacity is {data.replay_capacity}, the checkpoint's ring has "
            f"{saved}; resume with the capacity of the run"
        )
    if ("offline" in rings[0]) != (data.offline_fraction is not None):
        raise UserError(
            f"data.offline_fraction is {data.offline_fraction}, the checkpoint's batches "
            f"{'have' if 'offline' in rings[0] else 'do not have'} a share of offline rows; "
            "resume with that of the run"
        )
    width = rings[0]["rows"].shape[-1]
    if width != data.layout.width:
        raise UserError(
            f"the checkpoint's ring has rows of {width} numbers, those of {data.env_id!r} have "
            f"{data.layout.width}; resume in the environment of the run"
        )
    check_memory(saved * width, f"the checkpoint's ring of {saved} rows")
    rank, count = data.ranks.rank, data.ranks.count
    # None was overwritten yet, and none need be: the schedule may be a longer one.
    grows = data.replay_capacity is None and all(
        ring["writer"]["_write_count"] == len(ring["rows"]) for ring in rings
    )
    left = data.schedule.online_env_steps - data.env_steps
    if len(rings) == count:
        ring = rings[rank]
        capacity = ring["capacity"]
        if grows:
            capacity = max(capacity, len(ring["rows"]) + left // count)
        data.replay = data.online_ring(torch.empty(0, width), capacity)
        data.replay.load_state_dict(ring)
        return
    rows = merged(rings)
    if grows:
        saved = max(saved, len(rows) + left)
    if rank < len(rings):
        data.replay.generator.set_state(rings[rank]["generator"])
    offline = None
    if "offline" in rings[0]:
        offline = torch.cat([ring["offline"] for ring in rings])[rank::count]
    data.replay = data.online_ring(rows[rank::count], data.ranks.share(saved), offline)


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count > 1)}"
