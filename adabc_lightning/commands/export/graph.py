"""A policy as a graph of plain layers, in ONNX or in PyTorch's own form, and back to actions."""

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adabc_lightning.agent.norm import EPSILON
from adabc_lightning.env.observations import Parts
from adabc_lightning.env.policy import Policy
from adabc_lightning.errors import UserError

INPUT, OUTPUT = "observation", "action"
_MISSING = "--format onnx needs {}; `pip install 'adabc_lightning[export]'` installs it"


class PolicyGraph(nn.Module):
    """The networks of a policy as PyTorch's own layers, scaled to the action range.

    Args:
        policy: whose weights it takes over.
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    middle: Tensor
    observation_mean: Tensor
    observation_scale: Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        norms = list(zip(policy.norms[::2], policy.norms[1::2], strict=True))
        for weight, bias in zip(policy.layers[::2], policy.layers[1::2], strict=True):
            layers.append(_with(nn.Linear(weight.shape[1], weight.shape[0]), weight, bias))
            if norms:
                scale, shift = norms.pop(0)
                layers.append(_with(nn.LayerNorm(len(scale), EPSILON), scale, shift))
            layers.append(nn.ReLU())
        self.net = nn.Sequential(*layers[:-1])
        self.normalizes = policy.normalization is not None
        for name, values in zip(("mean", "scale"), policy.normalization or (), strict=False):
            self.register_buffer(f"observation_{name}", torch.from_numpy(values.copy()))
        low, high = torch.from_numpy(policy.action_low), torch.from_numpy(policy.action_high)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("scale", (high - low) / 2)
        self.register_buffer("middle", (high + low) / 2)

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``[B, A]`` for observations ``[B, O]``."""
        if self.normalizes:
            observation = (observation - self.observation_mean) / self.observation_scale
        action = torch.tanh(self.net(observation)) * self.scale + self.middle
        return action.clamp(self.low, self.high)


def _with(layer: nn.Module, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    """A layer with these numbers, ``[H, I]`` or ``[H]`` and ``[H]``."""
    for name, numbers in (("weight", weight), ("bias", bias)):
        tensor = torch.from_numpy(numbers.copy())
        setattr(layer, name, nn.Parameter(tensor, requires_grad=False))
    return layer


class PartsGraph(PolicyGraph):
    """The same of observations by their parts.

    Args:
        policy: whose weights it takes over.
        names: of the parts, in order.
    """

    def __init__(self, policy: Policy, names: Sequence[str]) -> None:
        super().__init__(policy)
        self.names = tuple(names)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Actions ``[B, A]`` for parts ``[B, N]`` by name."""
        return super().forward(torch.cat([observation[name] for name in self.names], 1))


def export(policy: Policy, kind: str, parts: Parts | None = None) -> bytes:
    """The file's content.

    Args:
        policy: what it is made of.
        kind: ``"onnx"`` or ``"torch"``.
        parts: of the observation, for an input each; None for one of all numbers.
    Raises: UserError: ONNX's packages are missing.
    """
    # Two rows: a dimension of 1 would be taken for a constant.
    batch = {0: torch.export.Dim("batch")}
    graph: PolicyGraph = PolicyGraph(policy)
    example: Any = torch.zeros(2, policy.observation_size)
    shapes: Any = (batch,)
    inputs = [INPUT]
    if parts is not None:
        inputs = [name for name, _ in parts]
        graph, shapes = PartsGraph(policy, inputs), (dict.fromkeys(inputs, batch),)
        example = {name: torch.zeros(2, size) for name, size in parts}
    graph.eval()
    file = io.BytesIO()
    with _quiet():
        if kind == "torch":
            exported = torch.export.export(graph, (example,), dynamic_shapes=shapes)
            for operation in exported.graph.nodes:  # they hold lines of this machine's files
                for note in ("stack_trace", "nn_module_stack"):
                    operation.meta.pop(note, None)
            torch.export.save(exported, file)
            return file.getvalue()
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise UserError(_MISSING.format("onnx and onnxscript")) from error
        program = torch.onnx.export(
            graph,
            (example, {}),  # a mapping at the end would be taken for arguments by name
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return bytes(model.SerializeToString())


def run(
    content: bytes, kind: str, observation_BO: np.ndarray, parts: Parts | None = None
) -> np.ndarray:
    """What the exported file answers, in onnxruntime or in PyTorch: ``[B, A]``.

    Args:
        content, kind, parts: of :func:`export`.
        observation_BO: ``[B, O]``.
    Raises: UserError: onnxruntime is missing.
    """
    inputs = {INPUT: observation_BO}
    if parts is not None:
        ends = np.cumsum([size for _, size in parts])[:-1]
        columns = np.split(observation_BO, ends, 1)
        inputs = {
            name: np.ascontiguousarray(part) for (name, _), part in zip(parts, columns, strict=True)
        }
    with _quiet():
        if kind == "torch":
            program = torch.export.load(io.BytesIO(content)).module()
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            with torch.no_grad():
                answer = program(tensors[INPUT] if parts is None else tensors)
            action_BA: np.ndarray = answer.numpy()
            return action_BA
        # It would keep what it measures of a program in HOME, and send it.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(_MISSING.format("onnxruntime")) from error
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        action_BA = session.run([OUTPUT], inputs)[0]
        return action_BA


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notices about operators of packages that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
