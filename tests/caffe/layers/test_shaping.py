"""Layers that reshape, choose, cut and repeat: every rule of theirs against numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe

MakeLayer = Callable[..., caffe.Net]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


def some(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shape { dim: 0 dim: -1 }", (2, 60)),
        ("shape { dim: -1 }", (120,)),
        ("shape { dim: 6 dim: 0 dim: 4 dim: 0 }", None),  # 6 * 3 * 4 * 5 is too much
        ("shape { dim: 0 dim: 0 dim: 2 dim: -1 }", (2, 3, 2, 10)),
        ("axis: 1 num_axes: 2 shape { dim: 12 }", (2, 12, 5)),
        ("axis: 1 shape { dim: 0 dim: -1 }", (2, 3, 20)),
        ("axis: -2 num_axes: 1 shape { dim: -1 dim: 5 }", (2, 3, 4, 1, 5)),
        ("axis: -1 num_axes: 0 shape { dim: 1 }", (2, 3, 4, 5, 1)),
        ("axis: 4 num_axes: 0 shape { dim: 1 dim: 1 }", (2, 3, 4, 5, 1, 1)),
        ("axis: -5 num_axes: 1 shape { dim: 1 dim: 2 }", (1, 2, 3, 4, 5)),
        ("axis: 1 num_axes: -1 shape { dim: -1 }", (2, 60)),
        ("num_axes: 0", (2, 3, 4, 5)),
        ("axis: 2 num_axes: 1 shape { dim: 0 }", (2, 3, 4, 5)),
    ],
)
def test_reshape(make_layer: MakeLayer, text: str, expected: Shape) -> None:
    x = some(2, 3, 4, 5)
    if expected is None:
        with pytest.raises(caffe.CaffeError, match=r"\(360 vs\. 120\) output count must match input count"):
            make_layer("Reshape", [x], f"reshape_param {{ {text} }}")
        return
    net = make_layer("Reshape", [x], f"reshape_param {{ {text} }}")
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, x.reshape(expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape { dim: -1 dim: -1 }", "multiple -1s; at most a single"),
        ("shape { dim: 7 dim: -1 }", "bottom count must be divisible by the product of the specified dimensions"),
        ("axis: 3 shape { dim: 5 dim: 0 }", "no corresponding bottom axis to copy"),
        ("axis: 5 shape { dim: 1 }", "axis 5 out of range"),
        ("axis: -6 shape { dim: 1 }", "axis -6 out of range"),
        ("axis: 3 num_axes: 2 shape { dim: 5 }", "end_axis = axis . num_axes is out of range"),
        ("num_axes: -2 shape { dim: 5 }", "num_axes must be >= 0, or -1 for all"),
        ("shape { dim: -3 dim: -1 }", "shape.i. >= 0"),
    ],
)
def test_reshape_refuses(make_layer: MakeLayer, text: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("Reshape", [some(2, 3, 4, 5)], f"reshape_param {{ {text} }}")


def test_reshape_follows_a_new_batch(make_layer: MakeLayer) -> None:
    net = make_layer("Reshape", [some(2, 3, 4)], "reshape_param { shape { dim: 0 dim: -1 } }")
    net.blobs["x0"].reshape(5, 3, 4)
    net.forward()
    assert net.blobs["y0"].shape == (5, 12)


@pytest.mark.parametrize("kind", ["Reshape", "Flatten", "AbsVal"])
def test_not_in_place(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
        f'layer {{ name: "L" type: "{kind}" bottom: "x" top: "x" }}'
    )
    with pytest.raises(caffe.CaffeError, match=f"'L'.*{kind} Layer does not allow in-place computation"):
        caffe.Net(str(path), caffe.TEST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (2, 60)),
        ("axis: 0", (120,)),
        ("axis: 1 end_axis: 2", (2, 12, 5)),
        ("axis: -2", (2, 3, 20)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),  # nothing becomes an axis of length 1
    ],
)
def test_flatten(make_layer: MakeLayer, text: str, expected: Shape) -> None:
    x = some(2, 3, 4, 5)
    net = make_layer("Flatten", [x], f"flatten_param {{ {text} }}")
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, x.reshape(expected))


def test_flatten_refuses_an_end_before_its_start(make_layer: MakeLayer) -> None:
    with pytest.raises(caffe.CaffeError, match="start_axis <= end_axis"):
        make_layer("Flatten", [some(2, 3, 4)], "flatten_param { axis: 2 end_axis: 0 }")


TIES = np.array([[3, 1, 3, 2, 0, 3], [0, 0, 0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize(
    ("x", "text", "expected"),
    [
        (TIES, "", [[[5]], [[5]]]),
        (TIES, "top_k: 4", [[[5, 2, 0, 3]], [[5, 4, 3, 2]]]),
        (TIES, "top_k: 2 out_max_val: true", [[[5, 2], [3, 3]], [[5, 4], [0, 0]]]),
        (TIES, "top_k: 2 axis: 1", [[5, 2], [5, 4]]),
        (TIES, "axis: 0", [[0, 0, 0, 0, 1, 0]]),
        (TIES, "axis: -1 top_k: 3 out_max_val: true", [[3, 3, 3], [0, 0, 0]]),
        (TIES.reshape(2, 3, 2, 1), "top_k: 2", [[[[5], [2]]], [[[5], [4]]]]),
        (TIES.reshape(2, 3, 1, 2), "out_max_val: true", [[[[5]], [[3]]], [[[5]], [[0]]]]),
    ],
)
def test_argmax(make_layer: MakeLayer, x: np.ndarray, text: str, expected: list) -> None:
    net = make_layer("ArgMax", [x], f"argmax_param {{ {text} }}")
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, np.array(expected))
    assert net.blobs["y0"].data.shape == np.array(expected).shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top_k: 0", "top k must not be less than 1"),
        ("top_k: 7", "dimension of the flattened bottom blob per instance"),
        ("top_k: 3 axis: 0", "dimension of the axis"),
        ("axis: 2", "out of range"),
    ],
)
def test_argmax_refuses(make_layer: MakeLayer, text: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("ArgMax", [TIES], f"argmax_param {{ {text} }}")


@pytest.mark.parametrize(
    ("text", "tops", "cuts", "axis"),
    [
        ("", 2, [2], 1),
        ("slice_dim: 2 slice_point: 1 slice_point: 4", 3, [1, 4], 2),
        ("axis: -2 slice_point: 1", 2, [1], 1),
        ("axis: 0", 1, [], 0),
    ],
)
def test_slice(make_layer: MakeLayer, text: str, tops: int, cuts: list[int], axis: int) -> None:
    x = some(2, 4, 5)
    net = make_layer("Slice", [x], f"slice_param {{ {text} }}", tops=tops)
    net.forward()
    for i, part in enumerate(np.split(x, cuts, axis)):
        np.testing.assert_array_equal(net.blobs[f"y{i}"].data, part)


@pytest.mark.parametrize(
    ("text", "tops", "message"),
    [
        ("axis: 1 slice_dim: 1", 2, "Either axis or slice_dim should be specified; not both"),
        ("slice_dim: 3", 2, "slice_dim out of range"),
        ("slice_point: 1 slice_point: 2", 2, r"slice_point_.size\(\) == top.size\(\) - 1 \(2 vs\. 1\)"),
        ("slice_point: 2 slice_point: 2", 3, "slice points .2, 2. must rise"),
        ("slice_point: 0", 2, "must rise"),
        ("slice_point: 4", 2, "must rise"),
        ("", 3, r"\(1 vs\. 0\) Number of top blobs \(3\) should evenly divide input slice axis \(4\)"),
    ],
)
def test_slice_refuses(make_layer: MakeLayer, text: str, tops: int, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("Slice", [some(2, 4, 5)], f"slice_param {{ {text} }}", tops=tops)


def test_tile(make_layer: MakeLayer) -> None:
    x = some(2, 3, 2)
    for axis in (0, 1, -1):
        net = make_layer("Tile", [x], f"tile_param {{ axis: {axis} tiles: 3 }}")
        net.forward()
        np.testing.assert_array_equal(net.blobs["y0"].data, np.concatenate([x, x, x], axis))
    for text, message in (("", "Number of tiles must be specified"), ("tiles: 0", "must be positive")):
        with pytest.raises(caffe.CaffeError, match=message):
            make_layer("Tile", [x], f"tile_param {{ {text} }}")


def test_reduction_of_zeros_has_no_slope(make_layer: MakeLayer) -> None:
    net = make_layer("Reduction", [np.array([-2, 0, 3], np.float32)], "reduction_param { operation: ASUM coeff: 2 }")
    net.forward()
    assert net.blobs["y0"].data == 10
    net.blobs["y0"].diff[...] = 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, [-2, 0, 2])


def test_filter_of_nothing_gives_a_batch_of_none(make_layer: MakeLayer) -> None:
    x, chosen = some(3, 2), np.array([0, 1, 0], np.float32)
    net = make_layer("Filter", [x, x * 2, chosen], tops=2)
    assert net.blobs["y0"].shape == (3, 2)
    net.forward()
    np.testing.assert_array_equal(net.blobs["y1"].data, x[1:2] * 2)
    net.blobs["x2"].data[...] = 0
    net.forward()
    assert net.blobs["y0"].shape == net.blobs["y1"].shape == (0, 2)
    net.blobs["y0"].diff[...] = 0
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, np.zeros((3, 2)))
    net.blobs["x2"].data[...] = 1
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, x)


def test_layers_above_an_empty_filter_run(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("""
        layer { name: "in" type: "Input" top: "x" top: "s" top: "label"
                input_param { shape { dim: 3 dim: 2 dim: 4 dim: 4 } shape { dim: 3 } shape { dim: 3 } } }
        layer { name: "f" type: "Filter" bottom: "x" bottom: "label" bottom: "s" top: "y" top: "l" }
        layer { name: "c" type: "Convolution" bottom: "y" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }
        layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 } }
        layer { name: "fc" type: "InnerProduct" bottom: "p" top: "fc" inner_product_param { num_output: 3 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "l" top: "loss" }
    """)
    net = caffe.Net(str(path), caffe.TRAIN)
    net.forward()
    net.backward()
    assert net.blobs["loss"].data == 0
    assert net.blobs["fc"].shape == (0, 3)
    np.testing.assert_array_equal(net.params["c"][0].diff, np.zeros((2, 2, 3, 3)))


@pytest.mark.parametrize(
    ("shapes", "tops", "message"),
    [
        (((3, 2), (2,)), 1, "same 0th dimension as the selector blob"),
        (((3, 2), (3, 2)), 1, "dimensions must be singletons"),
        (((3, 2), (3, 2), (3,)), 1, "the selector, has a top"),
    ],
)
def test_filter_refuses(make_layer: MakeLayer, shapes: Shapes, tops: int, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("Filter", [np.zeros(shape) for shape in shapes], tops=tops)


def test_batch_reindex_adds_up_the_gradients_of_an_item(make_layer: MakeLayer) -> None:
    x = some(3, 2)
    net = make_layer("BatchReindex", [x, np.array([2, 0, 2, 2])])
    net.forward()
    np.testing.assert_array_equal(net.blobs["y0"].data, x[[2, 0, 2, 2]])
    net.blobs["y0"].diff[...] = 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, [[1, 1], [0, 0], [3, 3]])
    for number, message in ((-1, "was negative: -1"), (3, "was greater than batch size: 3")):
        net.blobs["x1"].data[1] = number
        with pytest.raises(caffe.CaffeError, match=message):
            net.forward()


def test_embed_refuses_numbers_without_a_vector(make_layer: MakeLayer) -> None:
    net = make_layer("Embed", [np.array([0, 1])], "embed_param { num_output: 2 input_dim: 3 }")
    for number in (-1, 3, 0.5, np.nan):
        net.blobs["x0"].data[1] = number
        with pytest.raises(caffe.CaffeError, match="a whole number from 0 to 2 is needed"):
            net.forward()
    for missing in ("num_output", "input_dim"):
        other = {"num_output": "input_dim", "input_dim": "num_output"}[missing]
        with pytest.raises(caffe.CaffeError, match=f"EmbedLayer {missing} must be positive"):
            make_layer("Embed", [np.array([0])], f"embed_param {{ {other}: 3 }}")


@pytest.mark.parametrize("kind", ["Parameter", "Bias"])
def test_gradients_of_what_is_passed_on_add_up(make_layer: MakeLayer, kind: str) -> None:
    """The parameter's gradient is not the top's own memory, so it stays when that is written anew."""
    text = {"Parameter": "parameter_param { shape { dim: 3 } }", "Bias": "bias_param { axis: 0 num_axes: -1 }"}[kind]
    net = make_layer(kind, [np.ones(3)] if kind == "Bias" else [], text)
    for diff in (1, 10):
        net.forward()
        net.blobs["y0"].diff[...] = diff
        net.backward()
    np.testing.assert_array_equal(net.params["L"][0].diff, [11, 11, 11])


def test_silence_keeps_a_blob_out_of_the_outputs(make_layer: MakeLayer) -> None:
    net = make_layer("Silence", [some(2), some(3)], tops=0)
    assert net.forward() == {}
    net.backward()
    np.testing.assert_array_equal(net.blobs["x1"].diff, np.zeros(3))
