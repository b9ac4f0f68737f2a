"""How good the policy is without noise, and the history that the summary is made of."""

import math
import time
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from lightning import LightningModule, Trainer
from pydantic import AfterValidator, ConfigDict, Field
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.episode_envs import EpisodeEnvs
from adabc_lightning.callbacks.metrics import record
from adabc_lightning.data.collector import Episode
from adabc_lightning.data.hooks import RunCallback, run_callbacks
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.env.make import Outcomes
from adabc_lightning.env.scores import Reference
from adabc_lightning.errors import UserError
from adabc_lightning.run.folder import goes_on_in_place
from adabc_lightning.run.outcomes import SUCCESS
from adabc_lightning.run.saved import (
    Count,
    Listing,
    Named,
    Number,
    Saved,
    absent,
    tensor,
    wrong,
)
from adabc_lightning.run.trainer import callbacks_of, find
from adabc_lightning.run.types import Positive, declared


class _Point(Saved):
    """Other entries are numbers, too."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number]
    gradient_updates: Count
    env_steps: Count
    episode_return: Number = Field(alias="eval/return")


def _two(episode: list[float]) -> list[float]:
    return episode if len(episode) == 2 else wrong("a return and a number of steps")


def _of_one_size(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    sizes = {tuple(field.shape[:2]) for field in batch.values()}
    return batch if [len(size) for size in sizes] == [2] else wrong("fields [G, B, …]")


_Episodes = Listing[Annotated[Listing[Number], AfterValidator(_two)]]


class _SavedCut(Saved):
    """See :class:`Cut`."""

    episodes: _Episodes
    batch: Annotated[Named[Annotated[Tensor, tensor()]], AfterValidator(_of_one_size)]


class SavedEvaluation(Saved):
    """See :meth:`Evaluation.state_dict`."""

    history: Listing[_Point]
    seconds: Number
    logged: _Episodes
    interrupted: _SavedCut = absent()
    """Only of a checkpoint that was saved within an evaluation."""


class Cut(NamedTuple):
    """What is left of a training step whose evaluation a signal cut.

    That evaluation, and the callbacks after it.
    """

    episodes: list[Episode]
    """Of training, that ended with the step."""
    batch: TensorDict
    """``[G, B]``, what was learnt from."""


@declared("evaluation")
class Evaluation(RunCallback):
    """Runs whole episodes at the schedule's evaluation points, in environments of its own.

    Without an environment, in a log, an evaluation is that of the training episodes since the
    last one, exploration noise included, and there is none before the first of them.

    Args:
        episodes: episodes per evaluation; each has an environment of its own.
    Raises: UserError: a value outside its range.
    """

    total_seconds: ClassVar[float] = 0.0
    """Seconds of all evaluations in this process: of replicas each waits for the others'."""

    before_rows = True

    def __init__(self, episodes: Annotated[Positive, Field(le=10_000)] = 10) -> None:
        self.episodes = episodes
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self._envs = EpisodeEnvs()
        self._logged: list[Episode] = []
        self.interrupted: Cut | None = None
        """While a scheduled evaluation runs, and from a checkpoint that was saved in one."""
        self.visited: np.ndarray = np.empty((0, 0))
        """States of the newest evaluation in this process ``[T, O]``, in order of time."""

    def run(self, data: ReplayDataModule, agent: OffToOnModule) -> Outcomes:
        """Raw returns, lengths and successes of one evaluation; the same starts every time.

        Several ranks have a part of the episodes each, in order, and all of them the results.
        """
        start = time.perf_counter()
        visited = []

        def act(observation_BO: np.ndarray) -> np.ndarray:
            visited.append(observation_BO)
            return agent.act(observation_BO, agent.deployed)

        results = self._envs.run(data, act, self.episodes, "evaluation")
        if visited:
            self.visited = np.concatenate(visited)
        self._spent(start)
        return results

    def _spent(self, start: float) -> None:
        seconds = time.perf_counter() - start
        self.seconds += seconds
        Evaluation.total_seconds += seconds

    def _evaluate(self, trainer: Trainer, data: ReplayDataModule, agent: OffToOnModule) -> None:
        if data.log is None:
            returns, lengths, *_ = found = self.run(data, agent)
            success_rate = found.success_rate
            # Some environments flag successes alone: who once did says by silence that none is one.
            if success_rate is None and any(SUCCESS in point for point in self.history):
                success_rate = 0.0
        elif self._logged:
            returns, lengths = map(list, zip(*self._logged, strict=True))
            success_rate = None
            self._logged = []
        else:
            return
        mean = float(np.mean(returns))
        values = {
            "eval/return": mean,
            "eval/return_std": float(np.std(returns)),
            "eval/episode_length": float(np.mean(lengths)),
        }
        if data.reference is not None:
            values["eval/score"] = data.reference.score(mean)
        if success_rate is not None:
            values[SUCCESS] = success_rate
        counters = {"gradient_updates": agent.gradient_updates, "env_steps": data.env_steps}
        self.history.append({**counters, **values})
        record(trainer, values)

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """A run without pre-training has its untrained policy measured here."""
        if not self.history:
            self._evaluate(data.trainer, data, agent)  # type: ignore[arg-type]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluates when the schedule says so."""
        data = data_of(trainer)
        if data.log is not None and data.collector.finished_episode is not None:
            self._logged.append(data.collector.finished_episode)
        if data.schedule.evaluation_due(pl_module.gradient_updates, data.env_steps):
            self.interrupted = Cut(data.finished_episodes, batch)
            start = time.perf_counter()
            for callback in run_callbacks(trainer):
                callback.before_evaluation(trainer, data, pl_module)
            self._spent(start)
            self._evaluate(trainer, data, pl_module)
            self.interrupted = None

    def make_up(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rest of a training step within whose evaluation a checkpoint was saved.

        Every callback must have started: the last of them calls this.
        """
        if self.interrupted is None:
            return
        data = data_of(trainer)
        data.finished_episodes, batch = self.interrupted
        self.interrupted = None
        batch, callbacks = batch.to(pl_module.device), callbacks_of(trainer)
        for callback in callbacks[callbacks.index(self) :]:  # those before had had their turn
            callback.on_train_batch_end(trainer, pl_module, None, batch, 0)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the environments."""
        self._envs.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """The same where a run ends in an error: Lightning has no teardown then."""
        if isinstance(exception, Exception):
            self.teardown(trainer, pl_module, "fit")

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A schedule that was cut before the checkpoint would hand over what nobody looked at.

        Raises: UserError: it was, or the scores of the run so far are of other references.
        """
        data = data_of(trainer)
        made = checkpoint["agent"]["gradient_updates"]
        own = checkpoint["callbacks"].get(self.state_key, {})
        history = own.get("history")
        if history:
            self._score_anew(history, trainer, data)
        # An evaluation that was interrupted there is made before anything else.
        seen = not history or history[-1]["gradient_updates"] == made or "interrupted" in own
        if data.env_steps == 0 and made >= data.schedule.offline_updates and not seen:
            raise UserError(
                f"the checkpoint is from offline update {made}, after an evaluation, and "
                f"schedule.offline_updates is {data.schedule.offline_updates}; its policy would be "
                f"handed over without one, set it to {made + 1} or more"
            )

    def _score_anew(
        self, history: list[dict[str, float]], trainer: Trainer, data: ReplayDataModule
    ) -> None:
        """Within a run there is one scale; another one that starts from a pre-training has its own.

        Where there were no references there are scores from now on.
        """
        reference = data.reference
        others = [point for point in history if not _on_scale(point, reference)]
        if others and (data.env_steps or goes_on_in_place(trainer)):
            shown = (
                "null" if reference is None else f"{reference.minimum:g} and {reference.maximum:g}"
            )
            raise UserError(
                "the checkpoint's scores are not of data.reference_min and data.reference_max "
                f"{shown}: a run has one scale; go on with those of the run, or start from its "
                "pretrained.ckpt in another folder"
            )
        for point in history:
            point.pop("eval/score", None)
            if reference is not None:
                point["eval/score"] = reference.score(point["eval/return"])

    def state_dict(self) -> dict[str, Any]:
        """The history of evaluations and the seconds they took."""
        state: dict[str, Any] = {
            "history": [dict(point) for point in self.history],
            "seconds": self.seconds,
            "logged": [tuple(episode) for episode in self._logged],
        }
        if self.interrupted is not None:
            state["interrupted"] = {
                "episodes": [tuple(episode) for episode in self.interrupted.episodes],
                # Without what it is a view of.
                "batch": {k: v.clone() for k, v in self.interrupted.batch.cpu().items()},
            }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.history = [dict(point) for point in state_dict["history"]]
        self.seconds = state_dict["seconds"]
        self._logged = [Episode(*episode) for episode in state_dict["logged"]]
        self.interrupted = None
        if (cut := state_dict.get("interrupted")) is not None:
            batch = cut["batch"]
            size = next(iter(batch.values())).shape[:2]
            episodes = [Episode(*episode) for episode in cut["episodes"]]
            self.interrupted = Cut(episodes, TensorDict(batch, size))


def is_cut(trainer: Trainer) -> bool:
    """Whether an evaluation that the schedule asks for is going on, or was cut by a signal."""
    evaluation = find(trainer, Evaluation)
    return evaluation is not None and evaluation.interrupted is not None


def _on_scale(point: dict[str, float], reference: Reference | None) -> bool:
    """Whether an evaluation has no score, or the one that these references give it."""
    if "eval/score" not in point:
        return True
    if reference is None:
        return False
    expected = reference.score(point["eval/return"])
    return math.isclose(point["eval/score"], expected, rel_tol=1e-6, abs_tol=1e-6)
