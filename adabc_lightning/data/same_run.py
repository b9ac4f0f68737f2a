"""Whether a checkpoint is of the run that goes on from it: environment, rewards, data, ring."""

from typing import Any

from adabc_lightning.data.formats.source import LOGGED
from adabc_lightning.data.owner import Owner
from adabc_lightning.env.exchange import PREFIX
from adabc_lightning.env.observations import as_parts, described
from adabc_lightning.errors import UserError, one_line


def check_env_id(env_id: str, state: dict[str, Any]) -> None:
    """Whether it was trained in the environment of this name; before any is made.

    Raises: UserError: in another one.
    """
    # A log's folder may have been moved: its episodes, once there are any, say whose it is.
    logs = all(each.startswith(PREFIX) for each in (env_id, state["env_id"]))
    if state["env_id"] != env_id and not (logs and state["collector"].get("digest")):
        raise UserError(
            f"the checkpoint was trained in {state['env_id']!r:.100}, data.env_id is {env_id!r}; "
            "resume in the environment of the run"
        )


def check_environment(data: Owner, state: dict[str, Any]) -> None:
    """Whether it was trained in the same environment.

    Args:
        data: of a run that goes on.
        state: what :func:`~adabc_lightning.data.restoring.content` made.
    Raises: UserError: in another one, made in another way, or other parts of observations were
        seen.
    """
    check_env_id(data.env_id, state)
    kwargs = state.get("env_kwargs") or {}  # checkpoints of 0.1.0 have none
    if kwargs != data.env_kwargs:
        raise UserError(
            f"the checkpoint was trained with data.env_kwargs {one_line(str(kwargs))[:100]}, not "
            f"{data.env_kwargs}; resume with those of the run"
        )
    parts, ours = as_parts(state.get("observation_parts")), data.spec.observation_parts
    if parts != ours:
        theirs, mine = (described(some) if some else "no parts" for some in (parts, ours))
        raise UserError(
            f"the checkpoint was trained on observations of {theirs}, {data.env_id!r} now has "
            f"{mine}; resume with the environment and data.observation_keys of the run"
        )


def check_rewards(data: Owner, state: dict[str, Any]) -> None:
    """Whether its rows have the rewards that this run's would have.

    Args:
        data: of a run that goes on.
        state: what :func:`~adabc_lightning.data.restoring.content` made.
    Raises: UserError: they were scaled otherwise, or have other names.
    """
    scaled, here = state.get("reward", [1.0, 0.0]), [data.learnt.scale, data.learnt.shift]
    if data.learnt.of_range and scaled[0] != here[0] and scaled[1] == here[1]:
        raise UserError(
            f"the checkpoint's rewards are scaled by {scaled[0]:g}, data.reward_scale return_range "
            f"makes it {here[0]:g} here: the dataset is another one, or that was a number then; "
            "resume with those of the run"
        )
    if scaled != here:  # 0.1.0 had no others than 1 and 0
        raise UserError(
            f"the checkpoint was trained with data.reward_scale and data.reward_shift {scaled}, "
            f"not {here}; resume with those of the run"
        )
    if "rewards" not in state:  # earlier versions took them from the log and the environment
        logged = [LOGGED] * len(data.loading.parts)
        theirs: dict[str, Any] = {"offline": logged, "online": None}
    else:
        theirs = state["rewards"]
    ours, begun = rewards_of(data), state["collector"]["env_steps"] > 0
    same_data = state["dataset_name"] == data.dataset_name
    if same_data and theirs["offline"] != ours["offline"]:
        raise UserError(
            f"the checkpoint was trained with data.reward {_listed(theirs['offline'])}, not "
            f"{_listed(ours['offline'])}; resume with that of the run"
        )
    if begun and data.unfinished is not None and "returns" in state:
        made, wanted = state["returns"], data.unfinished.of
        if made != wanted:
            raise UserError(
                f"the checkpoint's rows have returns with model.gamma {made[0]} and a scaled "
                f"data.failure_reward of {made[1]}, not {wanted[0]} and {wanted[1]}; resume with "
                "those of the run"
            )
    if begun and theirs["online"] != ours["online"]:
        raise UserError(
            "the checkpoint's steps of fine-tuning have the rewards of "
            f"{theirs['online'] or 'the environment'}, this run's would have those of "
            f"{ours['online'] or 'the environment'}; resume with data.reward_online of the run"
        )


def rewards_of(data: Owner) -> dict[str, Any]:
    """Names of the functions that the rewards are from, of offline and of online rows."""
    online = data.online_reward
    return {"offline": data.loading.rewards, "online": None if online is None else online.name}


def _listed(names: list[str]) -> str:
    return ", ".join(name[:100] for name in names) or "none"


def check_dataset(data: Owner, state: dict[str, Any]) -> None:
    """Whether it was pre-trained on the same data.

    Args:
        data: of a run that goes on, be it after its hand-over: the ring would stay the
            checkpoint's, and the run would say that it is of other data.
        state: what :func:`~adabc_lightning.data.restoring.content` made.
    Raises: UserError: on others.
    """
    name = state["dataset_name"]
    if state["dataset"] is None and name is not None and state["collector"]["env_steps"]:
        return  # 0.1.0 did not keep it
    if state["dataset"] != data.fingerprint:
        what = "other data" if name is None else f"other data ({name!r}, as it was then)"
        raise UserError(
            f"the checkpoint was pre-trained on {what} than data.dataset "
            f"{data.dataset_name!r}; resume with the dataset of the run"
        )


def check_ring(data: Owner, rings: list[dict[str, Any]]) -> None:
    """Whether the rings of its ranks can be this run's.

    Args:
        data: of a run that goes on.
        rings: a state of each rank's.
    Raises: UserError: they are of another environment, another capacity or another mixture.
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
            f"the checkpoint's ring has rows of {width} numbers, this run's have "
            f"{data.layout.width}; resume in the environment and with the model.method of the run"
        )
