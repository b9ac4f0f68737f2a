"""Eq. 2 at the end of every training episode."""

from typing import Any

from lightning import Trainer

from adabc_lightning.agent.control import control_terms, next_alpha, next_return_average
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.metrics import record
from adabc_lightning.data.collector import Episode
from adabc_lightning.data.hooks import RunCallback, run_callbacks
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.env.make import evaluate
from adabc_lightning.env.stepping import close
from adabc_lightning.errors import UserError
from adabc_lightning.run.saved import Number, Saved, absent
from adabc_lightning.run.seeding import stream_seed
from adabc_lightning.run.types import Fraction, NonNegative, Real, declared


class SavedAlpha(Saved):
    """See :meth:`AlphaController.state_dict`."""

    alpha: Number
    return_average: Number | None
    floor: Number = absent()  # not in checkpoints of 0.1.0


@declared("alpha")
class AlphaController(RunCallback):
    """Owns α during fine-tuning; a fixed α is this controller with both gains at 0.

    Args:
        kp, kd: gains per environment step, relative to returns as D4RL fractions.
        target: R_target, a D4RL fraction.
        ceiling: largest α.
        initial: α_online at the hand-over; None for the ceiling.
        times_episode_length: whether a step is multiplied by the episode's length T, as the
            authors' code does; the paper prints no T.
        average_rate: weight of the newest return in R_avg.
    Raises: UserError: a value outside its range, or an environment without reference returns.
    """

    before_rows = True

    def __init__(
        self,
        kp: NonNegative = 3e-5,
        kd: NonNegative = 1e-4,
        target: Real = 1.05,
        ceiling: NonNegative = 0.4,
        initial: float | None = None,
        average_rate: Fraction = 0.05,
        times_episode_length: bool = True,
    ) -> None:
        if initial is not None and not 0 <= initial <= ceiling:
            raise UserError(f"alpha.initial is {initial}; it must be between 0 and {ceiling}")
        self.kp, self.kd, self.target, self.ceiling = kp, kd, target, ceiling
        self.initial, self.average_rate = initial, average_rate
        self.times_episode_length = times_episode_length
        # α in double precision; the module's buffer is its float32 copy.
        self.alpha = self._start
        self.return_average: float | None = 0.0
        self.floor = 0.0
        """Below it Eq. 2 does not let α fall; 0 unless somebody holds α."""

    @property
    def _start(self) -> float:
        return self.ceiling if self.initial is None else self.initial

    @property
    def adaptive(self) -> bool:
        """Whether Eq. 2 moves α."""
        return self.kp > 0 or self.kd > 0

    def setup(self, trainer: Trainer, pl_module: OffToOnModule, stage: str) -> None:
        """Refuses returns that cannot be normalised before anything is trained."""
        data = data_of(trainer)
        moves = self.adaptive and pl_module.method.uses_alpha and data.schedule.online_env_steps
        if stage == "fit" and moves and data.reference is None:
            raise UserError(
                f"no reference returns are known for {data.env_id!r}, so the α controller cannot "
                "normalise; give data.reference_min and data.reference_max, or fix α with "
                "alpha.kp 0 and alpha.kd 0"
            )

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """R_avg starts at one evaluation episode of the pre-trained policy, α at its initial.

        Without an environment, in a log, R_avg starts at the first training episode; of a method
        that reads no α nothing is asked.
        """
        self.floor = 0.0
        self.alpha = self._start  # not that of a checkpoint which another run pre-trained
        agent.alpha.fill_(self.alpha)
        if data.log is not None:
            self.return_average = None
        elif data.reference is not None and agent.method.uses_alpha:
            returns = [0.0]
            if data.ranks.rank == 0:
                env = data.make_env()
                seed = stream_seed(data.seed, "controller") % 2**31
                returns, *_ = evaluate(agent.act, [env], 1, seed, data.step_timeout, data.idle)
                close(env)
            self.return_average = data.reference.fraction(data.ranks.broadcast(returns[0]))

    def on_train_start(self, trainer: Trainer, pl_module: OffToOnModule) -> None:
        """A resumed run goes on holding α if a callback is there that can let it go.

        Else it is let go here.
        """
        held = any(callback.holds_alpha for callback in run_callbacks(trainer))
        self.floor = min(self.floor, self.ceiling) if held else 0.0  # another ceiling, perhaps

    def hold(self, alpha: float, agent: OffToOnModule) -> None:
        """Sets α, below which Eq. 2 may not let it fall until :meth:`let_go`."""
        self.alpha = self.floor = alpha
        agent.alpha.fill_(alpha)

    def let_go(self) -> None:
        """From now on α follows Eq. 2 alone again."""
        self.floor = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A control step for each episode, of any rank, that ended with this batch's step."""
        data = data_of(trainer)
        for episode in data.finished_episodes:
            record(trainer, self._control(episode, data, pl_module))

    def _control(
        self, episode: Episode, data: ReplayDataModule, agent: OffToOnModule
    ) -> dict[str, float]:
        values = {
            "online/episode_return": episode.episode_return,
            "online/episode_length": float(episode.steps),
        }
        if data.reference is not None and agent.method.uses_alpha:
            current = data.reference.fraction(episode.episode_return)
            steps = episode.steps if self.times_episode_length else 1
            average = current if self.return_average is None else self.return_average
            terms: dict[str, float] = {
                "return_average": average,
                "return_current": current,
                "target": self.target,
                "kp": self.kp,
                "kd": self.kd,
            }
            proportional, derivative = control_terms(**terms)
            values["control/proportional"] = steps * proportional
            values["control/derivative"] = steps * derivative
            moved = next_alpha(self.alpha, episode_steps=steps, ceiling=self.ceiling, **terms)
            self.alpha = max(self.floor, moved)
            self.return_average = next_return_average(average, current, self.average_rate)
            agent.alpha.fill_(self.alpha)
            values["control/return_average"] = self.return_average
        return values

    def state_dict(self) -> dict[str, Any]:
        """α in double precision, what it is held above, and R_avg."""
        return {"alpha": self.alpha, "return_average": self.return_average, "floor": self.floor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.alpha, self.return_average = state_dict["alpha"], state_dict["return_average"]
        self.floor = state_dict.get("floor", 0.0)  # 0.1.0 held none
