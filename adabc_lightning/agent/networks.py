"""The actor and the critic ensemble: stacked weights, one batched matrix product per layer.

Dimensions: B batch, N critics, O observation, A action, I and H layer in and out.
"""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictParams
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchrl.modules import MLP

from adabc_lightning.agent import products
from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.initialisation import Initialisation, small_normal
from adabc_lightning.agent.norm import Norm, normed_mlp, normed_net
from adabc_lightning.agent.normalization import Normalization

Weights = tuple[Tensor, ...]
"""Layer by layer: weight ``[*, H, I]``, bias ``[*, H]``; ``*`` is nothing or the members N.

A hidden layer that is normalised has scale and shift ``[*, H]`` behind them. A Gaussian actor's end
with its log standard deviation ``[A]``."""

_relu_backward = torch.ops.aten.threshold_backward.grad_input


class _ReluMLP(torch.autograd.Function):
    """ReLU between layers, none at the end; forward and backward as autograd would do them.

    Written by hand because autograd keeps every pre-activation and allocates every mask: in
    place, it pays for neither. Weights that need no gradient get none, so the
    actor's step does not pay for the critics' weights.
    """

    @staticmethod
    def forward(ctx, x: Tensor, hidden_type: torch.dtype, *weights: Tensor) -> Tensor:
        inputs, matrices = [], []
        ctx.input_type, last = x.dtype, len(weights) - 2
        x = x.to(hidden_type)
        for layer in range(0, len(weights), 2):
            weight, bias = weights[layer], weights[layer + 1].unsqueeze(-2)
            dtype = weight.dtype if layer == last else hidden_type
            inputs.append(x)
            matrices.append(weight.to(dtype))
            x = torch.matmul(x.to(dtype), matrices[-1].mT)
            # What is returned is not written in place: the compiler of torch 2.11 (not 2.12) then
            # returns that tensor twice, and all gradients through the first come out as zeros.
            x = x + bias if layer == last else x.add_(bias.to(dtype)).relu_()
        ctx.save_for_backward(*inputs, *matrices)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        saved = ctx.saved_tensors
        inputs, matrices = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        full, hidden_type = matrices[-1].dtype, inputs[-1].dtype
        grads: list[Tensor | None] = [None] * (2 + 2 * len(matrices))
        for layer in reversed(range(len(matrices))):
            matrix = matrices[layer]
            if ctx.needs_input_grad[2 + 2 * layer]:
                grads[2 + 2 * layer] = _weight_gradient(grad, inputs[layer]).to(full)
                grads[3 + 2 * layer] = grad.sum(-2, dtype=full)
            if layer > 0:
                if matrix.shape[-2] == 1:
                    # An outer product; a matrix product would waste its tiles.
                    grad = grad.to(hidden_type) * matrix.to(hidden_type)
                else:
                    grad = torch.matmul(grad, matrix).to(hidden_type)
                grad = _relu_backward(grad, inputs[layer], 0, grad_input=grad)
            elif ctx.needs_input_grad[0]:
                grads[0] = torch.matmul(grad, matrix).to(ctx.input_type)
        return tuple(grads)


def _weight_gradient(grad_BH: Tensor, input_BI: Tensor) -> Tensor:
    """``[*, H, I]``, the gradient of a layer's weight, of those at its output and its input."""
    rounded = input_BI.dtype is not grad_BH.dtype
    if rounded and grad_BH.shape[-1] == 1 and torch.compiler.is_compiling():
        # The compiler makes a sum of a product with one output and fuses it with what goes over the
        # same sizes in another order: it then reads the input column by column. Two sums of halves
        # have other sizes. (Float32's keep their bits.)
        halves = (grad_BH * input_BI).tensor_split(2, -2)
        return torch.stack([half.sum(-2) for half in halves], -2).sum(-2, keepdim=True)
    return torch.matmul(grad_BH.mT, input_BI.to(grad_BH.dtype))


def mlp(x: Tensor, weights: Weights, norm: Norm | None = None) -> Tensor:
    """A ReLU network, or N of them side by side on the same input.

    Args:
        x: ``[B, I]``.
        weights: see :data:`Weights`; all members have the same shapes.
        norm: where hidden layers are normalised, if they are.
    Returns: ``[B, H]`` for one network, ``[N, B, H]`` for N stacked ones.
    """
    if weights[0].dim() == x.dim() + 1:
        x = x.unsqueeze(-3).expand(*weights[0].shape[:-2], *x.shape[-2:])
    if norm is not None:
        return normed_mlp(x, weights, norm)
    return _ReluMLP.apply(x, products.of(weights[0]), *weights)


def dropped_mlp(x: Tensor, weights: Weights, kept_BU: Tensor) -> Tensor:
    """A ReLU network some of whose hidden units are dropped.

    Args:
        x: ``[B, I]``.
        weights: of one network.
        kept_BU: what each of its U hidden units is multiplied with, layer by layer: see
            :meth:`adabc_lightning.agent.draws.Random.kept`.
    Returns: ``[B, H]``.
    """
    widths = [bias.shape[-1] for bias in weights[1:-2:2]]
    for layer, kept_BH in enumerate(kept_BU.split(widths, -1)):
        weight, bias = weights[2 * layer : 2 * layer + 2]
        x = (products.product(x, weight.mT) + bias.unsqueeze(-2)).relu() * kept_BH
    return torch.matmul(x, weights[-2].mT) + weights[-1].unsqueeze(-2)


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
        initialise: of its MLP; None for PyTorch's default (as the authors' code has it).
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
        initialise: Initialisation | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.net = _net([observation_size, *hidden_sizes, len(action_low)], norm)
        if initialise is not None:
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

        They are those of a batch: normalised already, if they are.
        """
        layers = tuple(self.net.parameters())
        return policy(observation_BO, layers, self.action_low, self.action_high, self.norm)


class Value(nn.Module):
    """V(s): one network of the state alone.

    Args:
        observation_size: O.
        hidden_sizes: units of each hidden layer.
        initialise: of its MLP; None for PyTorch's default.
    """

    def __init__(
        self,
        observation_size: int,
        hidden_sizes: Sequence[int],
        initialise: Initialisation | None = None,
    ) -> None:
        super().__init__()
        self.net = _net([observation_size, *hidden_sizes, 1])
        if initialise is not None:
            initialise(self.net)

    @property
    def weights(self) -> Weights:
        """The live parameters, in layer order."""
        return tuple(self.net.parameters())

    def forward(self, observation_BO: Tensor) -> Tensor:
        """V(s) as ``[B]``."""
        return state_values(observation_BO, self.weights)


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
