"""The shipped nets at work, on small pictures: training, frozen layers, one answer from three files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.special import softmax

import caffe
from oxford102.log_parser import parse_log

ROOT = Path(__file__).resolve().parents[2]
SIDE, CROP = 72, 64  # as conftest.py makes them

Checkout = Callable[[str], Path]


@pytest.mark.parametrize(
    ("model", "frozen", "free"),
    [
        ("CaffeNet-frozen", r"conv\d", {"fc6", "fc7", "fc8_oxford_102"}),
        ("VGG16-frozen", r"conv\d_\d", {"fc6", "fc7", "fc8_oxford_102"}),
        ("SqueezeNet-frozen", r"conv1|fire./conv\dx\d_\d", {"conv_final_oxford_102"}),
    ],
)
def test_frozen_layers_keep_every_bit(
    model: str,
    frozen: str,
    free: set[str],
    checkout: Checkout,
    randomize: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(checkout(model))
    solver = caffe.get_solver("solver.prototxt")
    net = solver.net
    randomize(net, 100)
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
    solver.step(3)
    changed = {
        name
        for name, blobs in net.params.items()
        if any(not np.array_equal(blob.data, old) for blob, old in zip(blobs, before[name], strict=True))
    }
    assert changed == free
    still = {name for name in net.params if re.fullmatch(frozen, name)}
    assert still | free == set(net.params)
    backward = dict(zip(net._layer_names, net._wiring.needs_backward, strict=True))
    assert {name for name in net.params if backward[name]} == free
    first = next(i for i, name in enumerate(net._layer_names) if name in free)
    assert not any(net._wiring.needs_backward[:first])


@pytest.mark.parametrize(
    ("model", "solver_file"),
    [("ResNet50", "solver_one_gpu.prototxt"), ("ResNet50-v1.5", "solver.prototxt"), ("VGG16", "solver.prototxt")],
)
def test_an_iteration_trains_every_layer(
    model: str,
    solver_file: str,
    checkout: Checkout,
    randomize: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(checkout(model))
    solver = caffe.get_solver(solver_file)
    net = solver.net
    randomize(net, 100)
    before = {name: blobs[0].data.copy() for name, blobs in net.params.items()}
    solver.step(1)
    same = [name for name, blobs in net.params.items() if np.array_equal(blobs[0].data, before[name])]
    assert not same  # BatchNorm's mean is among them: in training it takes in the batch's
    assert np.isfinite(net.blobs["loss"].data)


@pytest.mark.parametrize("model", ["CaffeNet", "VGG16", "ResNet50", "ResNet50-v1.5", "SqueezeNet"])
def test_three_files_give_one_answer(
    model: str, checkout: Checkout, randomize: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkout(model)
    data = folder.parents[1] / "data"
    (data / "valid.txt").write_text((data / "test.txt").read_text())
    (data / "test_lmdb").rename(data / "unused")
    (data / "valid_lmdb").rename(data / "both")
    for name in ("valid", "test"):
        (data / f"{name}_lmdb").symlink_to(data / "both")
    monkeypatch.chdir(folder)
    train_val = caffe.Net("train_val.prototxt", caffe.TEST)
    randomize(train_val, 100)
    train_val.save("random.caffemodel")
    test, deploy = (
        caffe.Net(f"{name}.prototxt", caffe.TEST, weights="random.caffemodel") for name in ("test", "deploy")
    )
    train_val.forward()
    test.forward()
    (scores,) = train_val.bottom_names["loss"][:1]
    for blob in ("data", scores):
        np.testing.assert_array_equal(train_val.blobs[blob].data, test.blobs[blob].data)

    first = data / ("2.png" if model.startswith("ResNet50") else "4.png")
    picture = cv2.resize(cv2.imread(str(first)), (SIDE, SIDE)).astype(np.float32).transpose(2, 0, 1)
    edge = (SIDE - CROP) // 2
    crop = (picture - told_mean(model, data))[:, edge : edge + CROP, edge : edge + CROP]
    np.testing.assert_allclose(train_val.blobs["data"].data[0], crop, atol=1e-4)
    deploy.blobs["data"].reshape(1, 3, CROP, CROP)
    mine = deploy.forward(data=crop[None])["prob"].ravel()
    expected = softmax(train_val.blobs[scores].data[0].ravel())
    assert expected.max() > 2 * expected.min()  # the answer says something
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-7)


def told_mean(model: str, data: Path) -> np.ndarray:
    """The mean of the command that the README gives for prediction."""
    text = (ROOT / "models" / model / "README.md").read_text()
    mean = re.search(r"_iter_\d+\.caffemodel (\S+) 22[47]\n", text)[1]
    if mean.endswith(".npy"):
        return np.load(data / Path(mean).name)
    return np.array([float(value) for value in mean.split(",")], np.float32)[:, None, None]


def call(cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GLOG_minloglevel": "0"}
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_train_test_and_predict_from_the_model_s_own_folder(checkout: Checkout, randomize: Callable[..., None]) -> None:
    folder = checkout("SqueezeNet")
    tool = "import sys; from caffe.tools.main import main; sys.exit(main())"
    first = caffe.Net(str(folder / "deploy_imagenet.prototxt"), caffe.TEST)
    randomize(first, 100)
    first.save(str(folder / "pretrained-weights.caffemodel"))
    done = call(folder, "-c", tool, "train", "-solver", "solver.prototxt", "-weights", "pretrained-weights.caffemodel")
    log = parse_log(done.stderr)
    assert log.model == "Oxford102_SqueezeNet"
    assert [row.iteration for row in log.tests()] == [0, 2]
    assert set(log.tests()[0].outputs) == {"accuracy", "loss"}
    assert log.train[0].loss == pytest.approx(np.log(102), abs=0.1)  # the new layer starts small
    trained = "snapshots/squeezenet_iter_2.caffemodel"
    done = call(folder, "-c", tool, "test", "-model", "test.prototxt", "-weights", trained, "-iterations", "1")
    assert "accuracy = " in done.stderr
    picture = str(folder.parents[1] / "data" / "0.png")
    predict = [str(ROOT / "predict.py"), picture, "deploy.prototxt", trained, "104,117,123", str(CROP)]
    done = call(folder, *predict, "--resize", str(SIDE), "--top", "102")
    assert len(done.stdout.splitlines()) == 103  # each class, then the drawing's name
