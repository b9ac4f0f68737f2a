"""The LightningModule: an agent's parts, optimisers and dials, and the loop over G updates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from pydantic import Field
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent import products
from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.engines import NAMED, Eager, Engine, Work, make_engine
from adabc_lightning.agent.gaussian import SquashedActor
from adabc_lightning.agent.losses import TargetRule, minimum
from adabc_lightning.agent.method import Method, Shape
from adabc_lightning.agent.methods import TD3BC
from adabc_lightning.agent.networks import Actor, CriticEnsemble
from adabc_lightning.agent.norm import Norm
from adabc_lightning.agent.numpy_policy import LivePolicy
from adabc_lightning.agent.parts import Parts
from adabc_lightning.agent.restoring import check_networks, fit_added_parts
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.state import AgentState, Dials, Draws, UpdateOptions
from adabc_lightning.agent.target_rules import check_target_rule
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.run.limits import check_memory
from adabc_lightning.run.ranks import Ranks, digest
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import stream_seed, torch_generator
from adabc_lightning.run.types import Fraction, NonNegative, Positive, Whole, declared

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


def _delays(method: Method) -> bool:
    """Whether ``model.policy_delay`` changes anything."""
    moves, phases = method.moves, (False, True)
    differs = any(moves(1, 2, 2, online) != moves(1, 2, 1, online) for online in phases)
    return differs and type(method).delayed is not Method.delayed


@declared("model")
class OffToOnModule(Parts):
    """One agent: what its method states, as Lightning trains it.

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
            :class:`~adabc_lightning.agent.methods.TD3BC`.
        method: its parts and gradient steps; None for TD3BC with the three above.
        target_rule: what makes one target value of the drawn critics' (see
            :mod:`adabc_lightning.agent.losses`).
        critic_norm: whether the critics' hidden layers are normalised (LayerNorm), ``"before"``
            or ``"after"`` their activation; None for not.
        engine: how the updates run: see :func:`adabc_lightning.agent.engines.make_engine`.
        matmul_precision: of float32 matrix products, process-wide
            (``torch.set_float32_matmul_precision``): ``"highest"``; ``"high"`` for TensorFloat-32
            on GPUs; ``"medium"`` for bfloat16 operands where the hardware has such products.
        precision: of the products in updates: ``"float32"``, as ``matmul_precision`` has it, or
            ``"bf16"``, bfloat16 between the layers of networks (see
            :mod:`adabc_lightning.agent.products`).
        replicas: R, how many agents the command line trains side by side, with seeds from
            ``seed`` on; in Python, see :class:`adabc_lightning.replicas.Replicas`.
        seed: the run's seed.
    Raises: UserError: a value outside its range.
    """

    alpha: Tensor
    actor: Actor
    critics: CriticEnsemble

    def __init__(
        self,
        spec: EnvironmentSpec,
        num_critics: int = 10,
        subset_size: int = 2,
        hidden_sizes: Sequence[int] = (256, 256),
        actor_hidden_sizes: Sequence[int] | None = None,
        alpha_offline: NonNegative = 0.4,
        gamma: Fraction = 0.99,
        tau: Fraction = 0.005,
        policy_delay: Positive = 2,
        learning_rate: NonNegative = 3e-4,
        actor_weight_decay: NonNegative = 0.0,
        target_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        normalizer: str = "policy",
        method: Method | None = None,
        target_rule: TargetRule = minimum,
        critic_norm: Norm | None = None,
        engine: str = "auto",
        matmul_precision: str = "highest",
        precision: str = "float32",
        replicas: Annotated[Whole, Field(ge=1, le=1000)] = 1,
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
        if engine not in ("auto", *NAMED):
            raise UserError(f"model.engine is {engine!r}; {nearest(engine, ['auto', *NAMED])}")
        if matmul_precision not in _PRECISIONS:
            raise UserError(
                f"model.matmul_precision is {matmul_precision!r}; "
                f"{nearest(matmul_precision, _PRECISIONS)}"
            )
        if precision not in products.TYPES:
            raise UserError(
                f"model.precision is {precision!r}; {nearest(precision, list(products.TYPES))}"
            )
        # Weights, targets, gradients and Adam's two moments of the ensemble's widest layers.
        widest = max(hidden_sizes) * (max(hidden_sizes) + spec.observation_size)
        check_memory(
            5 * replicas * num_critics * widest, f"an ensemble of model.num_critics {num_critics}"
        )
        if method is not None:
            given = (target_noise, target_noise_clip, normalizer)
            if given != (0.2, 0.5, "policy"):
                raise UserError(
                    "model.target_noise, model.target_noise_clip and model.normalizer are for the "
                    f"default method; model.method is {type(method).__name__}, give it its own keys"
                )
        self.method = method or TD3BC(target_noise, target_noise_clip, normalizer)
        if policy_delay != 1 and not _delays(self.method):
            raise UserError(
                f"model.policy_delay is {policy_delay}, but of model.method "
                f"{type(self.method).__name__} no step waits for it; set it to 1"
            )
        check_target_rule(target_rule, subset_size, num_critics)
        self.spec = spec
        self.num_critics, self.subset_size = num_critics, subset_size
        self.policy_delay = policy_delay
        self.alpha_offline, self.gamma, self.seed = alpha_offline, gamma, seed
        self._constants = {
            "gamma": gamma,
            "tau": tau,
            "target_rule": target_rule,
            "critic_norm": critic_norm,
            "products": products.TYPES[precision],
        }
        self.shape = Shape(
            spec,
            num_critics,
            subset_size,
            hidden_sizes,
            actor_hidden_sizes or hidden_sizes,
            learning_rate,
            actor_weight_decay,
            critic_norm,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "weights"))
            for name, part in self.method.parts(self.shape).items():
                self.add_part(name, part)
        self.of_method = tuple(self.trained)
        self._live_policy = LivePolicy(self.actor)
        low_A, high_A = (np.array(end, np.float32) for end in (spec.action_low, spec.action_high))
        self._half_A = (high_A - low_A) / 2
        free_A = self.actor.action_low < self.actor.action_high
        self._free_actions: Tensor | None
        self.register_buffer("_free_actions", None if free_A.all() else free_A, persistent=False)
        self.register_buffer("alpha", torch.tensor(float(alpha_offline)))
        for name, value in self.method.turn(None).items():
            self.register_buffer(name, torch.tensor(float(value)))
        self.online = False
        self.online_updates = 0
        self.engine, self.replicas, self.target_rule = engine, replicas, target_rule
        self.matmul_precision, self.precision = matmul_precision, precision
        self._engine: Engine = Eager()
        self._engine_made = False
        self._engine_before: dict[str, Any] | None = None
        """Name, device and threads of what makes the updates, or made them before a checkpoint."""
        # Of the training steps: the tensors stay, what is in them changes. Their collecting takes
        # as long as two environment steps.
        self._state: AgentState | None = None
        self._options: UpdateOptions | None = None
        self._ranks = Ranks()
        self.gradient_updates = 0
        self.generator = torch_generator(seed, "updates")

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
        if stage == "fit":
            schedule = self.trainer.datamodule.schedule  # type: ignore[attr-defined]
            preparation = self.method.preparation
            if preparation and preparation >= schedule.offline_updates:
                raise UserError(
                    f"schedule.offline_updates is {schedule.offline_updates}, but the first "
                    f"{preparation} updates of model.method {type(self.method).__name__} train "
                    "neither actor nor critics; make it more, or those fewer (its own keys)"
                )
        if self.trainer.precision != "32-true":
            raise UserError(
                f"trainer.precision is {self.trainer.precision}; only 32-true is supported"
            )

    def act(self, observation: np.ndarray, name: str = "actor") -> np.ndarray:
        """π(s) without noise; on the CPU a single observation passes through NumPy, faster.

        Args:
            observation: ``[O]`` or ``[B, O]``, any float type.
            name: of the part whose policy is meant.
        Returns: float32 ``[A]`` or ``[B, A]``, action units.
        """
        if name == "actor" and observation.ndim == 1 and self.device.type == "cpu":
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
            if self.device.type == "cpu":
                return self._live_policy.sample(observation, noise_A)
            return self.actor.explore(observation, noise_A)
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

    @property
    def running_engine(self) -> Engine:
        """What makes the updates, from the start of a fit on."""
        return self._engine

    @property
    def dials(self) -> Dials:
        """The live scalars that updates read."""
        return {name: getattr(self, name) for name in ("alpha", *self.method.turn(None))}

    def hand_over(self) -> None:
        """From now on it learns from its environment as well."""
        self.online = True
        self._turn()

    def _turn(self) -> None:
        """Sets the method's own dials to where they stand at this point of the run."""
        for name, value in self.method.turn(self.online_updates if self.online else None).items():
            self.get_buffer(name).fill_(value)

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
        self.count(len(work.moves))

    def _goes_on(self) -> bool:
        """Whether the run that a checkpoint is of goes on, in its folder; not another from it."""
        folder = getattr(self.trainer, "run_folder", self.trainer.default_root_dir)
        path = self.trainer.ckpt_path
        return path is not None and Path(path).resolve().is_relative_to(Path(folder).resolve())

    def share_engine(self, other: "OffToOnModule") -> None:
        """Takes another agent's engine for its own: one makes the updates of both."""
        self._engine = other._engine

    def count(self, updates: int) -> None:
        """Takes note of updates that were made."""
        self.gradient_updates += updates
        if self.online:
            self.online_updates += updates
        self._turn()

    def work(self, batch: TensorDict, state: AgentState) -> Work:
        """What the updates on a batch ``[G, B]`` need; their random numbers are drawn here."""
        num_updates, batch_size = batch.batch_size
        (share,) = self._ranks.average([batch["online"].mean()])
        self.add_metric("online/fraction", share)
        return Work(
            self.method,
            state,
            batch,
            self._draw(num_updates, batch_size),
            self.dials,
            self._update_options(),
            self._moves(num_updates),
        )

    def _update_options(self) -> UpdateOptions:
        options = self._options
        if options is None or options.online != self.online:
            options = self._options = UpdateOptions(
                **self._constants,  # type: ignore[arg-type]
                action_low=self.actor.action_low,
                action_high=self.actor.action_high,
                free_actions=self._free_actions,
                online=self.online,
                average=self._ranks.average if self._ranks.count > 1 else None,
            )
        return options

    def _moves(self, count: int) -> tuple[bool | None, ...]:
        """What follows each of the next updates; see :attr:`Work.moves`."""
        done, method = self.gradient_updates, self.method
        steps = self._ranks.count if self.online else 1  # environment steps, asked one by one
        each = count // steps
        moves = tuple(
            move
            for first in range(done + 1, done + 1 + count, each)
            for move in method.moves(first, each, self.policy_delay, self.online)
        )
        preparing = 0 if self.online else min(count, max(0, method.preparation - done))
        return (None,) * preparing + moves[preparing:]

    def _draw(self, updates: int, batch_size: int) -> Draws:
        random = Random(
            self.generator,
            updates,
            batch_size,
            self.spec.action_size,
            self._ranks.rank,
            self._ranks.count,
            self.online,
        )
        drawn = self.method.draw(random, self.shape)
        return {name: numbers.to(self.device) for name, numbers in drawn.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counter, generator and the metrics gathered so far; plain containers only."""
        if self._engine_made:
            self._engine_before = {
                "name": self._engine.name,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
            }
        checkpoint["agent"] = {
            "gradient_updates": self.gradient_updates,
            "online_updates": self.online_updates,
            "seed": self.seed,
            "generator": self.generator.get_state(),
            **self.sums_state(),
            "added": self.added_parts,
            "copies": self.added_copies,
            "deployed": self.deployed,
            "engine": self._engine_before,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of :meth:`on_save_checkpoint`.

        Raises: UserError: the checkpoint's networks have other shapes.
        """
        networks = self.state_dict()
        fit_added_parts(checkpoint, networks, self.added_parts, self.added_copies)
        check_networks(
            checkpoint, networks, self.trained_weights, self.added_parts, self.added_copies
        )
        agent = checkpoint["agent"]
        deployed = agent.get("deployed", "actor")  # a run may go on without what deployed another
        self.deployed = deployed if deployed in self.trained else "actor"
        self.gradient_updates = agent["gradient_updates"]
        self.online_updates = agent.get("online_updates", 0)  # 0.1.0 had no use for it
        self._engine_before = agent.get("engine")  # 0.1.0 did not say
        if agent["seed"] == self.seed:  # another seed goes on with draws of its own
            self.generator.set_state(agent["generator"])
        self.load_sums(agent)
        data = getattr(self._trainer, "datamodule", None)
        if data is not None and data.num_batches > data.batches:
            # Lightning takes the last batch of the schedule that was for the end of this one.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["is_last_batch"] = False

    def on_fit_start(self) -> None:
        """Precision; and whether all ranks start from the same weights, before anything is written.

        Raises: UserError: they do not.
        """
        torch.set_float32_matmul_precision(self.matmul_precision)
        if dtype := products.TYPES[self.precision]:
            ratio = products.gain(dtype, self.device)
            if ratio < 1:
                rank_zero_warn(
                    f"model.precision is {self.precision}, but this machine multiplies in it at "
                    f"{ratio:.2g} × float32's speed; float32 would be faster"
                )
        starts = self._ranks.gather((self.gradient_updates, digest(self.state_dict())))
        if len(set(starts)) > 1:
            raise UserError(
                "the ranks start from different weights; every machine needs the same code, "
                "versions and config, and the run's folder on a file system that all of them share"
            )

    def on_train_start(self) -> None:
        """Engine and dials; and the α asked for, whatever a pre-training's held."""
        data: Timeline = self.trainer.datamodule  # type: ignore[attr-defined]
        # An all-reduce is in every update: that breaks a compiled function in two, and on CPUs
        # there is nothing to gain from it.
        name = "eager" if self._ranks.count > 1 else self.engine
        before = self._engine_before if self._goes_on() else None
        known = before and before["device"] == self.device.type and before["name"]
        self._engine = make_engine(name, self.device, data.schedule.total_updates, known or None)
        self._engine_made = True
        # The optimisers' may be those of a checkpoint now, and the device is known.
        self._state = self._options = None
        self.online = data.env_steps > 0
        if not self.online:
            self.alpha.fill_(self.alpha_offline)
        self._turn()
