"""Inner product: the layer in which every output sees every input."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F

from caffe.layers.base import Layer, Shape
from caffe.layers.registry import register


@register("InnerProduct")
class InnerProduct(Layer):
    """Top = bottom · weightsᵀ + bias, over everything from ``axis`` on.

    Shapes: bottom [..., K...] with ``axis`` the first of the K axes; weight [num_output, K], or
    [K, num_output] with ``transpose``; bias [num_output]; top [..., num_output].
    """

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
        return [F.linear(x, weight, self.weight(1) if p.bias_term else None)]
