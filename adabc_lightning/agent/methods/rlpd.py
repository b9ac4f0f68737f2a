"""RLPD: reinforcement learning with prior data (Ball et al. 2023)."""

from typing import Literal

from adabc_lightning.agent.methods.sac import SAC
from adabc_lightning.run.types import NonNegative, Real, declared


@declared("model.method")
class RLPD(SAC):
    """SAC whose actor and temperature move once per environment step, however many the updates.

    With symmetric batches (``data.offline_fraction``), normalised critics (``model.critic_norm``)
    and no pre-training. The actor climbs the mean of all critics.

    Args:
        actor_learning_rate, entropy_per_action, backup_entropy, actor_value: see
            :class:`~adabc_lightning.agent.methods.SAC`.
    """

    stacks = True

    def __init__(
        self,
        actor_learning_rate: NonNegative | None = None,
        entropy_per_action: Real = -0.5,
        backup_entropy: bool = True,
        actor_value: Literal["minimum", "mean"] = "mean",
    ) -> None:
        super().__init__(actor_learning_rate, entropy_per_action, backup_entropy, actor_value)

    def delayed_after(
        self, first: int, count: int, policy_delay: int, online: bool
    ) -> tuple[bool, ...]:
        """After the last update of an environment step; before the hand-over as any method."""
        if not online:
            return super().delayed_after(first, count, policy_delay, online)
        return (False,) * (count - 1) + (True,)
