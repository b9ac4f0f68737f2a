"""The policy of a checkpoint, a run or an export, as something to call.

Dimensions: B observations, O observation, A action.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.numpy_policy import NumpyPolicy, StoredPolicy
from adabc_lightning.env.observations import (
    Misfit,
    Parts,
    agree,
    as_numbers,
    as_parts,
    described,
    flatten,
)
from adabc_lightning.env.policy_checkpoint import facts, policy_file, read_policy, stored_policy
from adabc_lightning.env.policy_export import CARD, read_export
from adabc_lightning.errors import UserError

if TYPE_CHECKING:  # Gymnasium takes half a second
    from adabc_lightning.agent.spec import EnvironmentSpec


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
        Raises: UserError: another shape, other parts, or no finite numbers in float32.
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
                    f"the caller {error}; the policy takes {described(self.parts)}"
                ) from error
        return self._act(as_numbers(observation, self.observation_size))


def load_policy(path: str | Path) -> Policy:
    """The policy of a checkpoint, a run or an export.

    Args:
        path: a checkpoint or a kept policy; a run's folder, for its best evaluation
            (``best.ckpt``, else ``last.ckpt``); or a folder that ``export`` wrote.
    Raises: UserError: there is none, or it cannot be read.
    """
    path = Path(path)
    if (path / CARD).is_file():
        return Policy(*read_export(path))
    file = policy_file(path)
    checkpoint = read_policy(file)
    policy, state = stored_policy(checkpoint, file), checkpoint["state_dict"]
    low, high = state["actor.action_low"].numpy(), state["actor.action_high"].numpy()
    return Policy(policy, low, high, facts(checkpoint, file))


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
