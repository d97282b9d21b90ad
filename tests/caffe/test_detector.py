"""Windows cut and scored: against pictures whose places are known, and a linear net computed by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.1 } } }
"""
MEAN = np.array([104.0, 117.0, 123.0])
PREPARATION = {"mean": MEAN, "raw_scale": 255, "channel_swap": (2, 1, 0)}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A linear net's prototxt and weights."""
    prototxt, weights = str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")
    Path(prototxt).write_text(NET)
    caffe.Net(prototxt, caffe.TEST).save(weights)
    return prototxt, weights


def test_windows_without_context(files: tuple[str, str], tmp_path: Path) -> None:
    detector = caffe.Detector(*files, **PREPARATION)
    rng = np.random.default_rng(0)
    pairs, expected = [], []
    weight = detector.params["fc"][0].data
    for name, windows in (("a.png", [[0, 0, 8, 8], [2, 4, 12, 20], [1, 1, 6, 9]]), ("b.png", [[0, 3, 10, 13]])):
        picture = rng.integers(0, 256, (20, 24, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), picture)
        pairs.append((str(tmp_path / name), np.array(windows)))
        for top, left, bottom, right in windows:
            warped = cv2.resize(picture[top:bottom, left:right].astype(np.float32), (8, 8))
            expected.append(weight @ (warped - MEAN).transpose(2, 0, 1).ravel())
    found = detector.detect_windows(iter(pairs))
    assert [d["filename"] for d in found] == [pairs[0][0]] * 3 + [pairs[1][0]]
    assert found[1]["window"].tolist() == [2, 4, 12, 20]
    for detection, scores in zip(found, expected, strict=True):
        assert np.allclose(detection["prediction"], scores, rtol=1e-3, atol=1e-2)
    assert detector.detect_windows([]) == []


def test_context_fills_the_input_around_the_window(files: tuple[str, str]) -> None:
    """Padding 2 of 8 leaves 4 for the window: it is doubled around its middle, the mean where there is nothing."""
    detector = caffe.Detector(*files, context_pad=2, **PREPARATION)
    image = np.full((40, 40, 3), 0.25, np.float32)
    image[10:20, 10:20] = 1
    crop = detector.crop(image, np.array([10, 10, 19, 19]))
    assert crop.shape == (8, 8, 3)
    assert crop[3:5, 3:5].min() > 0.9
    assert np.allclose(crop[0], 0.25, atol=1e-3)
    outside = detector.crop(image, np.array([0, 0, 9, 9]))
    mean = MEAN[::-1] / 255  # RGB, as pictures are
    assert np.allclose(outside[:2], mean)
    assert np.allclose(outside[:, :2], mean)
    assert np.allclose(outside[2:4, 2:4], 0.25)
    prepared = detector.transformer.preprocess("data", outside)
    assert np.allclose(prepared[:, 0, :], 0, atol=1e-4)
    without = caffe.Detector(*files, context_pad=2)
    assert np.all(without.crop(image, np.array([0, 0, 9, 9]))[0] == 0)


def test_mistakes(files: tuple[str, str]) -> None:
    detector = caffe.Detector(*files, context_pad=2)
    with pytest.raises(caffe.CaffeError, match="lies outside the picture, which is .10, 10."):
        detector.crop(np.zeros((10, 10, 3), np.float32), np.array([30, 30, 35, 35]))
    with pytest.raises(caffe.CaffeError, match="needs the module selective_search_ijcv_with_python"):
        detector.detect_selective_search(["a.png"])
