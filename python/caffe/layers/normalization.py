"""Normalization: over channels (LRN), over a batch (BatchNorm) and within a picture (MVN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from caffe.layers.base import ElementwiseLayer, Layer, Shape, describe, with_slope
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import LRNParameter


@register("LRN")
class LRN(ElementwiseLayer):
    """Local response normalization (Krizhevsky et al. 2012).

    Across channels: top = x · (k + alpha/n · Σ x²)^−beta over n = ``local_size`` neighbouring channels.
    Within a channel: top = x · (1 + alpha/n² · Σ x²)^−beta over an n × n window. Borders count as zeros.
    Shapes: bottom and top [N, C, H, W].
    """

    half = False

    def setup(self, bottoms: Sequence[Shape]) -> None:
        size = self.param.lrn_param.local_size
        if size % 2 == 0:
            raise self.error(
                f"Check failed: size_ % 2 == 1 (0 vs. 1) LRN only supports odd values for local_size; it is {size}"
            )

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.need_pictures(bottoms[0])
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, x = self.param.lrn_param, bottoms[0]
        n, half = p.local_size, p.local_size // 2
        squares = x * x
        if p.norm_region == LRNParameter.ACROSS_CHANNELS:
            scale = p.k + p.alpha / n * _Neighbours.apply(squares, half)
        else:
            scale = 1 + p.alpha * F.avg_pool2d(squares, n, 1, half)
        return [x * scale.pow(-p.beta)]


class _Neighbours(torch.autograd.Function):
    """Each channel's sum with as many before and after it; [N, C, H, W].

    The gradient is the same sum. Pooling over the channels gives both, in ten times the time, and so would autograd's
    gradient of the additions here.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, reach: int) -> torch.Tensor:
        ctx.reach = reach
        sums = x.to(torch.float32, copy=True)
        for i in range(1, min(reach, x.shape[1] - 1) + 1):
            sums[:, i:] += x[:, :-i]
            sums[:, :-i] += x[:, i:]
        return sums.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Neighbours.apply(gradients[0], ctx.reach), None


@register("BatchNorm")
class BatchNorm(ElementwiseLayer):
    """Top = (x − mean) / sqrt(variance + eps), per channel (axis 1); no scale and shift (that is Scale).

    In training mean and variance are the batch's, and the running sums are updated; with
    ``use_global_stats`` (the default in testing) they are the stored ones divided by the stored factor.
    Blobs: sum of means [C], sum of unbiased variances [C], the sums' factor [1]; none of them is learned.
    """

    half = False
    gives_away_top = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.batch_norm_param
        self.global_stats = p.use_global_stats if p.HasField("use_global_stats") else not self.training
        channels = self._channels(bottoms[0])
        for shape in ((channels,), (channels,), (1,)):
            self.add_blob(shape)
        # the statistics must not be touched by the solver: BVLC forces the rates to 0
        for i in range(len(self.blobs)):
            if i == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[i].lr_mult != 0:
                raise self.error(
                    f"Check failed: this->layer_param_.param(i).lr_mult() == 0.f "
                    f"({self.param.param[i].lr_mult:g} vs. 0) Cannot configure batch normalization statistics "
                    "as layer parameters. Give lr_mult: 0 or leave the param out"
                )

    @property
    def per_channel(self) -> bool:
        """Whether it is a factor and an offset a channel, whatever the bottom holds."""
        return self.global_stats

    @staticmethod
    def _channels(shape: Shape) -> int:
        return shape[1] if len(shape) > 1 else 1

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        channels = self._channels(bottoms[0])
        if channels != self.blobs[0].shape[0]:
            raise self.error(
                "Check failed: bottom[0]->shape(1) == channels_: the bottom has "
                f"{channels} channels, the statistics are of {self.blobs[0].shape[0]}"
            )
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [self.scaled(bottoms[0], None, None)]

    def scaled(self, x: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        """The top · scale + bias, each [C]."""
        eps, shape = self.param.batch_norm_param.eps, x.shape
        if x.dim() == 1:
            x = x.unsqueeze(1)
        if self.global_stats:
            mean, variance = self._stored()
            y = torch.batch_norm(x, scale, bias, mean, variance, False, 0.0, eps, False)
        else:
            y = self._normalize(x, scale, bias)
        return y.view(shape) if y.shape != shape else y

    def _stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance [C] that the sums stand for."""
        mean, variance, factor = (b.data_tensor() for b in self.blobs)
        unscale = torch.where(factor == 0, 0.0, 1 / factor)
        return mean * unscale, variance * unscale

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor and offset [C], in float64, that the stored statistics come to."""
        mean, variance = (values.double() for values in self._stored())
        factor = (variance + self.param.batch_norm_param.eps).rsqrt()
        return factor, -mean * factor

    def _normalize(self, x: torch.Tensor, scale: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        eps = self.param.batch_norm_param.eps
        channels, m = x.shape[1], x.numel() // x.shape[1]
        mean, variance = x.new_zeros(2, channels, dtype=torch.float32)
        if m > 1:  # momentum 1: the buffers become the batch's mean and unbiased variance
            y = torch.batch_norm(x, scale, bias, mean, variance, True, 1.0, eps, False)
        else:
            mean.copy_(x.detach().view(channels))
            y = torch.batch_norm(x - x, scale, bias, variance, variance, False, 0.0, eps, False)  # both are 0
        self._remember(mean, variance)
        return y

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Add the batch's statistics to the decaying sums."""
        keep = self.param.batch_norm_param.moving_average_fraction
        for blob, value in zip(self.blobs, (mean, variance, torch.ones_like(mean[:1])), strict=True):
            blob.data_tensor().mul_(keep).add_(value)


@register("MVN")
class MVN(Layer):
    """Mean and variance normalization: top = (x − mean) / (standard deviation + eps), of each channel.

    With ``across_channels`` mean and deviation are a whole picture's; without ``normalize_variance`` the mean
    alone is taken away. Shapes: bottom [N, C, H, W], or with fewer axes; top [N, C, H, W].

    Caffe's gradient counts eps as part of the deviation.
    """

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) > 4:
            raise self.error(
                f"Cannot use legacy accessors on Blobs with > 4 axes: the bottom is {describe(bottoms[0])}; reshape it"
            )
        return [(*bottoms[0], *(1,) * (4 - len(bottoms[0])))]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, x = self.param.mvn_param, bottoms[0]
        x = x.reshape(*x.shape, *(1,) * (4 - x.dim()))
        axes = (1, 2, 3) if p.across_channels else (2, 3)
        x = x - x.mean(axes, keepdim=True)
        if not p.normalize_variance:
            return [x]
        variance = (x * x).mean(axes, keepdim=True)
        deviation = variance.detach().sqrt() + p.eps
        return [x / with_slope(deviation, variance, 0.5 / deviation)]
