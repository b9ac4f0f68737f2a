"""The policy that is being trained, as what acts: always the newest weights, in NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.numpy_policy import NumpyPolicy, StoredPolicy


class LivePolicy:
    """π(s) of an actor that is being trained: on the CPU its own memory, seen by NumPy.

    An update writes the weights in place, so the next call acts with them. From another device
    they are fetched in each call: that takes less time than launching a network's kernels for one
    observation, and the actions are those of a run on the CPU. Where the tensors are others than at
    the call before (moved, or loaded in the place of the old ones), it looks at the new ones.

    Args:
        actor: its parameters may change and move.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        pairs = [module._parameters for module in actor.net if "weight" in module._parameters]
        layers, norms = ([p for p in pairs if p["weight"].dim() == dims] for dims in (2, 1))  # type: ignore[union-attr]
        squashed: Any = actor if hasattr(actor, "log_std_head") else None
        heads = [] if squashed is None else [squashed.log_std_head._parameters]
        self._depths = 2 * len(layers), 2 * len(norms)
        self._places = [(p, kind) for p in (*layers, *norms, *heads) for kind in ("weight", "bias")]
        if squashed is not None:
            scalars = squashed.scalars._parameters
            self._places += [(scalars, name) for name in scalars]
        self._addresses: list[int] = []
        self._packed: Tensor | None = None
        """Here, of weights that lie on another device; None where NumPy sees their own memory."""

    def __reduce__(self) -> Any:
        """A copy looks at the copied actor."""
        return LivePolicy, (self._actor,)

    def __call__(self, observation_O: np.ndarray) -> np.ndarray:
        """Action ``[A]`` in float32, action units, of an observation ``[O]`` of any float type."""
        return self._newest()(observation_O.astype(np.float32))

    def sample(self, observation_O: np.ndarray, noise_A: np.ndarray) -> np.ndarray:
        """The same of a squashed Gaussian with a standard normal draw ``[A]``."""
        return self._newest().sample(observation_O.astype(np.float32), noise_A)

    def _newest(self) -> NumpyPolicy:
        normalization = self._actor.normalization or ()
        tensors: list[Any] = [parameters[kind] for parameters, kind in self._places]
        tensors += normalization
        addresses = [tensor.data_ptr() for tensor in tensors]
        if addresses != self._addresses:
            self._look_at(tensors, bool(normalization))
            self._addresses = addresses
        if self._packed is not None:
            self._fetch(tensors)
        return self._policy

    def _look_at(self, tensors: list[Tensor], normalized: bool) -> None:
        actor, seen, self._packed = self._actor, tensors, None
        if elsewhere(tensors[0]):
            sizes = [tensor.numel() for tensor in tensors]
            self._packed = torch.empty(sum(sizes), pin_memory=tensors[0].is_cuda)
            places = zip(self._packed.split(sizes), tensors, strict=True)
            seen = [place.view(tensor.shape) for place, tensor in places]
        arrays = [tensor.detach().numpy() for tensor in seen]
        normalization = None
        if normalized:
            *arrays, mean_O, scale_O = arrays
            normalization = mean_O, scale_O
        first, second = self._depths[0], sum(self._depths)
        layers, norms, head = arrays[:first], arrays[first:second], tuple(arrays[second:])
        policy = StoredPolicy(
            tuple(layers), None, head or None, tuple(norms), normalization=normalization
        )
        if head:
            policy = replace(policy, log_std_range=actor.gaussian.log_std_range)  # type: ignore[union-attr,arg-type]
        low, high = actor.action_low.cpu().numpy(), actor.action_high.cpu().numpy()
        self._policy = NumpyPolicy(policy, low, high, copy=False)

    @torch.no_grad()
    def _fetch(self, tensors: list[Tensor]) -> None:
        """All in one copy, which a GPU makes behind its updates."""
        assert self._packed is not None
        newest, on_gpu = torch.cat([tensor.flatten() for tensor in tensors]), tensors[0].is_cuda
        self._packed.copy_(newest, non_blocking=on_gpu)
        if on_gpu:
            torch.cuda.current_stream(newest.device).synchronize()


def elsewhere(tensor: Tensor) -> bool:
    """Whether NumPy cannot see a tensor ``[*]`` where it lies."""
    return tensor.device.type != "cpu"
