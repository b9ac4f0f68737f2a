"""The actor, the critic ensemble and V: stacked weights, one batched matrix product per layer.

Dimensions: B batch, N critics, O observation, A action.
"""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictParams
from torch import Tensor, nn
from torchrl.modules import MLP

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.initialisation import Initialisation, small_normal, uniform
from adabc_lightning.agent.mlp import Weights, mlp
from adabc_lightning.agent.norm import Norm, normed_net
from adabc_lightning.agent.normalization import Normalization


def policy(
    observation_BO: Tensor,
    weights: Weights,
    low_A: Tensor,
    high_A: Tensor,
    norm: Norm | None = None,
) -> Tensor:
    """π(s): tanh scaled to the action range, per dimension.

    Returns: ``[B, A]`` within ``[low, high]``.
    """
    half = (high_A - low_A) / 2
    action_BA = torch.tanh(mlp(observation_BO, weights, norm)) * half + (high_A + low_A) / 2
    # Rounding alone leaves the box. Not by minimum and maximum, which at a tie halve the gradient.
    return action_BA.clamp(low_A, high_A)


def q_values(
    observation_BO: Tensor, action_BA: Tensor, weights: Weights, norm: Norm | None = None
) -> Tensor:
    """Q_i(s, a) of every stacked member.

    Args:
        observation_BO, action_BA: s, a.
        weights: of the members.
        norm: ``model.critic_norm``, where their hidden layers are normalised.
    Returns: ``[N, B]``.
    """
    return mlp(torch.cat([observation_BO, action_BA], -1), weights, norm).squeeze(-1)


def state_values(observation_BO: Tensor, weights: Weights) -> Tensor:
    """V(s) of one network of the state alone.

    Returns: ``[B]``.
    """
    return mlp(observation_BO, weights).squeeze(-1)


def _weights(parameters: TensorDict | TensorDictParams) -> Weights:
    """The tensors of an MLP's TensorDict in layer order, which its keys number."""
    layers = sorted(parameters.keys(), key=int)
    return tuple(parameters.get((layer, name)) for layer in layers for name in ("weight", "bias"))


def _net(sizes: Sequence[int], norm: Norm | None = None) -> nn.Sequential:
    """Of so many inputs, units of each hidden layer, and outputs."""
    if norm is not None:
        return normed_net(sizes, norm)
    inputs, *hidden, outputs = sizes
    return MLP(inputs, outputs, num_cells=hidden, activation_class=nn.ReLU)


class Actor(nn.Module):
    """The policy.

    Args:
        observation_size: O.
        action_low, action_high: ``[A]`` bounds of the action space.
        hidden_sizes: units of each hidden layer.
        log_std_range: of a Gaussian policy's log standard deviation, which it then also learns,
            per action dimension, in action limits, the same in all states; None for a
            deterministic one.
        initialise: of its MLP (PyTorch's default, as the authors' code has it).
        norm: where hidden layers are normalised, if they are.
    """

    action_low: Tensor
    action_high: Tensor
    observation_mean: Tensor
    observation_scale: Tensor

    def __init__(
        self,
        observation_size: int,
        action_low: Sequence[float],
        action_high: Sequence[float],
        hidden_sizes: Sequence[int],
        log_std_range: tuple[float, float] | None = None,
        initialise: Initialisation = uniform,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.net = _net([observation_size, *hidden_sizes, len(action_low)], norm)
        initialise(self.net)
        self.log_std = None
        if log_std_range is not None:
            self.log_std = nn.Parameter(torch.zeros(len(action_low)))
            # With the weights, so that whoever reads them knows what they stand for.
            self.register_buffer("log_std_range", torch.tensor(log_std_range))
        low_A, high_A = inward(action_low, action_high)
        self.register_buffer("action_low", torch.from_numpy(low_A))
        self.register_buffer("action_high", torch.from_numpy(high_A))

    @property
    def normalization(self) -> Normalization | None:
        """What observations go through before the policy sees them; None for nothing."""
        if "observation_mean" not in self._buffers:
            return None
        return Normalization(self.observation_mean, self.observation_scale)

    def normalize(self, normalization: Normalization) -> None:
        """Keeps it with the weights, so that whoever reads them knows what they take."""
        device = self.action_low.device
        self.register_buffer("observation_mean", normalization.mean.clone().to(device))
        self.register_buffer("observation_scale", normalization.scale.clone().to(device))

    def normalized(self, observation_BO: Tensor) -> Tensor:
        """Observations ``[*, O]`` of the environment as those that the networks take."""
        normalization = self.normalization
        return observation_BO if normalization is None else normalization(observation_BO)

    @property
    def weights(self) -> Weights:
        """The live parameters: the layers in order, then the log standard deviation, if any."""
        layers = tuple(self.net.parameters())
        return layers if self.log_std is None else (*layers, self.log_std)

    def forward(self, observation_BO: Tensor) -> Tensor:
        """Actions ``[B, A]`` (the mean of a Gaussian policy) for observations ``[B, O]``.

        Observations are taken as a batch has them: normalised where the run normalises.
        """
        layers = tuple(self.net.parameters())
        return policy(observation_BO, layers, self.action_low, self.action_high, self.norm)


class Value(nn.Module):
    """V(s): one network of the state alone.

    Args:
        observation_size: O.
        hidden_sizes: units of each hidden layer.
        initialise: of its MLP.
    """

    def __init__(
        self,
        observation_size: int,
        hidden_sizes: Sequence[int],
        initialise: Initialisation = uniform,
    ) -> None:
        super().__init__()
        self.net = _net([observation_size, *hidden_sizes, 1])
        initialise(self.net)

    @property
    def weights(self) -> Weights:
        """The live parameters, in layer order."""
        return tuple(self.net.parameters())


class CriticEnsemble(nn.Module):
    """N independently initialised Q networks, stacked along the first dimension.

    The members are TorchRL MLPs whose parameters are stacked by tensordict; one batched
    matrix product per layer then serves them all, with the same numbers as tensordict's
    ``EnsembleModule`` (a vmap), faster, and without the template parameters that module registers
    and never trains.

    Args:
        num_critics: N.
        observation_size, action_size: O, A.
        hidden_sizes: units of each hidden layer.
        initialise: of each member's MLP.
        norm: where hidden layers are normalised, if they are.
    """

    def __init__(
        self,
        num_critics: int,
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        initialise: Initialisation = small_normal,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm
        sizes = [observation_size + action_size, *hidden_sizes, 1]
        members = [_net(sizes, norm) for _ in range(num_critics)]
        for member in members:
            initialise(member)
        self.params = TensorDict.from_modules(*members, as_module=True)

    @property
    def weights(self) -> Weights:
        """The live stacked parameters, in layer order."""
        return _weights(self.params)

    def forward(self, observation_BO: Tensor, action_BA: Tensor) -> Tensor:
        """Q_i(s, a) as ``[N, B]``."""
        return q_values(observation_BO, action_BA, self.weights, self.norm)
