"""Convolution, its transpose and the cutting of windows: layers that move over a picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F

from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.packed import Affine, PackedConvolution
from caffe.proto.caffe_pb2 import ConvolutionParameter


class _Windows(Layer):
    """Geometry of windows that move over the axes after ``axis`` (1, 2 or 3 of them)."""

    def read_geometry(self, shape: Shape) -> None:
        """Take axes, kernel, stride, pad and dilation from ``convolution_param``."""
        p = self.param.convolution_param
        self.channel_axis = self.axis(p.axis, shape)
        spatial = len(shape) - self.channel_axis - 1
        if spatial > 3:
            raise self.error(f"has {spatial} spatial axes in shape {list(shape)}; 3 are the most")
        self.kernel = self._spatial("kernel_size", spatial, None)
        self.stride = self._spatial("stride", spatial, 1)
        self.pad = self._spatial("pad", spatial, 0)
        self.dilation = self._spatial("dilation", spatial, 1)
        for name, values in (
            ("Filter dimensions", self.kernel),
            ("Stride dimensions", self.stride),
            ("Dilation", self.dilation),
        ):
            if any(value <= 0 for value in values):
                raise self.error(f"Check failed: {name} must be nonzero: they are {list(values)}")

    def _spatial(self, name: str, spatial: int, default: int | None) -> tuple[int, ...]:
        """One value a spatial axis, from ``name`` (once, or once an axis) or its _h and _w."""
        p, short = self.param.convolution_param, name.removesuffix("_size")
        repeated = getattr(p, name)
        if name != "dilation" and (p.HasField(f"{short}_h") or p.HasField(f"{short}_w")):
            if spatial != 2:
                raise self.error(f"{short}_h & {short}_w can only be used for 2D convolution.")
            if repeated:
                raise self.error(f"Either {name} or {short}_h/w should be specified; not both.")
            return getattr(p, f"{short}_h"), getattr(p, f"{short}_w")
        if not repeated and default is not None:
            return (default,) * spatial
        if len(repeated) not in (1, spatial):
            raise self.error(
                f"Check failed: num_{short}_dims == 1 || num_{short}_dims == num_spatial_axes_ {name} must be "
                "specified once, or once per spatial dimension "
                f"({name} specified {len(repeated)} times; {spatial} spatial dims)."
            )
        return tuple(repeated) * (spatial if len(repeated) == 1 else 1)

    def lengths(self, shape: Shape) -> Shape:
        """Length of the top's spatial axes."""
        lengths = tuple(self._length(n, k) for k, n in enumerate(shape[self.channel_axis + 1 :]))
        if any(length <= 0 for length in lengths):
            raise self.error(
                f"a bottom with shape {describe(shape)} leaves nothing for kernel {list(self.kernel)} "
                f"with pad {list(self.pad)} and dilation {list(self.dilation)}: it is too small"
            )
        return lengths

    def _length(self, size: int, i: int) -> int:
        # rounded toward zero, as C divides: a kernel may stand out over the far side by less than a stride
        return int((size + 2 * self.pad[i] - self._extent(i)) / self.stride[i]) + 1

    def _filled(self, x: torch.Tensor) -> torch.Tensor:
        """The picture with as many zeros at its far sides as a kernel that stands out needs."""
        sizes = x.shape[-len(self.kernel) :]
        short = [max(self._extent(i) - 2 * self.pad[i] - size, 0) for i, size in enumerate(sizes)]
        return F.pad(x, [zeros for count in reversed(short) for zeros in (0, count)]) if any(short) else x

    def _extent(self, i: int) -> int:
        return self.dilation[i] * (self.kernel[i] - 1) + 1


class _ConvolutionBase(_Windows):
    """Geometry and weights that convolution and its transpose share.

    Shapes: each bottom is [..., C, spatial...] with C at ``axis``; the weight is
    [num_output, C/group, kernel...] (transposed: [C, num_output/group, kernel...]), the bias [num_output].
    Several bottoms are treated alike, with the same weights, into as many tops.
    """

    bottoms = (1, None)
    tops = (1, None)
    transposed = False
    half = True
    gives_away_top = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.convolution_param
        if len(self.param.bottom) != len(self.param.top):
            raise self.error(
                f"{self.type} Layer produces one top blob as output for each bottom blob input: "
                f"{len(self.param.bottom)} bottoms and {len(self.param.top)} tops are given"
            )
        shape = bottoms[0]
        self.read_geometry(shape)
        channels = shape[self.channel_axis]
        self._check_groups(p, channels)
        inner, outer = (p.num_output, channels) if self.transposed else (channels, p.num_output)
        self.add_blob((outer, inner // p.group, *self.kernel), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)

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
            tops.append((*shape[:axis], p.num_output, *self.lengths(shape)))
        return tops

    def _op(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        raise NotImplementedError

    def _of_points(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`_op` where there are no spatial axes: an inner product a group."""
        conv = F.conv_transpose1d if self.transposed else F.conv1d
        groups = self.param.convolution_param.group
        return conv(x.unsqueeze(-1), weight.unsqueeze(-1), bias, groups=groups).squeeze(-1)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        weight = self.weight(0)
        bias = self.weight(1) if self.param.convolution_param.bias_term else None
        tops, op = [], self._op if self.kernel else self._of_points
        for x in bottoms:
            if self.channel_axis == 1:  # reshaped all the same, a single picture would lose the order of its memory
                tops.append(op(x, weight, bias))
                continue
            batch = x.shape[: self.channel_axis]
            y = op(x.reshape(-1, *x.shape[self.channel_axis :]), weight, bias)
            tops.append(y.reshape(*batch, *y.shape[1:]))
        return tops


@register("Convolution")
class Convolution(_ConvolutionBase):
    """Top = weights ∗ bottom + bias, a cross-correlation as everywhere in deep learning.

    Each spatial axis becomes (size + 2·pad − dilation·(kernel − 1) − 1) / stride + 1 long, the quotient
    rounded toward zero.
    """

    def setup(self, bottoms: Sequence[Shape]) -> None:
        super().setup(bottoms)
        group = self.param.convolution_param.group
        self._packed = PackedConvolution(self.blobs, (self.pad, self.stride, self.dilation, group))

    def with_those_after(self, x: torch.Tensor, after: Sequence[Affine]) -> torch.Tensor | None:
        """What ``after`` make of the only top, with no gradient; None where that is no single call."""
        if self.channel_axis != 1 or len(self.kernel) != 2:
            return None
        return self._packed(self._filled(x), after)

    def _op(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        x = self._filled(x)
        if len(self.kernel) == 2:  # the kernels for channels-last memory are the faster ones, on CPU and GPU
            x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel) - 1]
        group = self.param.convolution_param.group
        return conv(x, weight, bias, self.stride, self.pad, self.dilation, group)


@register("Deconvolution")
class Deconvolution(_ConvolutionBase):
    """The transpose of Convolution: each bottom value puts its multiple of the kernel into the top.

    Each spatial axis becomes stride · (size − 1) + dilation · (kernel − 1) + 1 − 2·pad long. The weight is
    [C, num_output/group, kernel...].
    """

    transposed = True

    def _length(self, size: int, i: int) -> int:
        return self.stride[i] * (size - 1) + self._extent(i) - 2 * self.pad[i]

    def _op(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.kernel) - 1]
        group = self.param.convolution_param.group
        return spread(x, weight, bias, self.stride, self.pad, 0, group, self.dilation)


@register("Im2col")
class Im2col(_Windows):
    """Each window of the bottom as a column.

    Shapes: bottom [..., C, spatial...] with C at ``axis``; top [..., C · kernel..., windows...], a channel's
    kernel positions one after the other, row by row.
    """

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.read_geometry(bottoms[0])
        if not self.kernel:
            raise self.error(f"Check failed: num_spatial_axes_ >= 1 (0 vs. 1): shape {list(bottoms[0])} has none")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, axis = bottoms[0], self.channel_axis
        if len(shape) != axis + 1 + len(self.kernel):
            raise self.error(f"bottom num_axes may not change: the bottom has shape {list(shape)}")
        return [(*shape[:axis], shape[axis] * prod(self.kernel), *self.lengths(shape))]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        top = self.reshape([tuple(bottoms[0].shape)])[0]
        x = self._filled(bottoms[0].flatten(0, self.channel_axis))  # [..·C, spatial...]
        x = F.pad(x, [pad for pad in reversed(self.pad) for _ in (0, 1)])
        n = len(self.kernel)
        for i in range(n):
            x = x.unfold(1 + i, self._extent(i), self.stride[i])[..., :: self.dilation[i]]
        # [..·C, windows..., kernel...] -> [..·C, kernel..., windows...]
        x = x.permute(0, *range(1 + n, 1 + 2 * n), *range(1, 1 + n))
        return [x.reshape(top)]


@register("Crop")
class Crop(Layer):
    """The part of bottom 0, from ``offset`` on, that has the size of bottom 1 in all axes from ``axis`` on.

    Shapes: bottoms [n..., a...] and [*..., b...]; top [n..., b...]. Bottom 1 gives its shape alone.
    """

    bottoms = (2, 2)
    differentiable = (True, False)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p, shape = self.param.crop_param, bottoms[0]
        start = self.axis(p.axis, shape)
        if len(p.offset) > 1 and start + len(p.offset) != len(shape):
            raise self.error(
                f"Check failed: start_axis + param.offset_size() == input_dim ({start + len(p.offset)} vs. "
                f"{len(shape)}) number of offset values specified must be equal to the number of dimensions "
                "following axis."
            )

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, (shape, reference) = self.param.crop_param, bottoms
        start = self.axis(p.axis, shape)
        if len(reference) < len(shape):
            raise self.error(f"bottom 1 needs the {len(shape)} axes of bottom 0, it is {describe(reference)}")
        offsets = p.offset if len(p.offset) > 1 else list(p.offset or [0]) * (len(shape) - start)
        window = []
        for i, offset in enumerate(offsets, start):
            if shape[i] - offset < reference[i]:
                raise self.error(
                    f"Check failed: bottom[0]->shape(i) - crop_offset >= bottom[1]->shape(i) "
                    f"({shape[i] - offset} vs. {reference[i]}) the crop for dimension {i} is out-of-bounds "
                    f"with size {reference[i]} and offset {offset}"
                )
            window.append(slice(offset, offset + reference[i]))
        self.window = (slice(None),) * start + tuple(window)
        return [(*shape[:start], *reference[start : len(shape)])]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0][self.window]]
