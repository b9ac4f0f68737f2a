"""The one timeline: offline gradient updates, then environment steps."""

from dataclasses import dataclass

from adabc_lightning.errors import UserError
from adabc_lightning.run.types import Count, Positive, declared

OFFLINE, ONLINE = "offline", "online"


@declared("schedule")
@dataclass(frozen=True)
class Schedule:
    """How long each phase lasts and when the agent is evaluated; no state.

    Args:
        offline_updates: gradient updates on the dataset before the hand-over.
        online_env_steps: environment steps of fine-tuning.
        updates_per_env_step: G, gradient updates after each environment step.
        frozen_env_steps: of fine-tuning, how many environment steps come before its first update;
            the agent acts and collects.
        evaluation_every: gradient updates (offline) or environment steps (online) between
            evaluations; the end of each phase is evaluated in any case. A value that
            ``offline_chunk`` does not divide cuts chunks, and so changes the numbers as that does.
        offline_chunk: offline updates handed to the trainer at once; it changes speed, and
            through the sampler's order of draws the numbers, but not the algorithm.
    Raises: UserError: a count that is negative, or zero where it must not be.
    """

    offline_updates: Count = 1_000_000
    online_env_steps: Count = 250_000
    updates_per_env_step: Count = 10
    frozen_env_steps: Count = 0
    evaluation_every: Positive = 5_000
    offline_chunk: Positive = 20

    def __post_init__(self) -> None:
        if self.offline_updates + self.online_env_steps == 0:
            raise UserError(
                "schedule.offline_updates and schedule.online_env_steps are both 0; "
                "one of them must be 1 or more"
            )

    def phase(self, gradient_updates: int, env_steps: int) -> str:
        """``"offline"`` while pre-training updates are left, ``"online"`` after.

        There is no way back: once there was an environment step, a longer ``offline_updates``
        on resume trains nothing more.
        """
        pretraining = env_steps == 0 and gradient_updates < self.offline_updates
        return OFFLINE if pretraining else ONLINE

    def finished(self, gradient_updates: int, env_steps: int) -> bool:
        """Whether nothing is left to do."""
        online = self.phase(gradient_updates, env_steps) == ONLINE
        return online and env_steps >= self.online_env_steps

    def next_chunk(self, gradient_updates: int) -> int:
        """Updates of the next offline batch: a chunk, cut at an evaluation or at the end."""
        to_evaluation = self.evaluation_every - gradient_updates % self.evaluation_every
        return min(self.offline_chunk, to_evaluation, self.offline_updates - gradient_updates)

    def updates_after(self, env_steps: int) -> int:
        """Gradient updates that follow the environment step that was just made."""
        return 0 if env_steps <= self.frozen_env_steps else self.updates_per_env_step

    def evaluation_due(self, gradient_updates: int, env_steps: int) -> bool:
        """Whether the agent is evaluated at these counters, which were just reached."""
        if env_steps == 0:
            done, total = gradient_updates, self.offline_updates
        else:
            done, total = env_steps, self.online_env_steps
        return done == total or done % self.evaluation_every == 0

    def evaluations_left(self, gradient_updates: int, env_steps: int) -> tuple[int, int]:
        """Evaluations that are still due, in pre-training and in fine-tuning."""
        every = self.evaluation_every

        def due(done: int, total: int) -> int:
            return -(-total // every) - done // every if done < total else 0

        offline = 0 if env_steps else due(gradient_updates, self.offline_updates)
        return offline, due(env_steps, self.online_env_steps)

    def batches_left(self, gradient_updates: int, env_steps: int, devices: int = 1) -> int:
        """Offline chunks (cut at evaluations) and online batches that are still to come.

        An online batch is one environment step on each device.
        """
        every, chunk = self.evaluation_every, self.offline_chunk

        def chunks_of(updates: int) -> int:
            return -(-updates // chunk)

        chunks, done = 0, gradient_updates
        if done < self.offline_updates and env_steps == 0:
            first = min(done - done % every + every, self.offline_updates)
            whole, rest = divmod(self.offline_updates - first, every)
            chunks = chunks_of(first - done) + whole * chunks_of(every) + chunks_of(rest)
        return chunks + max(0, self.online_env_steps - env_steps) // devices

    @property
    def online_updates(self) -> int:
        """Gradient updates of fine-tuning."""
        learning = max(0, self.online_env_steps - self.frozen_env_steps)
        return learning * self.updates_per_env_step

    @property
    def total_updates(self) -> int:
        """Gradient updates of both phases."""
        return self.offline_updates + self.online_updates
