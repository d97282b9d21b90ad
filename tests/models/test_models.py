"""The shipped nets: their files fit each other, count what was published, and agree with OpenCV's importer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from scipy.special import softmax

import caffe
from caffe.proto import caffe_pb2
from oxford102.log_parser import parse_log

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"CaffeNet": "fc8_oxford_102", "SqueezeNet": "conv_final_oxford_102"}  # folder: the new layer
DEPLOYS = ["CaffeNet/deploy", "SqueezeNet/deploy", "SqueezeNet/deploy_imagenet"]
SMALL = {"batch_size": 2, "crop_size": 63, "new_height": 72, "new_width": 72}
SMALL |= {"test_iter": 1, "test_interval": 2, "max_iter": 2, "display": 1}
CAFFENET = {  # outputs x inputs of a group x kernel, and a bias each
    "conv1": 96 * 3 * 11 * 11 + 96,
    "conv2": 256 * 48 * 5 * 5 + 256,
    "conv3": 384 * 256 * 3 * 3 + 384,
    "conv4": 384 * 192 * 3 * 3 + 384,
    "conv5": 256 * 192 * 3 * 3 + 256,
    "fc6": 4096 * 256 * 6 * 6 + 4096,
    "fc7": 4096 * 4096 + 4096,
    "fc8_oxford_102": 102 * 4096 + 102,
}


def net_of(model: str, name: str) -> caffe_pb2.NetParameter:
    return text_format.Parse((ROOT / "models" / model / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def solver_of(model: str) -> caffe_pb2.SolverParameter:
    return text_format.Parse((ROOT / "models" / model / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())


def body(net: caffe_pb2.NetParameter) -> list[caffe_pb2.LayerParameter]:
    """The layers between data and loss, without what matters to learning alone: rates and fillers."""
    layers = []
    for layer in net.layer:
        if layer.type in ("ImageData", "Input", "Accuracy", "SoftmaxWithLoss", "Softmax"):
            continue
        layer.ClearField("param")
        for part in (layer.convolution_param, layer.inner_product_param):
            part.ClearField("weight_filler")
            part.ClearField("bias_filler")
        layers.append(layer)
    return layers


def count(name: str) -> dict[str, int]:
    """The number of parameters of each layer of a net for prediction."""
    net = caffe.Net(str(ROOT / "models" / f"{name}.prototxt"), caffe.TEST)
    return {layer: sum(blob.count for blob in blobs) for layer, blobs in net.params.items()}


@pytest.mark.parametrize("model", MODELS)
def test_training_test_and_prediction_are_one_net(model: str) -> None:
    train_val, test, deploy = (net_of(model, name) for name in ("train_val", "test", "deploy"))
    assert train_val.name == test.name == deploy.name
    assert body(train_val) == body(test) == body(deploy)
    assert [layer.type for layer in test.layer][-2:] == ["Accuracy", "SoftmaxWithLoss"]
    assert deploy.layer[-1].type == "Softmax"


@pytest.mark.parametrize("model", MODELS)
def test_only_the_new_layer_learns_ten_times_as_fast(model: str) -> None:
    for layer in net_of(model, "train_val").layer:
        if layer.type in ("Convolution", "InnerProduct"):
            rates = (10, 20) if layer.name == MODELS[model] else (1, 2)
            assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(rates[0], 1), (rates[1], 0)], layer.name


@pytest.mark.parametrize("model", MODELS)
def test_data_are_those_of_the_model(model: str) -> None:
    train, valid = net_of(model, "train_val").layer[:2]
    (test,) = net_of(model, "test").layer[:1]
    sources = [layer.image_data_param.source for layer in (train, valid, test)]
    assert sources == ["../../data/train.txt", "../../data/valid.txt", "../../data/test.txt"]
    for layer in (train, valid, test):
        data, transform = layer.image_data_param, layer.transform_param
        assert (data.new_height, data.new_width, transform.crop_size) == (256, 256, 227)
        assert (data.shuffle, transform.mirror) == (layer is train, layer is train)
        means = {"CaffeNet": ("../../data/imagenet_mean.binaryproto", []), "SqueezeNet": ("", [104, 117, 123])}
        assert (transform.mean_file, list(transform.mean_value)) == means[model]


@pytest.mark.parametrize("model", MODELS)
def test_batches_meet_each_picture_once(model: str) -> None:
    solver, valid = solver_of(model), net_of(model, "train_val").layer[1]
    assert list(solver.test_iter) == [1020 // valid.image_data_param.batch_size]
    assert 1020 % valid.image_data_param.batch_size == 0
    (iterations,) = set(re.findall(r"-iterations (\d+)", (ROOT / "models" / model / "README.md").read_text()))
    assert int(iterations) * net_of(model, "test").layer[0].image_data_param.batch_size == 6149


@pytest.mark.parametrize("model", MODELS)
def test_snapshots_have_a_folder(model: str) -> None:
    # BVLC Caffe makes none.
    assert (ROOT / "models" / model / solver_of(model).snapshot_prefix).parent.is_dir()


def test_caffenet_has_the_published_number_of_parameters() -> None:
    assert count("CaffeNet/deploy") == CAFFENET
    assert sum(CAFFENET.values()) == 57_286_118
    assert sum(CAFFENET.values()) - CAFFENET["fc8_oxford_102"] + 1000 * 4096 + 1000 == 60_965_224


def test_squeezenet_has_the_published_number_of_parameters() -> None:
    published, ours = count("SqueezeNet/deploy_imagenet"), count("SqueezeNet/deploy")
    assert sum(published.values()) == 1_248_424
    assert published.pop("conv_final") == 1000 * 512 + 1000
    assert ours.pop("conv_final_oxford_102") == 102 * 512 + 102
    assert ours == published


@pytest.mark.parametrize("name", DEPLOYS)
def test_opencv_computes_the_same(name: str, tmp_path: Path) -> None:
    deploy, weights = ROOT / "models" / f"{name}.prototxt", tmp_path / "random.caffemodel"
    net, random = caffe.Net(str(deploy), caffe.TEST), np.random.default_rng(0)
    for weight, bias in net.params.values():
        fan_in = weight.count // weight.num
        weight.data[...] = random.standard_normal(weight.data.shape, np.float32) * np.sqrt(2 / fan_in)
        bias.data[...] = random.standard_normal(bias.data.shape, np.float32) / 10
    net.save(str(weights))
    picture = random.uniform(-1, 1, (1, 3, 227, 227)).astype(np.float32)
    net.blobs["data"].reshape(*picture.shape)
    mine = net.forward(data=picture)[net.outputs[0]].reshape(-1)
    oracle = cv2.dnn.readNetFromCaffe(str(deploy), str(weights))
    oracle.setInput(picture)
    theirs = oracle.forward().reshape(-1)
    if net.outputs != ["prob"]:  # scores, some of them near 0: compare the probabilities that they mean
        mine, theirs = softmax(mine), softmax(theirs)
    assert theirs.max() > 2 * theirs.min()  # the answer says something
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """SqueezeNet's folder beside a data folder of six pictures, with small batches and a short run."""
    folder, data = tmp_path / "models" / "SqueezeNet", tmp_path / "data"
    shutil.copytree(ROOT / "models" / "SqueezeNet", folder)
    for path in folder.glob("*.prototxt"):
        text = path.read_text().replace("dim: 227", "dim: 63")
        for field, value in SMALL.items():
            text = re.sub(rf"\b{field}: \d+", f"{field}: {value}", text)
        path.write_text(text)
    data.mkdir()
    random, names = np.random.default_rng(0), ["train", "valid", "test"]
    for i in range(6):
        cv2.imwrite(str(data / f"{i}.png"), random.integers(0, 256, (80, 90, 3), np.uint8))
    for i, name in enumerate(names):
        (data / f"{name}.txt").write_text("".join(f"{data}/{2 * i + k}.png {k}\n" for k in range(2)))
    return folder


def call(cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GLOG_minloglevel": "0"}
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def test_train_test_and_predict_from_the_model_s_own_folder(checkout: Path) -> None:
    tool = "import sys; from caffe.tools.main import main; sys.exit(main())"
    first = caffe.Net(str(checkout / "deploy_imagenet.prototxt"), caffe.TEST)
    for weight, _ in first.params.values():
        weight.data[...] = np.random.default_rng(1).normal(0, (2 / weight.data[0].size) ** 0.5, weight.data.shape)
    first.params["conv1"][0].data[...] /= 100  # pixels are of that size
    first.save(str(checkout / "pretrained-weights.caffemodel"))
    done = call(
        checkout, "-c", tool, "train", "-solver", "solver.prototxt", "-weights", "pretrained-weights.caffemodel"
    )
    log = parse_log(done.stderr)
    assert log.model == "Oxford102_SqueezeNet"
    assert [row.iteration for row in log.tests()] == [0, 2]
    assert set(log.tests()[0].outputs) == {"accuracy", "loss"}
    assert log.train[0].loss == pytest.approx(np.log(102), abs=0.1)  # the new layer starts small
    trained = "snapshots/squeezenet_iter_2.caffemodel"
    done = call(checkout, "-c", tool, "test", "-model", "test.prototxt", "-weights", trained, "-iterations", "1")
    assert "accuracy = " in done.stderr
    predict = [str(ROOT / "predict.py"), str(checkout.parents[1] / "data" / "0.png"), "deploy.prototxt", trained]
    done = call(checkout, *predict, "104,117,123", "63", "--resize", "72", "--top", "102")
    assert len(done.stdout.splitlines()) == 103  # each class, then the drawing's name
