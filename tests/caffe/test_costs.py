"""Costs against loops that count what they do, and against published numbers of well-known nets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from caffe.costs import FORMULAS, PER_VALUE, costs
from caffe.layers.base import ElementwiseLayer
from caffe.layers.registry import _types
from caffe.net import Net
from caffe.proto.caffe_pb2 import TEST, TRAIN, NetParameter
from caffe.proto.text import parse, read_net

MODELS = Path(__file__).parents[2] / "models"


def meta(text: str, phase: int = TRAIN) -> Net:
    param = parse(text, NetParameter(), "test")
    param.state.phase = phase  # type: ignore[assignment]
    return Net.from_param(param, torch.device("meta"))


def inputs(*shapes: tuple[int, ...]) -> str:
    tops = "".join(f' top: "x{i}"' for i in range(len(shapes)))
    dims = "".join(f" shape {{ {' '.join(f'dim: {d}' for d in shape)} }}" for shape in shapes)
    return f'layer {{ name: "in" type: "Input"{tops} input_param {{{dims} }} }}\n'


def one(kind: str, rest: str, *shapes: tuple[int, ...], phase: int = TRAIN) -> int:
    """FLOPs of a layer of the type on inputs of these shapes."""
    bottoms = "".join(f' bottom: "x{i}"' for i in range(len(shapes)))
    net = meta(inputs(*shapes) + f'layer {{ name: "l" type: "{kind}"{bottoms} top: "y" {rest} }}', phase)
    return costs(net)[-1].flops


class Count:
    """Numbers without a value that count what is done to them."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, *operands: object) -> Count:
        self.done += 1
        return self

    __add__ = __sub__ = __mul__ = __truediv__ = __call__


Loop = Callable[[Count], None]


def places(*lengths: int) -> Iterator[tuple[int, ...]]:
    return product(*map(range, lengths))


def convolution(x: Count) -> None:  # [2, 4, 5, 5], two groups of 3x3 with pad 1 and stride 2 into 6 channels
    for _ in places(2, 6, 3, 3):
        top = x
        for _ in places(4 // 2, 3, 3):
            top = top + x * x


def deconvolution(x: Count) -> None:  # [2, 4, 3, 3], 2x2 with stride 2 into 6 channels in two groups
    for _ in places(2, 4, 3, 3):
        for _ in places(6 // 2, 2, 2):
            x + x * x


def inner_product(x: Count) -> None:
    for _ in places(2, 5):
        top = x
        for _ in places(3, 4, 4):
            top = top + x * x


def max_pooling(x: Count) -> None:  # [2, 3, 7, 7], 3x3 with stride 2
    for _ in places(2, 3, 3, 3, 3, 3):
        x("max")


def average_pooling(x: Count) -> None:
    for _ in places(2, 3, 3, 3):
        top = x
        for _ in range(3 * 3 - 1):
            top = top + x
        top / x


def pyramid(x: Count) -> None:  # [2, 3, 4, 4]: 1 cell, then 2x2
    for cells in (1, 2):
        for _ in places(2, 3, cells, cells, 4 // cells, 4 // cells):
            x("max")


def across_channels(window: int) -> Loop:
    def loop(x: Count) -> None:
        for _ in places(2, 6, 3, 3):
            x * x  # the squares, each once
            total = x
            for _ in range(window - 1):
                total = total + x
            x * (x + x * total)("power")

    return loop


def batch_norm_testing(x: Count) -> None:
    for _ in places(2, 3, 4, 4):
        (x - x) * x


def batch_norm_training(x: Count) -> None:
    for _ in places(2, 3, 4, 4):
        x + x  # mean
    for _ in places(2, 3, 4, 4):
        centred = x - x
        x + centred * centred  # variance
        centred * x


def softmax(x: Count) -> None:
    for _ in places(2, 7):
        x("max")
        x + (x - x)("exp")
        x / x


def lstm(x: Count) -> None:  # T = 3, N = 2, inputs 4, D = 5, static input 6
    for _ in places(2, 4 * 5, 6):
        x + x * x
    for _ in places(3, 2):
        for _ in range(5):
            x * x  # hidden · cont
        for _ in places(4 * 5):
            gate = x
            for _ in range(4 + 5):
                gate = gate + x * x
        for _ in range(5):
            cell = x * x("sigmoid") * x + x("sigmoid") * x("tanh")
            x("sigmoid") * cell("tanh")


def rnn(x: Count) -> None:  # T = 3, N = 2, inputs 4, D = 5
    for _ in places(3, 2, 5):
        state = x
        x * x  # hidden · cont
        for _ in range(4 + 5):
            state = state + x * x
        state("tanh")
        top = x
        for _ in range(5):
            top = top + x * x
        top("tanh")


def each(operations: int, *lengths: int) -> Loop:
    def loop(x: Count) -> None:
        for _ in places(*lengths):
            for _ in range(operations):
                x + x

    return loop


CONV = "convolution_param { num_output: 6 group: 2"
TWO = "eltwise_param { operation: SUM coeff: 1 coeff: -1 }"


@pytest.mark.parametrize(
    ("loop", "kind", "rest", "shapes", "phase"),
    [
        (convolution, "Convolution", f"{CONV} kernel_size: 3 pad: 1 stride: 2 }}", [(2, 4, 5, 5)], TRAIN),
        (deconvolution, "Deconvolution", f"{CONV} kernel_size: 2 stride: 2 }}", [(2, 4, 3, 3)], TRAIN),
        (inner_product, "InnerProduct", "inner_product_param { num_output: 5 }", [(2, 3, 4, 4)], TRAIN),
        (max_pooling, "Pooling", "pooling_param { kernel_size: 3 stride: 2 }", [(2, 3, 7, 7)], TRAIN),
        (average_pooling, "Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }", [(2, 3, 7, 7)], TRAIN),
        (pyramid, "SPP", "spp_param { pyramid_height: 2 }", [(2, 3, 4, 4)], TRAIN),
        (across_channels(5), "LRN", "lrn_param { local_size: 5 }", [(2, 6, 3, 3)], TRAIN),
        (across_channels(9), "LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }", [(2, 6, 3, 3)], TRAIN),
        (batch_norm_testing, "BatchNorm", "", [(2, 3, 4, 4)], TEST),
        (batch_norm_training, "BatchNorm", "", [(2, 3, 4, 4)], TRAIN),
        (batch_norm_training, "MVN", "", [(2, 3, 4, 4)], TRAIN),
        (each(2, 2, 3, 4, 4), "MVN", "mvn_param { normalize_variance: false }", [(2, 3, 4, 4)], TRAIN),
        (softmax, "Softmax", "", [(2, 7)], TRAIN),
        (softmax, "SoftmaxWithLoss", "", [(2, 7), (2,)], TRAIN),
        (lstm, "LSTM", "recurrent_param { num_output: 5 }", [(3, 2, 4), (3, 2), (2, 6)], TRAIN),
        (rnn, "RNN", "recurrent_param { num_output: 5 }", [(3, 2, 4), (3, 2)], TRAIN),
        (each(1, 2, 3), "ReLU", "", [(2, 3)], TRAIN),
        (each(1, 2, 3), "Dropout", "", [(2, 3)], TRAIN),
        (each(0), "Dropout", "", [(2, 3)], TEST),
        (each(1, 2, 3), "Scale", "", [(2, 3)], TRAIN),
        (each(2, 2, 3), "Scale", "scale_param { bias_term: true }", [(2, 3)], TRAIN),
        (each(1, 2, 3), "Bias", "", [(2, 3)], TRAIN),
        (each(2, 2, 3), "Eltwise", "", [(2, 3)] * 3, TRAIN),
        (each(2, 2, 3), "Eltwise", TWO, [(2, 3)] * 2, TRAIN),
        (each(1, 2, 3), "Eltwise", "eltwise_param { operation: MAX }", [(2, 3)] * 2, TRAIN),
        (each(1, 2, 3), "Reduction", "", [(2, 3)], TRAIN),
        (each(2, 2, 3), "Reduction", "reduction_param { operation: SUMSQ }", [(2, 3)], TRAIN),
        (each(3, 2, 3), "EuclideanLoss", "", [(2, 3)] * 2, TRAIN),
        (each(1, 4, 5), "Embed", "embed_param { num_output: 5 input_dim: 9 }", [(4,)], TRAIN),
        (each(0), "Embed", "embed_param { num_output: 5 input_dim: 9 bias_term: false }", [(4,)], TRAIN),
        (each(0), "Concat", "", [(2, 3)] * 2, TRAIN),
    ],
)
def test_flops_are_those_of_a_loop(loop: Loop, kind: str, rest: str, shapes: list[tuple[int, ...]], phase: int) -> None:
    x = Count()
    loop(x)
    assert one(kind, rest, *shapes, phase=phase) == x.done


MOVERS = {
    *("BatchReindex", "Concat", "Crop", "Filter", "Flatten", "Im2col", "Reshape", "Silence", "Slice", "Split", "Tile"),
    *("Data", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "Input", "MemoryData", "WindowData", "Parameter"),
    *("MultinomialLogisticLoss", "Python"),
}


def test_only_movers_cost_nothing() -> None:
    """A layer type that comes new is either given a formula or entered here."""
    free = {t for t, c in _types.items() if t not in {*FORMULAS, *PER_VALUE} and not issubclass(c, ElementwiseLayer)}
    assert free == MOVERS
    assert {*FORMULAS, *PER_VALUE} <= set(_types)


def totals(param: NetParameter) -> tuple[int, int]:
    """Parameters and multiply-adds of convolutions and inner products, a picture."""
    param.state.phase = TEST
    net = Net.from_param(param, torch.device("meta"))
    rows = costs(net)
    products = sum(row.flops for row in rows if row.type in ("Convolution", "InnerProduct"))
    return sum(row.parameters for row in rows), products // 2 // net.blobs["data"].num


def test_caffenet_has_its_published_size() -> None:
    param = read_net(str(MODELS / "CaffeNet" / "deploy.prototxt"))
    next(layer for layer in param.layer if layer.name.startswith("fc8")).inner_product_param.num_output = 1000
    assert totals(param) == (60_965_224, 724_406_816)


def test_squeezenet_has_its_published_size() -> None:
    assert totals(read_net(str(MODELS / "SqueezeNet" / "deploy_imagenet.prototxt")))[0] == 1_248_424


def test_rows_have_names_shapes_and_bytes() -> None:
    net = meta(
        inputs((2, 3, 8, 8))
        + 'layer { name: "c" type: "Convolution" bottom: "x0" top: "c" '
        + "convolution_param { num_output: 4 kernel_size: 3 } }"
        + 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }'
        + 'layer { name: "s" type: "Slice" bottom: "c" top: "a" top: "b" }'
    )
    rows = costs(net)
    assert [(row.name, row.type) for row in rows] == [
        ("in", "Input"),
        ("c", "Convolution"),
        ("r", "ReLU"),
        ("s", "Slice"),
    ]
    assert [row.tops for row in rows] == [((2, 3, 8, 8),), ((2, 4, 6, 6),), ((2, 4, 6, 6),), ((2, 2, 6, 6),) * 2]
    image, top, weights = math.prod((2, 3, 8, 8)), math.prod((2, 4, 6, 6)), 4 * 3 * 3 * 3 + 4
    assert [row.parameters for row in rows] == [0, weights, 0, 0]
    assert [row.bytes for row in rows] == [4 * image, 4 * (image + weights + top), 8 * top, 8 * top]


def test_a_shared_parameter_counts_once_but_is_read_twice() -> None:
    ip = 'type: "InnerProduct" param { name: "w" } inner_product_param { num_output: 3 bias_term: false }'
    net = meta(
        inputs((2, 3))
        + f'layer {{ name: "a" bottom: "x0" top: "a" {ip} }}'
        + f'layer {{ name: "b" bottom: "a" top: "b" {ip} }}'
    )
    rows = costs(net)[1:]
    assert [row.parameters for row in rows] == [9, 0]
    assert [row.bytes for row in rows] == [4 * (6 + 6 + 9)] * 2


def test_a_reshaped_net_costs_what_it_does_now() -> None:
    net = meta(inputs((2, 3, 8, 8)) + 'layer { name: "r" type: "ReLU" bottom: "x0" top: "y" }')
    net.blobs["x0"].reshape(4, 3, 8, 8)
    net.reshape()
    assert costs(net)[1].flops == 4 * 3 * 8 * 8
