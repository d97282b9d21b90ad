"""The losses' parameters and edges against numpy, with gradients where Caffe's are not the value's."""

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


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


LABELS = np.array([[0, 3, 1], [1, 2, 2]])


def test_accuracy_misses_labels_that_are_no_class_and_says_so_once(
    make_layer: MakeLayer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    net = make_layer("Accuracy", [np.eye(4, 3, dtype=np.float32), np.array([0, 1, 255, -1])], tops=2)
    for _ in range(2):
        tops = net.forward()
        assert tops["y0"] == 0.5
        np.testing.assert_array_equal(tops["y1"], [1, 1, 0])
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W")]
    assert "Layer 'L': label 255 is none of its classes" in line
    assert "write accuracy_param { ignore_label: 255 }" in line


@pytest.mark.parametrize(
    ("text", "normalizer"),
    [("", 4), ("normalization: FULL", 6), ("normalization: BATCH_SIZE", 2), ("normalization: NONE", 1)],
)
def test_infogain_over_the_middle_axis(make_layer: MakeLayer, text: str, normalizer: int) -> None:
    """Scores [2, 4, 3] with classes at axis 1; label 2 is ignored; the probabilities are a second top."""
    x, matrix = some(2, 4, 3), np.abs(some(4, 4, seed=1))
    net = make_layer("InfogainLoss", [x, LABELS, matrix], f"loss_param {{ ignore_label: 2 {text} }}", tops=2)
    net.forward()
    p = softmax(x.astype(float), 1)
    loss, gradient = 0.0, np.zeros_like(p)
    for n, m in np.ndindex(2, 3):
        if LABELS[n, m] != 2:
            row = matrix[LABELS[n, m]]
            loss -= float(row @ np.log(p[n, :, m]))
            gradient[n, :, m] = p[n, :, m] * row.sum() - row
    np.testing.assert_allclose(net.blobs["y0"].data, loss / normalizer, rtol=1e-5)
    np.testing.assert_allclose(net.blobs["y1"].data, p, rtol=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["x0"].diff, gradient / normalizer, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 5), (1, 1, 5, 5)])
def test_infogain_reads_its_matrix_from_a_file(make_layer: MakeLayer, tmp_path: Path, shape: Shape) -> None:
    x, labels, matrix = some(3, 5), np.array([4, 0, 2]), np.abs(some(*shape, seed=1))
    path = tmp_path / "H.binaryproto"
    path.write_bytes(caffe.io.array_to_blobproto(matrix).SerializeToString())
    net = make_layer("InfogainLoss", [x, labels], f'infogain_loss_param {{ source: "{path}" }}')
    net.forward()
    expected = -np.sum(matrix.reshape(5, 5)[labels] * np.log(softmax(x, 1))) / 3
    np.testing.assert_allclose(net.blobs["y0"].data, expected, rtol=1e-5)
    with pytest.raises(caffe.CaffeError, match=r"\(25 vs\. 16\) H must be 4x4"):
        make_layer("InfogainLoss", [some(3, 4), labels], f'infogain_loss_param {{ source: "{path}" }}')


@pytest.mark.parametrize(
    ("shapes", "text", "message"),
    [
        (((3, 5), (3,)), "", "Infogain matrix source must be specified"),
        (((3, 5), (3,)), 'infogain_loss_param { source: "none.binaryproto" }', "none.binaryproto"),
        (((3, 5), (3,), (5, 5)), "loss_param { normalize: true }", "normalize is deprecated"),
        (((3, 5), (4,), (5, 5)), "", "Number of labels must match number of predictions"),
        (((3, 5, 2), (6,), (5, 5)), "", "should have the same first dimension"),
    ],
)
def test_infogain_refuses(make_layer: MakeLayer, shapes: Shapes, text: str, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer("InfogainLoss", [np.zeros(shape) for shape in shapes], text)


def test_a_hopeless_probability_is_held(make_layer: MakeLayer) -> None:
    """Value and gradient of the multinomial loss are those of 1e-20."""
    net = make_layer("MultinomialLogisticLoss", [np.array([[1, 0], [0.5, -3]]), np.array([1, 1])])
    net.forward()
    np.testing.assert_allclose(net.blobs["y0"].data, -np.log(1e-20), rtol=1e-6)
    net.backward()
    np.testing.assert_allclose(net.blobs["x0"].diff, [[0, -0.5e20], [0, -0.5e20]], rtol=1e-6)


@pytest.mark.parametrize("scores", [[0, 1e4, 1, 2], [-1e18, 1e18, 0, 0], [-1e38, 3e38, 0, 0], [-np.inf, 0, 0, 0]])
def test_a_hopeless_loss_reads_the_same_whatever_the_scores(make_layer: MakeLayer, scores: list[float]) -> None:
    """The values are BVLC's: minus the logarithms of float32's smallest normal number and of 1e-20."""
    x, label = np.array([scores], np.float32), np.array([0])
    for kind, matrix, expected in (("SoftmaxWithLoss", (), 87.3365), ("InfogainLoss", (np.eye(4),), 46.0517)):
        net = make_layer(kind, [x, label, *matrix])
        assert f"{float(net.forward()['y0']):g}" == f"{expected:g}"
        net.backward()
        np.testing.assert_allclose(net.blobs["x0"].diff[0], softmax(x.astype(float), 1)[0] - [1, 0, 0, 0], atol=1e-6)


def test_infogain_goes_on_learning_where_its_value_is_held(make_layer: MakeLayer) -> None:
    net = make_layer("InfogainLoss", [np.array([[100, 0]]), np.array([1]), np.eye(2)])
    net.forward()
    np.testing.assert_allclose(net.blobs["y0"].data, -np.log(1e-20), rtol=1e-6)
    net.backward()
    np.testing.assert_allclose(net.blobs["x0"].diff, [[1, -1]], rtol=1e-6)


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive(make_layer: MakeLayer, legacy: bool) -> None:
    a, b, alike = some(6, 3), some(6, 3, seed=1), np.array([1, 0, 0, 1, 0, 0])
    text = f"contrastive_loss_param {{ margin: 2 legacy_version: {str(legacy).lower()} }}"
    b[2] = a[2]  # at no distance: its gradient is 0, not one without a number
    net = make_layer("ContrastiveLoss", [a, b, alike], text)
    net.forward()
    difference = a.astype(float) - b
    squared = (difference**2).sum(1)
    lack = np.maximum(2 - (squared if legacy else np.sqrt(squared)), 0)
    loss = np.where(alike, squared, lack if legacy else lack**2).sum() / 12
    np.testing.assert_allclose(net.blobs["y0"].data, loss, rtol=1e-5)
    net.backward()
    apart = (lack > 0) * 1.0 if legacy else lack / (np.sqrt(squared) + 1e-4)
    gradient = difference * np.where(alike, 1, -apart)[:, None] / 6
    np.testing.assert_allclose(net.blobs["x0"].diff, gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.blobs["x1"].diff, -gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "ignored", "normalizer"),
    [
        ("", None, 4),
        ("normalize: true", None, 20),
        ("normalize: false", None, 4),
        ("normalization: VALID ignore_label: 0", 0, None),
        ("normalization: FULL ignore_label: 0", 0, 20),
        ("normalization: NONE ignore_label: -1", -1, 1),
        ("ignore_label: 0 normalize: true", 0, None),
    ],
)
def test_sigmoid_cross_entropy(make_layer: MakeLayer, text: str, ignored: int | None, normalizer: int | None) -> None:
    """A target counts as its whole part when it is compared with ignore_label."""
    x = some(4, 5) * 20
    target = np.random.default_rng(2).uniform(-1.5, 1.9, (4, 5)).astype(np.float32)
    net = make_layer("SigmoidCrossEntropyLoss", [x, target], f"loss_param {{ {text} }}")
    net.forward()
    counted = np.trunc(target) != ignored if ignored is not None else np.ones((4, 5), bool)
    each = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
    divisor = normalizer or counted.sum()
    np.testing.assert_allclose(net.blobs["y0"].data, each[counted].sum() / divisor, rtol=1e-5)
    net.backward()
    gradient = np.where(counted, 1 / (1 + np.exp(-x.astype(float))) - target, 0) / divisor
    np.testing.assert_allclose(net.blobs["x0"].diff, gradient, rtol=1e-4, atol=1e-6)


def test_hinge_has_no_slope_at_its_corner(make_layer: MakeLayer) -> None:
    net = make_layer("HingeLoss", [np.array([[1, -1, 3], [-2, 0.5, 0]]), np.array([0, 1])])
    net.forward()
    assert net.blobs["y0"].data == (0 + 0 + 4 + 0 + 0.5 + 1) / 2
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, [[0, 0, 0.5], [0, -0.5, 0.5]])


@pytest.mark.parametrize(
    ("kind", "shapes", "message"),
    [
        ("EuclideanLoss", ((3, 4), (3, 5)), "Inputs must have the same dimension"),
        ("EuclideanLoss", ((3, 4), (4, 3)), "should have the same first dimension"),
        ("HingeLoss", ((3, 4), (3, 2)), "one label an item"),
        ("MultinomialLogisticLoss", ((3, 4), (3, 2)), "one label an item"),
        ("SigmoidCrossEntropyLoss", ((3, 4), (3, 5)), "layer inputs must have the same count"),
        ("ContrastiveLoss", ((3, 4), (3, 5), (3,)), r"channels\(\)"),
        ("ContrastiveLoss", ((3, 4, 2), (3, 4, 2), (3,)), r"channels\(\)"),
        ("ContrastiveLoss", ((3, 4), (3, 4), (2,)), r"channels\(\)"),
    ],
)
def test_shapes_that_do_not_fit(make_layer: MakeLayer, kind: str, shapes: Shapes, message: str) -> None:
    with pytest.raises(caffe.CaffeError, match=message):
        make_layer(kind, [np.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("kind", ["HingeLoss", "MultinomialLogisticLoss"])
def test_a_label_out_of_range(make_layer: MakeLayer, kind: str) -> None:
    net = make_layer(kind, [np.ones((2, 3)), np.array([0, 3])])
    with pytest.raises(caffe.CaffeError, match="label 3 is outside 0 to 2"):
        net.forward()
