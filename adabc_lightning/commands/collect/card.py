"""The card: what a dataset says about itself."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.commands.collect.sources import Source
from adabc_lightning.data.writer import PartialFile
from adabc_lightning.env.rollout import NOISE
from adabc_lightning.run.allowed import allowing
from adabc_lightning.run.versions import version

LIBRARIES = ("adabc_lightning", "gymnasium", "mujoco", "numpy")


def make_card(
    partial: PartialFile,
    sources: Sequence[Source],
    settings: dict[str, Any],
    spec: EnvironmentSpec,
    name: str,
) -> dict[str, Any]:
    """What a dataset says about itself; it depends on nothing but the options.

    Args:
        partial: the episodes.
        sources: what acted.
        settings: option → value; the command to make the dataset again.
        spec: of the environment.
        name: the dataset's.
    Returns: name → number or text: environment, seed, noise, policies, versions, command, counts
        of transitions, episodes (``episodes_cut`` by the budget of transitions), terminals and
        timeouts, and mean, standard deviation, minimum and maximum of the episodes' returns.
    """
    returns = np.array([episode_return for *_, episode_return in partial.index])
    terminals = cut = 0
    limit = spec.max_episode_steps
    for episode in partial.episodes():
        terminals += episode.terminated
        cut += not (episode.terminated or episode.truncated)
    noise = settings["--noise"]
    policies = [_policies(source, own_std=noise is None) for source in sources]
    if noise is None:  # a Gaussian policy takes part
        noise = NOISE if any(s.env_id and not s.gaussian for s in sources) else -1.0
    words = ["python", "-m", "adabc_lightning", "collect"]
    for option, value in settings.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        for one in values:
            words += [option, str(one)]
    words += allowing()
    names = " and ".join(dict.fromkeys(source.name for source in sources))
    return {
        "description": f"{spec.env_id}, {names}, by adabc_lightning collect",
        "env_id": spec.env_id,
        "max_episode_steps": -1 if limit is None else limit,
        **({"env_kwargs": kwargs} if (kwargs := settings["--env-kwargs"]) else {}),
        "policy": json.dumps(policies),
        "noise": noise,
        "seed": settings["--seed"],
        "command": shlex.join([*words, "--out", name]),
        "transitions": sum(steps for _, steps, _ in partial.index),
        "episodes": len(returns),
        "episodes_cut": cut,
        "terminals": terminals,
        "timeouts": len(returns) - terminals,
        **return_statistics(returns),
        **library_versions(),
    }


def return_statistics(returns: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, minimum and maximum of raw returns ``[E]``."""
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
    }


def library_versions() -> dict[str, str]:
    """``NAME_version`` of each of :data:`LIBRARIES`."""
    return {f"{library}_version": version(library) for library in LIBRARIES}


def _policies(source: "Source", own_std: bool) -> dict[str, Any]:
    """What the card says of a source, with the σ of its first and last policy where they acted."""
    entry: dict[str, Any] = {"policy": source.name, **source.counters}
    if own_std and source.gaussian:
        ends = source.policies[0], source.policies[-1]
        stds = [policy.std.tolist() for policy in ends if policy and policy.std is not None]
        entry |= {"std": stds} if stds else {}  # a squashed Gaussian's depends on the state
    return entry
