"""What a method states: its parts, its random numbers, its gradient steps, its policy.

Nothing else in the package knows any method's name. One of your own is a subclass, named in YAML
as ``model.method.class_path``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tensordict import TensorDict
from torch import Tensor, nn

from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.initialisation import Initialisation, small_normal, uniform
from adabc_lightning.agent.mlp import Weights
from adabc_lightning.agent.networks import Actor, CriticEnsemble, Value
from adabc_lightning.agent.norm import Norm
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions


@dataclass(frozen=True)
class Shape:
    """What the networks of an agent are made from; see the keys of ``model``."""

    spec: EnvironmentSpec
    num_critics: int
    subset_size: int
    hidden_sizes: Sequence[int]
    actor_hidden_sizes: Sequence[int]
    learning_rate: float
    actor_weight_decay: float
    critic_norm: Norm | None = None

    def actor(
        self,
        log_std_range: tuple[float, float] | None = None,
        initialise: Initialisation = uniform,
    ) -> Actor:
        """A deterministic actor, or a Gaussian one with the range of its log σ."""
        spec = self.spec
        return Actor(
            spec.observation_size,
            spec.action_low,
            spec.action_high,
            self.actor_hidden_sizes,
            log_std_range,
            initialise,
        )

    def critics(self, initialise: Initialisation = small_normal) -> CriticEnsemble:
        """N critics."""
        spec = self.spec
        return CriticEnsemble(
            self.num_critics,
            spec.observation_size,
            spec.action_size,
            self.hidden_sizes,
            initialise,
            self.critic_norm,
        )

    def value(self, initialise: Initialisation = uniform) -> Value:
        """V(s), as wide as the critics."""
        return Value(self.spec.observation_size, self.hidden_sizes, initialise)


@dataclass(frozen=True)
class Trained:
    """A network that becomes a part of an agent.

    Args:
        network: has its parameters, in the order in which updates take them, as ``weights``.
        learning_rate: of its Adam; None where nothing trains it.
        weight_decay: apart from the gradient (AdamW's kind).
        target: whether a copy of it follows it.
    """

    network: nn.Module
    learning_rate: float | None
    weight_decay: float = 0.0
    target: bool = False


class Method(ABC):
    """One method of offline-to-online learning; stateless but for its constants."""

    uses_alpha = False
    """Whether it reads the coefficient ``"alpha"``, the weight of behaviour cloning that
    :class:`~adabc_lightning.callbacks.AlphaController` steers."""

    stacks = False
    """Whether its equations keep replicas apart that are stacked in front, ``[R, …]``. Each class
    says it of itself: one that derives from it may have equations of its own."""

    metrics: Sequence[str] = ()
    """What its updates measure beside the columns that metrics.csv has for all."""

    columns: Sequence[str] = ()
    """What its updates read of transitions beside the common fields: ``"next_action"`` or
    ``"mc_return"``."""

    returns_online: bool = True
    """Whether updates after the hand-over read ``"mc_return"``, too, so that an online row can be
    learnt from only when its episode has ended."""

    gathers = False
    """Whether the delayed steps get the batches and draws of all updates since the last ones,
    ``[G, …]``, and not those of the update that they follow alone."""

    preparation: int = 0
    """The first so many updates of pre-training call :meth:`prepare` and nothing else."""

    @abstractmethod
    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Its networks by name, made anew by PyTorch's generator; ``actor`` and ``critics`` among
        them.
        """

    @abstractmethod
    def draw(self, random: Random, shape: Shape) -> Draws:
        """The random numbers of G updates, name → ``[G, …]``."""

    @abstractmethod
    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """The gradient steps of every update, in the paper's order.

        Args:
            state: written in place.
            batch: ``[B]`` transitions.
            draws: of this update.
            coefficients: read, never written.
            options: constants.
        Returns: scalars by name, without gradient.
        """

    def prepare(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """The steps of an update of the :attr:`preparation`; as :meth:`update`."""
        return {}

    def delayed(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """The steps that follow the updates that :meth:`delayed_after` says; as :meth:`update`."""
        return {}

    def delayed_after(
        self, first: int, count: int, policy_delay: int, online: bool
    ) -> tuple[bool, ...]:
        """Which updates the delayed steps follow.

        Args:
            first: number of the first one in the run, from 1 on.
            count: how many; once the hand-over is past G, those of one environment step.
            policy_delay: ``model.policy_delay``.
            online: whether the hand-over is past.
        Returns: as many answers.
        """
        return tuple(number % policy_delay == 0 for number in range(first, first + count))

    def coefficients_at(self, online_updates: int | None, planned: int) -> dict[str, float]:
        """Its own coefficients, all but ``"alpha"``, as they are in the next training step.

        Args:
            online_updates: gradient updates made since the hand-over; None before it.
            planned: those of the whole of fine-tuning, by the schedule; 0 until a fit begins.
        """
        return {}

    def exploration_scale(self, actor: Weights) -> Tensor | None:
        """Standard deviation of exploration ``[A]`` in action limits.

        None for ``data.exploration_noise``.
        """
        return None
