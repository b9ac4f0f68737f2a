"""The policy of a checkpoint, a run or an export, as something to call.

Dimensions: B observations, O observation, A action, H units, I inputs of a layer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.numpy_policy import NumpyPolicy, StoredPolicy
from adabc_lightning.env.observations import (
    Misfit,
    Parts,
    agree,
    as_parts,
    described,
    flatten,
    is_parts,
)
from adabc_lightning.env.scores import Reference, reference_for
from adabc_lightning.errors import UserError
from adabc_lightning.run.checkpoint_files import FOLDER, LAST, read_checkpoint
from adabc_lightning.run.config_files import load

if TYPE_CHECKING:  # Gymnasium takes half a second
    from adabc_lightning.agent.spec import EnvironmentSpec

_ACTOR = (
    r"actor\.((net\.\d+|log_std_head)\.(weight|bias)|scalars\.[01]|log_std_range"
    r"|observation_(mean|scale))"
)
CARD = "policy.json"
FILES = {"onnx": "policy.onnx", "torch": "policy.pt2"}
"""Format of ``export`` → the file beside the card."""


class Policy:
    """π without noise (the mean of a Gaussian policy), with what is known about it.

    Args:
        policy: its weights.
        action_low, action_high: ``[A]`` bounds, action units.
        card: what is known about it; see ``docs/export.md``. Its ``observation_parts``, if any,
            are the parts of an observation, in order.
    """

    def __init__(
        self,
        policy: StoredPolicy,
        action_low: Sequence[float] | np.ndarray,
        action_high: Sequence[float] | np.ndarray,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.layers, self.norms, self.card = policy.layers, policy.norms, dict(card or {})
        self.normalization = policy.normalization
        self.action_low, self.action_high = inward(action_low, action_high)
        self.observation_size, self.action_size = self.layers[0].shape[1], len(self.layers[-1])
        self.parts = as_parts(self.card.get("observation_parts"))
        self._act = NumpyPolicy(policy, self.action_low, self.action_high)

    def __call__(self, observation: Any) -> np.ndarray:
        """Actions for one observation or a batch.

        Args:
            observation: ``[O]`` or ``[B, O]``, any type of numbers; computed in float32. Where it
                has parts also a mapping from them, nested or with dots in its names.
        Returns: float32 ``[A]`` or ``[B, A]`` within the bounds, action units.
        Raises: UserError: another shape, or other parts.
        """
        if isinstance(observation, Mapping):
            if self.parts is None:
                raise UserError(
                    f"the policy takes arrays of {self.observation_size} numbers; it knows no "
                    "parts of observations"
                )
            try:
                observation = flatten(observation, self.parts)
            except Misfit as error:
                raise UserError(
                    f"who asked the policy {error}; it takes {described(self.parts)}"
                ) from error
        x = np.asarray(observation, np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.observation_size:
            size = self.observation_size
            raise UserError(
                f"the policy takes observations of shape ({size},) or (B, {size}), this one has "
                f"{x.shape}"
            )
        return self._act(x)


def load_policy(path: str | Path) -> Policy:
    """The policy of a checkpoint, a run or an export.

    Args:
        path: a checkpoint or a kept policy; a run's folder, for its best evaluation of
            fine-tuning (``best.ckpt``, else ``last.ckpt``); or a folder that ``export`` wrote.
    Raises: UserError: there is none, or it cannot be read.
    """
    path = Path(path)
    if (path / CARD).is_file():
        return _exported(path)
    file = policy_file(path)
    checkpoint = read_policy(file)
    policy, state = stored_policy(checkpoint, file), checkpoint["state_dict"]
    low, high = state["actor.action_low"].numpy(), state["actor.action_high"].numpy()
    return Policy(policy, low, high, _facts(checkpoint, file))


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
    found = [file for name in ("best.ckpt", LAST) if (file := path / FOLDER / name).is_file()]
    if not found:
        raise UserError(
            f"{path} is neither a run's folder with a checkpoint nor one that export wrote "
            f"(it has no {FOLDER}/best.ckpt and no {CARD})"
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
    layers, norms, log_std = policy.layers, policy.norms, state.get("actor.log_std")
    heads = [] if policy.head is None else [policy.head[:2]]
    if (
        not _is_chain(layers)
        or (log_std is not None and log_std.shape != layers[-1].shape)
        or not all(_is_chain((*layers[:-2], *head)) for head in heads)
        or any(head[1].shape != layers[-1].shape for head in heads)
        or (norms and [n.shape for n in norms] != [b.shape for b in layers[1:-2:2] for _ in "ab"])
    ):
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


def check_parts(parts: Parts | None, spec: "EnvironmentSpec", who: str) -> None:
    """Refuses a policy in an environment whose observations are made of other parts.

    Args:
        parts: of the observations that it was trained with; None where they have none.
        spec: the environment's.
        who: for the message.
    Raises: UserError: both have parts, and others.
    """
    theirs = spec.observation_parts
    if parts and theirs and not agree(parts, theirs):
        raise UserError(
            f"{who} takes observations of {described(parts)}, environment {spec.env_id!r} has "
            f"{described(theirs)}; choose them by --observation-keys"
        )


def _is_chain(layers: tuple[np.ndarray, ...]) -> bool:
    """Whether each layer, weight ``[H, I]`` and bias ``[H]``, takes what the one before gives."""
    weights, biases = layers[::2], layers[1::2]
    fits = [w.ndim == 2 and b.shape == w.shape[:1] for w, b in zip(weights, biases, strict=True)]
    chained = all(fits) and [w.shape[1] for w in weights[1:]] == [len(w) for w in weights[:-1]]
    return bool(layers) and chained


def _facts(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a checkpoint knows about its policy: a part of the card."""
    data = checkpoint["ReplayDataModule"]
    history = checkpoint.get("callbacks", {}).get("Evaluation", {}).get("history") or [None]
    run = run_folder(path)
    config = run / "config.yaml" if run else None  # runs made in Python have none
    keys = load(config).get("data", {}) if config and config.is_file() else {}
    low, high = keys.get("reference_min"), keys.get("reference_max")
    reference = reference_for(data["env_id"])
    if low is not None and high is not None:
        reference = Reference(low, high)
    return {
        "checkpoint": str(path),
        "env_id": data["env_id"],
        "max_episode_steps": data.get("max_episode_steps"),
        "env_kwargs": data.get("env_kwargs") or {},
        "observation_parts": data.get("observation_parts"),
        "dataset": data.get("dataset_name") or keys.get("dataset"),
        "reference": None if reference is None else asdict(reference),
        "seed": checkpoint["agent"].get("seed"),
        "gradient_updates": checkpoint["agent"]["gradient_updates"],
        "env_steps": data["collector"]["env_steps"],
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


def _exported(folder: Path) -> Policy:
    """From the file that the card names: what is deployed is what acts."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        file = folder / FILES[card["format"]]
        low, high = card["action"]["low"], card["action"]["high"]
        if (parts := card.get("observation_parts")) is not None and not is_parts(parts):
            raise ValueError("no parts")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / CARD} is no card that export wrote") from error
    if not file.is_file():
        raise UserError(f"{folder} has a card, but no {file.name}; export it again")
    read = _read_onnx if card["format"] == "onnx" else _read_torch
    try:
        policy = StoredPolicy.of_actor(read(file))
        told = (card.get("observation") or {}).get("normalization")
        if (told is None) != (policy.normalization is None):
            raise UserError(
                f"{file} and its card disagree on whether observations are normalised; export it "
                "again"
            )
        return Policy(policy, low, high, card)
    except (KeyError, IndexError) as error:
        raise UserError(f"{file} holds no policy that export wrote; export it again") from error


def _read_onnx(file: Path) -> dict[str, Any]:
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            f"{file} needs onnx to be read; `pip install 'adabc_lightning[export]'` installs it"
        ) from error
    try:
        graph = onnx.load(str(file)).graph
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        layers = [node for node in graph.node if node.op_type in ("Gemm", "LayerNormalization")]
        # By what each layer reads: of equal tensors, as biases are at first, the file keeps one.
        read = {
            f"net.{number}.{kind}": arrays[name]
            for number, node in enumerate(layers)
            for kind, name in zip(("weight", "bias"), node.input[1:], strict=True)
        }
        for kind, operation in (("mean", "Sub"), ("scale", "Div")):  # nothing else has these
            for node in graph.node:
                if node.op_type == operation:
                    read[f"observation_{kind}"] = arrays[node.input[1]]
        return read
    except Exception as error:  # protobuf's, onnx's own, of all kinds
        raise UserError(f"{file} is no readable ONNX file; export it again") from error


def _read_torch(file: Path) -> dict[str, Any]:
    import torch

    try:
        return dict(torch.export.load(str(file)).state_dict)
    except Exception as error:  # a zip, JSON or PyTorch's own, of all kinds
        raise UserError(f"{file} is no readable PyTorch export; export it again") from error
