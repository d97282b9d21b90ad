"""Layers that join, split and choose among blobs, and parameters on their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import torch

from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import EltwiseParameter


@register("Split")
class Split(Layer):
    """Each top is the bottom: nets insert it where one blob has several readers, whose gradients add up."""

    tops = (1, None)
    half = False

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * len(self.param.top)

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0][...] for _ in self.param.top]  # a view that keeps the order of memory, of one picture too


@register("Silence")
class Silence(Layer):
    """Read the bottoms and nothing else, so that the net does not list them as outputs; the gradient is 0."""

    bottoms = (1, None)
    tops = (0, 0)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return []


@register("Parameter")
class Parameter(Layer):
    """A learned blob of the given ``shape``, as a top; zero until weights are loaded or written."""

    bottoms = (0, 0)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        shape = tuple(self.param.parameter_param.shape.dim)
        if min(shape, default=0) < 0:
            raise self.error(f"Check failed: shape[i] >= 0: a blob cannot have the shape {list(shape)}")
        self.add_blob(shape)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self.blobs[0].shape]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [self.own_weight(0)]


@register("Concat")
class Concat(Layer):
    """The bottoms one after the other along ``axis`` (1 by default; older files say ``concat_dim``)."""

    bottoms = (1, None)
    half = False

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


class _Quotients(torch.autograd.Function):
    """A product whose gradient is (top / bottom) · top's, which Caffe computes where ``stable_prod_grad`` is false.

    It is not a number where a bottom is 0.
    """

    @staticmethod
    def forward(ctx: Any, *bottoms: torch.Tensor) -> torch.Tensor:
        """Multiply the bottoms, all of one shape."""
        top = reduce(torch.mul, bottoms)
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Divide the product by each bottom."""
        top, *bottoms = ctx.saved_tensors
        return tuple(top / x * gradients[0] for x in bottoms)


@register("Eltwise")
class Eltwise(Layer):
    """Bottoms of one shape into one top: SUM (each times its ``coeff``), PROD or MAX.

    A maximum that several bottoms share sends its whole gradient to the last of the first two, else to the
    earliest, as Caffe's does; PyTorch would divide it.
    """

    bottoms = (2, None)
    half = False

    @property
    def gives_away_top(self) -> bool:  # type: ignore[override]
        """A product's gradient may be computed from it."""
        return self.param.eltwise_param.operation != EltwiseParameter.PROD

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.eltwise_param
        if p.coeff and len(p.coeff) != len(bottoms):
            raise self.error(
                "Eltwise Layer takes one coefficient per bottom blob: "
                f"{len(p.coeff)} are given for {len(bottoms)} bottoms"
            )
        if p.coeff and p.operation == EltwiseParameter.PROD:  # MAX has no use for them, and BVLC lets it
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
            return [reduce(torch.mul, bottoms) if p.stable_prod_grad else _Quotients.apply(*bottoms)]
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


@register("Slice")
class Slice(Layer):
    """The bottom cut along ``axis`` (1 by default; older files say ``slice_dim``) into the tops.

    The cuts are before the indices ``slice_point``; without them the parts are equal.
    """

    tops = (1, None)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.slice_param
        if p.HasField("axis") and p.HasField("slice_dim"):
            raise self.error("Either axis or slice_dim should be specified; not both.")
        if p.slice_point and len(p.slice_point) != len(self.param.top) - 1:
            raise self.error(
                f"Check failed: slice_point_.size() == top.size() - 1 ({len(p.slice_point)} vs. "
                f"{len(self.param.top) - 1}): give one slice_point fewer than tops"
            )

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, shape = self.param.slice_param, bottoms[0]
        if p.HasField("slice_dim") and p.slice_dim >= len(shape):
            raise self.error(f"slice_dim out of range: it is {p.slice_dim} for {describe(shape)}")
        self.along = p.slice_dim if p.HasField("slice_dim") else self.axis(p.axis, shape)
        self.parts = self._parts(shape[self.along])
        return [(*shape[: self.along], part, *shape[self.along + 1 :]) for part in self.parts]

    def _parts(self, length: int) -> list[int]:
        points, tops = list(self.param.slice_param.slice_point), len(self.param.top)
        if not points:
            if length % tops:
                raise self.error(
                    f"Check failed: bottom_slice_axis % top.size() == 0 ({length % tops} vs. 0) Number of top "
                    f"blobs ({tops}) should evenly divide input slice axis ({length})"
                )
            return [length // tops] * tops
        edges = [0, *points, length]
        parts = [b - a for a, b in pairwise(edges)]
        if min(parts) <= 0:
            raise self.error(
                f"Check failed: slice_point_[i] > prev: the slice points {points} must rise and lie within the "
                f"axis, which is {length} long"
            )
        return parts

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return list(bottoms[0].split(self.parts, self.along))


@register("Filter")
class Filter(Layer):
    """The items of each bottom for which the last bottom, the selector, is not 0.

    Shapes: bottoms [N, ...] and a selector [N, 1...]; tops [M, ...], where M is the number of chosen items,
    known (and 0 if there are none) once the layer has run; before that M = N.
    """

    bottoms = (2, None)
    tops = (1, None)
    undifferentiable = "filter index inputs"
    waits = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        if len(self.param.top) != len(bottoms) - 1:
            raise self.error(
                f"Check failed: top.size() == bottom.size() - 1 ({len(self.param.top)} vs. {len(bottoms) - 1}): "
                "every bottom but the last, the selector, has a top"
            )

    def flows_to(self, bottom: int) -> bool:
        return bottom < len(self.param.bottom) - 1

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        *data, selector = bottoms
        if any(dim != 1 for dim in selector[1:]):
            raise self.error(f"Selector blob dimensions must be singletons (1), except the first: {list(selector)}")
        for i, shape in enumerate(data):
            if not shape or shape[:1] != selector[:1]:
                raise self.error(
                    "Each bottom should have the same 0th dimension as the selector blob: bottom "
                    f"{i} is {describe(shape)}, the selector {describe(selector)}"
                )
        return data

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        *data, selector = bottoms
        chosen = selector.detach().flatten().nonzero().flatten()
        return [x.index_select(0, chosen) for x in data]


@register("BatchReindex")
class BatchReindex(Layer):
    """The items of bottom 0 that bottom 1 names by number, in its order; an item may come again.

    Shapes: bottoms [N, ...] and [M]; top [M, ...]. There is no gradient to the numbers.
    """

    bottoms = (2, 2)
    differentiable = (True, False)
    undifferentiable = "index"
    waits = True

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, numbers = bottoms
        if len(numbers) != 1 or not shape:
            raise self.error(
                f"Check failed: 1 == bottom[1]->num_axes(): the item numbers need 1 axis, they are "
                f"{describe(numbers)}, the items {describe(shape)}"
            )
        return [(*numbers, *shape[1:])]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        items, numbers = bottoms[0], bottoms[1].detach().long()
        for wrong, what in ((numbers < 0, "negative"), (numbers >= len(items), "greater than batch size")):
            if wrong.any():
                raise self.error(
                    f"Index specified for reindex layer was {what}: {int(numbers[wrong][0])}, the batch has "
                    f"{len(items)} items"
                )
        return [items.index_select(0, numbers)]
