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
        weights: list[Any] = [parameters[kind] for parameters, kind in self._places]
        addresses = [weight.data_ptr() for weight in weights]
        normalization = self._actor.normalization
        if normalization is not None:
            addresses += [tensor.data_ptr() for tensor in normalization]
        if addresses != self._addresses:
            self._look_at(weights)
            self._addresses = addresses
        if self._packed is not None:
            self._fetch(weights)
        return self._policy

    def _look_at(self, weights: list[Tensor]) -> None:
        actor, seen, self._packed = self._actor, weights, None
        if weights[0].device.type != "cpu":
            sizes = [weight.numel() for weight in weights]
            self._packed = torch.empty(sum(sizes), pin_memory=weights[0].is_cuda)
            places = zip(self._packed.split(sizes), weights, strict=True)
            seen = [place.view(weight.shape) for place, weight in places]
        arrays = [tensor.detach().numpy() for tensor in seen]
        first, second = self._depths[0], sum(self._depths)
        layers, norms, head = arrays[:first], arrays[first:second], tuple(arrays[second:])
        policy = StoredPolicy(tuple(layers), None, head or None, tuple(norms))
        if head:
            policy = replace(policy, log_std_range=actor.form.log_std_range)  # type: ignore[union-attr,arg-type]
        if actor.normalization is not None:
            mean_O, scale_O = (tensor.cpu().numpy() for tensor in actor.normalization)
            policy = replace(policy, normalization=(mean_O, scale_O))
        low, high = actor.action_low.cpu().numpy(), actor.action_high.cpu().numpy()
        self._policy = NumpyPolicy(policy, low, high, copy=False)

    @torch.no_grad()
    def _fetch(self, weights: list[Tensor]) -> None:
        """All in one copy, which a GPU makes behind its updates."""
        assert self._packed is not None
        self._packed.copy_(torch.cat([weight.flatten() for weight in weights]), non_blocking=True)
        if weights[0].is_cuda:
            torch.cuda.current_stream(weights[0].device).synchronize()
