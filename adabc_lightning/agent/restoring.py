"""A checkpoint's networks and optimisers as an agent takes them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from adabc_lightning.agent.saved import check_adam
from adabc_lightning.errors import UserError


def as_deployed(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint whose actor is the policy that its run deployed.

    Raises: UserError: it has no such part.
    """
    name, networks = checkpoint["agent"].get("deployed", "actor"), checkpoint["state_dict"]
    if name == "actor":
        return checkpoint
    deployed = {n: t for n, t in networks.items() if n.startswith(f"{name}.")}
    if not deployed:
        raise UserError(f"agent/deployed is {name!r}, a part that the checkpoint does not have")
    actor = {f"actor.{n.removeprefix(name + '.')}": tensor for n, tensor in deployed.items()}
    return {**checkpoint, "state_dict": {**networks, **actor}}


def fit_added_parts(
    checkpoint: dict[str, Any],
    networks: Mapping[str, Tensor],
    added: Sequence[str],
    copies: Sequence[str],
) -> None:
    """Gives a checkpoint the added parts that an agent has, and no others.

    Parts that callbacks add learn only after the hand-over. A checkpoint from before it fits an
    agent with or without them, and they start anew; one from after it may go on without them.

    Args:
        checkpoint: changed in place.
        networks: the agent's own, name → tensor of any shape ``[*]``.
        added: names of its added parts that are trained, in the optimisers' order.
        copies: of those that are not.
    """
    theirs = list(checkpoint["agent"].get("added", ()))
    their_copies = list(checkpoint["agent"].get("copies", ()))
    online = checkpoint["ReplayDataModule"]["collector"]["env_steps"] > 0
    kept = [name for name in added if name in theirs and online]

    def of(name: str, parts: Sequence[str]) -> bool:
        return name.split(".")[0].removesuffix("_target") in parts

    dropped = [name for name in theirs if name not in kept]
    dropped += [name for name in their_copies if name not in copies or not online]
    saved = {n: t for n, t in checkpoint["state_dict"].items() if not of(n, dropped)}
    if not online:
        saved |= {name: tensor for name, tensor in networks.items() if of(name, [*added, *copies])}
    states = checkpoint["optimizer_states"]
    first = max(0, len(states) - len(theirs))
    by_name = dict(zip(theirs, states[first:], strict=False))
    checkpoint["state_dict"] = saved
    checkpoint["optimizer_states"] = [*states[:first], *(by_name[n] for n in kept if n in by_name)]


_AS_BEFORE = "with the method, networks and environment of the run; without --config it has them"


def _layers(networks: Mapping[str, Tensor], place: str) -> dict[int, Tensor]:
    """Number of a layer → its weight ``[*]``, in order."""
    found = {name: re.fullmatch(rf"{place}\.(\d{{1,4}})\.weight", name) for name in networks}
    return dict(sorted((int(m[1]), networks[name]) for name, m in found.items() if m))


def _configured(networks: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a configuration says of networks, as their weights tell it."""
    actor, critics = _layers(networks, r"actor\.net"), _layers(networks, r"critics\.params")
    actor = {number: w for number, w in actor.items() if w.ndim == 2}
    linear = [w for w in critics.values() if w.ndim == 3]
    norm = next((number for number, w in critics.items() if w.ndim == 2), None)
    said: dict[str, Any] = {}
    if actor:
        *hidden, last = actor.values()
        said["sizes"] = actor[min(actor)].shape[1], len(last)
    if linear:
        said["model.num_critics"] = len(linear[0])
        said["model.hidden_sizes"] = [w.shape[1] for w in linear[:-1]]
        said["model.critic_norm"] = {None: "null", 1: "before"}.get(norm, "after")
    if actor:  # they may follow from the others
        said["model.actor_hidden_sizes"] = [len(w) for w in hidden]
    return said


def _check_configuration(
    theirs: Mapping[str, Tensor], networks: Mapping[str, Tensor], env_id: str
) -> None:
    """Raises: UserError: networks of the same parts are of another configuration."""
    if {name.split(".")[0] for name in theirs} != {name.split(".")[0] for name in networks}:
        return  # another method, which may have sizes of its own
    was, this = _configured(theirs), _configured(networks)
    for key in was:
        if was[key] == this.get(key):
            continue
        if key == "sizes":
            raise UserError(
                f"the checkpoint was trained on observations of {was[key][0]} and actions of "
                f"{was[key][1]} numbers, environment {env_id!r} has {this[key][0]} and "
                f"{this[key][1]}; resume {_AS_BEFORE}"
            )
        raise UserError(
            f"the checkpoint was trained with {key} {was[key]}, not {this.get(key)}; resume "
            f"{_AS_BEFORE}"
        )


def check_networks(
    checkpoint: dict[str, Any],
    networks: Mapping[str, Tensor],
    trained: Mapping[str, Sequence[Tensor]],
    added: Sequence[str],
    copies: Sequence[str],
    env_id: str,
) -> None:
    """Whether a checkpoint's networks and optimisers are of the agent's shapes.

    Args:
        checkpoint: after :func:`fit_added_parts`.
        networks: the agent's own, name → tensor of any shape ``[*]``.
        trained: its parts with an optimiser → their weights, in the optimisers' order.
        added: those that callbacks have added; they may have none yet.
        copies: added parts without one.
        env_id: the agent's environment, for the message.
    Raises: UserError: they are not.
    """
    theirs = checkpoint["state_dict"]
    normalized = "actor.observation_mean" in theirs, "actor.observation_mean" in networks
    if normalized[0] != normalized[1]:
        was, this = (str(each).lower() for each in normalized)
        raise UserError(
            f"the checkpoint was trained with data.normalize_observations {was}, not {this}; "
            "resume with that of the run"
        )
    _check_configuration(theirs, networks, env_id)
    for name, tensor in networks.items():
        part = name.split(".")[0].removesuffix("_target")
        if part in (*added, *copies) and name not in theirs:
            raise UserError(
                f"the checkpoint's agent has no {part}, which this configuration adds; go on "
                "without it, or from before the hand-over (pretrained.ckpt)"
            )
        if name not in theirs:
            raise UserError(
                f"the checkpoint has no {name}, which this configuration's agent has; resume "
                f"{_AS_BEFORE}"
            )
        if theirs[name].shape != tensor.shape:
            raise UserError(
                f"the checkpoint's {name} has shape {list(theirs[name].shape)}, this "
                f"configuration's {list(tensor.shape)}; resume {_AS_BEFORE}"
            )
    for name in theirs.keys() - networks.keys():
        raise UserError(
            f"the checkpoint's {name} is not part of this configuration's agent; resume "
            f"{_AS_BEFORE}"
        )
    states = checkpoint["optimizer_states"]
    if len(states) not in (len(trained), len(trained) - len(added)):
        raise UserError(
            f"the checkpoint has {len(states)} optimizers, this configuration's agent "
            f"{len(trained)} ({', '.join(trained)})"
        )
    for index, (state, weights) in enumerate(zip(states, trained.values(), strict=False)):
        check_adam(state, weights, f"the checkpoint's optimizer_states/{index}")
