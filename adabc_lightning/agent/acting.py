"""An agent's policy as what acts: without noise, with its own, or with noise on its actions.

Dimensions: B batch, O observation, A action.
"""

import numpy as np
import torch

from adabc_lightning.agent.gaussian import SquashedActor
from adabc_lightning.agent.live_policy import LivePolicy
from adabc_lightning.agent.method import Method, Shape
from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.parts import Parts
from adabc_lightning.errors import UserError


class ActingAgent(Parts):
    """A method's parts, of which the actor acts.

    Args:
        method, shape, seed: see :class:`~adabc_lightning.agent.parts.Parts`.
    """

    actor: Actor

    def __init__(self, method: Method, shape: Shape, seed: int) -> None:
        super().__init__(method, shape, seed)
        self._live_policy = LivePolicy(self.actor)
        spec = shape.spec
        low_A, high_A = (np.array(end, np.float32) for end in (spec.action_low, spec.action_high))
        self._half_A = (high_A - low_A) / 2

    def act(self, observation: np.ndarray, name: str = "actor") -> np.ndarray:
        """π(s) without noise; a single observation passes through NumPy on the CPU, faster.

        Args:
            observation: ``[O]`` or ``[B, O]``, any float type.
            name: of the part whose policy is meant.
        Returns: float32 ``[A]`` or ``[B, A]``, action units.
        Raises: UserError: an observation of another shape.
        """
        observation = np.asarray(observation)
        size = self.shape.spec.observation_size
        if observation.ndim not in (1, 2) or observation.shape[-1] != size:
            raise UserError(
                f"an observation has the shape {observation.shape}; it must be [{size}], or "
                f"[B, {size}] for a batch"
            )
        if name == "actor" and observation.ndim == 1:
            return self._live_policy(observation)
        batch = torch.from_numpy(np.atleast_2d(observation).astype(np.float32)).to(self.device)
        with torch.no_grad():
            action = self.get_submodule(name)(self.actor.normalized(batch)).cpu().numpy()
        return action[0] if observation.ndim == 1 else action

    def explore(
        self, observation: np.ndarray, noise_A: np.ndarray, scale: float = 0.0
    ) -> np.ndarray:
        """The action of a standard normal draw, by the policy's own noise if it has one.

        Args:
            observation: ``[O]``, any float type.
            noise_A: the draw ``[A]``, float64.
            scale: σ of the noise on a deterministic policy's actions, in action limits.
        Returns: ``[A]``, action units; noise on an action may lead out of the range.
        """
        if isinstance(self.actor, SquashedActor):
            return self._live_policy.sample(observation, noise_A)
        own_A = self.exploration_scale()
        sigma_A = scale * self._half_A if own_A is None else own_A * self._half_A
        return self.act(observation) + sigma_A * noise_A

    def exploration_scale(self) -> np.ndarray | None:
        """Standard deviation ``[A]`` with which a stochastic policy acts, in action limits."""
        if type(self.method).exploration_scale is Method.exploration_scale:
            return None  # without gathering weights that nobody looks at
        with torch.no_grad():
            scale_A = self.method.exploration_scale(self.actor.weights)
        return None if scale_A is None else scale_A.cpu().numpy()
