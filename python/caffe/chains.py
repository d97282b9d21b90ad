"""Chains: a layer and those after it that work in place on its top, run as one.

Nobody sees what a blob held before the last of them wrote to it, so a whole chain may be one autograd graph: what
no gradient needs is freed, or written over. Convolution, BatchNorm, Scale and ReLU on one blob so keep two arrays
instead of four.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from caffe.layers.activation import ReLU
from caffe.layers.base import BlobLayer, Layer
from caffe.layers.common import Scale
from caffe.layers.normalization import BatchNorm
from caffe.layers.vision import Convolution
from caffe.packed import Affine
from caffe.wiring import Wiring


@dataclass
class Inner:
    """How to get the gradient of what the first layer of a chain that needs one gave: its blob's diff is left with it.

    Attributes:
        edge: where it comes by,
        factor: what it still lacks there, a number a channel, if anything.
    """

    edge: GradientEdge
    factor: torch.Tensor | None

    def gradient(self, came: torch.Tensor) -> torch.Tensor:
        """The gradient [N, C, ...] from what came by."""
        return came if self.factor is None else came * self.factor.view(-1, *[1] * (came.dim() - 2))


def find_chains(w: Wiring) -> list[range]:
    """All layers by number, in order, those of a chain together."""
    chains: list[range] = []
    for i in range(len(w.layers)):
        if i and _goes_on(w, i):
            chains[-1] = range(chains[-1].start, i + 1)
        else:
            chains.append(range(i, i + 1))
    return chains


def _goes_on(w: Wiring, i: int) -> bool:
    """Whether layer i does nothing but rewrite the one top of the layer before, whose values nobody else sees."""
    before, layer = w.layers[i - 1], w.layers[i]
    return (
        len(w.top_ids[i]) == 1
        and w.bottom_ids[i] == w.top_ids[i] == w.top_ids[i - 1]
        and bool(w.bottom_ids[i - 1])  # what no layer computes, a caller may write
        and w.bottom_needs[i] == [w.needs_backward[i - 1]]
        and not w.loss_weights[w.top_ids[i][0]]
        and not isinstance(before, BlobLayer)
        and not isinstance(layer, BlobLayer)
    )


def ends_in_relu(layers: Sequence[Layer]) -> bool:
    """Whether the last is a ReLU that may write over what the layer before it gives."""
    return len(layers) > 1 and isinstance(layers[-1], ReLU) and layers[-1].plain and layers[-2].gives_away_top


def _affine(layers: Sequence[Layer]) -> list[Affine]:
    """Those at the beginning that are a factor and an offset a channel."""
    affine: list[Affine] = []
    for layer in layers:
        if not (isinstance(layer, (BatchNorm, Scale)) and layer.per_channel):
            break
        affine.append(layer)
    return affine


def run_chain(
    layers: Sequence[Layer], bottoms: Sequence[torch.Tensor], half: torch.dtype | None = None
) -> tuple[list[torch.Tensor], Inner | None]:
    """Give the tops of the last layer from the bottoms of the first; ``half`` is a type below float32, if any.

    With them comes, where a gradient is recorded, how to get that of what the first layer that needs one gives.
    """
    tops, done = list(bottoms), 0
    inner: Inner | None = None
    while done < len(layers):
        layer, after = layers[done], layers[done + 1 : done + 2]
        if half and layer.half is None:
            tops = [x.float() if x.dtype == half else x for x in tops]
        if isinstance(layer, Convolution) and not (half or torch.is_grad_enabled() or tops[1:]):
            affine = _affine(layers[done + 1 :])
            top = layer.with_those_after(tops[0], affine)
            if top is not None:
                tops, done = [top], done + 1 + len(affine)
                continue
        factor = None
        if isinstance(layer, BatchNorm) and after and isinstance(after[0], Scale) and after[0].per_channel:
            scale, bias = after[0].factors()
            factor = scale.detach() if tops[0].requires_grad else None
            tops, done = [layer.scaled(tops[0], scale, bias)], done + 2
        else:
            free = done and layers[done - 1].gives_away_top
            with torch.autocast(layer.device.type, half) if half and layer.half else nullcontext():
                tops, done = [layer.overwrite(tops[0])] if free else layer.forward(*tops), done + 1
        if inner is None and tops and tops[0].requires_grad:
            inner = Inner(get_gradient_edge(tops[0]), factor)  # the edge: the values may be written over
    return tops, inner
