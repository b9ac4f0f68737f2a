"""The weights of a policy that ``export`` wrote, out of ONNX or ``torch.export``.

Neither file is executed, nor is anything in it: it may be a stranger's.
"""

import json
import math
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.env.observations import is_parts
from adabc_lightning.env.options import is_plain
from adabc_lightning.errors import UserError
from adabc_lightning.run.checkpoint_files import is_whole

CARD = "policy.json"
FILES = {"onnx": "policy.onnx", "torch": "policy.pt2"}
"""Format of ``export`` → the file beside the card."""
_WEIGHTS = "/data/weights/"  # in torch.export's archive, below the name of its root
_FLOAT32 = 7  # its code there


def _must(right: Any) -> AfterValidator:
    def validate(value: Any) -> Any:
        if not right(value):
            raise ValueError
        return value

    return AfterValidator(validate)


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Bounds(_Part):
    low: list[float]
    high: list[float]


class _Seen(_Part):
    normalization: dict[str, Any] | None = None


class _Reference(_Part):
    model_config = ConfigDict(extra="forbid")

    minimum: float
    maximum: float


class _Card(_Part):
    """What is taken from a card; the rest of it is for people."""

    format: Literal["onnx", "torch"]
    action: _Bounds
    observation: _Seen | None = None
    observation_parts: Annotated[Any, _must(lambda value: value is None or is_parts(value))] = None
    env_id: str
    env_kwargs: Annotated[dict[str, Any] | None, _must(is_plain)] = None
    max_episode_steps: Annotated[int, Field(ge=1, lt=2**53)] | None
    reference: _Reference | None
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None


def read_export(folder: Path) -> tuple[StoredPolicy, list[float], list[float], dict[str, Any]]:
    """From the file that the card names: what is deployed is what acts.

    Args:
        folder: that ``export`` wrote.
    Returns: the weights, the bounds ``[A]``, low and high, in action units, and the card.
    Raises: UserError: it did not, or a file of it is gone or damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        _Card.model_validate(card)
    except ValidationError as error:
        where = "/".join(map(str, error.errors()[0]["loc"])) or "its content"
        raise UserError(
            f"{folder / CARD} is no card that export wrote: {where:.80} is missing or wrong"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder / CARD} is no card that export wrote: it is no JSON") from error
    file, low, high = folder / FILES[card["format"]], card["action"]["low"], card["action"]["high"]
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
        if not policy.fits(len(low)) or len(low) != len(high):
            raise KeyError("layers")
        return policy, low, high, card
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, UserError):
            raise
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
    """The plain numbers that lie in the archive.

    Not by ``torch.export.load``: PyTorch 2.13's unpickles whatever lies beside them if it does not
    load otherwise, and evaluates the shapes that the file names.
    """
    damaged = UserError(f"{file} is no readable PyTorch export; export it again")
    if not is_whole(file):
        raise damaged
    try:
        with zipfile.ZipFile(file) as archive:
            suffix = f"{_WEIGHTS}model_weights_config.json"
            (config,) = (name for name in archive.namelist() if name.endswith(suffix))
            folder = config.removesuffix("model_weights_config.json")
            weights = json.loads(archive.read(config))["config"]
            return {
                name: _array(archive.read(f"{folder}{entry['path_name']}"), entry["tensor_meta"])
                for name, entry in weights.items()
                if not entry["use_pickle"]
            }
    except Exception as error:  # a zip, JSON or what is in it, of all kinds
        raise damaged from error


def _array(content: bytes, meta: dict[str, Any]) -> np.ndarray:
    """A tensor ``[*]`` of a ``torch.export`` archive.

    Raises: ValueError: it is not float32, or not in the order of its rows.
    """
    sizes, strides = ([each["as_int"] for each in meta[name]] for name in ("sizes", "strides"))
    dense = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    if meta["dtype"] != _FLOAT32 or strides != dense or meta["storage_offset"]["as_int"]:
        raise ValueError("not as export writes it")
    return np.frombuffer(content, "<f4").reshape(sizes)
