"""What oneDNN, PyTorch's library for CPUs, does faster than PyTorch's own calls.

Convolutions where no gradient is recorded: their weights are put in the order that its kernels want once, instead of in
every pass, which for a layer with many weights and few places takes as long as the convolution itself. What follows
with a factor and an offset for each channel is folded into them. A ReLU is not, though the library has one: it would
make zeros of NaN.

Inner products and their gradients: PyTorch's own call goes to MKL, which on some makes of CPU takes twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from caffe.blob import Blob

THERE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_linear_pointwise")
)
"""Whether this PyTorch has what is used here: what its compiler makes of layers whose weights stay."""

Axes = tuple[int, ...]


def _takes(x: torch.Tensor) -> bool:
    return THERE and x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] · weightᵀ [K, num_output] + bias [num_output]."""
    if _takes(x) and not torch.is_autocast_enabled("cpu"):
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


class Affine(Protocol):
    """A layer whose top is its bottom times a number a channel, plus another."""

    blobs: list[Blob]

    def affine(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The factors and the offsets, each [C], in float64; no offsets are zeros."""


@dataclass
class PackedConvolution:
    """A convolution over two axes, packed for one shape of its bottom.

    Attributes:
        blobs: its weight [num_output, C/group, kh, kw], and its bias [num_output] if there is one.
        geometry: pad, stride, dilation and group.
    """

    blobs: list[Blob]
    geometry: tuple[Axes, Axes, Axes, int]
    _made_of: object = None

    def __call__(self, x: torch.Tensor, after: Sequence[Affine]) -> torch.Tensor | None:
        """Convolve x [N, C, H, W] and go through ``after``; no gradient is recorded.

        None where weights cannot be kept packed: somebody may change them unnoticed, or x is not in a CPU's float32.
        """
        if not _takes(x):
            return None
        stamps = [blob.stamp() for blobs in (self.blobs, *(layer.blobs for layer in after)) for blob in blobs]
        if None in stamps:
            return None
        if self._made_of != (stamps, x.shape):
            self._pack(after, x.shape)
            self._made_of = stamps, x.shape
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *self.geometry, "none", [], "")

    def _pack(self, after: Sequence[Affine], shape: torch.Size) -> None:
        weight, *bias = (blob.data_tensor().detach() for blob in self.blobs)
        if after:
            factor, offset = torch.ones(len(weight), dtype=torch.float64), torch.zeros(len(weight), dtype=torch.float64)
            for layer in after:
                scale, shift = layer.affine()
                factor, offset = factor * scale, offset * scale + (0 if shift is None else shift)
            weight = (weight * factor.view(-1, 1, 1, 1)).float()
            bias = [(bias[0] * factor + offset if bias else offset).float()]
        self._weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *self.geometry, shape)
        self._bias = bias[0].clone() if bias else None
