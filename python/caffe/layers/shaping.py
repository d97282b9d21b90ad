"""Layers that give a blob another shape: regrouped, repeated, reduced or searched along its axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from caffe.layers.base import Layer, Shape, describe
from caffe.layers.registry import register
from caffe.proto.caffe_pb2 import ReductionParameter


@register("Flatten")
class Flatten(Layer):
    """The axes from ``axis`` to ``end_axis`` (both included; 1 and the last by default) become one."""

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.forbid_in_place()

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, shape = self.param.flatten_param, bottoms[0]
        first, end = self.axis(p.axis, shape), self.axis(p.end_axis, shape, "end_axis") + 1
        if first > end:
            raise self.error(
                f"Check failed: start_axis <= end_axis ({first} vs. {end}): end_axis {p.end_axis} is before axis "
                f"{p.axis} in a blob with shape {describe(shape)}"
            )
        self.shape = (*shape[:first], prod(shape[first:end]), *shape[end:])
        return [self.shape]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].reshape(self.shape)]


@register("Reshape")
class Reshape(Layer):
    """``num_axes`` axes of the bottom from ``axis`` on (−1: all of them) are replaced by those of ``shape``.

    In ``shape`` a 0 stands for the bottom's own length at that place, one −1 for whatever the count leaves.
    A negative ``axis`` counts from behind the last axis: with −1 and ``num_axes: 0`` new axes come last.
    """

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self.forbid_in_place()
        dims = list(self.param.reshape_param.shape.dim)
        if dims.count(-1) > 1:
            raise self.error(
                f"new shape contains multiple -1s; at most a single (1) value of -1 may be specified: {dims}"
            )
        if min(dims, default=0) < -1:
            raise self.error(f"Check failed: shape[i] >= 0: {dims} has a length below -1")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        first, end = self._replaced(shape)
        new = [*shape[:first], *self.param.reshape_param.shape.dim, *shape[end:]]
        for i, dim in enumerate(self.param.reshape_param.shape.dim, first):
            if dim == 0:
                if i >= len(shape):
                    raise self.error(
                        "new shape contains a 0, but there was no corresponding bottom axis to copy: axis "
                        f"{i} of {describe(shape)}"
                    )
                new[i] = shape[i]
        if -1 in new:
            known = -prod(new)
            if known == 0 or prod(shape) % known:
                raise self.error(
                    "bottom count must be divisible by the product of the specified dimensions: "
                    f"{prod(shape)} by {known}. The bottom is {describe(shape)}, the new shape {new}"
                )
            new[new.index(-1)] = prod(shape) // known
        if prod(new) != prod(shape):
            raise self.error(
                f"Check failed: top[0]->count() == bottom[0]->count() ({prod(new)} vs. {prod(shape)}) output count "
                f"must match input count. The bottom is {describe(shape)}, the new shape {describe(new)}"
            )
        self.shape = tuple(new)
        return [self.shape]

    def _replaced(self, shape: Shape) -> tuple[int, int]:
        """First axis that is replaced, and the first after it that stays."""
        p, n = self.param.reshape_param, len(shape)
        first = p.axis if p.axis >= 0 else n + p.axis + 1
        if not 0 <= first <= n:
            raise self.error(f"axis {p.axis} out of range for {n}-D input blob {describe(shape)}")
        if p.num_axes < -1:
            raise self.error(f"num_axes must be >= 0, or -1 for all; it is {p.num_axes}")
        end = n if p.num_axes == -1 else first + p.num_axes
        if end > n:
            raise self.error(
                f"end_axis = axis + num_axes is out of range: {end} for {n}-D input blob {describe(shape)}"
            )
        return first, end

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        return [bottoms[0].reshape(self.shape)]


@register("Tile")
class Tile(Layer):
    """The bottom ``tiles`` times, one after the other along ``axis``."""

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.tile_param
        if not p.HasField("tiles"):
            raise self.error("Number of tiles must be specified: tile_param needs tiles")
        if p.tiles <= 0:
            raise self.error(f"Check failed: tiles_ > 0 ({p.tiles} vs. 0) Number of tiles must be positive.")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, shape = self.param.tile_param, bottoms[0]
        self.along = self.axis(p.axis, shape)
        return [(*shape[: self.along], shape[self.along] * p.tiles, *shape[self.along + 1 :])]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        times = [1] * bottoms[0].dim()
        times[self.along] = self.param.tile_param.tiles
        return [bottoms[0].repeat(times)]


@register("Reduction")
class Reduction(Layer):
    """All axes from ``axis`` on become one number: ``coeff`` times their SUM, ASUM (of |x|), SUMSQ or MEAN.

    Shapes: bottom [N..., M...] with ``axis`` the first of the M; top [N...]. At 0 the gradient of |x| is 0.
    """

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.first = self.axis(self.param.reduction_param.axis, bottoms[0])
        return [bottoms[0][: self.first]]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p = self.param.reduction_param
        x = bottoms[0].flatten(self.first)
        if p.operation == ReductionParameter.ASUM:
            x = x.abs()
        elif p.operation == ReductionParameter.SUMSQ:
            x = x * x
        top = x.mean(-1) if p.operation == ReductionParameter.MEAN else x.sum(-1)
        return [top * p.coeff if p.coeff != 1 else top]


@register("ArgMax")
class ArgMax(Layer):
    """Where the ``top_k`` highest values are, in falling order; of equal ones the later comes first.

    Shapes: bottom [N, ...]. With ``axis`` that axis becomes top_k long and holds the indices, or with
    ``out_max_val`` the values. Without it each item is searched as one: top [N, 1, top_k], or with
    ``out_max_val`` [N, 2, top_k] with the values second; with ones behind as far as the bottom has more axes.
    """

    differentiable = (False,)
    undifferentiable = "its input"

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p, shape = self.param.argmax_param, bottoms[0]
        self.along = self.axis(p.axis, shape) if p.HasField("axis") else None
        if p.top_k < 1:
            raise self.error(f"Check failed: top_k_ >= 1 ({p.top_k} vs. 1) top k must not be less than 1.")
        if not shape:
            raise self.error("the bottom needs at least one axis")

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        p, shape = self.param.argmax_param, bottoms[0]
        length = prod(shape[1:]) if self.along is None else shape[self.along]
        if p.top_k > length:
            among = "flattened bottom blob per instance" if self.along is None else "axis"
            raise self.error(
                f"Check failed: top_k_ <= {length} ({p.top_k} vs. {length}) top_k must be less than or equal to "
                f"the dimension of the {among}. The bottom is {describe(shape)}"
            )
        if self.along is None:
            return [(shape[0], 2 if p.out_max_val else 1, p.top_k, *(1,) * (len(shape) - 3))]
        return [(*shape[: self.along], p.top_k, *shape[self.along + 1 :])]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        p, x = self.param.argmax_param, bottoms[0].detach()
        shape = self.reshape([tuple(x.shape)])[0]
        along = 1 if self.along is None else self.along
        if self.along is None:
            x = x.reshape(shape[0], -1)
        # the stable sort of the reversed axis puts the later of equal values first
        values, order = x.flip(along).sort(dim=along, descending=True, stable=True)
        values, order = (t.narrow(along, 0, p.top_k) for t in (values, x.shape[along] - 1 - order))
        if self.along is not None:
            return [values if p.out_max_val else order.float()]
        return [torch.cat([order.float(), values], 1).view(shape) if p.out_max_val else order.float().view(shape)]
