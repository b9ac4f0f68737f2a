"""``--policy``: random actions, the policy of a checkpoint, or all that a run kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.env.observations import Parts, as_parts
from adabc_lightning.env.policy import check_parts
from adabc_lightning.env.policy_checkpoint import read_policy, stored_policy
from adabc_lightning.env.policy_export import CARD
from adabc_lightning.errors import UserError

RANDOM = "random"


@dataclass(frozen=True)
class Source:
    """One ``--policy``.

    Args:
        name: as given.
        env_id: where it was trained; None for random actions.
        max_episode_steps: the time limit it was trained with; None for the environment's own.
        policies: in order; None for random actions.
        env_kwargs: what its environment's constructor was given.
        observation_parts: of the observations it was trained with; None where they have none.
        counters: environment steps and gradient updates of the first and the last one.
    """

    name: str
    env_id: str | None = None
    max_episode_steps: int | None = None
    policies: Sequence[StoredPolicy | None] = (None,)
    counters: dict[str, Any] = field(default_factory=dict)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    observation_parts: Parts | None = None

    @property
    def gaussian(self) -> bool:
        """Whether its policies have noise of their own."""
        return any(policy is not None and policy.samples for policy in self.policies)


def read_source(name: str, start: int | None, stop: int | None) -> Source:
    """What a ``--policy`` stands for.

    Raises: UserError: there is no such checkpoint or run, or no policy between start and stop.
    """
    if name == RANDOM:
        return Source(name)
    path = Path(name)
    if not path.is_dir():
        if not path.exists():
            raise UserError(
                f"--policy {name} is neither random nor a checkpoint nor a run's folder"
            )
        files = [path]
    else:
        kept = sorted((path / "checkpoints" / "policies").glob("[0-9]*.ckpt"))
        if not kept and (path / CARD).is_file():
            raise UserError(
                f"{name} is a policy that export wrote, which knows no noise of training; name "
                "the checkpoint that it was made from"
            )
        if not kept:
            raise UserError(
                f"{name} keeps no policies; name one of its checkpoints, or make a run with "
                "--checkpoints.keep_policies true"
            )
        first, last = (int(file.stem) for file in (kept[0], kept[-1]))
        low, high = (first if start is None else start), (last if stop is None else stop)
        files = [file for file in kept if low <= int(file.stem) <= high]
        if not files:
            raise UserError(
                f"{name} has no policy from {low} to {high} environment steps; its {len(kept)} "
                f"are of {first} to {last}"
            )
    policies, counters = [], []
    for file in files:
        checkpoint = read_policy(file)
        policies.append(stored_policy(checkpoint, file))
        data = checkpoint["ReplayDataModule"]
        counters.append((data["collector"]["env_steps"], checkpoint["agent"]["gradient_updates"]))
    steps, updates = zip(*counters, strict=True)
    return Source(
        name,
        data["env_id"],
        data["max_episode_steps"],
        policies,
        {
            "policies": len(files),
            "env_steps": [steps[0], steps[-1]],
            "gradient_updates": [updates[0], updates[-1]],
        },
        data.get("env_kwargs") or {},
        as_parts(data.get("observation_parts")),
    )


def check_fit(source: Source, spec: EnvironmentSpec) -> None:
    """Refuses networks of other sizes than the environment's.

    Raises: UserError: observations or actions have other sizes.
    """
    for policy in source.policies:
        if policy is None:
            continue
        sizes = policy.layers[0].shape[1], len(policy.layers[-1])
        if sizes != (spec.observation_size, spec.action_size):
            raise UserError(
                f"the policy of {source.name} is for observations of {sizes[0]} and actions of "
                f"{sizes[1]} numbers, environment {spec.env_id!r} has {spec.observation_size} and "
                f"{spec.action_size}; give the environment it was trained in by --env-id"
            )
    check_parts(source.observation_parts, spec, f"the policy of {source.name}")
