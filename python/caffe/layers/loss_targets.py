"""The losses against target values: distances, and the cross entropy of independent probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from caffe.layers.base import LossLayer, Shape, describe, rows_of, with_slope
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import LossParameter


@register("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """Σ (a − b)² / 2N. Both bottoms are [N, ...] with as many values an item, and both get a gradient."""

    differentiable = (True,)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        top = super().reshape(bottoms)
        a, b = (math.prod(shape[1:]) for shape in bottoms)
        if a != b:
            raise self.error(
                f"Check failed: bottom[0]->count(1) == bottom[1]->count(1) ({a} vs. {b}) Inputs must have the same "
                f"dimension. They are {describe(bottoms[0])} and {describe(bottoms[1])}"
            )
        return top

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        difference = bottoms[0].flatten() - bottoms[1].flatten()
        return [difference.dot(difference) / (2 * len(bottoms[0]))]


@register("ContrastiveLoss")
class ContrastiveLoss(LossLayer):
    """Alike pairs cost their distance, others what it lacks to ``margin`` (Hadsell et al. 2006).

    Σ (s · d² + (1 − s) · max(margin − d, 0)²) / 2N with d = |a − b|; the ``legacy_version`` has
    max(margin − d², 0) instead. Shapes: bottoms a and b [N, C], s [N], 0 or 1 (each may have axes of length
    1 behind); top []. Caffe's gradient divides by d + 0.0001, not by d.
    """

    bottoms = (3, 3)
    differentiable = (True, True, False)
    undifferentiable = ""  # BVLC leaves the labels' gradient alone

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        top = super().reshape(bottoms)
        a, b, alike = bottoms
        fits = a[1:2] == b[1:2] and all(d == 1 for d in (*a[2:], *b[2:], *alike[1:])) and alike[:1] == a[:1]
        if not fits:
            raise self.error(
                "Check failed: bottom[0]->channels() == bottom[1]->channels(): bottoms must be [N, C], [N, C] and "
                f"[N]: they are {', '.join(describe(shape) for shape in bottoms)}"
            )
        return top

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.contrastive_loss_param
        difference = rows_of(bottoms[0]) - rows_of(bottoms[1])
        squared = (difference * difference).sum(1)
        alike = bottoms[2].detach().flatten().long() != 0
        if p.legacy_version:
            apart = F.relu(p.margin - squared)
        else:
            distance = squared.detach().sqrt()
            lack = F.relu(p.margin - with_slope(distance, squared, 0.5 / (distance + 1e-4)))
            apart = lack * lack
        return [torch.where(alike, squared, apart).sum() / (2 * len(squared))]


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """−Σ (t · log p + (1 − t) · log(1 − p)) / normalizer with p = sigmoid(x): for labels that do not exclude.

    Shapes: x and targets t, from 0 to 1, [N, ...] with as many values; top []. Targets whose whole part is
    ``ignore_label`` do not count. Unless told otherwise the sum is divided by N.
    """

    unset = LossParameter.BATCH_SIZE

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        top = super().reshape(bottoms)
        a, b = map(math.prod, bottoms)
        if a != b:
            raise self.error(
                f"Check failed: bottom[0]->count() == bottom[1]->count() ({a} vs. {b}) SIGMOID_CROSS_ENTROPY_LOSS "
                f"layer inputs must have the same count. They are {describe(bottoms[0])} and {describe(bottoms[1])}"
            )
        return top

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        x, target = bottoms[0].flatten(), bottoms[1].detach().flatten()
        counted = torch.ones_like(target, dtype=torch.bool) if self.ignored is None else target.long() != self.ignored
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        loss = torch.where(counted, losses, 0).sum()
        return [loss / self.normalizer(len(x), counted, len(bottoms[0]))]
