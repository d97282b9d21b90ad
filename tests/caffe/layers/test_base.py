"""Weights that a prototxt holds itself: ``blobs`` of a layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import LayerError

MakeLayer = Callable[..., caffe.Net]

X = np.array([[1, 10], [100, 1000]], np.float32)
INNER_PRODUCT = 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'
SIX = "".join(f" data: {n}" for n in range(1, 7))


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (f"shape {{ dim: 3 dim: 2 }}{SIX}", "shape { dim: 3 } data: 7 data: 8 data: 9"),
        (
            "num: 1 channels: 1 height: 3 width: 2 double_data: [1, 2, 3, 4, 5, 6]",
            "num: 1 channels: 1 height: 1 width: 3 double_data: [7, 8, 9]",
        ),
    ],
)
def test_weights_of_the_prototxt(make_layer: MakeLayer, weight: str, bias: str, tmp_path: Path) -> None:
    net = make_layer("InnerProduct", [X], f"blobs {{ {weight} }} blobs {{ {bias} }} {INNER_PRODUCT}")
    expected = X @ np.array([[1, 3, 5], [2, 4, 6]]) + [7, 8, 9]
    np.testing.assert_array_equal(net.forward()["y0"], expected)

    net.params["L"][0].data[...] = 0
    net.save(str(tmp_path / "saved.caffemodel"))
    again = make_layer("InnerProduct", [X], INNER_PRODUCT)
    again.copy_from(str(tmp_path / "saved.caffemodel"))
    np.testing.assert_array_equal(again.forward()["y0"], [[7, 8, 9]] * 2)


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        (f"blobs {{ shape {{ dim: 3 dim: 2 }}{SIX} }}", "Incorrect number of weight blobs. The prototxt holds 1"),
        (
            f"blobs {{ shape {{ dim: 2 dim: 3 }}{SIX} }}",
            r"expected shape 3 2 \(6\); instead, shape was 2 3 \(6\) in blobs number 0",
        ),
        ("blobs { shape { dim: 3 dim: 2 } data: 4 }", r"count_ == proto.data_size\(\) \(6 vs. 1\)"),
    ],
)
def test_weights_of_the_prototxt_that_do_not_fit(make_layer: MakeLayer, blobs: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        make_layer("InnerProduct", [X], f"{blobs} {INNER_PRODUCT}")
