"""Element by element: activations and dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from caffe import rng
from caffe.layers.base import ElementwiseLayer, Shape
from caffe.layers.registry import register


@register("ReLU")
class ReLU(ElementwiseLayer):
    """Top = max(0, x) + negative_slope · min(0, x); at 0 the gradient is negative_slope's."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        slope = self.param.relu_param.negative_slope
        return [F.leaky_relu(bottoms[0], slope) if slope else F.relu(bottoms[0])]


@register("TanH")
class TanH(ElementwiseLayer):
    """Top = (1 − exp(−2x)) / (1 + exp(−2x))."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].tanh()]


@register("Dropout")
class Dropout(ElementwiseLayer):
    """In training each element is 0 with probability ``dropout_ratio``, else x / (1 − dropout_ratio).

    In testing the top is the bottom.
    """

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise self.error(f"dropout_ratio must be in [0, 1), it is {self.ratio:g}")

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        x = bottoms[0]
        if not self.training:
            return [x]
        keep = torch.empty_like(x).bernoulli_(1 - self.ratio, generator=rng.generator(self.device))
        return [x * keep.mul_(1 / (1 - self.ratio))]
