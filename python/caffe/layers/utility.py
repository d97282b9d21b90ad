"""Layers that join, split and weigh blobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import EltwiseParameter, FillerParameter


@register("Split")
class Split(Layer):
    """Each top is the bottom: nets insert it where one blob has several readers, whose gradients add up."""

    tops = (1, None)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * len(self.param.top)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].view_as(bottoms[0]) for _ in self.param.top]


@register("Concat")
class Concat(Layer):
    """The bottoms one after the other along ``axis`` (1 by default; older files say ``concat_dim``)."""

    bottoms = (1, None)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.concat_param
        if p.HasField("axis") and p.HasField("concat_dim"):
            raise self.error("Either axis or concat_dim should be specified; not both.")
        if p.HasField("concat_dim") and p.concat_dim >= len(bottoms[0]):
            raise self.error(f"concat_dim out of range: it is {p.concat_dim} for {describe(bottoms[0])}")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, first = self.param.concat_param, bottoms[0]
        self.along = p.concat_dim if p.HasField("concat_dim") else self.axis(p.axis, first)
        for i, shape in enumerate(bottoms[1:], 1):
            if len(shape) != len(first):
                raise self.error(
                    f"All inputs must have the same #axes: bottom 0 is {describe(first)}, bottom {i} "
                    f"is {describe(shape)}"
                )
            for j, (a, b) in enumerate(zip(first, shape, strict=True)):
                if j != self.along and a != b:
                    raise self.error(
                        f"Check failed: top_shape[j] == bottom[i]->shape(j) ({a} vs. {b}) All inputs must "
                        f"have the same shape, except at concat_axis. Bottom 0 is {describe(first)}, bottom "
                        f"{i} is {describe(shape)}, concat_axis is {self.along}"
                    )
        length = sum(shape[self.along] for shape in bottoms)
        return [(*first[: self.along], length, *first[self.along + 1 :])]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat(bottoms, self.along) if len(bottoms) > 1 else bottoms[0]]


@register("Eltwise")
class Eltwise(Layer):
    """Bottoms of one shape into one top: SUM (each times its ``coeff``), PROD or MAX.

    A maximum that several bottoms share sends its whole gradient to the last of the first two, else to the
    earliest, as Caffe's does; PyTorch would divide it.
    """

    bottoms = (2, None)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.eltwise_param
        if p.coeff and len(p.coeff) != len(bottoms):
            raise self.error(
                "Eltwise Layer takes one coefficient per bottom blob: "
                f"{len(p.coeff)} are given for {len(bottoms)} bottoms"
            )
        if p.coeff and p.operation != EltwiseParameter.SUM:
            raise self.error("Eltwise layer only takes coefficients for summation.")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms[1:], 1):
            if shape != bottoms[0]:
                raise self.error(
                    f"Check failed: bottom[0]->shape() == bottom[i]->shape() bottom[0]: {describe(bottoms[0])}, "
                    f"bottom[{i}]: {describe(shape)}"
                )
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.eltwise_param
        if p.operation == EltwiseParameter.PROD:
            return [reduce(torch.mul, bottoms)]
        if p.operation == EltwiseParameter.MAX:
            a, b = bottoms[:2]
            top = torch.where(a > b, a, b)
            for x in bottoms[2:]:
                top = torch.where(x > top, x, top)
            return [top]
        if not p.coeff or all(c == 1 for c in p.coeff):
            return [reduce(torch.add, bottoms)]
        terms = [x if c == 1 else x * c for x, c in zip(bottoms, p.coeff, strict=True)]
        return [reduce(torch.add, terms)]


@register("Scale")
class Scale(Layer):
    """Top = bottom 0 · scale (+ bias), the factor broadcast over the axes it does not have.

    The factor is the second bottom, or a learned blob shaped like ``num_axes`` axes of the bottom from
    ``axis`` on (−1: all of them; filled with 1 unless told otherwise). The bias has the factor's shape.
    """

    bottoms = (1, 2)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.scale_param
        shape = bottoms[0]
        if len(bottoms) == 1:
            axis = self.axis(p.axis, shape)
            if p.num_axes < -1:
                raise self.error(f"num_axes must be -1 or more, it is {p.num_axes}")
            if p.num_axes >= 0 and axis + p.num_axes > len(shape):
                raise self.error(
                    "scale blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] "
                    f"axis {axis}: num_axes is {p.num_axes}, the bottom {describe(shape)}"
                )
            factor = shape[axis:] if p.num_axes == -1 else shape[axis : axis + p.num_axes]
            filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=1)
            self.add_blob(factor, filler)
        else:
            factor = bottoms[1]
        if p.bias_term:
            self.add_blob(factor, p.bias_filler)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        factor = bottoms[1] if len(bottoms) > 1 else self.blobs[0].shape
        # Caffe: a factor without axes is a scalar, wherever axis points
        axis = self.axis(self.param.scale_param.axis, shape) if factor else 0
        if shape[axis : axis + len(factor)] != factor:
            raise self.error(
                f"dimension mismatch between bottom[0] with shape {describe(shape)} and the scale with shape "
                f"{describe(factor)}, applied from axis {axis} on"
            )
        self.view = (*(1,) * axis, *factor, *(1,) * (len(shape) - axis - len(factor)))
        return [shape]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        factor = bottoms[1] if len(bottoms) > 1 else self.weight(0)
        top = bottoms[0] * factor.view(self.view)
        if self.param.scale_param.bias_term:
            top = top + self.weight(len(self.blobs) - 1).view(self.view)
        return [top]
