"""What a net's layers cost: parameters, operations of the forward pass, bytes moved.

The operations (FLOPs) are those of the layer's formula, counted as in a plain loop over it. A multiplication
with an addition is two; any function (exp, power, division, comparison) is one; a sum starts from its bias,
which so costs nothing. What is done once a channel or once a net is left out, and so are tricks that
save operations: two programs for the same layer have the same cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from caffe.blob import Shape
from caffe.layers.base import ElementwiseLayer, Layer
from caffe.net import Net
from caffe.proto.caffe_pb2 import EltwiseParameter, LRNParameter, ReductionParameter

FLOAT = 4
"""Bytes of a value."""


@dataclass(frozen=True)
class Cost:
    """One layer.

    Attributes:
        name, type: the layer's.
        tops: shapes of its tops.
        parameters: numbers in the parameter blobs that it owns; a shared blob counts where it is made first.
        flops: operations of its forward pass.
        bytes: read (bottoms and all its parameters) and written (tops) by its forward pass, as float32.
    """

    name: str
    type: str
    tops: tuple[Shape, ...]
    parameters: int
    flops: int
    bytes: int


def costs(net: Net) -> list[Cost]:
    """Give a row a layer, in the net's order, for the shapes that its blobs have now."""
    owned: Counter[int] = Counter()
    for learnable in net.learnable:
        owned[learnable.layer] += learnable.blob.count
    return [_cost(net, i, owned[i]) for i in range(len(net.wired))]


def _cost(net: Net, i: int, parameters: int) -> Cost:
    layer = net.wired[i]
    bottoms = [net._blobs[b].shape for b in net._bottom_ids(i)]
    tops = [net._blobs[t].shape for t in net._top_ids(i)]
    values = sum(map(prod, [*bottoms, *tops])) + sum(blob.count for blob in layer.blobs)
    return Cost(layer.name, layer.type, tuple(tops), parameters, flops(layer, bottoms, tops), FLOAT * values)


def flops(layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Count the operations of the layer's forward pass for these shapes.

    A type without a formula here has one for each value where it is elementwise, else none: it moves values
    (Python layers may do more, which nobody can count).
    """
    if layer.type in FORMULAS:
        return FORMULAS[layer.type](layer, bottoms, tops)
    each = PER_VALUE.get(layer.type, int(isinstance(layer, ElementwiseLayer)))
    return each * prod(bottoms[0]) if each else 0


PER_VALUE = {
    "Accuracy": 1,  # a comparison with the label's score
    "ArgMax": 1,
    "BNLL": 2,  # log(1 + exp(x)), as a function and a sum
    "Clip": 2,
    "ContrastiveLoss": 3,  # difference, square, sum
    "ELU": 2,
    "EuclideanLoss": 3,
    "Exp": 3,  # scale, shift, function
    "HingeLoss": 3,  # margin, comparison, sum
    "InfogainLoss": 7,  # softmax, and a product and sum with the matrix
    "Log": 3,
    "LSTMUnit": 10,  # five functions, four products, one sum
    "PReLU": 2,
    "Power": 3,
    "SigmoidCrossEntropyLoss": 4,
    "Softmax": 5,  # greatest, difference, exp, sum, quotient
    "SoftmaxWithLoss": 5,
    "Swish": 3,
}
"""Type -> operations for each value of the first bottom."""


def _convolution(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Each value of a top is a sum of C/group · kernel products."""
    return 2 * prod(layer.blobs[0].shape[1:]) * sum(map(prod, tops))


def _deconvolution(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Each value of a bottom is multiplied into num_output/group · kernel sums."""
    return 2 * prod(layer.blobs[0].shape[1:]) * sum(map(prod, bottoms))


def _inner_product(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Each value of the top is a sum of as many products as an item has values."""
    return 2 * layer.inputs * prod(tops[0])


def _embed(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A row is copied, and the bias added."""
    return prod(tops[0]) if layer.param.embed_param.bias_term else 0


def _pooling(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Each value of the top compares or sums a window."""
    return prod(layer.kernel) * prod(tops[0])


def _spp(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Each level is a pooling."""
    return sum(_pooling(level, bottoms, level.reshape(bottoms)) for level in layer.levels)


def _lrn(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A square, n (n² within a channel) − 1 sums, product and sum with alpha and k, a power, a product."""
    p = layer.param.lrn_param
    window = p.local_size if p.norm_region == LRNParameter.ACROSS_CHANNELS else p.local_size**2
    return (window + 4) * prod(tops[0])


def _batch_norm(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A difference and a product; in training also the sums of the mean and of the squares, and the squares."""
    return (2 if layer.global_stats else 5) * prod(tops[0])


def _mvn(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """Sum and difference of the mean; square, sum and quotient of the variance where it is normalized."""
    return (5 if layer.param.mvn_param.normalize_variance else 2) * prod(tops[0])


def _scale(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A product, and a sum where there is a bias."""
    return (2 if layer.param.scale_param.bias_term else 1) * prod(tops[0])


def _bias(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A sum."""
    return prod(tops[0])


def _eltwise(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A sum, product or comparison between two bottoms; a product for each coefficient of a sum."""
    p = layer.param.eltwise_param
    products = sum(c != 1 for c in p.coeff) if p.operation == EltwiseParameter.SUM else 0
    return (len(bottoms) - 1 + products) * prod(tops[0])


def _reduction(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A sum for each value; before it a square or the magnitude where asked for."""
    twice = layer.param.reduction_param.operation in (ReductionParameter.ASUM, ReductionParameter.SUMSQ)
    return (2 if twice else 1) * prod(bottoms[0])


def _dropout(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """A product in training, nothing in testing."""
    return prod(tops[0]) if layer.training else 0


def _recurrent(layer: Any, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
    """The products of all matrices in each of T steps over N streams (the static input's once), and the states."""
    steps, streams = bottoms[0][:2]
    matrices = [blob.count for blob in layer.blobs if len(blob.shape) == 2]
    once = matrices.pop(1) if layer.static else 0
    return 2 * streams * (steps * sum(matrices) + once) + STATES[layer.type] * prod(tops[0])


STATES = {"LSTM": 11, "RNN": 3}
"""Operations of a step for each value of the state: `LSTMUnit`'s and the product with cont; that and two tanh."""

Formula = Callable[[Any, Sequence[Shape], Sequence[Shape]], int]

FORMULAS: dict[str, Formula] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "Embed": _embed,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "LSTM": _recurrent,
    "MVN": _mvn,
    "Pooling": _pooling,
    "RNN": _recurrent,
    "Reduction": _reduction,
    "SPP": _spp,
    "Scale": _scale,
}
"""Type -> operations of a forward pass, from the layer and its shapes."""
