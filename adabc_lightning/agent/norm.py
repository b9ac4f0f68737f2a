"""Layer normalisation inside a stack of networks, each member with a scale and a shift of its own.

Dimensions: B batch, N critics, I and H layer in and out; in front of them there may be others.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adabc_lightning.agent.products import product

Norm = Literal["before", "after"]
"""Whether hidden layers are normalised before their activation (RLPD) or after it (ReBRAC)."""

EPSILON = 1e-6
"""Added to the variance; flax's default, with which RLPD, WSRL and ReBRAC were published."""

_PER_LAYER = 4  # weight, bias, scale, shift

_normalise = torch.ops.aten.native_layer_norm
_normalise_backward = torch.ops.aten.native_layer_norm_backward
_relu_backward = torch.ops.aten.threshold_backward.grad_input


def normed_net(sizes: Sequence[int], norm: Norm) -> nn.Sequential:
    """A network of PyTorch's layers, of which :func:`normed_mlp` takes the parameters in order.

    Args:
        sizes: units of the input, of each hidden layer and of the output.
        norm: where hidden layers are normalised.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        normalise = nn.LayerNorm(outputs, EPSILON)
        behind = [normalise, nn.ReLU()] if norm == "before" else [nn.ReLU(), normalise]
        layers += [nn.Linear(inputs, outputs), *behind]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def normed_mlp(x: Tensor, weights: tuple[Tensor, ...], norm: Norm) -> Tensor:
    """A ReLU network whose hidden layers are normalised, or N of them side by side.

    Args:
        x: ``[B, I]``.
        weights: of each hidden layer weight ``[*, H, I]``, bias, scale and shift ``[*, H]``, of
            the last one weight and bias; ``*`` is nothing or the members N.
        norm: where hidden layers are normalised.
    Returns: ``[B, H]`` for one network, ``[N, B, H]`` for N stacked ones.
    """
    output: Tensor = _NormedMLP.apply(x, norm == "before", *weights)
    return output


class _NormedMLP(torch.autograd.Function):
    """Forward and backward as autograd would do them.

    By hand for the reasons of the plain network
    (:class:`adabc_lightning.agent.mlp._ReluMLP`): masks are not kept, activations are in
    place, and weights that need no gradient get none.
    """

    @staticmethod
    def forward(ctx, x: Tensor, before: bool, *weights: Tensor) -> Tensor:
        saved = []
        for layer in range(0, len(weights) - 2, _PER_LAYER):
            weight, bias, scale, shift = weights[layer : layer + _PER_LAYER]
            linear = product(x, weight.mT).add_(bias.unsqueeze(-2))
            raw = linear if before else linear.relu_()
            normal, mean, rstd = _normalise(raw, raw.shape[-1:], None, None, EPSILON)
            saved += [x, raw, normal, mean, rstd, weight, scale]
            x = torch.addcmul(shift.unsqueeze(-2), normal, scale.unsqueeze(-2))
            if before:
                x = x.relu_()
        weight, bias = weights[-2:]
        ctx.save_for_backward(*saved, x, weight)
        ctx.before = before
        return torch.matmul(x, weight.mT) + bias.unsqueeze(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        *saved, x, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        grads: list[Tensor | None] = [None] * len(needed)
        if needed[-2]:
            grads[-2:] = torch.matmul(grad.mT, x), grad.sum(-2)
        multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul  # in full, the last layer
        for layer in reversed(range(0, len(needed) - 2, _PER_LAYER)):
            # A single output is an outer product; a matrix product would waste its tiles.
            grad = grad * weight if weight.shape[-2] == 1 else multiply(grad, weight)
            # Seven tensors were saved of each layer.
            start = layer // _PER_LAYER * 7
            before, hidden = ctx.before, x
            x, raw, normal, mean, rstd, weight, scale = saved[start : start + 7]
            if before:
                grad = _relu_backward(grad, hidden, 0, grad_input=grad)
            if needed[layer + 2]:
                grads[layer + 2 : layer + 4] = (grad * normal).sum(-2), grad.sum(-2)
            grad = grad * scale.unsqueeze(-2)
            mask = [True, False, False]
            size = raw.shape[-1:]
            grad = _normalise_backward(grad, raw, size, mean, rstd, None, None, mask)[0]
            if not before:
                grad = _relu_backward(grad, raw, 0, grad_input=grad)
            if needed[layer]:
                grads[layer : layer + 2] = product(grad.mT, x), grad.sum(-2)
            multiply = product
        inner = product(grad, weight) if ctx.needs_input_grad[0] else None
        return inner, None, *grads
