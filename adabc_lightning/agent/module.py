"""The LightningModule: an agent's options, what a run's start needs, and what a checkpoint holds.

Its networks are :mod:`~adabc_lightning.agent.parts`, its policy is
:mod:`~adabc_lightning.agent.acting`, its training step :mod:`~adabc_lightning.agent.learning`.
"""

from typing import Annotated, Any, Literal, NoReturn, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_warn
from pydantic import Field

from adabc_lightning.agent import float32, products
from adabc_lightning.agent.checks import (
    check_choice,
    check_ensemble,
    check_shape,
    chosen_delay,
    chosen_method,
)
from adabc_lightning.agent.engines import ENGINES, make_engine
from adabc_lightning.agent.learning import Learning
from adabc_lightning.agent.losses import TargetRule, minimum
from adabc_lightning.agent.method import Method, Shape
from adabc_lightning.agent.networks import CriticEnsemble
from adabc_lightning.agent.norm import Norm
from adabc_lightning.agent.one_pass import check_trainer
from adabc_lightning.agent.restoring import check_networks, fit_added_parts
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.target_rules import check_target_rule
from adabc_lightning.errors import UserError
from adabc_lightning.run.folder import goes_on_in_place
from adabc_lightning.run.ranks import Ranks, digest
from adabc_lightning.run.schedule import Schedule
from adabc_lightning.run.seeding import chosen_seed
from adabc_lightning.run.types import (
    Fraction,
    Limit,
    NonNegative,
    Positive,
    Sizes,
    Whole,
    declared,
)

_PRECISIONS = ("auto", "highest", "high", "medium")


class RunData(Protocol):
    """What an agent asks of the data module that it is trained with."""

    schedule: Schedule
    ranks: Ranks
    spec: EnvironmentSpec
    seed: int

    @property
    def env_steps(self) -> int:
        """Made so far, in fine-tuning."""

    def check_environment(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another environment, before its sizes are looked at."""


@declared("model")
class OffToOnModule(Learning):
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
            code has 2; Algorithm 1 as printed, 1. None for 2, or 1 where no step of the method
            waits for it.
        learning_rate: of every Adam that the method gives no rate of its own.
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
            on GPUs; ``"medium"`` for bfloat16 operands where the hardware has such products;
            ``"auto"`` for the faster of those that are exact here (see
            :mod:`adabc_lightning.agent.float32`).
        precision: of the products in updates: ``"float32"``, as ``matmul_precision`` has it, or
            ``"bf16"``, bfloat16 between the layers of networks (see
            :mod:`adabc_lightning.agent.products`).
        replicas: R, how many agents the command line trains side by side, with seeds from
            ``seed`` on; in Python, see :class:`adabc_lightning.replicas.Replicas`.
        seed: the run's seed; None for that of Lightning's ``seed_everything``, or 0.
    Raises: UserError: a value outside its range.
    """

    critics: CriticEnsemble

    def __init__(
        self,
        spec: EnvironmentSpec,
        num_critics: Whole = 10,
        subset_size: Whole = 2,
        hidden_sizes: Sizes = (256, 256),
        actor_hidden_sizes: Sizes | None = None,
        alpha_offline: NonNegative = 0.4,
        gamma: Fraction = 0.99,
        tau: Fraction = 0.005,
        policy_delay: Positive | None = None,
        learning_rate: NonNegative = 3e-4,
        actor_weight_decay: NonNegative = 0.0,
        target_noise: NonNegative = 0.2,
        target_noise_clip: Limit = 0.5,
        normalizer: Literal["policy", "data"] = "policy",
        method: Method | None = None,
        target_rule: TargetRule = minimum,
        critic_norm: Norm | None = None,
        engine: str = "auto",
        matmul_precision: str = "auto",
        precision: str = "float32",
        replicas: Annotated[Whole, Field(ge=1, le=1000)] = 1,
        seed: int | None = None,
    ) -> None:
        shape = Shape(
            spec,
            num_critics,
            subset_size,
            hidden_sizes,
            hidden_sizes if actor_hidden_sizes is None else actor_hidden_sizes,
            learning_rate,
            actor_weight_decay,
            critic_norm,
        )
        check_shape(shape)
        check_choice("engine", engine, ["auto", *ENGINES])
        check_choice("matmul_precision", matmul_precision, _PRECISIONS)
        check_choice("precision", precision, products.TYPES)
        check_ensemble(shape, replicas)
        method = chosen_method(method, target_noise, target_noise_clip, normalizer)
        policy_delay = chosen_delay(policy_delay, method)
        check_target_rule(target_rule, subset_size, num_critics)
        constants = {
            "gamma": gamma,
            "tau": tau,
            "target_rule": target_rule,
            "critic_norm": critic_norm,
            "products": products.TYPES[precision],
        }
        super().__init__(method, shape, chosen_seed(seed), policy_delay, alpha_offline, constants)
        self.spec = spec
        self.num_critics, self.subset_size = num_critics, subset_size
        self.alpha_offline, self.gamma = alpha_offline, gamma
        self.engine, self.replicas, self.target_rule = engine, replicas, target_rule
        self.matmul_precision, self.precision = matmul_precision, precision
        self._engine_made = False
        self._engine_before: dict[str, Any] | None = None
        """Name, device, threads and products of the updates, or of those before a checkpoint."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Lightning's way to a module, which a checkpoint has no arguments for.

        Raises: UserError: always; it names the two ways there are.
        """
        raise UserError(
            f"a run's checkpoint, {checkpoint_path!s:.200}, holds weights and no arguments of "
            "OffToOnModule; adabc_lightning.load_policy(path) makes its policy, and a module "
            "made anew goes on from it by trainer.fit(..., ckpt_path=path, weights_only=True)"
        )

    def check_devices(self, count: int) -> None:
        """Raises: UserError: the engine does not run on so many devices."""
        if count > 1 and self.engine not in ("auto", "eager"):
            raise UserError(
                f"model.engine is {self.engine}, which runs on one device; on {count} set it to "
                "eager or auto"
            )

    def setup(self, stage: str) -> None:
        """Refuses what would train something else than was asked for.

        Raises: UserError: a precision other than float32, an engine that cannot average over
            several devices, a module that another ``fit`` has trained, or a Trainer as
            :func:`~adabc_lightning.agent.one_pass.check_trainer` refuses it.
        """
        if self.replicas > 1:
            raise UserError(
                f"model.replicas is {self.replicas}, but this module is one agent; in Python give "
                "each replica a module of its own and all of them to adabc_lightning.Replicas"
            )
        if self.trainer.precision != "32-true":
            raise UserError(
                f"trainer.precision is {self.trainer.precision}; only 32-true is supported"
            )
        if stage != "fit":
            return
        if self.gradient_updates:  # a checkpoint is restored later
            raise UserError(
                "this module has been trained by an earlier fit; make a new one and give "
                "fit(..., ckpt_path=...) to go on"
            )
        check_trainer(self.trainer)
        data: RunData = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.trainer.world_size > 1:
            self._ranks = data.ranks
            self.check_devices(self._ranks.count)
        self._check_spec(data.spec)
        if self.seed != data.seed:
            rank_zero_warn(
                f"the module's seed is {self.seed} and the data module's {data.seed}; a run of one "
                "seed has it in both"
            )
        planned, preparation = data.schedule.offline_updates, self.method.preparation
        if preparation and preparation >= planned:
            raise UserError(
                f"schedule.offline_updates is {planned}, but the first {preparation} updates of "
                f"model.method {type(self.method).__name__} train neither actor nor critics; make "
                "it more, or those fewer (its own keys)"
            )

    def _check_spec(self, spec: EnvironmentSpec) -> None:
        """Raises: UserError: it is of another environment than the module was made for."""
        ours = (self.spec.observation_size, self.spec.action_low, self.spec.action_high)
        if ours != (spec.observation_size, spec.action_low, spec.action_high):
            raise UserError(
                f"this module was made for {_sizes(self.spec)} and the data module for "
                f"{_sizes(spec)}; make the module with the data module's spec"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counter, generator and the metrics gathered so far; plain containers only."""
        if self._engine_made:
            self._engine_before = {
                "name": self.running_engine.name,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
                "matmul_precision": torch.get_float32_matmul_precision(),
            }
        checkpoint["agent"] = {
            "gradient_updates": self.gradient_updates,
            "online_updates": self.online_updates,
            "seed": self.seed,
            "generator": self.generator_state,
            **self.sums_state(),
            "added": self.added_parts,
            "copies": self.added_copies,
            "deployed": self.deployed,
            "engine": self._engine_before,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of :meth:`on_save_checkpoint`.

        Raises: UserError: the checkpoint is of another environment, or its networks have other
            shapes.
        """
        data = getattr(self._trainer, "datamodule", None)
        if data is not None:
            data.check_environment(checkpoint)
        networks = self.state_dict()
        fit_added_parts(checkpoint, networks, self.added_parts, self.added_copies)
        check_networks(
            checkpoint,
            networks,
            self.trained_weights,
            self.added_parts,
            self.added_copies,
            self.spec.env_id,
        )
        agent = checkpoint["agent"]
        deployed = agent.get("deployed", "actor")  # a run may go on without what deployed another
        self.deployed = deployed if deployed in self.parts else "actor"
        self.gradient_updates = agent["gradient_updates"]
        self.online_updates = agent.get("online_updates", 0)  # 0.1.0 had no use for it
        self._engine_before = agent.get("engine")  # 0.1.0 did not say
        if agent["seed"] == self.seed:  # another seed goes on with draws of its own
            self.generator_state = agent["generator"]
        self.load_sums(agent)
        if data is not None:
            # Lightning takes the last batch of the schedule that was for the end of this one; where
            # it is, too, the stream of batches ends.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["is_last_batch"] = False

    def on_fit_start(self) -> None:
        """Precision; and whether all ranks start from the same weights, before anything is written.

        Raises: UserError: they do not.
        """
        precision = self.matmul_precision
        if precision == "auto":
            before = self._engine_before if goes_on_in_place(self.trainer) else None
            had = before["matmul_precision"] if before else None
            choices = self._ranks.gather(float32.choose(self.device, had))
            precision = "medium" if set(choices) == {"medium"} else "highest"
        torch.set_float32_matmul_precision(precision)
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
        """Engine and coefficients; and the α asked for, whatever a pre-training's held."""
        data: RunData = self.trainer.datamodule  # type: ignore[attr-defined]
        # An all-reduce is in every update: that breaks a compiled function in two, and on CPUs
        # there is nothing to gain from it.
        name = "eager" if self._ranks.count > 1 else self.engine
        before = self._engine_before if goes_on_in_place(self.trainer) else None
        known = before["name"] if before and before["device"] == self.device.type else None
        planned = data.schedule.total_updates
        self.running_engine = make_engine(name, self.device, planned, known)
        self._engine_made = True
        # The optimisers' may be those of a checkpoint now, and the device is known.
        self._state = self._options = None
        self.move_sums()
        self.online = data.env_steps > 0
        if not self.online:
            self.alpha.fill_(self.alpha_offline)
        self.planned_updates = data.schedule.online_updates
        self._set_coefficients()


def _sizes(spec: EnvironmentSpec) -> str:
    bounds = f"from {list(spec.action_low)} to {list(spec.action_high)}"
    return f"{spec.env_id!r}, observations of {spec.observation_size} and actions {bounds:.100}"
