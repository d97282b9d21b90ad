"""Softmax, accuracy and the losses against class numbers: what a net's scores are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from caffe import capture, glog
from caffe.layers.base import Layer, LossLayer, Shape, describe, rows_of, with_slope
from caffe.layers.registry import register
from caffe.proto.binary import read_message
from caffe.proto.caffe_pb2 import BlobProto, HingeLossParameter

LOG_SMALLEST = math.log(torch.finfo(torch.float32).tiny)
LOG_THRESHOLD = 1e-20  # Caffe's bound below probabilities in the older losses


def check_label_count(layer: Layer, scores: Shape, labels: Shape, axis: int) -> None:
    """One label a prediction, or Caffe's words for it."""
    predictions = math.prod(scores[:axis]) * math.prod(scores[axis + 1 :])
    if predictions != math.prod(labels):
        raise layer.error(
            f"Check failed: outer_num_ * inner_num_ == bottom[1]->count() ({predictions} vs. {math.prod(labels)}) "
            "Number of labels must match number of predictions; e.g., if label axis == 1 and prediction shape "
            "is (N, C, H, W), label count (number of labels) must be N*H*W, with integer values in "
            f"{{0, 1, ..., C-1}}. The predictions are {describe(scores)}, the labels {describe(labels)}"
        )


def check_one_label(layer: Layer, labels: Shape) -> None:
    """One label an item."""
    if any(dim != 1 for dim in labels[1:]):
        raise layer.error(
            f"Check failed: bottom[1]->channels() == 1: there must be one label an item, they are {describe(labels)}"
        )


def class_numbers(
    layer: Layer, labels: torch.Tensor, classes: int, ignore: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels as flat int64 class numbers, and which of them count; ignored ones read as class 0.

    Raises:
        LayerError: a label is outside 0 … classes − 1. (BVLC reads and writes beside its memory then.) While an
            iteration is captured nobody can be told; the loss is NaN then whenever a label is outside.
    """
    target = labels.detach().flatten().long()
    counted = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
    outside = counted & ((target < 0) | (target >= classes))
    if capture.defers(outside):
        counted = counted & ~outside
    elif outside.any():
        wrong = target[outside]
        raise layer.error(
            f"label {int(wrong[0])} is outside 0 to {classes - 1} ({len(wrong)} of {len(target)} labels in this "
            f"batch are). Labels are 0-based; the layer below must have as many outputs as there are classes"
        )
    return target.where(counted, 0), counted


class _Held(torch.autograd.Function):
    """Logarithms held above a least one, with the gradient that they have without: Caffe's is the softmax's."""

    @staticmethod
    def forward(ctx: Any, logs: torch.Tensor, least: float) -> torch.Tensor:
        """[...] as ``logs``."""
        return logs.clamp(min=least)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """What came, as it is."""
        return gradients[0], None


@register("Softmax")
class Softmax(Layer):
    """Top = exp(x) / Σ exp(x) along ``axis`` (1 by default)."""

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.along = self.axis(self.param.softmax_param.axis, bottoms[0])
        return [bottoms[0]]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].softmax(self.along)]


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(LossLayer):
    """Multinomial logistic loss of the softmax: −Σ log p[label] / normalizer.

    Shapes: scores [N..., C, M...] with C at ``softmax_param.axis``, labels of N·M elements; tops [] and,
    where asked for, the probabilities in the scores' shape. p is held above float32's smallest normal
    number as in Caffe, so a hopeless loss reads 87.3365; the gradient is p − [label] all the same.
    """

    tops = (1, 2)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        glog.info("layer_factory.hpp:77", f"Creating layer {self.name}")  # BVLC makes a Softmax inside

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.along = self.axis(self.param.softmax_param.axis, bottoms[0])
        check_label_count(self, bottoms[0], bottoms[1], self.along)
        return [(), bottoms[0]][: max(1, len(self.param.top))]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        scores, labels = bottoms
        logs = scores.log_softmax(self.along)
        rows = logs.movedim(self.along, -1).flatten(0, -2)  # [n, classes]
        target, counted = class_numbers(self, labels, rows.shape[1], self.ignored)
        own = rows.gather(1, target.unsqueeze(1)).squeeze(1)
        own = _Held.apply(own, LOG_SMALLEST)
        batch = math.prod(scores.shape[: self.along])
        loss = (0 - (own * counted).sum()) / self.normalizer(len(target), counted, batch)
        return [loss, logs.detach().exp()][: max(1, len(self.param.top))]


@register("Accuracy")
class Accuracy(Layer):
    """Share of predictions whose label is among the ``top_k`` highest; a second top gives it per class.

    Shapes: scores [N..., C, M...] with C at ``axis``, labels of N·M elements; tops [] and [C]. Scores that
    tie with the label's count as above it. Labels equal to ``ignore_label`` do not count, others that are no class
    are missed.
    """

    bottoms = (2, 2)
    tops = (1, 2)
    differentiable = (False,)
    undifferentiable = "its inputs"

    def setup(self, bottoms: Sequence[Shape]) -> None:
        if self.param.accuracy_param.top_k < 1:
            raise self.error("top_k must be 1 or more")
        self._warned = False

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, (scores, labels) = self.param.accuracy_param, bottoms
        self.along = self.axis(p.axis, scores)
        classes = scores[self.along]
        if p.top_k > classes:
            raise self.error(
                "Check failed: top_k_ <= bottom[0]->count() / bottom[1]->count() top_k must be less than or "
                f"equal to the number of classes: {p.top_k} of {classes}"
            )
        check_label_count(self, scores, labels, self.along)
        return [(), (classes,)][: len(self.param.top)]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, (scores, labels) = self.param.accuracy_param, bottoms
        scores = scores.movedim(self.along, -1).flatten(0, -2)  # [n, classes]
        target = labels.detach().flatten().long()
        counted = target != p.ignore_label if p.HasField("ignore_label") else torch.ones_like(target, dtype=torch.bool)
        known = counted & (target >= 0) & (target < scores.shape[1])
        self._warn_of(target, counted & ~known)
        target = target.masked_fill(~known, 0)
        own = scores.gather(1, target.unsqueeze(1))
        hit = ((scores >= own).sum(1) - 1 < p.top_k) & known
        tops = [hit.sum().float() / counted.sum().clamp(min=1)]
        if len(self.param.top) > 1:
            right, every = (
                scores.new_zeros(scores.shape[1]).index_add(0, target, which.to(scores)) for which in (hit, known)
            )
            tops.append(right / every.clamp(min=1))
        return tops

    def _warn_of(self, target: torch.Tensor, outside: torch.Tensor) -> None:
        """Say once that there are labels that are no class."""
        if self._warned or capture.under_way() or not outside.any():
            return
        self._warned = True
        glog.warning(
            "accuracy_layer.cpp:69",
            f"Layer '{self.name}': label {int(target[outside][0])} is none of its classes and counts as missed; if it "
            f"is not to count, write accuracy_param {{ ignore_label: {int(target[outside][0])} }}",
        )


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """−Σ log p[label] / N of probabilities (SoftmaxWithLoss takes scores and is the better choice).

    Shapes: probabilities [N, ...], labels of N elements; top []. p is held above 1e-20, in the gradient too.
    """

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        check_one_label(self, bottoms[1])
        return super().reshape(bottoms)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        rows = rows_of(bottoms[0])
        target, _ = class_numbers(self, bottoms[1], rows.shape[1], None)
        own = rows.gather(1, target.unsqueeze(1))
        held = own.detach().clamp(min=LOG_THRESHOLD)
        return [with_slope(held.log(), own, 1 / held).sum() / -len(rows)]


@register("InfogainLoss")
class InfogainLoss(LossLayer):
    """−Σ H[label] · log softmax(scores) / normalizer: a multinomial logistic loss with weights H.

    Shapes: scores [N..., C, M...] with C at ``axis``, labels of N·M elements, H of C·C elements, row by row,
    as the third bottom or in the file ``source`` (a .binaryproto); tops [] and, where asked for, the
    probabilities. p is held above 1e-20 in the value, not in the gradient.
    """

    bottoms = (2, 3)
    tops = (1, 2)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.infogain_loss_param
        glog.info("layer_factory.hpp:77", f"Creating layer {self.name}")  # BVLC makes a Softmax inside
        if self.param.loss_param.HasField("normalize"):
            raise self.error('normalize is deprecated. use "normalization"')
        if len(bottoms) == 2:
            if not p.source:
                raise self.error("Infogain matrix source must be specified, or be the third bottom.")
            blob = read_message(p.source, BlobProto())
            self.matrix = torch.tensor(blob.double_data or blob.data, dtype=torch.float32, device=self.device)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms[:2]
        self.along = self.axis(self.param.infogain_loss_param.axis, scores)
        check_label_count(self, scores, labels, self.along)
        size = math.prod(bottoms[2]) if len(bottoms) == 3 else self.matrix.numel()
        classes = scores[self.along]
        if size != classes**2:
            raise self.error(
                f"Check failed: infogain->count() == num_labels_*num_labels_ ({size} vs. {classes**2}) H must be "
                f"{classes}x{classes}"
            )
        return [*super().reshape(bottoms), scores][: max(1, len(self.param.top))]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        scores, labels = bottoms[:2]
        logs = scores.log_softmax(self.along)
        rows = logs.movedim(self.along, -1).flatten(0, -2)  # [n, classes]
        target, counted = class_numbers(self, labels, rows.shape[1], self.ignored)
        matrix = bottoms[2].detach() if len(bottoms) == 3 else self.matrix
        gain = matrix.reshape(-1, rows.shape[1])[target] * counted.unsqueeze(1)
        rows = _Held.apply(rows, math.log(LOG_THRESHOLD))
        batch = math.prod(scores.shape[: self.along])
        loss = (0 - (rows * gain).sum()) / self.normalizer(len(target), counted, batch)
        return [loss, logs.detach().exp()][: max(1, len(self.param.top))]


@register("HingeLoss")
class HingeLoss(LossLayer):
    """Σ max(0, 1 ∓ score)^p / N, with − for the label's class and + for all others; p = 1 or 2 by ``norm``.

    Shapes: scores [N, ...], labels of N elements; top [].
    """

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        check_one_label(self, bottoms[1])
        return super().reshape(bottoms)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        rows = rows_of(bottoms[0])
        target, _ = class_numbers(self, bottoms[1], rows.shape[1], None)
        sign = torch.ones_like(rows).scatter_(1, target.unsqueeze(1), -1)
        margin = F.relu(1 + sign * rows)
        if self.param.hinge_loss_param.norm == HingeLossParameter.L2:
            margin = margin * margin
        return [margin.sum() / len(rows)]
