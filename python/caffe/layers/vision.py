"""Convolution and pooling: layers that see neighbourhoods of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from caffe import rng
from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import ConvolutionParameter, PoolingParameter

LOWEST = torch.finfo(torch.float32).min


class _ConvolutionBase(Layer):
    """Geometry and weights that convolution and its transpose share.

    Shapes: each bottom is [..., C, spatial...] with C at ``axis``; the weight is
    [num_output, C/group, kernel...] (transposed: [C, num_output/group, kernel...]), the bias [num_output].
    Several bottoms are treated alike, with the same weights, into as many tops.
    """

    bottoms = (1, None)
    tops = (1, None)
    transposed = False

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.convolution_param
        if len(self.param.bottom) != len(self.param.top):
            raise self.error(
                f"{self.type} Layer produces one top blob as output for each bottom blob input: "
                f"{len(self.param.bottom)} bottoms and {len(self.param.top)} tops are given"
            )
        shape = bottoms[0]
        self.channel_axis = self.axis(p.axis, shape)
        spatial = len(shape) - self.channel_axis - 1
        if not 1 <= spatial <= 3:
            raise self.error(f"has {spatial} spatial axes in shape {list(shape)}; 1, 2 or 3 are possible")
        self._read_geometry(p, spatial)
        channels = shape[self.channel_axis]
        self._check_groups(p, channels)
        inner, outer = (p.num_output, channels) if self.transposed else (channels, p.num_output)
        self.add_blob((outer, inner // p.group, *self.kernel), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)

    def _read_geometry(self, p: ConvolutionParameter, spatial: int) -> None:
        self.kernel = self._spatial("kernel_size", p.kernel_size, p.kernel_h, p.kernel_w, spatial, None)
        self.stride = self._spatial("stride", p.stride, p.stride_h, p.stride_w, spatial, 1)
        self.pad = self._spatial("pad", p.pad, p.pad_h, p.pad_w, spatial, 0)
        self.dilation = self._spatial("dilation", p.dilation, 0, 0, spatial, 1)
        for name, values in (("Filter dimensions", self.kernel), ("Stride dimensions", self.stride)):
            if min(values) <= 0:
                raise self.error(f"Check failed: {name} must be nonzero: they are {list(values)}")

    def _spatial(
        self, name: str, repeated: Sequence[int], h: int, w: int, spatial: int, default: int | None
    ) -> tuple[int, ...]:
        """One value a spatial axis, from ``name`` (once, or once an axis) or its _h and _w."""
        if h or w:
            if spatial != 2:
                raise self.error(f"{name}_h & {name}_w can only be used for 2D convolution")
            if repeated:
                raise self.error(f"Either {name} or {name}_h/w should be specified; not both")
            return h, w
        if not repeated and default is not None:
            return (default,) * spatial
        if len(repeated) not in (1, spatial):
            raise self.error(
                f"Check failed: num_{name.split('_')[0]}_dims == 1 || == num_spatial_axes_ {name} must be "
                "specified once, or once per spatial dimension "
                f"({name} specified {len(repeated)} times; {spatial} spatial dims)."
            )
        return tuple(repeated) * (spatial if len(repeated) == 1 else 1)

    def _check_groups(self, p: ConvolutionParameter, channels: int) -> None:
        if p.num_output <= 0:
            raise self.error("Check failed: num_output_ > 0; convolution_param needs a num_output")
        if p.group <= 0 or channels % p.group:
            raise self.error(
                f"Check failed: channels_ % group_ == 0 ({channels % p.group if p.group else 0} vs. 0): "
                f"{channels} input channels cannot be shared among {p.group} groups"
            )
        if p.num_output % p.group:
            raise self.error(
                f"Check failed: num_output_ % group_ == 0 ({p.num_output % p.group} vs. 0) Number of output "
                f"should be multiples of group. num_output is {p.num_output}, group {p.group}"
            )

    def _length(self, size: int, i: int) -> int:
        """Length of the top's spatial axis i."""
        raise NotImplementedError

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, axis = self.param.convolution_param, self.channel_axis
        expected = self.blobs[0].shape[0] if self.transposed else self.blobs[0].shape[1] * p.group
        tops: list[Shape] = []
        for i, shape in enumerate(bottoms):
            if len(shape) != axis + 1 + len(self.kernel):
                raise self.error(f"bottom num_axes may not change: bottom {i} has shape {list(shape)}")
            if shape[axis] != expected:
                raise self.error(
                    "Check failed: bottom[0]->shape(channel_axis_) == channels_ Input size incompatible "
                    f"with convolution kernel. It has {shape[axis]} channels, the weights are for {expected}"
                )
            if shape != bottoms[0]:
                raise self.error(
                    f"All inputs must have the same shape: bottom 0 is {describe(bottoms[0])}, "
                    f"bottom {i} is {describe(shape)}"
                )
            lengths = tuple(self._length(n, k) for k, n in enumerate(shape[axis + 1 :]))
            if min(lengths) <= 0:
                raise self.error(
                    f"bottom {i} with shape {describe(shape)} is smaller than kernel {list(self.kernel)} "
                    f"with pad {list(self.pad)} and dilation {list(self.dilation)}"
                )
            tops.append((*shape[:axis], p.num_output, *lengths))
        return tops

    def _op(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        weight = self.weight(0)
        bias = self.weight(1) if self.param.convolution_param.bias_term else None
        tops = []
        for x in bottoms:
            batch = x.shape[: self.channel_axis]
            y = self._op(x.reshape(-1, *x.shape[self.channel_axis :]), weight, bias)
            tops.append(y.reshape(*batch, *y.shape[1:]))
        return tops


@register("Convolution")
class Convolution(_ConvolutionBase):
    """Top = weights ∗ bottom + bias, a cross-correlation as everywhere in deep learning.

    Each spatial axis becomes floor((size + 2·pad − dilation·(kernel − 1) − 1) / stride) + 1 long.
    """

    def _length(self, size: int, i: int) -> int:
        extent = self.dilation[i] * (self.kernel[i] - 1) + 1
        return (size + 2 * self.pad[i] - extent) // self.stride[i] + 1

    def _op(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel) - 1]
        group = self.param.convolution_param.group
        return conv(x, weight, bias, self.stride, self.pad, self.dilation, group)  # type: ignore[operator]


@register("Pooling")
class Pooling(Layer):
    """Maximum, average or stochastic choice over windows.

    Shapes: bottom [N, C, H, W]; top [N, C, H', W'] with H' = ceil((H + 2·pad − kernel) / stride) + 1, or
    floor with ``round_mode: FLOOR``; with padding, a last window that would start beyond image and pad is
    left out. With MAX a second top holds where in its picture (row·W + column) each maximum stood.

    Unlike PyTorch's, pads may be as large as the kernel less one, and windows may start beyond the image.
    An average divides by the window's area clipped to image and pad, as Caffe does.
    """

    bottoms = (1, 1)
    tops = (1, 2)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.pooling_param
        self._check_fields(p)
        self.pad = (p.pad_h, p.pad_w) if p.HasField("pad_h") or p.HasField("pad_w") else (p.pad, p.pad)
        self.stride = (p.stride_h, p.stride_w) if p.HasField("stride_h") or p.HasField("stride_w") else (p.stride,) * 2
        self.kernel = (p.kernel_size,) * 2 if p.HasField("kernel_size") else (p.kernel_h, p.kernel_w)
        if len(self.param.top) > 1 and p.pool != PoolingParameter.MAX:
            raise self.error("a second top (the mask) comes only with pool: MAX")
        if p.global_pooling:
            if self.pad != (0, 0) or self.stride != (1, 1):
                raise self.error(
                    "With Global_pooling: true; only pad = 0 and stride = 1 are possible: "
                    f"pad is {list(self.pad)}, stride {list(self.stride)}"
                )
            return
        if min(self.kernel) <= 0:
            dims = f"kernel_h_ > 0 ({self.kernel[0]} vs. 0)" if self.kernel[0] <= 0 else "kernel_w_ > 0 (0 vs. 0)"
            raise self.error(f"Check failed: {dims} Filter dimensions cannot be zero.")
        if min(self.stride) <= 0:
            raise self.error(f"stride must be positive, it is {list(self.stride)}")
        for pad, kernel, axis in zip(self.pad, self.kernel, "hw", strict=True):
            if pad >= kernel:
                raise self.error(f"Check failed: pad_{axis}_ < kernel_{axis}_ ({pad} vs. {kernel})")

    def _check_fields(self, p: PoolingParameter) -> None:
        separate = p.HasField("kernel_h") or p.HasField("kernel_w")
        if p.global_pooling:
            if p.HasField("kernel_size") or separate:
                raise self.error("With Global_pooling: true Filter size cannot specified")
        elif p.HasField("kernel_size") == separate:
            raise self.error("Filter size is kernel_size OR kernel_h and kernel_w; not both, and one is needed")
        elif separate and not (p.HasField("kernel_h") and p.HasField("kernel_w")):
            raise self.error("For non-square filters both kernel_h and kernel_w are required.")
        for name in ("pad", "stride"):
            h, w = p.HasField(f"{name}_h"), p.HasField(f"{name}_w")
            if h != w or (h and p.HasField(name)):
                raise self.error(f"{name} is {name} OR {name}_h and {name}_w are required.")

    def _length(self, size: int, i: int) -> int:
        p, kernel, stride, pad = self.param.pooling_param, self.kernel[i], self.stride[i], self.pad[i]
        spread = (size + 2 * pad - kernel) / stride
        ceil = p.round_mode == PoolingParameter.CEIL
        length = (math.ceil(spread) if ceil else math.floor(spread)) + 1
        if any(self.pad) and (length - 1) * stride >= size + pad:
            length -= 1  # the last window must start inside image and pad
        return length

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        if len(shape) != 4:
            raise self.error(
                "Check failed: 4 == bottom[0]->num_axes() Input must have 4 axes, corresponding to "
                f"(num, channels, height, width): it has shape {list(shape)}"
            )
        if self.param.pooling_param.global_pooling:
            self.kernel = (shape[2], shape[3])
        self.size = (self._length(shape[2], 0), self._length(shape[3], 1))
        if min(self.size) <= 0:
            raise self.error(f"kernel {list(self.kernel)} is larger than bottom {describe(shape)} with its pad")
        return [(*shape[:2], *self.size)] * len(self.param.top)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        pool = self.param.pooling_param.pool
        if pool == PoolingParameter.MAX:
            return self._max(bottoms[0])
        if pool == PoolingParameter.AVE:
            return [self._average(bottoms[0])]
        return [self._stochastic(bottoms[0])]

    def _native(self, x: torch.Tensor, i: int) -> bool:
        """Whether PyTorch pools axis i over the same windows with ceil_mode."""
        size, kernel, stride, pad = x.shape[2 + i], self.kernel[i], self.stride[i], self.pad[i]
        length = math.ceil((size + 2 * pad - kernel) / stride) + 1
        if (length - 1) * stride >= size + pad:
            length -= 1
        return pad <= kernel // 2 and length == self.size[i]

    def _padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """The picture with its pad, and as much more at the far sides as the last windows need."""
        need = [(n - 1) * s + k for n, s, k in zip(self.size, self.stride, self.kernel, strict=True)]
        bottom, right = (need[i] - x.shape[2 + i] - self.pad[i] for i in (0, 1))
        return F.pad(x, (self.pad[1], right, self.pad[0], bottom), value=value)

    def _max(self, x: torch.Tensor) -> list[torch.Tensor]:
        want_mask = len(self.param.top) > 1
        if self._native(x, 0) and self._native(x, 1):
            y, where = F.max_pool2d(x, self.kernel, self.stride, self.pad, ceil_mode=True, return_indices=True)
            return [y, where.float()] if want_mask else [y]
        padded = self._padded(x, LOWEST)
        y, where = F.max_pool2d(padded, self.kernel, self.stride, return_indices=True)
        if not want_mask:
            return [y]
        width = padded.shape[3]
        row, column = where // width - self.pad[0], where % width - self.pad[1]
        return [y, (row * x.shape[3] + column).float()]

    def _average(self, x: torch.Tensor) -> torch.Tensor:
        if self._native(x, 0) and self._native(x, 1):
            return F.avg_pool2d(x, self.kernel, self.stride, self.pad, ceil_mode=True)
        padded = self._padded(x, 0.0)
        sums = F.avg_pool2d(padded, self.kernel, self.stride, divisor_override=1)
        return sums / torch.outer(*(self._extents(x.shape[2 + i], i) for i in (0, 1))).to(x)

    def _extents(self, size: int, i: int) -> torch.Tensor:
        """Length of each window along axis i, clipped to image and pad."""
        start = torch.arange(self.size[i]) * self.stride[i] - self.pad[i]
        return (start + self.kernel[i]).clamp(max=size + self.pad[i]) - start

    def _stochastic(self, x: torch.Tensor) -> torch.Tensor:
        """Zeiler and Fergus 2013: draw each window's value with probability in proportion to it.

        Testing takes the expectation, Σ x² / Σ x. Values are meant to be non-negative (after a ReLU).
        """
        (kh, kw), (sh, sw) = self.kernel, self.stride
        windows = self._padded(x, 0.0).unfold(2, kh, sh).unfold(3, kw, sw).flatten(4)  # [n, c, h, w, kh*kw]
        sums = windows.sum(4, keepdim=True)
        if not self.training:
            return ((windows * windows).sum(4, keepdim=True) / sums.clamp(min=1e-30)).squeeze(4)
        draw = torch.rand(sums.shape, generator=rng.generator(self.device), device=self.device) * sums
        chosen = (windows.cumsum(4) > draw).to(torch.uint8).argmax(4, keepdim=True)
        return windows.gather(4, chosen).squeeze(4)
