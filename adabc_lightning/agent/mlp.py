"""ReLU networks as functions of their weights, forward and backward by hand.

Dimensions: B batch, N members of a stack, I and H layer in and out, U hidden units.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from adabc_lightning.agent import products
from adabc_lightning.agent.norm import Norm, normed_mlp

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
                grads[3 + 2 * layer] = _bias_gradient(grad, full)
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
        # have other sizes. (Float32's keep their bits.) On torch 2.13 an update without this takes
        # 1.09 × the time, quartiles 1.04 and 1.14: benchmarks/weight_gradient.py.
        halves = (grad_BH * input_BI).tensor_split(2, -2)
        return torch.stack([half.sum(-2) for half in halves], -2).sum(-2, keepdim=True)
    return torch.matmul(grad_BH.mT, input_BI.to(grad_BH.dtype))


def _bias_gradient(grad_BH: Tensor, dtype: torch.dtype) -> Tensor:
    """``[*, H]``, the gradient of a layer's bias, of those at its output."""
    many = grad_BH.dim() == 3 and len(grad_BH) > 16 and grad_BH.dtype is dtype
    if many and grad_BH.is_cuda and torch.compiler.is_compiling():
        # Of more than so many members, as replicas have, the compiler makes one kernel of the sum
        # and what is before and behind it, which took a quarter of an update of twenty on an H100.
        ones = grad_BH.new_ones((len(grad_BH), 1, grad_BH.shape[-2]))
        return torch.matmul(ones, grad_BH).squeeze(-2)
    return grad_BH.sum(-2, dtype=dtype)


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
    hidden_type, stacked = products.of(weights[0]), weights[0].shape[:-2]
    if len(stacked) < 2:
        return _ReluMLP.apply(x, hidden_type, *weights)
    # Members of replicas side by side: of two dimensions the compiler would make copies.
    flat = [weight.flatten(0, 1) for weight in weights]
    return _ReluMLP.apply(x.flatten(0, 1), hidden_type, *flat).unflatten(0, stacked)


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
