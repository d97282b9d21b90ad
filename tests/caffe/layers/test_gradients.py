"""Backward against central differences of forward, for every differentiable layer, from one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import caffe


@dataclass(frozen=True)
class Case:
    """One layer with its parameters, on bottoms of these shapes."""

    type: str
    shapes: tuple[tuple[int, ...], ...]
    text: str = ""
    phase: int = caffe.TRAIN
    labels: int = 0  # one bottom holds whole numbers below this, and gets no gradient
    labelled: int = -1  # which
    still: tuple[int, ...] = ()  # bottoms that matter and yet get no gradient
    positive: bool = False  # all values are above 0
    step: float = 1e-2
    tops: int = 1
    weighed: int | None = None  # only so many tops let gradients through

    def __str__(self) -> str:
        return f"{self.type} {self.text}".strip()

    def prototxt(self) -> str:
        """A net of inputs and this layer."""
        names = [f"x{i}" for i in range(len(self.shapes))]
        inputs = "".join(
            f'layer {{ name: "in_{n}" type: "Input" top: "{n}" input_param {{ shape {{ '
            + " ".join(f"dim: {d}" for d in shape)
            + " } } }\n"
            for n, shape in zip(names, self.shapes, strict=True)
        )
        bottoms = " ".join(f'bottom: "{n}"' for n in names)
        tops = " ".join(f'top: "y{i}"' for i in range(self.tops))
        layer = f'layer {{ name: "L" type: "{self.type}" {bottoms} {tops} {self.text} }}'
        return f"force_backward: true\n{inputs}{layer}"


FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'

CASES = [
    *(
        Case("Convolution", ((2, 4, 6, 5),), f"convolution_param {{ num_output: 4 {p} {FILL} }}")
        for p in (
            "kernel_size: 3",
            "kernel_size: 3 pad: 1 stride: 2 group: 2",
            "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride_h: 1 stride_w: 2",
            "kernel_size: 2 dilation: 2 bias_term: false",
        )
    ),
    Case("Convolution", ((2, 3, 7),), f"convolution_param {{ num_output: 2 kernel_size: 3 {FILL} }}"),
    Case("InnerProduct", ((3, 2, 2),), f"inner_product_param {{ num_output: 4 {FILL} }}"),
    Case(
        "InnerProduct",
        ((2, 3, 4),),
        f"inner_product_param {{ num_output: 2 axis: 2 transpose: true {FILL} }}",
    ),
    Case("ReLU", ((3, 5),), step=1e-3),
    Case("ReLU", ((3, 5),), "relu_param { negative_slope: 0.1 }", step=1e-3),
    Case("TanH", ((3, 5),)),
    *(
        Case("Pooling", ((2, 2, 6, 5),), f"pooling_param {{ pool: {p} }}", step=1e-3)
        for p in (
            "MAX kernel_size: 3 stride: 2",
            "MAX kernel_size: 3 stride: 2 pad: 2",
            "AVE kernel_size: 3 stride: 2 pad: 1",
            "AVE kernel_size: 3 stride: 2 pad: 2",
            "AVE global_pooling: true",
            "MAX kernel_h: 2 kernel_w: 3 stride: 4 round_mode: FLOOR",
        )
    ),
    Case("LRN", ((2, 6, 3, 3),), "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }"),
    Case("LRN", ((2, 2, 5, 4),), "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
    Case("BatchNorm", ((4, 3, 2, 2),)),
    Case("BatchNorm", ((6, 3),)),
    Case("Scale", ((2, 3, 4),), "scale_param { bias_term: true }"),
    Case("Scale", ((2, 3, 4),), "scale_param { axis: 0 num_axes: 2 }"),
    Case("Scale", ((2, 3, 4), (3, 4)), "scale_param { axis: 1 }"),
    Case("Eltwise", ((2, 3), (2, 3), (2, 3)), "eltwise_param { operation: PROD }"),
    Case("Eltwise", ((2, 3), (2, 3), (2, 3)), "eltwise_param { operation: PROD stable_prod_grad: false }"),
    Case("Eltwise", ((2, 3), (2, 3)), "eltwise_param { operation: SUM coeff: 0.5 coeff: -2 }"),
    Case("Eltwise", ((2, 3), (2, 3), (2, 3)), "eltwise_param { operation: MAX }", step=1e-3),
    Case("Concat", ((2, 3), (2, 1), (2, 2))),
    Case("Concat", ((1, 3), (2, 3)), "concat_param { axis: 0 }"),
    Case("Split", ((2, 3),), tops=3),
    Case("Softmax", ((2, 4, 3),)),
    Case("Softmax", ((2, 4, 3),), "softmax_param { axis: 2 }"),
    Case("SoftmaxWithLoss", ((5, 4), (5,)), labels=4),
    Case("SoftmaxWithLoss", ((2, 4, 3), (2, 3)), "loss_param { ignore_label: 1 }", labels=4),
    Case("SoftmaxWithLoss", ((2, 3, 4), (2, 3)), "softmax_param { axis: 2 } loss_weight: 3", labels=4),
    *(
        Case("SoftmaxWithLoss", ((5, 4), (5,)), f"loss_param {{ normalization: {mode} }}", labels=4)
        for mode in ("FULL", "BATCH_SIZE", "NONE")
    ),
    Case("Dropout", ((2, 3),), phase=caffe.TEST),
    *(
        Case("Deconvolution", ((2, 4, 3, 4),), f"convolution_param {{ num_output: 4 {p} {FILL} }}")
        for p in (
            "kernel_size: 3",
            "kernel_size: 3 pad: 1 stride: 2 group: 2",
            "kernel_h: 3 kernel_w: 1 stride_h: 1 stride_w: 2",
            "kernel_size: 2 dilation: 2 bias_term: false",
        )
    ),
    Case("Deconvolution", ((2, 3, 4),), f"convolution_param {{ num_output: 2 kernel_size: 3 {FILL} }}"),
    Case("Deconvolution", ((1, 2, 2, 3, 2),), f"convolution_param {{ num_output: 2 kernel_size: 2 {FILL} }}"),
    Case("Im2col", ((2, 3, 5, 4),), "convolution_param { kernel_size: 3 stride: 2 pad: 1 }"),
    Case("Im2col", ((2, 3, 6),), "convolution_param { kernel_size: 2 dilation: 2 axis: 1 }"),
    Case("Crop", ((2, 3, 5, 6), (2, 3, 2, 3)), "crop_param { offset: 1 offset: 2 }", still=(1,)),
    Case("Crop", ((3, 4), (2, 2)), "crop_param { axis: 0 offset: 1 }", still=(1,)),
    Case("SPP", ((2, 2, 9, 7),), "spp_param { pyramid_height: 3 }", step=1e-3),
    Case("SPP", ((2, 2, 9, 7),), "spp_param { pyramid_height: 3 pool: AVE }"),
    Case("SPP", ((2, 2, 3, 4),), "spp_param { pyramid_height: 1 }", step=1e-3),
    Case("PReLU", ((2, 3, 4),), step=1e-3),
    Case("PReLU", ((2, 3),), 'prelu_param { channel_shared: true filler { type: "constant" value: -0.5 } }', step=1e-3),
    Case("ELU", ((3, 5),), step=1e-3),
    Case("ELU", ((3, 5),), "elu_param { alpha: 0.3 }", step=1e-3),
    Case("Sigmoid", ((3, 5),)),
    Case("Swish", ((3, 5),)),
    Case("Swish", ((3, 5),), "swish_param { beta: 2.5 }"),
    Case("BNLL", ((3, 5),)),
    Case("AbsVal", ((3, 5),), step=1e-3),
    Case("Clip", ((3, 5),), "clip_param { min: -0.7 max: 0.4 }", step=1e-3),
    *(
        Case("Power", ((3, 5),), f"power_param {{ {p} }}")
        for p in ("power: 2", "power: 3 scale: 0.5", "power: 0.5 shift: 3", "power: 1 scale: 3 shift: -1", "power: 0")
    ),
    Case("Power", ((3, 5),), "power_param { scale: 0 shift: 2 power: 3 }"),
    Case("Power", ((3, 5),), "power_param { power: -1.5 scale: 2 }", positive=True),
    Case("Exp", ((3, 5),)),
    Case("Exp", ((3, 5),), "exp_param { base: 2 scale: -0.5 shift: 1 }"),
    Case("Log", ((3, 5),), positive=True),
    Case("Log", ((3, 5),), "log_param { base: 2 scale: -0.5 shift: 3 }"),
    Case("MVN", ((2, 3, 3, 2),)),
    Case("MVN", ((2, 3, 3, 2),), "mvn_param { across_channels: true }"),
    Case("MVN", ((2, 3, 4),), "mvn_param { normalize_variance: false }"),
    Case("Bias", ((2, 3, 4),), 'bias_param { filler { type: "gaussian" } }'),
    Case("Bias", ((2, 3, 4),), "bias_param { axis: -3 num_axes: -1 }"),
    Case("Bias", ((2, 3, 4),), "bias_param { num_axes: 0 }"),
    Case("Bias", ((2, 3, 4), (3, 4)), "bias_param { axis: -2 }"),
    Case("Bias", ((2, 3, 4), ()), "bias_param { axis: 1 }"),
    Case("Scale", ((2, 3, 4), ()), "scale_param { bias_term: true }"),
    Case("Embed", ((2, 3),), f"embed_param {{ num_output: 4 input_dim: 3 {FILL} }}", labels=3),
    Case("Embed", ((5,),), "embed_param { num_output: 2 input_dim: 4 bias_term: false }", labels=4),
    Case("Flatten", ((2, 3, 2, 2),)),
    Case("Flatten", ((2, 3, 2, 2),), "flatten_param { axis: 0 end_axis: -2 }"),
    Case("Reshape", ((2, 3, 4),), "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }"),
    Case("Reshape", ((2, 3, 4),), "reshape_param { axis: 1 num_axes: 1 shape { dim: 1 dim: 3 } }"),
    Case("Slice", ((2, 6, 2),), tops=3),
    Case("Slice", ((4, 2),), "slice_param { slice_dim: 0 slice_point: 1 }", tops=2),
    Case("Tile", ((2, 3, 2),), "tile_param { tiles: 3 }"),
    Case("Tile", ((2, 3, 2),), "tile_param { axis: -1 tiles: 2 }"),
    *(
        Case("Reduction", ((2, 3, 4),), f"reduction_param {{ operation: {p} }}", step=1e-3)
        for p in ("SUM", "ASUM axis: 1", "SUMSQ axis: 2 coeff: 0.3", "MEAN axis: -2 coeff: -2")
    ),
    Case("Filter", ((6, 3), (6, 2, 2), (6,)), labels=2, tops=2),
    Case("BatchReindex", ((3, 2, 2), (5,)), labels=3),
    Case("Parameter", (), "parameter_param { shape { dim: 2 dim: 3 } }"),
    Case("EuclideanLoss", ((3, 4), (3, 2, 2))),
    Case("EuclideanLoss", ((3, 4), (3, 4)), "loss_weight: 0.5"),
    Case("HingeLoss", ((4, 5), (4,)), labels=5, step=1e-3),
    Case("HingeLoss", ((4, 5), (4, 1)), "hinge_loss_param { norm: L2 }", labels=5),
    Case("ContrastiveLoss", ((6, 4), (6, 4), (6,)), "contrastive_loss_param { margin: 3 }", labels=2, step=1e-3),
    Case(
        "ContrastiveLoss",
        ((6, 4, 1, 1), (6, 4, 1, 1), (6, 1)),
        "contrastive_loss_param { margin: 5 legacy_version: true }",
        labels=2,
    ),
    *(
        Case("SigmoidCrossEntropyLoss", ((4, 5), (4, 5)), f"loss_param {{ {p} }}", still=(1,))
        for p in (
            "",
            "normalization: FULL",
            "normalization: VALID ignore_label: 1",
            "normalize: true",
            "normalization: NONE",
        )
    ),
    Case("MultinomialLogisticLoss", ((4, 5), (4,)), labels=5, positive=True),
    Case("InfogainLoss", ((4, 5), (4,), (5, 5)), labels=5, labelled=1, still=(2,)),
    Case(
        "InfogainLoss",
        ((2, 3, 4), (2, 3), (1, 1, 4, 4)),
        "infogain_loss_param { axis: 2 } loss_param { ignore_label: 1 normalization: BATCH_SIZE }",
        labels=4,
        labelled=1,
        still=(2,),
    ),
    Case("LSTMUnit", ((1, 2, 3), (1, 2, 12), (1, 2)), labels=2, tops=2),
    Case(
        "LSTM",
        ((3, 2, 4), (3, 2), (2, 3), (1, 2, 3), (1, 2, 3)),
        f"recurrent_param {{ num_output: 3 expose_hidden: true {FILL} }}",
        labels=2,
        labelled=1,
        still=(3, 4),
        tops=3,
        weighed=1,
    ),
    Case(
        "RNN",
        ((3, 2, 4), (3, 2), (2, 3), (1, 2, 3)),
        f"recurrent_param {{ num_output: 3 expose_hidden: true {FILL} }}",
        labels=2,
        labelled=1,
        still=(3,),
        tops=2,
        weighed=1,
    ),
]


def spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values no two of which are close, so that no maximum changes hands within a step."""
    values = np.linspace(-1.5, 1.5, int(np.prod(shape)) + 1)[:-1] + 0.013
    return rng.permutation(values).reshape(shape)


def objective(net: caffe.Net, weights: dict[str, np.ndarray]) -> float:
    """Weighted sum of the tops: its gradient to a top is the weight."""
    net.forward()
    return sum(float(np.sum(net.blobs[n].data.astype(np.float64) * w)) for n, w in weights.items())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(case: Case, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    caffe.set_random_seed(3)
    path = tmp_path / "net.prototxt"
    path.write_text(case.prototxt())
    net = caffe.Net(str(path), case.phase)
    inputs = [net.blobs[n] for n in net.inputs]
    for i, blob in enumerate(inputs):
        blob.data[...] = spread(rng, blob.shape) + 0.037 * i + (2 if case.positive else 0)
    varied = [blob for i, blob in enumerate(inputs) if i not in case.still]
    if case.labels:
        label = inputs[case.labelled]
        label.data[...] = rng.integers(case.labels, size=label.shape)
        varied.remove(label)
    net.forward()  # a Filter knows its shape then
    tops = [f"y{i}" for i in range(case.tops if case.weighed is None else case.weighed)]
    if net.blob_loss_weights["y0"]:
        weights = {"y0": np.float64(net.blob_loss_weights["y0"])}
    else:
        weights = {n: rng.normal(size=net.blobs[n].shape) for n in tops}
    objective(net, weights)
    for name, weight in weights.items():
        net.blobs[name].diff[...] = weight
    net.clear_param_diffs()
    net.backward()
    learned = [] if case.type == "BatchNorm" else net.params.get("L", [])
    checked = 0
    for blob in (*varied, *learned):
        analytic = blob.diff.copy().ravel()
        for k in rng.permutation(blob.count)[:12]:
            saved = blob.data.flat[k]
            blob.data.flat[k] = saved + case.step
            above = objective(net, weights)
            blob.data.flat[k] = saved - case.step
            below = objective(net, weights)
            blob.data.flat[k] = saved
            numeric = (above - below) / (2 * case.step)
            assert analytic[k] == pytest.approx(numeric, rel=5e-3, abs=5e-3)
            checked += 1
    assert checked


def test_every_layer_with_a_gradient_is_in_the_table() -> None:
    sources = {"Data", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "Input", "MemoryData", "WindowData"}
    no_gradient = {"Accuracy", "ArgMax", "Silence", "Threshold"}
    users_own = {"Python"}
    assert {c.type for c in CASES} == set(caffe.layer_type_list()) - sources - no_gradient - users_own
