"""Where whole episodes without noise are made, for evaluations and before them."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import gymnasium
from lightning import Trainer

from adabc_lightning.env.make import Policy, evaluate
from adabc_lightning.env.stepping import CheckedEnv
from adabc_lightning.run.interaction import Interaction
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import stream_seed

if TYPE_CHECKING:
    from adabc_lightning.agent.module import OffToOnModule
    from adabc_lightning.data.module import ReplayDataModule


@runtime_checkable
class BeforeEvaluation(Protocol):
    """A callback that acts before each evaluation that the schedule asks for, as a part of it.

    What a signal cuts is made anew, from the state before it: nothing may change until the last
    episode has ended. Where it cuts the evaluation itself, this is called once more, too.
    """

    def before_evaluation(
        self, trainer: Trainer, data: "ReplayDataModule", agent: "OffToOnModule"
    ) -> None:
        """Called after everything else that an update or an episode brings."""


@runtime_checkable
class Interacting(Protocol):
    """A callback that makes episodes beside training and evaluation, and plans say how many."""

    def planned_interaction(
        self, schedule: Schedule, env_steps: int, limit: int | None
    ) -> Interaction | None:
        """What is ahead.

        Args:
            schedule: of the run.
            env_steps: of fine-tuning, made already; 0 before the hand-over.
            limit: of an episode, in environment steps; None for none.
        Returns: None for nothing.
        """


class Places:
    """Environments for whole episodes without noise, one for each; made once."""

    def __init__(self) -> None:
        self._envs: list[gymnasium.Env] = []

    def run(
        self,
        data: "ReplayDataModule",
        act: Policy,
        episodes: int,
        purpose: str,
        start: int = 0,
    ) -> tuple[list[float], list[int]]:
        """Raw returns and lengths of episodes that start alike every time.

        Args:
            data: of the run; its ranks have a part of the episodes each, in order, and all of
                them the results.
            act: the policy.
            episodes: how many; the same in every call.
            purpose: names the stream of seeds that the starts come from.
            start: of how many of them to leave out before the first.
        """
        ranks = data.ranks
        first, end = (episodes * rank // ranks.count for rank in (ranks.rank, ranks.rank + 1))
        if not self._envs:
            self._envs = [data.make_env() for _ in range(first, end)]
        own: tuple[list[float], list[int]] = [], []
        if self._envs:  # there are fewer episodes than ranks
            seed = stream_seed(data.seed, purpose) % 2**31 + start + first
            own = evaluate(act, self._envs, end - first, seed, data.step_timeout, data.idle)
        parts = ranks.gather(own)
        returns = [value for returns, _ in parts for value in returns]
        return returns, [steps for _, lengths in parts for steps in lengths]

    def close(self) -> None:
        """Closes them."""
        for env in self._envs:
            CheckedEnv(env).close()
        self._envs = []
