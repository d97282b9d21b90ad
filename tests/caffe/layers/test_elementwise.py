"""Activations and normalizations at their corners, where recordings have no point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

import caffe

MakeLayer = Callable[..., caffe.Net]
Shape = tuple[int, ...]


def run(make_layer: MakeLayer, kind: str, x: object, text: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Top, and the bottom's gradient for a top gradient of ones."""
    net = make_layer(kind, [np.array(x, np.float32)], text)
    net.forward()
    net.blobs["y0"].diff[...] = 1
    net.backward()
    return net.blobs["y0"].data, net.blobs["x0"].diff


@pytest.mark.parametrize(
    ("kind", "text", "x", "top", "gradient"),
    [
        ("AbsVal", "", [-2, 0, 3], [2, 0, 3], [-1, 0, 1]),
        ("ELU", "elu_param { alpha: 0.5 }", [0, 2], [0, 2], [0.5, 1]),
        ("PReLU", "", [[0, -2]], [[0, -0.5]], [[0.25, 0.25]]),
        ("Clip", "clip_param { min: -1 max: 2 }", [-2, -1, 0, 2, 3], [-1, -1, 0, 2, 2], [0, 1, 1, 1, 0]),
        ("Clip", "clip_param { min: 2 max: 1 }", [0, 1.5, 3], [2, 2, 2], [0, 0, 0]),
        ("Threshold", "threshold_param { threshold: 1 }", [0, 1, 2], [0, 0, 1], [0, 0, 0]),
        ("Power", "power_param { power: 0 }", [-1, 0, 2], [1, 1, 1], [0, 0, 0]),
        ("Power", "power_param { scale: 0 }", [-1, 0, 2], [0, 0, 0], [0, 0, 0]),
        ("Power", "power_param { scale: 0 shift: -2 power: 2 }", [1, 2], [4, 4], [0, 0]),
        ("Power", "power_param { power: 2 shift: 1 scale: 2 }", [0, 1], [1, 9], [4, 12]),
        ("Exp", "exp_param { base: 2 shift: 1 scale: -1 }", [0, 1], [2, 1], [-2 * np.log(2), -np.log(2)]),
        ("Log", "log_param { base: 10 scale: 10 }", [1, 100], [1, 3], [1 / np.log(10), 0.01 / np.log(10)]),
        ("BNLL", "", [-100, 0, 100], [0, np.log(2), 100], [0, 0.5, 1]),
        ("Swish", "swish_param { beta: 0 }", [-1, 2], [-0.5, 1], [0.5, 0.5]),
    ],
)
def test_values(make_layer: MakeLayer, kind: str, text: str, x: object, top: list, gradient: list) -> None:
    y, dx = run(make_layer, kind, x, text)
    np.testing.assert_allclose(y, top, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(dx, gradient, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ratio", [0, 0.1, 0.5, 0.701])
def test_dropout_keeps_its_share(make_layer: MakeLayer, ratio: float, kind: torch.dtype) -> None:
    caffe.set_random_seed(1)
    net = make_layer("Dropout", [np.ones(1)], f"dropout_param {{ dropout_ratio: {ratio} }}", phase=caffe.TRAIN)
    layer = net.layer_dict["L"]
    (y,) = layer.forward(torch.ones(1000, 1000, dtype=kind, device=layer.device))
    assert y.dtype == kind
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - ratio)] if ratio else [1], rel=2**-8)
    kept = int(y.count_nonzero())
    assert binomtest(kept, y.numel(), 1 - ratio).pvalue > 1e-4


def test_a_maximum_has_no_use_for_coefficients(make_layer: MakeLayer) -> None:
    text = "eltwise_param { operation: MAX coeff: 5 coeff: -1 }"
    net = make_layer("Eltwise", [np.float32([2, 0]), np.float32([1, 3])], text)
    np.testing.assert_array_equal(net.forward()["y0"], [2, 3])


@pytest.mark.parametrize(("stable", "at_zero"), [("true", 3), ("false", np.nan)])
def test_the_gradient_of_a_product_at_zero(make_layer: MakeLayer, stable: str, at_zero: float) -> None:
    """Told not to mind stability, Caffe divides the product, 0, by the factor, 0."""
    text = f"eltwise_param {{ operation: PROD stable_prod_grad: {stable} }}"
    net = make_layer("Eltwise", [np.float32([2, 0]), np.float32([4, 3])], text)
    net.forward()
    net.blobs["y0"].diff[...] = 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["y0"].data, [8, 0])
    np.testing.assert_array_equal(net.blobs["x0"].diff, [4, at_zero])
    np.testing.assert_array_equal(net.blobs["x1"].diff, [2, 0])


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("Exp", "exp_param { base: 0 }", "base must be strictly positive"),
        ("Exp", "exp_param { base: nan }", "base must be strictly positive"),
        ("Exp", "exp_param { base: inf }", "Inf result"),
        ("Log", "log_param { base: -2 }", "base must be strictly positive"),
        ("Log", "log_param { base: 1 }", "base must not be 1"),
        ("Clip", "", "clip_param needs min and max"),
        ("PReLU", "", "Number of axes of bottom blob must be >=2"),
    ],
)
def test_refuses(make_layer: MakeLayer, kind: str, text: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer(kind, [np.ones(3)], text)


def test_prelu_keeps_its_channels(make_layer: MakeLayer) -> None:
    net = make_layer("PReLU", [np.ones((2, 3))])
    net.blobs["x0"].reshape(2, 4)
    with pytest.raises(caffe.CaffeError, match="slopes are for 3 channels"):
        net.forward()


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5)])
def test_mvn_gives_four_axes(make_layer: MakeLayer, shape: Shape) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    net = make_layer("MVN", [x], "mvn_param { across_channels: true eps: 0.5 }")
    net.forward()
    rows = x.reshape(3, -1).astype(float)
    expected = (rows - rows.mean(1, keepdims=True)) / (rows.std(1, keepdims=True) + 0.5)
    assert net.blobs["y0"].shape == (*shape, 1, 1, 1)[:4]
    np.testing.assert_allclose(net.blobs["y0"].data.reshape(3, -1), expected, rtol=1e-4, atol=1e-6)


def test_mvn_of_a_flat_picture_is_zero(make_layer: MakeLayer) -> None:
    y, dx = run(make_layer, "MVN", np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(y, np.zeros((1, 1, 2, 2)))
    np.testing.assert_array_equal(dx, np.zeros((1, 1, 2, 2)))


def test_mvn_refuses_five_axes(make_layer: MakeLayer) -> None:
    with pytest.raises(caffe.CaffeError, match="Cannot use legacy accessors"):
        make_layer("MVN", [np.ones((1, 1, 1, 1, 2))])


@pytest.mark.parametrize(("kind", "noun"), [("Scale", "scale"), ("Bias", "bias")])
def test_broadcast_refuses(make_layer: MakeLayer, kind: str, noun: str) -> None:
    x = np.ones((2, 3, 4))
    with pytest.raises(caffe.CaffeError, match=f"dimension mismatch.*the {noun} with shape 4 \\(4\\)"):
        make_layer(kind, [x, np.ones(4)])
    with pytest.raises(caffe.CaffeError, match=f"{noun} blob's shape extends past bottom"):
        make_layer(kind, [x], f"{noun}_param {{ axis: 2 num_axes: 2 }}")
    with pytest.raises(caffe.CaffeError, match="num_axes must be -1 or more"):
        make_layer(kind, [x], f"{noun}_param {{ num_axes: -2 }}")
