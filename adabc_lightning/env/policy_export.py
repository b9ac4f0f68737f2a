"""The weights of a policy that ``export`` wrote, out of ONNX or ``torch.export``."""

import json
from pathlib import Path
from typing import Any

from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.env.observations import is_parts
from adabc_lightning.errors import UserError

CARD = "policy.json"
FILES = {"onnx": "policy.onnx", "torch": "policy.pt2"}
"""Format of ``export`` → the file beside the card."""


def read_export(folder: Path) -> tuple[StoredPolicy, list[float], list[float], dict[str, Any]]:
    """From the file that the card names: what is deployed is what acts.

    Args:
        folder: that ``export`` wrote.
    Returns: the weights, the bounds ``[A]``, low and high, in action units, and the card.
    Raises: UserError: it did not, or a file of it is gone or damaged.
    """
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
        return policy, low, high, card
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
