"""The card: what an exported policy says about itself."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from adabc_lightning.callbacks.summary import PACKAGE, versions
from adabc_lightning.commands.export.names import action_names, observation_names
from adabc_lightning.env.make import episode_limit, make_env
from adabc_lightning.env.observations import Parts, column_names
from adabc_lightning.env.policy import Policy
from adabc_lightning.env.policy_checkpoint import run_folder
from adabc_lightning.env.policy_export import FILES
from adabc_lightning.env.stepping import close
from adabc_lightning.errors import UserError, warn
from adabc_lightning.run.record import load_json
from adabc_lightning.run.versions import version


def make_card(
    policy: Policy, kind: str, content: bytes, parts: Parts | None = None
) -> dict[str, Any]:
    """Everything that ``policy.json`` holds, the result of the check aside.

    Args:
        policy: with the facts of its checkpoint.
        kind: format of the file.
        content: the file's.
        parts: where it takes an input for each.
    Returns: plain containers, numbers and texts; None for what is not known.
    """
    facts = policy.card
    observations, actions, limit = _of_environment(policy)
    sizes = policy.observation_size, policy.action_size
    return {
        "format": kind,
        "file": FILES[kind],
        "sha256": hashlib.sha256(content).hexdigest(),
        "observation": {
            "input": "observation" if parts is None else [name for name, _ in parts],
            "shape": ["batch", sizes[0]],
            "dtype": "float32",
            "names": observations,
            "normalization": _normalization(policy),
        },
        "action": {
            "output": "action",
            "shape": ["batch", sizes[1]],
            "dtype": "float32",
            "low": policy.action_low.tolist(),
            "high": policy.action_high.tolist(),
            "names": actions,
        },
        **facts,
        "max_episode_steps": facts["max_episode_steps"] or limit,
        "checkpoint_sha256": hashlib.sha256(Path(facts["checkpoint"]).read_bytes()).hexdigest(),
        "commit": _commit(),
        "versions": versions() | _format_versions(kind),
        "trained_with": _trained_with(run_folder(Path(facts["checkpoint"]))),
    }


def _normalization(policy: Policy) -> dict[str, list[float]] | None:
    """What the file does to its input first; None: nothing."""
    if policy.normalization is None:
        return None
    mean, scale = policy.normalization
    return {"mean": mean.tolist(), "scale": scale.tolist()}


def _of_environment(policy: Policy) -> tuple[list[str] | None, list[str] | None, int | None]:
    """Names of observations and actions, and its time limit; a card without is better than none."""
    env_id, known = policy.card["env_id"], column_names(policy.parts) if policy.parts else None
    try:
        keys = None if policy.parts is None else [name for name, _ in policy.parts]
        env = make_env(env_id, kwargs=policy.card["env_kwargs"], observation_keys=keys)
    except UserError as error:
        what = "actions" if known else "observations and actions"
        warn(f"the card has no names of {what}: {error}")
        return known, None, episode_limit(env_id)
    try:
        observations = known or _fitting(observation_names(env), policy.observation_size)
        limit = env.spec.max_episode_steps if env.spec else None
        return observations, _fitting(action_names(env), policy.action_size), limit
    finally:
        close(env)


def _fitting(names: list[str] | None, size: int) -> list[str] | None:
    return names if names is not None and len(names) == size else None


def _trained_with(run: Path | None) -> dict[str, str] | None:
    """Versions of the run, by its ``summary.json``."""
    try:
        return load_json(run / "summary.json").get("versions") if run else None
    except UserError:
        return None


def _commit() -> str | None:
    """Of the clone that this code runs from, ``-dirty`` where it was changed; None outside one."""
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _format_versions(kind: str) -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "onnxscript") if kind == "onnx"}
