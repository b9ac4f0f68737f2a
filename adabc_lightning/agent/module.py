"""The LightningModule: networks, targets, optimisers, α, and the loop over G updates."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from lightning import LightningModule
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.engine import NAMED, Draws, Eager, Engine, Work, make_engine
from adabc_lightning.agent.losses import TargetRule, minimum
from adabc_lightning.agent.networks import Actor, CriticEnsemble
from adabc_lightning.agent.numpy_policy import LivePolicy
from adabc_lightning.agent.objectives import TD3BC, Objective
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.update import AdamState, AgentState, UpdateOptions
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.checkpoint_content import check_adam
from adabc_lightning.run.limits import check_memory
from adabc_lightning.run.ranks import Ranks, digest
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import stream_seed, torch_generator

_MOST_REPLICAS = 1000
_PRECISIONS = ("highest", "high", "medium")


class Timeline(Protocol):
    """What an agent asks of the data module that it is trained with."""

    schedule: Schedule
    ranks: Ranks
    batches: int
    """Drawn so far."""

    @property
    def env_steps(self) -> int:
        """Made so far, in fine-tuning."""

    @property
    def num_batches(self) -> int:
        """Drawn so far plus those that are left."""


class OffToOnModule(LightningModule):
    """REDQ + TD3 + BC: one agent, the same update offline and online; only α differs.

    Args:
        spec: the environment's sizes and action bounds.
        num_critics: N.
        subset_size: M, critics drawn for a target, without replacement, anew each update; with
            M = N all of them, in their order.
        hidden_sizes: units of the hidden layers of actor and critics.
        actor_hidden_sizes: units of the actor's hidden layers where they differ.
        alpha_offline: weight of the behaviour-cloning term during pre-training.
        gamma: discount per environment step.
        tau: step of the target networks towards their sources.
        policy_delay: critic updates per update of the actor and of both targets. The authors'
            code has 2; Algorithm 1 as printed, 1.
        learning_rate: of both Adams.
        actor_weight_decay: of the actor's Adam, apart from its gradient (AdamW).
        target_noise, target_noise_clip, normalizer: see
            :class:`~adabc_lightning.agent.objectives.TD3BC`.
        objective: what the policy is trained for; None for TD3BC with the three above.
        target_rule: what makes one target value of the drawn critics' (see
            :mod:`adabc_lightning.agent.losses`).
        engine: how the updates run: see :func:`adabc_lightning.agent.engine.make_engine`.
        matmul_precision: of float32 matrix products, process-wide
            (``torch.set_float32_matmul_precision``): ``"highest"``; ``"high"`` for TensorFloat-32
            on GPUs; ``"medium"`` for bfloat16 operands where the hardware has such products.
        replicas: R, how many agents the command line trains side by side, with seeds from
            ``seed`` on; in Python, see :class:`adabc_lightning.replicas.Replicas`.
        seed: the run's seed.
    Raises: UserError: a value outside its range.
    """

    alpha: Tensor

    def __init__(
        self,
        spec: EnvironmentSpec,
        num_critics: int = 10,
        subset_size: int = 2,
        hidden_sizes: Sequence[int] = (256, 256),
        actor_hidden_sizes: Sequence[int] | None = None,
        alpha_offline: float = 0.4,
        gamma: float = 0.99,
        tau: float = 0.005,
        policy_delay: int = 2,
        learning_rate: float = 3e-4,
        actor_weight_decay: float = 0.0,
        target_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        normalizer: str = "policy",
        objective: Objective | None = None,
        target_rule: TargetRule = minimum,
        engine: str = "auto",
        matmul_precision: str = "highest",
        replicas: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if not 1 <= subset_size <= num_critics:
            raise UserError(
                f"model.subset_size is {subset_size} and model.num_critics {num_critics}; "
                "it must be 1 ≤ subset_size ≤ num_critics"
            )
        for name, sizes in (("", hidden_sizes), ("actor_", actor_hidden_sizes or [1])):
            if not sizes or min(sizes) < 1:
                raise UserError(f"model.{name}hidden_sizes is {sizes}; it needs sizes of 1 or more")
        if not 1 <= replicas <= _MOST_REPLICAS:
            raise UserError(
                f"model.replicas is {replicas}; it must be between 1 and {_MOST_REPLICAS}"
            )
        if policy_delay < 1:
            raise UserError(f"model.policy_delay is {policy_delay}; it must be 1 or more")
        for name, value, low, high in (
            ("alpha_offline", alpha_offline, 0, float("inf")),
            ("gamma", gamma, 0, 1),
            ("tau", tau, 0, 1),
            ("learning_rate", learning_rate, 0, float("inf")),
            ("actor_weight_decay", actor_weight_decay, 0, float("inf")),
        ):
            if not low <= value <= high or value == float("inf"):  # also catches NaN
                wanted = "0 or more" if high > 1 else f"between {low} and {high}"
                raise UserError(f"model.{name} is {value}; it must be {wanted}")
        if engine not in ("auto", *NAMED):
            raise UserError(f"model.engine is {engine!r}; {nearest(engine, ['auto', *NAMED])}")
        if matmul_precision not in _PRECISIONS:
            raise UserError(
                f"model.matmul_precision is {matmul_precision!r}; "
                f"{nearest(matmul_precision, _PRECISIONS)}"
            )
        # Weights, targets, gradients and Adam's two moments of the ensemble's widest layers.
        widest = max(hidden_sizes) * (max(hidden_sizes) + spec.observation_size)
        check_memory(
            5 * replicas * num_critics * widest, f"an ensemble of model.num_critics {num_critics}"
        )
        if objective is not None:
            given = (target_noise, target_noise_clip, normalizer)
            if given != (0.2, 0.5, "policy"):
                raise UserError(
                    "model.target_noise, model.target_noise_clip and model.normalizer are for the "
                    f"default objective; model.objective is {type(objective).__name__}, give it "
                    "its own keys"
                )
        self.objective = objective or TD3BC(target_noise, target_noise_clip, normalizer)
        some_q_MB = torch.arange(3.0 * subset_size).view(subset_size, 3).square()
        try:
            value_B = target_rule(some_q_MB)
            shape = value_B.shape
        except ValueError as error:
            raise UserError(f"model.target_rule and model.subset_size disagree: {error}") from error
        except (TypeError, AttributeError) as error:
            raise UserError(f"model.target_rule does not work: {error}") from error
        if shape != (3,):
            raise UserError(
                f"model.target_rule makes {list(shape)} of values of shape [{subset_size}, 3]; "
                "it must make one value per transition, [3]"
            )
        ordered = not torch.allclose(value_B, target_rule(some_q_MB.roll(1, 0)))
        if ordered and subset_size < num_critics:
            raise UserError(
                "model.target_rule tells critics apart by their order, which a random subset "
                f"({subset_size} of {num_critics}) does not keep; set model.subset_size to "
                "model.num_critics"
            )
        self.spec = spec
        self.num_critics, self.subset_size = num_critics, subset_size
        self.policy_delay, self.learning_rate = policy_delay, learning_rate
        self.actor_weight_decay = actor_weight_decay
        self.alpha_offline, self.gamma, self.seed = alpha_offline, gamma, seed
        self._constants: dict[str, Any] = {
            "gamma": gamma,
            "tau": tau,
            "objective": self.objective,
            "target_rule": target_rule,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "weights"))
            self.actor = Actor(
                spec.observation_size,
                spec.action_low,
                spec.action_high,
                actor_hidden_sizes or hidden_sizes,
                self.objective.gaussian,
            )
            self.critics = CriticEnsemble(
                num_critics, spec.observation_size, spec.action_size, hidden_sizes
            )
        self._live_policy = LivePolicy(self.actor)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic_targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.register_buffer("alpha", torch.tensor(float(alpha_offline)))
        self.engine, self.replicas, self.target_rule = engine, replicas, target_rule
        self.matmul_precision = matmul_precision
        self._engine: Engine = Eager()
        # Of the training steps: the tensors stay, what is in them changes. Their collecting takes
        # as long as two environment steps.
        self._state: AgentState | None = None
        self._ranks = Ranks()
        self.gradient_updates = 0
        self.generator = torch_generator(seed, "updates")
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def setup(self, stage: str) -> None:
        """Refuses what would train something else than was asked for.

        Raises: UserError: a precision other than float32, an engine that cannot average over
            several devices, or a module that another ``fit`` has trained.
        """
        if stage == "fit" and self.gradient_updates:  # a checkpoint is restored later
            raise UserError(
                "this module has been trained by an earlier fit; make a new one and give "
                "fit(..., ckpt_path=...) to go on"
            )
        if self.replicas > 1:
            raise UserError(
                f"model.replicas is {self.replicas}, but this module is one agent; in Python give "
                "each replica a module of its own and all of them to adabc_lightning.Replicas"
            )
        if stage == "fit" and self.trainer.world_size > 1:
            self._ranks = self.trainer.datamodule.ranks  # type: ignore[attr-defined]
            if self.engine not in ("auto", "eager"):
                raise UserError(
                    f"model.engine is {self.engine}, which runs on one device; on "
                    f"{self._ranks.count} set it to eager or auto"
                )
        if self.trainer.precision != "32-true":
            raise UserError(
                f"trainer.precision is {self.trainer.precision}; only 32-true is supported"
            )

    def act(self, observation: np.ndarray) -> np.ndarray:
        """π(s) without noise; on the CPU a single observation passes through NumPy, faster.

        Args:
            observation: ``[O]`` or ``[B, O]``, any float type.
        Returns: float32 ``[A]`` or ``[B, A]``, action units.
        """
        if observation.ndim == 1 and self.device.type == "cpu":
            return self._live_policy(observation)
        batch = torch.from_numpy(np.atleast_2d(observation).astype(np.float32)).to(self.device)
        with torch.no_grad():
            action = self.actor(batch).cpu().numpy()
        return action[0] if observation.ndim == 1 else action

    def exploration_scale(self) -> np.ndarray | None:
        """Standard deviation ``[A]`` with which a stochastic policy acts, in action limits."""
        if type(self.objective).exploration_scale is Objective.exploration_scale:
            return None  # without gathering weights that nobody looks at
        with torch.no_grad():
            scale_A = self.objective.exploration_scale(self.actor.weights)
        return None if scale_A is None else scale_A.cpu().numpy()

    @property
    def running_engine(self) -> Engine:
        """What makes the updates, from the start of a fit on."""
        return self._engine

    def agent_state(self) -> AgentState:
        """The live tensors an update reads and writes."""
        critic_adam, actor_adam = self.optimizers(use_pl_optimizer=False)  # type: ignore[misc]
        return AgentState(
            self.actor.weights,
            self.actor_target.weights,
            self.critics.weights,
            self.critic_targets.weights,
            AdamState.of(actor_adam, self.learning_rate, self.actor_weight_decay),
            AdamState.of(critic_adam, self.learning_rate),
        )

    def training_step(self, batch: TensorDict, batch_idx: int) -> None:
        """One gradient update per slice of a ``[G, B]`` batch, in order.

        The optimisers are stepped inside :mod:`adabc_lightning.agent.update`, so Lightning's
        ``global_step`` stays 0; ``gradient_updates`` is the counter that everything keys on.
        """
        if not batch.batch_size[0]:  # G = 0: collect only
            return
        if self._state is None:
            self._state = self.agent_state()
        work = self.work(batch, self._state)
        self._engine(work, self.add_metric)
        self.gradient_updates += len(work.moves)

    def work(self, batch: TensorDict, state: AgentState) -> Work:
        """What the updates on a batch ``[G, B]`` need; their random numbers are drawn here."""
        num_updates, batch_size = batch.batch_size
        numbers = range(self.gradient_updates + 1, self.gradient_updates + num_updates + 1)
        (share,) = self._ranks.average([batch["online"].mean()])
        self.add_metric("online/fraction", share)
        return Work(
            state,
            batch,
            self._draw(num_updates, batch_size),
            self.alpha,
            UpdateOptions(
                **self._constants,
                action_low=self.actor.action_low,
                action_high=self.actor.action_high,
                average=self._ranks.average if self._ranks.count > 1 else None,
            ),
            tuple(number % self.policy_delay == 0 for number in numbers),
        )

    def _draw(self, num_updates: int, batch_size: int) -> Draws:
        """Drawn on the CPU, whatever the device: so a run's numbers do not depend on it.

        Every rank draws the same, for the whole batch: the noise of its own part is taken from
        that, and the critics are the same ones everywhere.
        """
        shape = num_updates, batch_size * self._ranks.count, self.spec.action_size
        mine = slice(self._ranks.rank * batch_size, (self._ranks.rank + 1) * batch_size)
        noise_GBA = torch.randn(shape, generator=self.generator)[:, mine]
        policy_noise_GBA = None
        if self.objective.gaussian:
            drawn_GBA = torch.randn(shape, generator=self.generator)[:, mine]
            policy_noise_GBA = drawn_GBA.to(self.device)
        if self.subset_size == self.num_critics:  # in order: a rule may tell groups apart
            subset_GM = torch.arange(self.num_critics).expand(num_updates, -1)
        else:
            order_GN = torch.rand((num_updates, self.num_critics), generator=self.generator)
            subset_GM = order_GN.topk(self.subset_size).indices
        return Draws(noise_GBA.to(self.device), policy_noise_GBA, subset_GM.to(self.device))

    def add_metric(self, name: str, total: Tensor, count: int = 1) -> None:
        """Adds to a running sum on the device; nothing is fetched until someone asks.

        Args:
            name: of the metric.
            total: scalar, the sum of ``count`` values.
            count: how many values.
        """
        if name in self._sums:
            self._sums[name] += total
        else:
            self._sums[name] = total.clone()
        self._counts[name] = self._counts.get(name, 0) + count

    def share_metric(self, name: str, total: Tensor, count: int) -> None:
        """Counts more values of a sum that somebody else keeps and adds to.

        Args:
            name: of the metric.
            total: scalar, the sum by now; what the metric had is dropped.
            count: how many values have come to it.
        """
        self._sums[name] = total
        self._counts[name] = self._counts.get(name, 0) + count

    @property
    def sums(self) -> dict[str, Tensor]:
        """The sums (scalars, on the device) of the update metrics since they were last taken."""
        return self._sums

    def take_metrics(self) -> dict[str, float]:
        """Means of the update metrics since the last call."""
        means = {name: (total / self._counts[name]).item() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the critics and for the actor (AdamW where it has a decay), default β and ε."""
        return [
            torch.optim.AdamW(weights, lr=self.learning_rate, weight_decay=decay, fused=True)
            for weights, decay in (
                (self.critics.weights, 0.0),
                (self.actor.weights, self.actor_weight_decay),
            )
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counter, generator and the metrics gathered so far; plain containers only."""
        checkpoint["agent"] = {
            "gradient_updates": self.gradient_updates,
            "seed": self.seed,
            "generator": self.generator.get_state(),
            "sums": dict(self._sums),
            "counts": dict(self._counts),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of :meth:`on_save_checkpoint`.

        Raises: UserError: the checkpoint's networks have other shapes.
        """
        for name, tensor in self.state_dict().items():
            saved = checkpoint["state_dict"].get(name)
            if saved is None or saved.shape != tensor.shape:
                shape = None if saved is None else list(saved.shape)
                raise UserError(
                    f"the checkpoint's {name} has shape {shape}, this configuration's "
                    f"{list(tensor.shape)}; resume with the networks and environment of the run"
                )
        for name in checkpoint["state_dict"].keys() - self.state_dict().keys():
            raise UserError(
                f"the checkpoint's {name} is not part of this configuration's networks; resume "
                "with those of the run"
            )
        weights = (self.critics.weights, self.actor.weights)  # as configure_optimizers has them
        if len(checkpoint["optimizer_states"]) != len(weights):
            raise UserError("the checkpoint has not the two optimizers of a run")
        for index, state in enumerate(checkpoint["optimizer_states"]):
            check_adam(state, weights[index], f"the checkpoint's optimizer_states/{index}")
        agent = checkpoint["agent"]
        self.gradient_updates = agent["gradient_updates"]
        if agent["seed"] == self.seed:  # another seed goes on with draws of its own
            self.generator.set_state(agent["generator"])
        self._sums = {name: value.to(self.device) for name, value in agent["sums"].items()}
        self._counts = dict(agent["counts"])
        data = getattr(self._trainer, "datamodule", None)
        if data is not None and data.num_batches > data.batches:
            # Lightning takes the last batch of the schedule that was for the end of this one.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["is_last_batch"] = False

    def on_fit_start(self) -> None:
        """Whether all ranks start from the same weights, before anything is written.

        Raises: UserError: they do not.
        """
        starts = self._ranks.gather((self.gradient_updates, digest(self.state_dict())))
        if len(set(starts)) > 1:
            raise UserError(
                "the ranks start from different weights; every machine needs the same code, "
                "versions and config, and the run's folder on a file system that all of them share"
            )

    def on_train_start(self) -> None:
        """Engine and precision; and the α asked for, whatever a pre-training's held."""
        torch.set_float32_matmul_precision(self.matmul_precision)
        data: Timeline = self.trainer.datamodule  # type: ignore[attr-defined]
        # An all-reduce is in every update: that breaks a compiled function in two, and on CPUs
        # there is nothing to gain from it.
        name = "eager" if self._ranks.count > 1 else self.engine
        self._engine = make_engine(name, self.device, data.schedule.total_updates)
        self._state = None  # the optimisers' may be those of a checkpoint now
        if data.env_steps == 0:
            self.alpha.fill_(self.alpha_offline)
