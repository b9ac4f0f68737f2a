"""Conservative Q-learning (Kumar et al. 2020), and what Cal-QL changes in it."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.conservative import calibrated, conservative_gap, sampled_values
from adabc_lightning.agent.draws import Random
from adabc_lightning.agent.gaussian import GaussianOptions, mean_and_log_std, sample, scaled
from adabc_lightning.agent.initialisation import Initialisation, orthogonal_small_end
from adabc_lightning.agent.losses import critic_loss
from adabc_lightning.agent.method import Shape, Trained
from adabc_lightning.agent.methods.sac import SAC
from adabc_lightning.agent.networks import q_values
from adabc_lightning.agent.state import AgentState, Coefficients, Draws, Metrics, UpdateOptions
from adabc_lightning.agent.temperature import LogScalar
from adabc_lightning.agent.update import gradient_step, members, polyak_update
from adabc_lightning.errors import UserError
from adabc_lightning.run.types import AboveZero, NonNegative, Positive, Real, declared

_LARGEST_MULTIPLIER = 1e6  # young-geng/CQL


@declared("model.method")
class CQL(SAC):
    """SAC whose critics are pushed down at sampled actions and up at the data's.

    Every loss of an update is of the same weights (young-geng/CQL's order): actor, temperature,
    critics, then the targets; nothing is delayed. Losses are means over the critics, where that
    code has sums; Adam is (almost) blind to the factor. Log σ is c · x − 1 of the network's x, with
    c, at first 1, and the −1 learnt.

    Args:
        weight: w, of the regulariser.
        weight_online: w after the hand-over; None for the same.
        samples: of each kind, uniform, π(·|s) and π(·|s′).
        temperature: T, of the soft maximum.
        importance: whether sampled values are weighed by the density of their actions.
        floor: smallest gap; None for any.
        max_target_backup: whether the target is the best of ``samples`` actions at s′.
        target_gap: of the Lagrange multiplier that then weighs the gap beside w; None for none.
        heads: how many critics, drawn anew each update, are regularised; None for all.
        calibrate: whether values of the policy's actions count as no less than the return.
        actor_learning_rate, entropy_per_action, backup_entropy, actor_value: see
            :class:`~adabc_lightning.agent.methods.SAC`.
    Raises: UserError: a value outside its range.
    """

    stacks = True
    metrics = (*SAC.metrics, "loss/conservative", "q/conservative_gap")
    initialise: Initialisation = staticmethod(orthogonal_small_end)
    gaussian = GaussianOptions(log_std_start=-1.0, scalars=True)

    def __init__(
        self,
        weight: NonNegative = 5.0,
        weight_online: NonNegative | None = None,
        samples: Positive = 10,
        temperature: AboveZero = 1.0,
        importance: bool = True,
        floor: Real | None = None,
        max_target_backup: bool = False,
        target_gap: Real | None = None,
        heads: Positive | None = None,
        calibrate: bool = False,
        actor_learning_rate: NonNegative | None = None,
        entropy_per_action: Real = -1.0,
        backup_entropy: bool = False,
        actor_value: Literal["minimum", "mean"] = "minimum",
    ) -> None:
        super().__init__(actor_learning_rate, entropy_per_action, backup_entropy, actor_value)
        self.weight = weight
        self.weight_online = weight if weight_online is None else weight_online
        self.samples, self.temperature, self.importance = samples, temperature, importance
        self.floor = -float("inf") if floor is None else floor
        self.max_target_backup, self.target_gap = max_target_backup, target_gap
        self.heads, self.calibrate = heads, calibrate
        self.columns: Sequence[str] = ("mc_return",) if calibrate else ()

    def parts(self, shape: Shape) -> dict[str, Trained]:
        """Those of SAC, and the multiplier, if any.

        Raises: UserError: more critics are regularised than there are.
        """
        if self.heads is not None and self.heads > shape.num_critics:
            raise UserError(
                f"model.method.heads is {self.heads}, model.num_critics {shape.num_critics}; it "
                "must be no more"
            )
        parts = super().parts(shape)
        if self.target_gap is not None:
            parts["multiplier"] = Trained(LogScalar(1.0), shape.learning_rate)
        return parts

    def draw(self, random: Random, shape: Shape) -> Draws:
        """Noise of all sampled actions, and the critics of the target and of the regulariser."""
        size = self.samples, random.action_size
        draws = {
            "target_noise": random.normal(self.samples if self.max_target_backup else 1, size[1]),
            "policy_noise": random.normal(),
            "uniform": random.uniform(*size),
            "current_noise": random.normal(*size),
            "next_noise": random.normal(*size),
            "subset": self.some(random, shape.subset_size, shape.num_critics),
        }
        if self.heads is not None:
            draws["heads"] = self.some(random, self.heads, shape.num_critics)
        return draws

    def delayed_after(
        self, first: int, count: int, policy_delay: int, online: bool
    ) -> tuple[bool, ...]:
        """None: every step is in every update."""
        return (False,) * count

    def update(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        coefficients: Coefficients,
        options: UpdateOptions,
    ) -> Metrics:
        """Moves actor, temperature, critics and, if any, multiplier; each from the same weights."""
        with torch.no_grad():  # before any of them moves
            target_B = self._target(state, batch, draws, options)
            action_BKA, log_density_BK = self._samples(state, batch, draws, options)
        metrics, entropy = self.step_actor(state, batch, draws, options)
        metrics |= self.step_temperature(state["temperature"], entropy, options)
        sampled = action_BKA, log_density_BK if self.importance else None
        metrics |= self._step_critics(state, batch, draws, target_B, sampled, options)
        polyak_update(state["critics"], options)
        return metrics

    def entropy_scale(self, raw: Tensor) -> Tensor:
        """Log α: young-geng/CQL."""
        return raw

    def _target(
        self, state: AgentState, batch: TensorDict, draws: Draws, options: UpdateOptions
    ) -> Tensor:
        """The critics' target ``[B]``; with ``max_target_backup`` that of the best action."""
        critics, next_BO = state["critics"], batch["next_observation"]
        assert critics.target is not None
        unit_BKA, log_prob_BK = self._several(next_BO, draws["target_noise"], state, options)
        action_BKA = scaled(unit_BKA, *_bounds(options))
        drawn = members(critics.target, draws["subset"])
        q_MBK = sampled_values(next_BO, action_BKA, drawn, options.critic_norm)
        q_BK = options.target_rule(q_MBK.flatten(-2)).unflatten(-1, q_MBK.shape[-2:])
        value_B, best_B = q_BK.max(-1)
        log_prob_B = log_prob_BK.gather(-1, best_B.unsqueeze(-1)).squeeze(-1)
        target_B = batch["reward"] + options.gamma * (1 - batch["terminated"]) * value_B
        return self.with_entropy(target_B, log_prob_B, state, batch, options)

    def _samples(
        self, state: AgentState, batch: TensorDict, draws: Draws, options: UpdateOptions
    ) -> tuple[Tensor, Tensor]:
        """Actions ``[B, 3 K, A]``, uniform ones, of π(·|s) and of π(·|s′), and their log densities.

        All of them are put to the critics at s.
        """
        uniform_BKA = draws["uniform"] * 2 - 1
        kinds = [uniform_BKA]
        flat_BK = torch.full_like(uniform_BKA[..., 0], -math.log(2) * options.free_count)
        densities = [flat_BK]
        for name, noise in (("observation", "current_noise"), ("next_observation", "next_noise")):
            unit_BKA, log_prob_BK = self._several(batch[name], draws[noise], state, options)
            kinds.append(unit_BKA)
            densities.append(log_prob_BK)
        return scaled(torch.cat(kinds, -2), *_bounds(options)), torch.cat(densities, -1)

    def _several(
        self, observation_BO: Tensor, noise_BKA: Tensor, state: AgentState, options: UpdateOptions
    ) -> tuple[Tensor, Tensor]:
        """K actions of π(·|s) ``[B, K, A]``, in action limits, and their log densities."""
        actor, free_A = state["actor"].weights, options.free_actions
        mean_BA, log_std_BA = mean_and_log_std(observation_BO, actor, self.gaussian)
        return sample(mean_BA.unsqueeze(-2), log_std_BA.unsqueeze(-2), noise_BKA, free_A)

    def _step_critics(
        self,
        state: AgentState,
        batch: TensorDict,
        draws: Draws,
        target_B: Tensor,
        sampled: tuple[Tensor, Tensor | None],
        options: UpdateOptions,
    ) -> Metrics:
        """Down the squared error plus w times the gap, and up the multiplier."""
        critics, norm, (action_BKA, log_density_BK) = state["critics"], options.critic_norm, sampled
        q_NB = q_values(batch["observation"], batch["action"], critics.weights, norm)
        heads, data_q_NB = critics.weights, q_NB
        if self.heads is not None:
            index = draws["heads"].unsqueeze(-1).expand(*draws["heads"].shape, q_NB.shape[-1])
            heads, data_q_NB = members(heads, draws["heads"]), q_NB.gather(-2, index)
        sampled_q_NBK = sampled_values(batch["observation"], action_BKA, heads, norm)
        if self.calibrate:
            sampled_q_NBK = calibrated(sampled_q_NBK, batch["mc_return"], self.samples)
        gap_NB = conservative_gap(
            sampled_q_NBK, log_density_BK, data_q_NB, self.temperature, self.floor
        )
        gap, error = gap_NB.mean((-2, -1)), critic_loss(q_NB, target_B)
        weight: Tensor | float = self.weight_online if options.online else self.weight
        metrics, multiplier = {}, state.get("multiplier")
        if multiplier is not None and self.target_gap is not None:
            factor = multiplier.weights[0].exp().squeeze(-1).clamp(0, _LARGEST_MULTIPLIER)
            excess = gap.detach() - self.target_gap
            # Its own loss before it moves, and before the critics do.
            metrics = gradient_step(multiplier, -factor * weight * excess, {}, options)
            weight = factor.detach() * weight
        loss = error + weight * gap
        metrics |= {
            "loss/critic": error.detach(),
            "loss/conservative": (weight * gap).detach(),
            "q/conservative_gap": gap.detach(),
            "q/mean": q_NB.detach().mean((-2, -1)),
            "q/target": target_B.mean(-1),
        }
        return gradient_step(critics, loss, metrics, options)


def _bounds(options: UpdateOptions) -> tuple[Tensor, Tensor]:
    return options.action_low, options.action_high
