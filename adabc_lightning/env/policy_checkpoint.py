"""The policy in a checkpoint: its weights, and what the run knew about it.

Dimensions: O observation, A action, H units, I inputs of a layer.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.env.policy_export import CARD
from adabc_lightning.env.scores import Reference, reference_for
from adabc_lightning.errors import UserError
from adabc_lightning.run.checkpoint_files import BEST, FOLDER, LAST, read_checkpoint
from adabc_lightning.run.config_files import load

_ACTOR = (
    r"actor\.((net\.\d+|log_std_head)\.(weight|bias)|scalars\.[01]|log_std_range"
    r"|observation_(mean|scale))"
)


def read_policy(path: Path) -> dict[str, Any]:
    """A kept policy, or a run's checkpoint, of which no more is looked at.

    Raises: Damaged, UserError: as :func:`read_checkpoint`.
    """
    from adabc_lightning.agent.restoring import as_deployed
    from adabc_lightning.env.saved import SavedPolicy  # PyTorch and pydantic: slow
    from adabc_lightning.run.saved import check

    return as_deployed(read_checkpoint(path, partial(check, SavedPolicy), policy_only=True))


def policy_file(path: Path) -> Path:
    """The checkpoint that a path stands for: itself, or a run's ``best.ckpt`` or ``last.ckpt``.

    Raises: UserError: there is none.
    """
    if not path.is_dir():
        return path
    found = [file for name in (BEST, LAST) if (file := path / FOLDER / name).is_file()]
    if not found:
        raise UserError(
            f"{path} is neither a run's folder with a checkpoint nor one that export wrote "
            f"(it has no {FOLDER}/{BEST} and no {CARD})"
        )
    return found[0]


def stored_policy(checkpoint: dict[str, Any], path: Path) -> StoredPolicy:
    """The actor of a checkpoint, with its σ if it has one.

    Raises: UserError: there is none, or its layers do not fit together.
    """
    state = checkpoint.get("state_dict", {})
    actor = {
        name.removeprefix("actor."): tensor
        for name, tensor in state.items()
        if re.fullmatch(_ACTOR, name)
    }
    try:
        policy = StoredPolicy.of_actor(actor)
    except KeyError:
        policy = StoredPolicy(())
    sized = [state.get(f"actor.{name}") for name in ("action_low", "action_high")]
    log_std = state.get("actor.log_std")
    sized += [] if log_std is None else [log_std]
    shapes = {None if each is None else tuple(each.shape) for each in sized}
    if len(shapes) != 1 or len(shape := shapes.pop() or ()) != 1 or not policy.fits(*shape):
        raise UserError(f"{path} holds no actor; give a checkpoint of a run of this package")
    if policy.normalization is not None and not _normalizes(policy):
        raise UserError(f"{path} has no sound observation_mean and observation_scale")
    if log_std is None:
        return policy
    low, high = map(float, state.get("actor.log_std_range", (-10.0, 2.0)))  # 0.1.0 has no other
    return replace(policy, std=log_std.float().clamp(low, high).exp().numpy())


def _normalizes(policy: StoredPolicy) -> bool:
    """Whether each number of an observation has a mean and a positive scale."""
    assert policy.normalization is not None
    mean, scale = policy.normalization
    size = policy.layers[0].shape[1:]
    finite = np.isfinite(mean).all() and np.isfinite(scale).all()
    return mean.shape == scale.shape == size and bool(finite) and bool((scale > 0).all())


def facts(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a checkpoint knows about its policy: a part of the card."""
    agent, data = checkpoint["agent"], checkpoint["ReplayDataModule"]
    history = checkpoint.get("callbacks", {}).get("Evaluation", {}).get("history") or [None]
    run = run_folder(path)
    config = run / "config.yaml" if run else None  # runs made in Python have none
    keys = load(config).get("data", {}) if config and config.is_file() else {}
    low, high = keys.get("reference_min"), keys.get("reference_max")
    reference = reference_for(data["env_id"])
    if "reference" in data:  # not in checkpoints of 0.1.0
        reference = Reference(*data["reference"]) if data["reference"] else None
    elif low is not None and high is not None:
        reference = Reference(low, high)
    return {
        "checkpoint": str(path),
        "env_id": data["env_id"],
        "max_episode_steps": data["max_episode_steps"],
        "env_kwargs": data.get("env_kwargs") or {},
        "observation_parts": data.get("observation_parts"),
        "dataset": data.get("dataset_name") or keys.get("dataset"),
        "reference": None if reference is None else asdict(reference),
        "seed": agent.get("seed"),
        "gradient_updates": agent["gradient_updates"],
        "env_steps": data["collector"]["env_steps"],
        "deployed": agent.get("kept", agent.get("deployed", "actor")),
        "policy": _kind(checkpoint["state_dict"]),
        "evaluation": history[-1],
    }


def _kind(state: Mapping[str, Any]) -> str:
    if "actor.log_std_head.weight" in state:
        return "squashed_gaussian"
    return "gaussian" if "actor.log_std" in state else "deterministic"


def run_folder(checkpoint: Path) -> Path | None:
    """The run that a checkpoint or a kept policy still lies in; None where there is none."""
    parents = list(checkpoint.resolve().parents)[1:3]
    return next((folder for folder in parents if (folder / "summary.json").is_file()), None)
