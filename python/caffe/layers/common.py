"""Inner product, embedding, scale and offset: learned weights and no neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch
import torch.nn.functional as F

from caffe import glog, onednn
from caffe.capture import defers
from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import BiasParameter, FillerParameter, ScaleParameter


@register("InnerProduct")
class InnerProduct(Layer):
    """Top = bottom · weightsᵀ + bias, over everything from ``axis`` on.

    Shapes: bottom [..., K...] with ``axis`` the first of the K axes; weight [num_output, K], or
    [K, num_output] with ``transpose``; bias [num_output]; top [..., num_output].
    """

    half = True
    gives_away_top = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.inner_product_param
        if p.num_output <= 0:
            raise self.error("inner_product_param needs a num_output above 0")
        self.first = self.axis(p.axis, bottoms[0])
        self.inputs = prod(bottoms[0][self.first :])
        self.add_blob((self.inputs, p.num_output) if p.transpose else (p.num_output, self.inputs), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        self.first = self.axis(self.param.inner_product_param.axis, shape)
        inputs = prod(shape[self.first :])
        if inputs != self.inputs:
            raise self.error(
                f"Check failed: K_ == new_K ({self.inputs} vs. {inputs}) Input size incompatible with inner "
                f"product parameters. The bottom's shape is {list(shape)}; resize it to what the weights were "
                "made for"
            )
        return [(*shape[: self.first], self.param.inner_product_param.num_output)]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.inner_product_param
        x = bottoms[0].reshape(*bottoms[0].shape[: self.first], self.inputs)
        weight = self.weight(0).t() if p.transpose else self.weight(0)
        return [onednn.linear(x, weight, self.weight(1) if p.bias_term else None)]


@register("Embed")
class Embed(Layer):
    """A learned vector for each number of the bottom: an inner product with one-hot vectors.

    Shapes: bottom [...] of whole numbers from 0 to ``input_dim`` − 1; weight [input_dim, num_output], bias
    [num_output]; top [..., num_output]. There is no gradient to the bottom.
    """

    differentiable = (False,)
    undifferentiable = "its input"

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.embed_param
        for name in ("num_output", "input_dim"):
            if getattr(p, name) <= 0:
                raise self.error(f"EmbedLayer {name} must be positive.")
        self.add_blob((p.input_dim, p.num_output), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0], self.param.embed_param.num_output)]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, given = self.param.embed_param, bottoms[0].detach()
        number = given.long()
        wrong = (number != given) | (number < 0) | (number >= p.input_dim)
        if defers(wrong):
            number = number.masked_fill(wrong, 0)
        elif wrong.any():
            raise self.error(
                f"the bottom has {given[wrong][0]:g} where a whole number from 0 to {p.input_dim - 1} is needed "
                "(input_dim is the number of vectors)"
            )
        top = F.embedding(number, self.weight(0))
        return [top + self.own_weight(1) if p.bias_term else top]


class _Broadcast(Layer):
    """A factor or offset, broadcast over the axes of bottom 0 that it does not have.

    It is the second bottom, or a learned blob shaped like ``num_axes`` axes of the bottom from ``axis`` on
    (−1: all of them).
    """

    bottoms = (1, 2)
    what: ClassVar[str]

    def parameters(self) -> ScaleParameter | BiasParameter:
        """Where axis and num_axes stand."""
        raise NotImplementedError

    def covered(self, bottoms: Sequence[Shape]) -> Shape:
        """Shape of the factor or offset."""
        p, shape = self.parameters(), bottoms[0]
        if len(bottoms) > 1:
            return bottoms[1]
        axis = self.axis(p.axis, shape)
        if p.num_axes < -1:
            raise self.error(f"num_axes must be -1 or more, it is {p.num_axes}")
        if p.num_axes >= 0 and axis + p.num_axes > len(shape):
            raise self.error(
                f"{self.what} blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] "
                f"axis {axis}: num_axes is {p.num_axes}, the bottom {describe(shape)}"
            )
        return shape[axis:] if p.num_axes == -1 else shape[axis : axis + p.num_axes]

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        mine = bottoms[1] if len(bottoms) > 1 else self.blobs[0].shape
        # Caffe: a factor without axes is a scalar, wherever axis points
        axis = self.axis(self.parameters().axis, shape) if mine else 0
        if shape[axis : axis + len(mine)] != mine:
            raise self.error(
                f"dimension mismatch between bottom[0] with shape {describe(shape)} and the {self.what} with shape "
                f"{describe(mine)}, applied from axis {axis} on"
            )
        self.view = (*(1,) * axis, *mine, *(1,) * (len(shape) - axis - len(mine)))
        return [shape]


@register("Scale")
class Scale(_Broadcast):
    """Top = bottom 0 · scale (+ bias), both broadcast; a learned scale is 1 unless filled otherwise.

    The bias has the scale's shape and is always learned.
    """

    what = "scale"
    half = False
    gives_away_top = True

    def parameters(self) -> ScaleParameter:
        return self.param.scale_param

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p, factor = self.param.scale_param, self.covered(bottoms)
        if len(bottoms) == 1:
            self.add_blob(factor, p.filler if p.HasField("filler") else FillerParameter(type="constant", value=1))
        if p.bias_term:
            glog.info("layer_factory.hpp:77", f"Creating layer {self.name}")  # BVLC makes a Bias inside
            self.add_blob(factor, p.bias_filler)

    @property
    def per_channel(self) -> bool:
        """Whether it is a learned number a channel, as BatchNorm's."""
        p = self.param.scale_param
        return len(self.param.bottom) == 1 and p.axis == 1 and len(self.blobs[0].shape) == 1

    def factors(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The learned scale and bias."""
        return self.weight(0), self.weight(1) if self.param.scale_param.bias_term else None

    def affine(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The same in float64, with no gradient."""
        factor, *bias = (blob.data_tensor().detach().double() for blob in self.blobs)
        return factor, bias[0] if bias else None

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        factor = bottoms[1] if len(bottoms) > 1 else self.weight(0)
        top = bottoms[0] * factor.view(self.view).to(bottoms[0].dtype)
        if self.param.scale_param.bias_term:
            top = top + self.own_weight(len(self.blobs) - 1).view(self.view).to(top.dtype)
        return [top]


@register("Bias")
class Bias(_Broadcast):
    """Top = bottom 0 + bias, broadcast; a learned bias is 0 unless filled otherwise."""

    what = "bias"

    def parameters(self) -> BiasParameter:
        return self.param.bias_param

    def setup(self, bottoms: Sequence[Shape]) -> None:
        offset = self.covered(bottoms)
        if len(bottoms) == 1:
            self.add_blob(offset, self.param.bias_param.filler)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        offset = bottoms[1] if len(bottoms) > 1 else self.own_weight(0)
        return [bottoms[0] + offset.view(self.view)]
