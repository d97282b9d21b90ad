"""Prediction against OpenCV: its resize for the picture, its Caffe importer for the net, crops by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from oxford102 import classify
from oxford102.errors import ToolError

DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 dim: 24 dim: 24 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
RESIZED, SIZE = 32, 24
MEAN = np.random.default_rng(1).uniform(90, 140, (3, 40, 36))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a net, weights that make its answers differ, means and a picture."""
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    net, random = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST), np.random.default_rng(2)
    for layer, spread in (("conv", 0.02), ("fc", 0.05)):
        for blob in net.params[layer]:
            blob.data[...] = random.normal(0, spread, blob.data.shape)
    net.save(str(tmp_path / "small.caffemodel"))
    np.save(tmp_path / "mean.npy", MEAN)
    blob = caffe.io.array_to_blobproto(MEAN[None])
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    noise = random.integers(0, 256, (9, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "flower.png"), cv2.resize(noise, (50, 60)))
    return tmp_path


SECOND = 'layer { name: "more" type: "Input" top: "more" input_param { shape { dim: 10 } } }\nlayer { name: "conv"'


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('layer { name: "conv"', SECOND, "deploy.prototxt has 2 inputs, data, more; give a net with one"),
        ("dim: 10 dim: 3", "dim: 10 dim: 1", "Channel swap needs to have the same number of dimensions"),
        ('layer { name: "fc"', 'layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" } #', "for each place"),
    ],
)
def test_nets_that_do_not_name_pictures(files: Path, old: str, new: str, problem: str) -> None:
    lines = DEPLOY.replace(old, new).splitlines()
    text = "\n".join(lines[: next((i for i, line in enumerate(lines) if "#" in line), len(lines)) + 1])
    (files / "deploy.prototxt").write_text(text)
    net = caffe.Net(str(files / "deploy.prototxt"), caffe.TEST)
    for row in net.params.values():
        for blob in row:
            blob.data[...] = 1
    net.save(str(files / "small.caffemodel"))
    with pytest.raises(ToolError, match=problem):
        classify.open_net(files / "deploy.prototxt", files / "small.caffemodel", SIZE, RESIZED)


def opened(folder: Path, mean: str) -> Any:
    net = classify.open_net(folder / "deploy.prototxt", folder / "small.caffemodel", SIZE, RESIZED)
    classify.set_mean(net, mean, SIZE)
    return net


def expected(folder: Path, mean: NDArray[np.float64], center_only: bool) -> NDArray[np.float64]:
    """What OpenCV makes of the picture; `mean` is [3, 1, 1] or [3, 24, 24]."""
    picture = cv2.resize(cv2.imread(str(folder / "flower.png")).astype(np.float32), (RESIZED, RESIZED))
    places = [(4, 4)] if center_only else [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
    crops = [picture[top : top + SIZE, left : left + SIZE] for top, left in places]
    if not center_only:
        crops += [crop[:, ::-1] for crop in crops]
    net = cv2.dnn.readNetFromCaffe(str(folder / "deploy.prototxt"), str(folder / "small.caffemodel"))
    answers = []
    for crop in crops:
        net.setInput((crop.transpose(2, 0, 1) - mean)[None].astype(np.float32))
        answers.append(net.forward()[0].astype(np.float64))
    return np.asarray(np.mean(answers, 0))


@pytest.mark.parametrize("center_only", [False, True])
@pytest.mark.parametrize("mean", ["mean.npy", "mean.binaryproto", "104,117,123"])
def test_probabilities_are_those_of_opencv(files: Path, mean: str, center_only: bool) -> None:
    picture = classify.load_picture(files / "flower.png")
    text, array = mean, np.array([104.0, 117, 123]).reshape(3, 1, 1)
    if mean.startswith("mean"):
        text, array = str(files / mean), MEAN[:, 8:32, 6:30]
    net = opened(files, text)
    oracle = expected(files, array, center_only)
    assert oracle.max() - oracle.min() > 0.05  # the answer says something
    for _ in range(2):  # the second time from a net that has been used
        np.testing.assert_allclose(classify.probabilities(net, picture, center_only), oracle, rtol=1e-4)


def test_one_net_answers_both_ways(files: Path) -> None:
    net, picture = opened(files, "120"), classify.load_picture(files / "flower.png")
    mean = np.full((3, 1, 1), 120.0)
    for center_only in (True, False, True):
        oracle = expected(files, mean, center_only)
        np.testing.assert_allclose(classify.probabilities(net, picture, center_only), oracle, rtol=1e-4)


def test_best_are_in_order_the_lower_number_first_of_equals() -> None:
    guesses = classify.best(np.array([0.125, 0.5, 0.125, 0.25]), ["a", "b", "c", "d"], 3)
    assert guesses == [classify.Guess(1, "b", 0.5), classify.Guess(3, "d", 0.25), classify.Guess(0, "a", 0.125)]
    assert len(classify.best(np.array([0.5, 0.5]), ["a", "b"], 5)) == 2


@pytest.mark.parametrize("shape", [(3,), (3, 24, 24), (1, 3, 25, 30)])
def test_mean_files_of_several_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mean = np.random.default_rng(3).random(shape)
    np.save(tmp_path / "m.npy", mean)
    loaded = classify.load_mean(str(tmp_path / "m.npy"), 24)
    cut = {1: mean, 3: mean, 4: mean[0, :, :24, 3:27] if len(shape) == 4 else mean}[len(shape)]
    np.testing.assert_array_equal(loaded, cut)


@pytest.mark.parametrize(
    ("shape", "told"),
    [((3, 20, 24), "3x20x24"), ((24, 24, 3), "24x24x3"), ((1, 24, 24), "1x24x24"), ((2, 3, 24, 24), "2x3x24x24")],
)
def test_means_of_a_wrong_shape(tmp_path: Path, shape: tuple[int, ...], told: str) -> None:
    path = tmp_path / "m.npy"
    np.save(path, np.zeros(shape))
    with pytest.raises(ToolError) as error:
        classify.load_mean(str(path), 24)
    assert str(error.value).startswith(f"{path} is {told}, expected 3 values or 3xHxW of at least 24x24 pixels")


@pytest.mark.parametrize("suffix", [".npy", ".binaryproto"])
@pytest.mark.parametrize("content", [b"", b"something else", b"\x93NUMPY", bytes(range(256))])
def test_files_that_are_no_mean(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(ToolError) as error:
        classify.load_mean(str(path), 24)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["104,117", "blue", "", "1,2,3,4", "104;117;123", "mean.jpg"])
def test_texts_that_are_no_mean(text: str) -> None:
    with pytest.raises(
        ToolError, match=r"is not a mean; give a \.npy or \.binaryproto file, or blue,green,red as 104,117,123"
    ):
        classify.load_mean(text, 24)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0 cut"])
def test_files_that_are_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flower.jpg"
    path.write_bytes(content)
    with pytest.raises(ToolError) as error:
        classify.load_picture(path)
    assert str(error.value) == f"{path} is not a picture that can be read; give a JPEG, PNG or the like"


def test_pictures_of_folders_come_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt", "c.jpeg"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    single = tmp_path / "notes.txt"  # named by the user: the decoder decides
    found = classify.find_pictures([single, tmp_path])
    assert [path.name for path in found] == ["notes.txt", "a.PNG", "b.jpg", "c.jpeg"]
    with pytest.raises(ToolError, match=r"no picture in this folder; looked for \.avif, "):
        classify.find_pictures([tmp_path / "empty"])
    with pytest.raises(ToolError, match="absent: no such picture or folder"):
        classify.find_pictures([tmp_path / "absent"])


def test_names_come_from_the_file_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("pink primrose\n colt's foot \n\n", encoding="utf-8")
    assert classify.class_names(tmp_path / "names.txt", 2) == ["pink primrose", "colt's foot"]
    with pytest.raises(ToolError) as error:
        classify.class_names(tmp_path / "names.txt", 3)
    assert "names.txt has 2 names, the net has 3 outputs; give a file with one name a line" in str(error.value)
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfrose\r\nlily\r\n")
    assert classify.class_names(tmp_path / "windows.txt", 2) == ["rose", "lily"]


def test_names_come_from_the_data_folder_else_from_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classify, "LABELS", (Path("data/labels.txt"), tmp_path / "repository" / "labels.txt"))
    assert classify.class_names(None, 2) == ["class 0", "class 1"]
    assert "no data/labels.txt; classes are told by number, --labels FILE gives names" in capsys.readouterr().err
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "labels.txt").write_text("lily\nrose\n")
    assert classify.class_names(None, 2) == ["lily", "rose"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.txt").write_text("rose\nlily\n")
    assert classify.class_names(None, 2) == ["rose", "lily"]
    assert capsys.readouterr().err == ""
    assert classify.class_names(None, 3) == ["class 0", "class 1", "class 2"]
    assert "labels.txt has 2 names, the net has 3 outputs; classes are told by number" in capsys.readouterr().err


def test_a_net_of_another_input_size(files: Path) -> None:
    with pytest.raises(ToolError, match="takes 24x24 pixels, not 20x20; give 24, or change its input"):
        classify.open_net(files / "deploy.prototxt", files / "small.caffemodel", 20)
    with pytest.raises(ToolError, match="pictures resized to 20 cannot be cropped to 24; give --resize 24 or more"):
        classify.open_net(files / "deploy.prototxt", files / "small.caffemodel", 24, resize=20)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"fc"', '"fc_other"', "small.caffemodel has no weights for layer 'fc_other' of "),
        ("num_output: 6", "num_output: 7", "Cannot copy param 0 weights from layer 'fc'; shape mismatch"),
        ("Softmax", "Softmix", "Softmix"),
        ("}", "", "deploy.prototxt"),
    ],
)
def test_a_net_that_does_not_fit(files: Path, old: str, new: str, message: str) -> None:
    (files / "deploy.prototxt").write_text(DEPLOY.replace(old, new))
    with pytest.raises(ToolError) as error:
        classify.open_net(files / "deploy.prototxt", files / "small.caffemodel", 24)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_net_for_training(files: Path) -> None:
    (files / "list.txt").write_text(f"{files}/flower.png 0\n")
    data = f'image_data_param {{ source: "{files}/list.txt" batch_size: 1 new_height: 24 new_width: 24 }}'
    head = f'layer {{ name: "data" type: "ImageData" top: "data" top: "label" {data} }}'
    (files / "train.prototxt").write_text("\n".join([head, *DEPLOY.splitlines()[3:]]))
    with pytest.raises(ToolError, match=r"train\.prototxt: the net has no input; give the deploy prototxt"):
        classify.open_net(files / "train.prototxt", files / "small.caffemodel", 24)


def test_weights_that_are_cut(files: Path) -> None:
    whole = (files / "small.caffemodel").read_bytes()
    (files / "cut.caffemodel").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ToolError, match=r"cut\.caffemodel"):
        classify.open_net(files / "deploy.prototxt", files / "cut.caffemodel", 24)


def test_a_net_that_gives_scores(files: Path) -> None:
    """Of one crop, the softmax taken afterwards is the softmax layer's."""
    picture = classify.load_picture(files / "flower.png")
    with_softmax = classify.probabilities(opened(files, "104,117,123"), picture, center_only=True)
    lines = [line for line in DEPLOY.splitlines() if "Softmax" not in line]
    (files / "deploy.prototxt").write_text("\n".join(lines))
    net = opened(files, "104,117,123")
    assert net.outputs == ["fc"]
    np.testing.assert_allclose(classify.probabilities(net, picture, center_only=True), with_softmax, rtol=1e-5)


def test_a_net_that_has_diverged(files: Path) -> None:
    net = opened(files, "104,117,123")
    next(iter(net.params.values()))[0].data[...] = np.nan
    with pytest.raises(ToolError, match="holds nan or inf: its training has diverged"):
        classify.probabilities(net, classify.load_picture(files / "flower.png"))
