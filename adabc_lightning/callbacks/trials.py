"""Deploys what has proved itself: a trial before every evaluation, and the way back."""

import copy
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule, Trainer
from pydantic import Field
from torch import Tensor

from adabc_lightning.agent.comparison import Verdict, verdict
from adabc_lightning.agent.method import Trained
from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.state import put_back, snapshot
from adabc_lightning.callbacks.alpha import AlphaController
from adabc_lightning.callbacks.episode_envs import EpisodeEnvs
from adabc_lightning.callbacks.lines import say
from adabc_lightning.callbacks.metrics import record
from adabc_lightning.callbacks.trials_state import COUNTS, TrialsState
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import UserError
from adabc_lightning.run.interaction import TRIED, Interaction
from adabc_lightning.run.interaction import trials as planned_trials
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.trainer import find
from adabc_lightning.run.types import Fraction, NonNegative, Positive, declared


@declared("Trials")
class Trials(RunCallback):
    """Evaluates, keeps and exports an incumbent, which only what has done no worse replaces.

    Before each evaluation of fine-tuning the learner's policy and an average of its past ones make
    some episodes each, without noise, from the same starts every time, which are others than the
    evaluation's. The better one of the two is the candidate. With d̄ the mean difference to the
    incumbent's returns from those starts that both were tried from, and s its standard error,

    * d̄ ≥ z·s: the candidate becomes the incumbent, a snapshot of the learner is taken, and α
      follows Eq. 2;
    * d̄ < −z·s: α rises above what it was at the last promotion, and may not fall until the next;
      after several such trials in a row the learner goes back to the snapshot: weights, targets
      and Adam's moments. What it has experienced stays in the ring;
    * else nothing changes.

    The incumbent's returns stay those of the trial that it won: where an episode from the same
    start is another one each time (a robot, an environment with a generator of its own), its luck
    stays with it, and more episodes are the remedy.

    The learner acts in training; what is evaluated, kept and exported is the incumbent. Trials are
    interaction with the environment beside training and evaluation: ``trial/env_steps`` counts it.

    Args:
        episodes: E, of each policy in a trial; then E more, until ``steps`` are made.
        steps: environment steps of each policy in a trial, so that short episodes, which tell less,
            are more.
        confidence: z, standard errors.
        tried: ``"both"``, or only the ``"newest"`` policy, or only the ``"average"``.
        horizon: of the average, gradient updates; until so many are made, over all since the
            hand-over.
        alpha_rise: fraction of the distance to the ceiling by which α rises after a lost trial;
            with both gains of Eq. 2 at 0 it never falls again. None leaves α to Eq. 2.
        patience: lost trials in a row before the learner goes back; None for never.
    Raises: UserError: a value outside its range.
    """

    holds_alpha = True
    columns = ("trial/candidate", "trial/incumbent", *(f"trial/{name}" for name in COUNTS))

    def __init__(
        self,
        episodes: Annotated[Positive, Field(ge=2, le=10_000)] = 5,
        steps: Positive = 2000,
        confidence: NonNegative = 1.0,
        tried: Literal["both", "newest", "average"] = "both",
        horizon: Positive = 1000,
        alpha_rise: Fraction | None = 0.5,
        patience: Positive | None = 2,
    ) -> None:
        self.episodes, self.steps, self.confidence = episodes, steps, confidence
        self.tried = tried
        self.horizon, self.alpha_rise, self.patience = horizon, alpha_rise, patience
        self._state = TrialsState()
        self._envs = EpisodeEnvs()
        self._average: Actor
        self._incumbent: Actor

    @property
    def counts(self) -> dict[str, int]:
        """Trials that were won and lost, ways back, and environment steps made in trials."""
        return self._state.counts

    def setup(self, trainer: Trainer, pl_module: OffToOnModule, stage: str) -> None:
        """Adds the average and the incumbent to the agent.

        Raises: UserError: there is no environment.
        """
        if stage != "fit":
            return
        data = data_of(trainer)
        if data.log is not None:
            raise UserError(
                f"data.env_id is {data.env_id!r}, a log; Trials needs an environment to try "
                "policies out in, leave it out"
            )
        for name in ("average", "incumbent"):
            network = copy.deepcopy(pl_module.actor).requires_grad_(False)
            pl_module.add_part(name, Trained(network, None))
            setattr(self, f"_{name}", network)

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """The pre-trained policy is the first incumbent."""
        self._average.load_state_dict(agent.actor.state_dict())
        returns, steps = self._try(data, agent, "actor")
        alpha = agent.alpha_offline  # whatever fine-tuning starts from
        taken = self._deploy(agent, "actor")
        self._state = TrialsState(returns, taken, alpha, starts=_starts(data), env_steps=steps)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: OffToOnModule, batch: Any, batch_idx: int
    ) -> None:
        """The average follows the learner, as it was before these updates.

        Not after them: a trial may come at any place among the callbacks of a batch's end.
        """
        made, updates = pl_module.online_updates, batch.batch_size[0]
        if made and updates:
            rate = min(1.0, updates / min(made, self.horizon))
            with torch.no_grad():
                torch._foreach_lerp_(self._average.weights, pl_module.actor.weights, rate)

    def before_evaluation(
        self, trainer: Trainer, data: ReplayDataModule, agent: OffToOnModule
    ) -> None:
        """The trial."""
        # What a signal cut may have been the evaluation after a trial that was made.
        if data.env_steps in (0, self._state.newest):
            return
        incumbent, again = self._state.returns, 0
        if self._state.starts != _starts(data):  # resumed with others
            incumbent, again = self._try(data, agent, "incumbent")
        most = len(incumbent)
        tried = {name: self._try(data, agent, name, most) for name in TRIED[self.tried]}
        found = {name: returns for name, (returns, _) in tried.items()}
        # A resumed run may have another E than the incumbent's.
        said = verdict(found, incumbent, self.confidence)
        made = again + sum(steps for _, steps in tried.values())
        if again:
            self._state = replace(self._state, returns=incumbent, starts=_starts(data))
        self._state = self._state.tried(data.env_steps, made)
        controller = _controller(trainer, agent)
        if said.trial == "won":
            self._promote(data, agent, said.candidate, found[said.candidate])
            if controller:
                controller.let_go()
        elif said.trial == "lost":
            self._hold(controller, agent)
            if self.patience and self._state.lost >= self.patience:  # less than before, if resumed
                self._retreat(agent)
                alpha = agent.alpha.item() if controller else None
                say(trainer, _retreat(data.env_steps, said, alpha))
        means = {"trial/candidate": said.candidate_mean, "trial/incumbent": said.incumbent_mean}
        counts = {f"trial/{name}": float(count) for name, count in self.counts.items()}
        record(trainer, means | counts)

    def _try(
        self, data: ReplayDataModule, agent: OffToOnModule, name: str, most: int = 0
    ) -> tuple[list[float], int]:
        """Returns of the policy of a part, from as many starts as it takes, and environment steps.

        From no more than ``most``, those that the incumbent was tried from: there is nothing to
        compare the others with. 0 for any.
        """
        act = partial(agent.act, name=name)
        returns: list[float] = []
        steps = 0
        while not returns or (steps < self.steps and (not most or len(returns) < most)):
            more, lengths, *_ = self._envs.run(data, act, self.episodes, "trials", len(returns))
            returns += more
            steps += sum(lengths)
        return returns, steps

    def _promote(
        self, data: ReplayDataModule, agent: OffToOnModule, name: str, returns: list[float]
    ) -> None:
        """The candidate becomes the incumbent."""
        taken = self._deploy(agent, name)
        self._state = self._state.promoted(returns, _starts(data), taken, agent.alpha.item())

    def _hold(self, controller: AlphaController | None, agent: OffToOnModule) -> None:
        """α is held above what it was."""
        if controller and self.alpha_rise is not None:
            # The first counts from pre-training's α, which may be above the ceiling.
            least = min(max(self._state.alpha, controller.alpha), controller.ceiling)
            controller.hold(least + self.alpha_rise * (controller.ceiling - least), agent)
        self._state = self._state.held()

    def _retreat(self, agent: OffToOnModule) -> None:
        """The learner goes back to the snapshot."""
        assert self._state.snapshot is not None
        put_back(agent.agent_state(), self._state.snapshot)
        self._average.load_state_dict(self._incumbent.state_dict())
        self._state = self._state.retreated()

    def _deploy(self, agent: OffToOnModule, name: str) -> Tensor:
        """A part's policy becomes the incumbent; the snapshot of the learner ``[P]``."""
        self._incumbent.load_state_dict(agent.get_submodule(name).state_dict())
        agent.deployed = "incumbent"
        return snapshot(agent.agent_state())

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: OffToOnModule, checkpoint: dict[str, Any]
    ) -> None:
        """Raises: UserError: the snapshot is not of this agent's size."""
        saved = checkpoint["callbacks"].get(self.state_key, {}).get("snapshot")
        if saved is not None and len(saved) != pl_module.snapshot_size:
            raise UserError(
                f"callbacks/Trials/snapshot has {len(saved)} numbers, this configuration's "
                f"learner {pl_module.snapshot_size}; resume with the networks of the run"
            )

    def planned_interaction(
        self, schedule: Schedule, env_steps: int, limit: int | None
    ) -> Interaction | None:
        """The trials that are ahead, for a plan; see :class:`RunCallback`."""
        if not schedule.online_env_steps:
            return None
        _, evaluations = schedule.evaluations_left(0, env_steps)
        if not evaluations and env_steps:
            return None
        size = self.episodes, self.steps, self.tried
        return planned_trials(evaluations, env_steps == 0, limit, *size)

    def add_to_summary(self) -> dict[str, Any]:
        """The counts, and what is deployed since when, for ``Summary``."""
        return {"trials": {**self.counts, "incumbent_since": self._state.since}}

    def tensors(self) -> dict[str, Tensor]:
        """The snapshot ``[P]``, for ``Guard``."""
        taken = self._state.snapshot
        return {} if taken is None else {"the snapshot": taken}

    def state_dict(self) -> dict[str, Any]:
        """Counts, the incumbent's returns and the snapshot; the networks are the agent's."""
        return self._state.content()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._state = TrialsState.of(state_dict)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the environments."""
        self._envs.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """The same where a run ends in an error: Lightning has no teardown then."""
        if isinstance(exception, Exception):
            self._envs.close()


def _starts(data: ReplayDataModule) -> list[int]:
    """See :class:`TrialsState`."""
    return [data.seed, data.spec.max_episode_steps or 0]


def _controller(trainer: Trainer, agent: OffToOnModule) -> AlphaController | None:
    """That of the run; None where the agent's method has no α."""
    return find(trainer, AlphaController) if agent.method.uses_alpha else None


def _retreat(env_steps: int, said: Verdict, alpha: float | None) -> str:
    held = "" if alpha is None else f", α is at {alpha:.3f}"
    return (
        f"environment step {env_steps:,}: the candidate returns {said.candidate_mean:,.5g} "
        f"where the deployed policy returns {said.incumbent_mean:,.5g}; the learner goes "
        f"back to when that was deployed{held}"
    )
