"""Convolutions where no gradient is recorded: weights made ready once, instead of in every pass.

What follows with a factor and an offset for each channel is folded into them. A ReLU is not, though oneDNN has one: it
would make zeros of NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from caffe.blob import Blob, BlobVec
from caffe.onednn import Geometry, Packed, takes
from caffe.winograd import Winograd


class Affine(Protocol):
    """A layer whose top is its bottom times a number a channel, plus another."""

    blobs: BlobVec

    def affine(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The factors and the offsets, each [C], in float64; no offsets are zeros."""


@dataclass
class PackedConvolution:
    """A convolution over two axes, made ready for one shape of its bottom.

    Attributes:
        blobs: its weight [num_output, C/group, kh, kw], and its bias [num_output] if there is one.
        geometry: pad, stride, dilation and group.
    """

    blobs: list[Blob]
    geometry: Geometry
    _made_of: object = None
    _ready: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor, after: Sequence[Affine]) -> torch.Tensor | None:
        """Convolve x [N, C, H, W] and go through ``after``; no gradient is recorded.

        None where weights cannot be kept ready: somebody may change them unnoticed, or x is not in a CPU's float32.
        """
        if not takes(x):
            return None
        stamps = [blob.stamp() for blobs in (self.blobs, *(layer.blobs for layer in after)) for blob in blobs]
        if None in stamps:
            return None
        if self._ready is None or self._made_of != (stamps, x.shape):
            self._ready, self._made_of = self._make_ready(after, x.shape), (stamps, x.shape)
        return self._ready(x.contiguous(memory_format=torch.channels_last))

    def _make_ready(self, after: Sequence[Affine], shape: torch.Size) -> Callable[[torch.Tensor], torch.Tensor]:
        weight, bias = self._folded(after)
        if Winograd.pays(weight.shape, self.geometry, shape):
            return Winograd(weight, bias, self.geometry[0], shape)
        return Packed(weight, bias, self.geometry, shape)

    def _folded(self, after: Sequence[Affine]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias, with what comes after in them."""
        weight, *bias = (blob.data_tensor().detach() for blob in self.blobs)
        if not after:
            return weight, bias[0].clone() if bias else None
        factor, offset = torch.ones(len(weight), dtype=torch.float64), torch.zeros(len(weight), dtype=torch.float64)
        for layer in after:
            scale, shift = layer.affine()
            factor, offset = factor * scale, offset * scale + (0 if shift is None else shift)
        return (weight * factor.view(-1, 1, 1, 1)).float(), (bias[0] * factor + offset if bias else offset).float()
