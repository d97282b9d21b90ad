"""What oneDNN, PyTorch's library for CPUs, does faster than PyTorch's own calls.

Convolutions, once their weights are packed; inner products and their gradients, where PyTorch's own call goes to MKL,
which on some makes of CPU takes twice as long.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

THERE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_linear_pointwise")
)
"""Whether this PyTorch has what is used here: what its compiler makes of layers whose weights stay."""

WORTH_CALLING = 2**24
"""Multiplications from which on an inner product comes sooner by oneDNN: a call takes 20 µs longer than PyTorch's."""

Axes = tuple[int, ...]
Geometry = tuple[Axes, Axes, Axes, int]
"""A convolution's pad, stride, dilation and group."""


def takes(x: torch.Tensor) -> bool:
    """Whether what is here may be asked to compute with x."""
    return THERE and x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] · weightᵀ [K, num_output] + bias [num_output]."""
    if takes(x) and x.numel() * len(weight) >= WORTH_CALLING and not torch.is_autocast_enabled("cpu"):
        return _Linear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """`linear` and its gradients; the library takes transposed matrices as they are."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        rows, flow = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        return (
            _product(gradient, weight.t()) if to_x else None,
            _product(flow.t(), rows.t()) if to_weight else None,
            flow.sum(0) if to_bias else None,
        )


class Packed:
    """A convolution over two axes whose weights are in the order that the kernels for one shape of bottom want.

    Elsewhere they are put in that order in every pass, which for a layer with many weights and few places takes as long
    as the convolution itself.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Geometry, shape: tuple[int, ...]
    ) -> None:
        """Pack ``weight`` [num_output, C/group, kh, kw] for bottoms of ``shape``; ``bias`` is [num_output]."""
        self._weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *geometry, shape)
        self._bias, self._geometry = bias, geometry

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve x [N, C, H, W], channels last in memory; no gradient is recorded."""
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *self._geometry, "none", [], "")
