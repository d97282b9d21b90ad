"""Pooling: one number for each window of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from caffe import rng
from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import LayerParameter, PoolingParameter, SPPParameter

LOWEST = torch.finfo(torch.float32).min


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
    half = False

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
        self.need_pictures(shape)
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
        return sums / torch.outer(*(self._extents(x, i) for i in (0, 1))).to(x)

    def _extents(self, x: torch.Tensor, i: int) -> torch.Tensor:
        """Length of each window along axis i of the picture, clipped to image and pad."""
        start = torch.arange(self.size[i], device=x.device) * self.stride[i] - self.pad[i]
        return (start + self.kernel[i]).clamp(max=x.shape[2 + i] + self.pad[i]) - start

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


@register("SPP")
class SPP(Layer):
    """Spatial pyramid pooling (He et al. 2014): the picture pooled over grids of 1, 4, 16 … cells.

    Shapes: bottom [N, C, H, W]; top [N, C · (1 + 4 + … + 4^(pyramid_height − 1))], or [N, C, 1, 1] with a
    ``pyramid_height`` of 1. Level i has windows of ceil(H / 2^i) side by side; what they are longer than the
    picture is padding, half of it (rounded up) before the picture.
    """

    def setup(self, bottoms: Sequence[Shape]) -> None:
        if self.param.spp_param.pyramid_height < 1:
            raise self.error("spp_param needs a pyramid_height above 0")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        self.need_pictures(shape)
        if min(shape[2:]) == 0:
            raise self.error(f"Input dimensions cannot be zero. The bottom is {describe(shape)}")
        self.levels: list[Pooling] = []
        tops: list[Shape] = []
        for i in range(self.param.spp_param.pyramid_height):
            level = self._level(2**i, shape)
            level.setup(bottoms)
            tops += level.reshape(bottoms)
            self.levels.append(level)
        return tops if len(tops) == 1 else [(shape[0], sum(math.prod(top[1:]) for top in tops))]

    def _level(self, cells: int, shape: Shape) -> Pooling:
        kernel = [math.ceil(size / cells) for size in shape[2:]]
        pad = [(k * cells - size + 1) // 2 for k, size in zip(kernel, shape[2:], strict=True)]
        method = SPPParameter.PoolMethod.Name(self.param.spp_param.pool)
        pooling = PoolingParameter(
            pool=method,
            kernel_h=kernel[0],
            kernel_w=kernel[1],
            stride_h=kernel[0],
            stride_w=kernel[1],
            pad_h=pad[0],
            pad_w=pad[1],
        )
        param = LayerParameter(
            name=self.name, type=self.type, phase=self.param.phase, top=["level"], pooling_param=pooling
        )
        return Pooling(param, self.device)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        pooled = [level.forward(*bottoms)[0] for level in self.levels]
        return pooled if len(pooled) == 1 else [torch.cat([y.flatten(1) for y in pooled], 1)]
