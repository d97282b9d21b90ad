"""Element by element: activations, powers and dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from caffe import rng
from caffe.layers.base import ElementwiseLayer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import FillerParameter


@register("ReLU")
class ReLU(ElementwiseLayer):
    """Top = max(0, x) + negative_slope · min(0, x); at 0 the gradient is negative_slope's."""

    half = False

    @property
    def plain(self) -> bool:
        """Whether the negative slope is 0."""
        return not self.param.relu_param.negative_slope

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        slope = self.param.relu_param.negative_slope
        return [F.leaky_relu(bottoms[0], slope) if slope else F.relu(bottoms[0])]

    def overwrite(self, bottom: torch.Tensor) -> torch.Tensor:
        return F.relu_(bottom) if self.plain else self.forward(bottom)[0]


@register("PReLU")
class PReLU(ElementwiseLayer):
    """Top = max(0, x) + slope · min(0, x) with a learned slope (He et al. 2015).

    Shapes: bottom and top [N, C, ...]; slope [C], or [] with ``channel_shared``; 0.25 unless filled otherwise.
    """

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p, shape = self.param.prelu_param, bottoms[0]
        if len(shape) < 2:
            raise self.error(
                f"Check failed: bottom[0]->num_axes() >= 2 ({len(shape)} vs. 2) Number of axes of bottom blob "
                f"must be >=2. The bottom is {describe(shape)}"
            )
        filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=0.25)
        self.add_blob(() if p.channel_shared else (shape[1],), filler)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        slopes, shape = self.blobs[0].shape, bottoms[0]
        if slopes and slopes != shape[1:2]:
            raise self.error(f"the slopes are for {slopes[0]} channels, the bottom is {describe(shape)}")
        return [shape]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [F.prelu(bottoms[0], self.weight(0).view(-1))]


@register("ELU")
class ELU(ElementwiseLayer):
    """Top = x above 0, else alpha · (exp(x) − 1); at 0 the gradient is alpha (Clevert et al. 2015)."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [F.elu(bottoms[0], self.param.elu_param.alpha)]


@register("Sigmoid")
class Sigmoid(ElementwiseLayer):
    """Top = 1 / (1 + exp(−x))."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].sigmoid()]


@register("Swish")
class Swish(ElementwiseLayer):
    """Top = x / (1 + exp(−beta · x)) (Ramachandran et al. 2017)."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0] * (self.param.swish_param.beta * bottoms[0]).sigmoid()]


@register("TanH")
class TanH(ElementwiseLayer):
    """Top = (1 − exp(−2x)) / (1 + exp(−2x))."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].tanh()]


@register("BNLL")
class BNLL(ElementwiseLayer):
    """Binomial normal log likelihood: top = log(1 + exp(x))."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [F.softplus(bottoms[0])]


@register("AbsVal")
class AbsVal(ElementwiseLayer):
    """Top = |x|; at 0 the gradient is 0."""

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.forbid_in_place()

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].abs()]


@register("Clip")
class Clip(ElementwiseLayer):
    """Top = x held between ``min`` and ``max``; the gradient passes where x is within, the bounds included."""

    def setup(self, bottoms: Sequence[Shape]) -> None:
        if not self.param.HasField("clip_param"):
            raise self.error("clip_param needs min and max")

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.clip_param
        return [bottoms[0].clamp(max=p.max).clamp(min=p.min)]


@register("Threshold")
class Threshold(ElementwiseLayer):
    """Top = 1 where x is above ``threshold``, else 0. It has no gradient."""

    differentiable = (False,)
    undifferentiable = "its input"

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [(bottoms[0] > self.param.threshold_param.threshold).float()]


@register("Power")
class Power(ElementwiseLayer):
    """Top = (shift + scale · x)^power. With a ``scale`` or ``power`` of 0 it is constant, with gradient 0."""

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, x = self.param.power_param, bottoms[0]
        if p.scale * p.power == 0:
            return [torch.full_like(x, p.shift).pow(p.power)]
        base = x * p.scale if p.scale != 1 else x
        base = base + p.shift if p.shift else base
        return [base.pow(p.power) if p.power != 1 else base]


class _Logarithmic(ElementwiseLayer):
    """A base, −1 standing for e, and its natural logarithm."""

    def read_base(self, base: float) -> None:
        """Take and check the base."""
        if base != -1 and not base > 0:
            raise self.error(f"Check failed: base > 0 ({base:g} vs. 0) base must be strictly positive.")
        self.log_base = 1.0 if base == -1 else math.log(base)
        if not math.isfinite(self.log_base):
            raise self.error(f"Inf result: log(base) = log({base:g}) = {self.log_base:g}")


@register("Exp")
class Exp(_Logarithmic):
    """Top = base^(shift + scale · x)."""

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.read_base(self.param.exp_param.base)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.exp_param
        return [(bottoms[0] * (p.scale * self.log_base) + p.shift * self.log_base).exp()]


@register("Log")
class Log(_Logarithmic):
    """Top = log(shift + scale · x) to the ``base``."""

    def setup(self, bottoms: Sequence[Shape]) -> None:
        base = self.param.log_param.base
        self.read_base(base)
        if self.log_base == 0:
            raise self.error(f"Inf result: 1 / log(base) = 1 / log({base:g}); base must not be 1")

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.log_param
        return [(bottoms[0] * p.scale + p.shift).log() / self.log_base]


@register("Dropout")
class Dropout(ElementwiseLayer):
    """In training each element is 0 with probability ``dropout_ratio``, else x / (1 − dropout_ratio).

    In testing the top is the bottom.
    """

    half = False

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise self.error(f"dropout_ratio must be in [0, 1), it is {self.ratio:g}")

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        x = bottoms[0]
        if not self.training:
            return [x]
        # not bernoulli_(), which takes five times as long where MKL does not know the CPU
        chance = torch.empty_like(x, dtype=torch.float32).uniform_(generator=rng.generator(self.device))
        return [x * chance.lt_(1 - self.ratio).mul_(1 / (1 - self.ratio)).to(x.dtype)]
