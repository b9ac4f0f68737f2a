"""Deploys what has proved itself: a trial before every evaluation, and the way back."""

import copy
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from pydantic import Field
from torch import Tensor

from adabc_lightning.agent.comparison import improvement
from adabc_lightning.agent.method import Trained
from adabc_lightning.agent.networks import Actor
from adabc_lightning.agent.state import put_back, snapshot
from adabc_lightning.callbacks.alpha import AlphaController
from adabc_lightning.callbacks.lines import say
from adabc_lightning.callbacks.metrics import record
from adabc_lightning.callbacks.places import Places
from adabc_lightning.errors import UserError
from adabc_lightning.run.interaction import TRIED, Interaction
from adabc_lightning.run.interaction import trials as planned_trials
from adabc_lightning.run.saved import FLOATS, Count, Listing, Number, Saved, absent, tensor
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.types import Fraction, NonNegative, Positive, declared

if TYPE_CHECKING:
    from adabc_lightning.agent.module import OffToOnModule
    from adabc_lightning.data.module import ReplayDataModule


class SavedTrials(Saved):
    """See :meth:`Trials.state_dict`."""

    returns: Listing[Number]
    snapshot: Annotated[Tensor, tensor(1, *FLOATS)]
    alpha: Number
    lost: Count
    newest: Count
    promotions: Count
    holds: Count
    retreats: Count
    env_steps: Count
    floor: Number = absent()  # in checkpoints of earlier versions


@declared("Trials")
class Trials(Callback):
    """Evaluates, keeps and exports an incumbent, which only what has done no worse replaces.

    Before each evaluation of fine-tuning the learner's policy and an average of its past ones make
    some episodes each, without noise, from the same starts every time, which are others than the
    evaluation's. The better one of the two is the candidate. With d̄ the mean difference to the
    incumbent's returns from those starts that both were tried from, and s its standard error,

    * d̄ ≥ z·s: the candidate becomes the incumbent, a snapshot of the learner is taken, and α
      follows Eq. 2;
    * d̄ ≤ −z·s: α rises above what it was at the last promotion, and may not fall until the next;
      after several such trials in a row the learner goes back to the snapshot: weights, targets
      and Adam's moments. What it has experienced stays in the ring;
    * else nothing changes.

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
        alpha_rise: share of what α lacks to its ceiling that it rises by, and stays where the gains
            of Eq. 2 are 0; None leaves α to Eq. 2.
        patience: lost trials in a row before the learner goes back; None for never.
    Raises: UserError: a value outside its range.
    """

    columns = (
        "trial/candidate",
        "trial/incumbent",
        "trial/promotions",
        "trial/holds",
        "trial/retreats",
        "trial/env_steps",
    )

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
        self.counts = {"promotions": 0, "holds": 0, "retreats": 0, "env_steps": 0}
        """Trials that were won and lost, ways back, and environment steps made in trials."""
        self._lost = 0  # in a row
        self._newest = 0  # environment steps of training before the newest trial
        self._returns: list[float] = []
        self._alpha = 0.0  # at the last promotion
        self._floor = 0.0  # below which α is not let since then; 0: for none
        self._snapshot: Tensor | None = None
        self._places = Places()
        self._average: Actor
        self._incumbent: Actor

    def setup(
        self,
        trainer: Trainer,
        pl_module: "OffToOnModule",  # type: ignore[override]
        stage: str,
    ) -> None:
        """Adds the average and the incumbent to the agent.

        Raises: UserError: there is no environment.
        """
        if stage != "fit":
            return
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if data.log is not None:
            raise UserError(
                f"data.env_id is {data.env_id!r}, a log; Trials needs an environment to try "
                "policies out in, leave it out"
            )
        for name in ("average", "incumbent"):
            network = copy.deepcopy(pl_module.actor).requires_grad_(False)
            pl_module.add_part(name, Trained(network, None))
            setattr(self, f"_{name}", network)

    def on_train_start(
        self,
        trainer: Trainer,
        pl_module: "OffToOnModule",  # type: ignore[override]
    ) -> None:
        """α is held on in a run that goes on; in one without trials nobody would let it go."""
        for controller in _controllers(trainer, pl_module):
            controller.floor = min(self._floor, controller.ceiling)  # which may be lower now

    def on_hand_over(self, data: "ReplayDataModule", agent: "OffToOnModule") -> None:
        """The pre-trained policy is the first incumbent."""
        self._average.load_state_dict(agent.actor.state_dict())
        returns, self.counts["env_steps"] = self._try(data, agent, "actor")
        self._promote(agent, "actor", returns)
        self._alpha = agent.alpha_offline  # whatever fine-tuning starts from

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: "OffToOnModule",  # type: ignore[override]
        batch: Any,
        batch_idx: int,
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
        self, trainer: Trainer, data: "ReplayDataModule", agent: "OffToOnModule"
    ) -> None:
        """The trial."""
        # What a signal cut may have been the evaluation after a trial that was made.
        if data.env_steps in (0, self._newest):
            return
        tried = {name: self._try(data, agent, name) for name in TRIED[self.tried]}
        self._newest = data.env_steps
        self.counts["env_steps"] += sum(steps for _, steps in tried.values())
        # As many as all were tried from; a resumed run may have another E than the incumbent's.
        both = min(len(self._returns), *(len(returns) for returns, _ in tried.values()))
        candidate = max(tried, key=lambda name: sum(tried[name][0][:both]))
        returns = tried[candidate][0]
        ours, theirs = returns[:both], self._returns[:both]
        gain, error = improvement(ours, theirs)
        measured = {
            "trial/candidate": float(np.mean(ours)),
            "trial/incumbent": float(np.mean(theirs)),
        }
        if gain >= self.confidence * error:
            self._win(trainer, agent, candidate, returns)
        elif gain <= -self.confidence * error:
            self._lose(trainer, agent)
            if self.patience and self._lost >= self.patience:  # less than before, in a resumed run
                self._retreat(agent)
                held = _controllers(trainer, agent)
                text = _retreat(data.env_steps, measured, agent.alpha.item() if held else None)
                say(trainer, text)
        counted = {f"trial/{name}": float(count) for name, count in self.counts.items()}
        record(trainer, measured | counted)

    def _try(
        self, data: "ReplayDataModule", agent: "OffToOnModule", name: str
    ) -> tuple[list[float], int]:
        """Returns of the policy of a part, from as many starts as it takes, and environment steps.

        From no more than the incumbent was tried from: there is nothing to compare the others with.
        """
        act = partial(agent.act, name=name)
        returns: list[float] = []
        steps, most = 0, len(self._returns)
        while not returns or (steps < self.steps and (not most or len(returns) < most)):
            more, lengths = self._places.run(data, act, self.episodes, "trials", len(returns))
            returns += more
            steps += sum(lengths)
        return returns, steps

    def _win(
        self, trainer: Trainer, agent: "OffToOnModule", name: str, returns: list[float]
    ) -> None:
        """The candidate becomes the incumbent, and α is let go."""
        self._promote(agent, name, returns)
        for controller in _controllers(trainer, agent):
            controller.let_go()
        self._floor = 0.0
        self.counts["promotions"] += 1

    def _lose(self, trainer: Trainer, agent: "OffToOnModule") -> None:
        """α is held above what it was."""
        if self.alpha_rise is not None:
            for controller in _controllers(trainer, agent):
                # The first counts from pre-training's α, which may be above the ceiling.
                least = min(max(self._alpha, controller.alpha), controller.ceiling)
                self._floor = least + self.alpha_rise * (controller.ceiling - least)
                controller.hold(self._floor, agent)
        self.counts["holds"] += 1
        self._lost += 1

    def _promote(self, agent: "OffToOnModule", name: str, returns: list[float]) -> None:
        self._incumbent.load_state_dict(agent.get_submodule(name).state_dict())
        agent.deployed = "incumbent"
        self._returns, self._alpha, self._lost = returns, agent.alpha.item(), 0
        self._snapshot = snapshot(agent.agent_state())

    def _retreat(self, agent: "OffToOnModule") -> None:
        assert self._snapshot is not None
        self._lost = 0
        put_back(agent.agent_state(), self._snapshot)
        self._average.load_state_dict(self._incumbent.state_dict())
        self.counts["retreats"] += 1

    def on_load_checkpoint(
        self,
        trainer: Trainer,
        pl_module: "OffToOnModule",  # type: ignore[override]
        checkpoint: dict[str, Any],
    ) -> None:
        """Raises: UserError: the snapshot is not of this agent's size."""
        saved = checkpoint["callbacks"].get(self.state_key, {}).get("snapshot")
        numbers = 0
        for name in pl_module.of_method:
            part = pl_module.trained[name]
            copies = 1 + part.target + 2 * (part.learning_rate is not None)
            numbers += copies * sum(weight.numel() for weight in part.network.weights)  # type: ignore[union-attr]
        if saved is not None and len(saved) != numbers:
            raise UserError(
                f"callbacks/Trials/snapshot has {len(saved)} numbers, this configuration's "
                f"learner {numbers}; resume with the networks of the run"
            )

    def planned_interaction(
        self, schedule: Schedule, env_steps: int, limit: int | None
    ) -> Interaction | None:
        """The trials that are ahead, for a plan; arguments as :class:`Interacting` has them."""
        if not schedule.online_env_steps:
            return None
        _, evaluations = schedule.evaluations_left(0, env_steps)
        if not evaluations and env_steps:
            return None
        size = self.episodes, self.steps, self.tried
        return planned_trials(evaluations, env_steps == 0, limit, *size)

    def add_to_summary(self) -> dict[str, Any]:
        """The counts, for ``Summary``."""
        return {"trials": dict(self.counts)}

    def tensors(self) -> dict[str, Tensor]:
        """The snapshot ``[P]``, for ``Guard``."""
        return {} if self._snapshot is None else {"the snapshot": self._snapshot}

    def state_dict(self) -> dict[str, Any]:
        """Counts, the incumbent's returns and the snapshot; the networks are the agent's.

        Nothing before the hand-over: that pre-training serves without trials, too.
        """
        if self._snapshot is None:
            return {}
        return {
            "returns": list(self._returns),
            "snapshot": self._snapshot,
            "alpha": self._alpha,
            "lost": self._lost,
            "newest": self._newest,
            "floor": self._floor,
            **self.counts,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._returns, self._snapshot = list(state_dict["returns"]), state_dict["snapshot"]
        self._alpha, self._lost = state_dict["alpha"], state_dict["lost"]
        self._newest, self._floor = state_dict["newest"], state_dict.get("floor", 0.0)
        self.counts = {name: state_dict[name] for name in self.counts}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the environments."""
        self._places.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """The same where a run ends in an error: Lightning has no teardown then."""
        if isinstance(exception, Exception):
            self._places.close()


def _controllers(trainer: Trainer, agent: "OffToOnModule") -> list[AlphaController]:
    """Those of the run; none where the agent's method has no α."""
    if "alpha" not in agent.method.dials:
        return []
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, AlphaController)]


def _retreat(env_steps: int, measured: dict[str, float], alpha: float | None) -> str:
    held = "" if alpha is None else f", α is at {alpha:.3f}"
    return (
        f"environment step {env_steps:,}: the candidate returns {measured['trial/candidate']:,.0f} "
        f"where the deployed policy returns {measured['trial/incumbent']:,.0f}; the learner goes "
        f"back to when that was deployed{held}"
    )
