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
    labels: int = 0  # the last bottom holds class numbers below this, and gets no gradient
    step: float = 1e-2
    tops: int = 1

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
        blob.data[...] = spread(rng, blob.shape) + 0.037 * i
    if case.labels:
        label = inputs.pop()
        label.data[...] = rng.integers(case.labels, size=label.shape)
    tops = [f"y{i}" for i in range(case.tops)]
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
    for blob in (*inputs, *learned):
        analytic, values = blob.diff.copy().ravel(), blob.data.reshape(-1)
        assert np.shares_memory(values, blob.data)
        for k in rng.permutation(values.size)[:12]:
            saved = values[k]
            values[k] = saved + case.step
            above = objective(net, weights)
            values[k] = saved - case.step
            below = objective(net, weights)
            values[k] = saved
            numeric = (above - below) / (2 * case.step)
            assert analytic[k] == pytest.approx(numeric, rel=5e-3, abs=5e-3)
            checked += 1
    assert checked


def test_every_layer_with_a_gradient_is_in_the_table() -> None:
    no_gradient = {"Accuracy", "Data", "ImageData", "Input"}
    assert {c.type for c in CASES} == set(caffe.layer_type_list()) - no_gradient
