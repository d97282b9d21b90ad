from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 5 dim: 6 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2
    weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "constant" value: 1 } } }
"""
MEAN = np.array([104.0, 117.0, 123.0])
PREPARATION = {"mean": MEAN, "raw_scale": 255, "channel_swap": (2, 1, 0), "input_scale": 0.1}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A linear net's prototxt and weights."""
    prototxt, weights = str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")
    Path(prototxt).write_text(NET)
    caffe.Net(prototxt, caffe.TEST).save(weights)
    return prototxt, weights


def linear(classifier: caffe.Classifier, crop: np.ndarray) -> np.ndarray:
    """What the net computes of one prepared crop [h, w, rgb], by hand."""
    weight, bias = (blob.data for blob in classifier.params["fc"])
    bgr = crop[:, :, ::-1].transpose(2, 0, 1) * 255
    return weight @ ((bgr - MEAN[:, None, None]) * 0.1).ravel() + bias


def test_the_centre_only(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files, image_dims=(8, 9), **PREPARATION)
    rng = np.random.default_rng(0)
    images = [rng.random((h, w, 3)).astype(np.float32) for h, w in ((10, 11), (8, 9), (5, 20), (9, 9), (7, 7))]
    scores = classifier.predict(images, oversample=False)
    assert scores.shape == (5, 2)
    for image, score in zip(images, scores, strict=True):
        crop = cv2.resize(image, (9, 8))[1:6, 1:7]
        assert np.allclose(score, linear(classifier, crop), rtol=1e-4, atol=1e-3)


def test_the_mean_of_ten_crops(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files, image_dims=[8, 9], **PREPARATION)
    images = list(np.random.default_rng(1).random((3, 8, 9, 3)).astype(np.float32))
    scores = classifier.predict(images)
    assert scores.shape == (3, 2)
    for image, score in zip(images, scores, strict=True):
        crops = [image[y : y + 5, x : x + 6] for y, x in ((0, 0), (0, 3), (3, 0), (3, 3), (1, 1))]
        expected = np.mean([linear(classifier, c) for crop in crops for c in (crop, crop[:, ::-1])], axis=0)
        assert np.allclose(score, expected, rtol=1e-4, atol=1e-3)


def test_without_image_dims_pictures_are_resized_to_the_input(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files, **PREPARATION)
    image = np.random.default_rng(2).random((9, 9, 3)).astype(np.float32)
    expected = linear(classifier, cv2.resize(image, (6, 5)))
    assert np.allclose(classifier.predict([image], oversample=False)[0], expected, rtol=1e-4, atol=1e-3)


def test_a_phase_in_the_place_of_image_dims(files: tuple[str, str]) -> None:
    assert list(caffe.Classifier(*files, caffe.TEST).image_dims) == [5, 6]


def test_it_is_a_net(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files)
    assert isinstance(classifier, caffe.Net)
    assert list(classifier.image_dims) == [5, 6]
    assert classifier.transformer.transpose == {"data": (2, 0, 1)}


def test_mistakes(files: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image_dims .* must be at least as large as the input"):
        caffe.Classifier(*files, image_dims=(4, 9))
    with pytest.raises(RuntimeError, match="Could not open file"):
        caffe.Classifier(files[0], str(tmp_path / "none.caffemodel"))
