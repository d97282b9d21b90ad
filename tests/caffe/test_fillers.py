"""Fillers: what is drawn has the spread that the formulas say."""

from __future__ import annotations

import numpy as np
import pytest

import caffe
from caffe.fillers import FILLERS, fill
from caffe.proto.caffe_pb2 import FillerParameter

SHAPE = (64, 32, 5, 5)
FAN_IN, FAN_OUT = 32 * 25, 64 * 25


def filled(shape: tuple[int, ...] = SHAPE, **param: object) -> np.ndarray:
    caffe.set_random_seed(1)
    blob = caffe.Blob(shape)
    fill(blob, FillerParameter(**param), "L")  # type: ignore[arg-type]
    return blob.data


@pytest.mark.parametrize(
    ("norm", "n"),
    [("FAN_IN", FAN_IN), ("FAN_OUT", FAN_OUT), ("AVERAGE", (FAN_IN + FAN_OUT) / 2)],
)
def test_scaled_fillers(norm: str, n: float) -> None:
    xavier = filled(type="xavier", variance_norm=norm)
    assert np.abs(xavier).max() == pytest.approx(np.sqrt(3 / n), rel=1e-3)
    assert xavier.std() == pytest.approx(np.sqrt(1 / n), rel=1e-2)
    assert filled(type="msra", variance_norm=norm).std() == pytest.approx(np.sqrt(2 / n), rel=1e-2)


def test_plain_fillers() -> None:
    assert np.all(filled(type="constant", value=0.5) == np.float32(0.5))
    uniform = filled(type="uniform", min=-2, max=1)
    assert uniform.min() == pytest.approx(-2, abs=1e-3)
    assert uniform.max() == pytest.approx(1, abs=1e-3)
    gaussian = filled(type="gaussian", mean=3, std=0.1)
    assert gaussian.mean() == pytest.approx(3, abs=2e-3)
    assert gaussian.std() == pytest.approx(0.1, rel=1e-2)


def test_sparse_gaussian_keeps_about_that_many_inputs_an_output() -> None:
    values = filled((100, 200), type="gaussian", sparse=15)
    assert (values != 0).mean() == pytest.approx(0.15, abs=0.01)


def test_positive_unitball_sums_to_one_an_output() -> None:
    values = filled((7, 3, 2), type="positive_unitball")
    assert (values >= 0).all()
    np.testing.assert_allclose(values.reshape(7, -1).sum(1), 1, rtol=1e-5)


def test_bilinear_against_its_formula() -> None:
    values = filled((2, 1, 4, 4), type="bilinear")
    f, c = 2, 0.75
    for y in range(4):
        for x in range(4):
            expected = (1 - abs(x / f - c)) * (1 - abs(y / f - c))
            np.testing.assert_allclose(values[:, :, y, x], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "param", "text"),
    [
        ((2, 2), {"type": "xaviar"}, "Unknown filler name: xaviar .known fillers: bilinear, constant"),
        ((2, 2), {"type": "bilinear"}, "Blob must be 4 dim."),
        ((2, 2, 3, 4), {"type": "bilinear"}, "Filter must be square"),
        ((2, 2), {"type": "xavier", "sparse": 1}, "Sparsity not supported by this Filler"),
        ((), {"type": "msra"}, "no fan-in"),
        ((2,), {"type": "uniform", "min": 1.0, "max": 0.0}, "max 0 is below min 1"),
    ],
)
def test_errors_name_the_layer(shape: tuple[int, ...], param: dict[str, object], text: str) -> None:
    with pytest.raises(caffe.CaffeError, match=f"Layer 'L': .*{text}"):
        filled(shape, **param)


def test_all_of_caffes_are_there() -> None:
    assert sorted(FILLERS) == ["bilinear", "constant", "gaussian", "msra", "positive_unitball", "uniform", "xavier"]
