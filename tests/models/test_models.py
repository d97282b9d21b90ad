"""The shipped nets: their files fit each other, count what was published, and take the published weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from google.protobuf import text_format
from scipy.special import softmax

import caffe
from caffe.costs import costs
from caffe.net import Net
from caffe.proto import caffe_pb2
from caffe.proto.caffe_pb2 import BlobProto, BlobShape, LayerParameter, V1LayerParameter

MODELS = Path(__file__).resolve().parents[2] / "models"
NEW = {  # folder: the new layer
    "CaffeNet": "fc8_oxford_102",
    "CaffeNet-frozen": "fc8_oxford_102",
    "VGG16": "fc8_oxford_102",
    "VGG16-frozen": "fc8_oxford_102",
    "ResNet50": "fc_oxford_102",
    "ResNet50-v1.5": "fc_oxford_102",
    "SqueezeNet": "conv_final_oxford_102",
    "SqueezeNet-frozen": "conv_final_oxford_102",
}
FROZEN = {"CaffeNet-frozen": "conv[1-5]", "VGG16-frozen": r"conv\d_\d", "SqueezeNet-frozen": "conv1|fire.*"}
CROPS = {"CaffeNet": 227, "SqueezeNet": 227, "VGG16": 224, "ResNet50": 224}
MEANS = {  # blue, green, red
    "CaffeNet": [],  # a picture
    "VGG16": [103.939, 116.779, 123.68],
    "ResNet50": [103.063, 115.903, 123.152],
    "ResNet50-v1.5": [103.53, 116.28, 123.675],
    "SqueezeNet": [104, 117, 123],
}
CAFFENET = {  # outputs x inputs of a group x kernel, and a bias each
    "conv1": 96 * 3 * 11 * 11 + 96,
    "conv2": 256 * 48 * 5 * 5 + 256,
    "conv3": 384 * 256 * 3 * 3 + 384,
    "conv4": 384 * 192 * 3 * 3 + 384,
    "conv5": 256 * 192 * 3 * 3 + 256,
    "fc6": 4096 * 256 * 6 * 6 + 4096,
    "fc7": 4096 * 4096 + 4096,
    "fc8": 1000 * 4096 + 1000,
}


def net_of(model: str, name: str) -> caffe_pb2.NetParameter:
    return text_format.Parse((MODELS / model / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def solver_of(model: str, name: str = "solver") -> caffe_pb2.SolverParameter:
    return text_format.Parse((MODELS / model / f"{name}.prototxt").read_text(), caffe_pb2.SolverParameter())


def data_of(layer: LayerParameter) -> caffe_pb2.DataParameter | caffe_pb2.ImageDataParameter:
    return layer.data_param if layer.type == "Data" else layer.image_data_param


def body(net: caffe_pb2.NetParameter) -> list[LayerParameter]:
    """The layers between data and loss, without what matters to learning alone: rates and fillers."""
    layers = []
    for layer in net.layer:
        if layer.type in ("Data", "ImageData", "Input", "Accuracy", "SoftmaxWithLoss", "Softmax"):
            continue
        layer.ClearField("param")
        for part in (layer.convolution_param, layer.inner_product_param):
            part.ClearField("weight_filler")
            part.ClearField("bias_filler")
        layers.append(layer)
    return layers


def sizes(model: str, name: str) -> tuple[dict[str, int], int]:
    """How many numbers each layer learns, and the multiply-adds of a picture; no number is made for it."""
    param = net_of(model, name)
    param.state.phase = caffe.TEST
    net = Net.from_param(param, torch.device("meta"))
    rows = costs(net)
    products = sum(row.flops for row in rows if row.type in ("Convolution", "InnerProduct"))
    learnt = {row.name: row.parameters for row in rows if row.parameters and row.type != "BatchNorm"}
    return learnt, products // 2 // net.blobs["data"].num


def test_every_folder_is_looked_at() -> None:
    assert {path.name for path in MODELS.iterdir()} == {*NEW, "Demo"}


@pytest.mark.parametrize("model", NEW)
def test_training_test_and_prediction_are_one_net(model: str) -> None:
    train_val, test, deploy = (net_of(model, name) for name in ("train_val", "test", "deploy"))
    assert train_val.name == test.name == deploy.name == f"Oxford102_{model.replace('-', '_')}"
    assert body(train_val) == body(test) == body(deploy)
    assert [layer.type for layer in test.layer][-2:] == ["Accuracy", "SoftmaxWithLoss"]
    assert [layer.type for layer in deploy.layer][-1] == "Softmax"


@pytest.mark.parametrize("model", FROZEN)
def test_a_frozen_net_is_the_other_but_for_rates(model: str) -> None:
    free = model.removesuffix("-frozen")
    for name in ("train_val", "test", "deploy"):
        assert body(net_of(model, name)) == body(net_of(free, name))
        assert [layer for layer in net_of(model, name).layer if "data" in layer.top] == [
            layer for layer in net_of(free, name).layer if "data" in layer.top
        ]
    ours, theirs = solver_of(model), solver_of(free)
    assert ours.snapshot_prefix != theirs.snapshot_prefix
    ours.snapshot_prefix = theirs.snapshot_prefix
    assert ours == theirs


@pytest.mark.parametrize("model", NEW)
def test_only_the_new_layer_learns_ten_times_as_fast(model: str) -> None:
    seen = 0
    for layer in net_of(model, "train_val").layer:
        if layer.type in ("Convolution", "InnerProduct"):
            new, still = layer.name == NEW[model], re.fullmatch(FROZEN.get(model, "-"), layer.name)
            rate = 10 if new else 0 if still else 1
            expected = [(rate, 0 if still else 1), (2 * rate, 0)]
            bias = layer.type == "InnerProduct" or layer.convolution_param.bias_term
            assert [(p.lr_mult, p.decay_mult) for p in layer.param] == expected[: 1 + bias], layer.name
            seen += new
        else:
            assert not layer.param  # Scale learns as it does by default, BatchNorm's are not learnt
    assert seen == 1


@pytest.mark.parametrize("model", NEW)
def test_data_are_those_of_the_model(model: str) -> None:
    train, valid = net_of(model, "train_val").layer[:2]
    (test,) = net_of(model, "test").layer[:1]
    free = model.removesuffix("-frozen")
    databases = free.startswith("ResNet50")
    for layer, name in ((train, "train"), (valid, "valid"), (test, "test")):
        data, transform = data_of(layer), layer.transform_param
        assert data.source == f"../../data/{name}" + ("_lmdb" if databases else ".txt")
        assert (transform.crop_size, transform.mirror) == (CROPS[free.removesuffix("-v1.5")], layer is train)
        file = "../../data/imagenet_mean.binaryproto" if free == "CaffeNet" else ""
        assert transform.mean_file == file
        assert list(transform.mean_value) == pytest.approx(MEANS[free])
        if databases:
            assert data.backend == caffe_pb2.DataParameter.LMDB
        else:
            assert (data.new_height, data.new_width, data.shuffle) == (256, 256, layer is train)


@pytest.mark.parametrize("model", NEW)
def test_batches_meet_each_picture_once(model: str) -> None:
    solver, valid = solver_of(model), net_of(model, "train_val").layer[1]
    assert solver.test_iter[0] * data_of(valid).batch_size == 1020
    (iterations,) = set(re.findall(r" -iterations (\d+)", (MODELS / model / "README.md").read_text()))
    assert int(iterations) * data_of(net_of(model, "test").layer[0]).batch_size == 6149


@pytest.mark.parametrize("model", [model for model in NEW if not model.startswith("SqueezeNet")])
def test_the_article_s_recipe(model: str) -> None:
    solver, train = solver_of(model), net_of(model, "train_val").layer[0]
    gpus = len(re.search(r"-gpu ([\d,]+)", (MODELS / model / "solver.prototxt").read_text())[1].split(","))
    assert gpus == (2 if model.startswith("ResNet50") else 1)
    assert data_of(train).batch_size * solver.iter_size * gpus == 50
    assert (solver.lr_policy, solver.stepsize, solver.max_iter) == ("step", 20000, 50000)
    rates = (solver.base_lr, solver.gamma, solver.momentum, solver.weight_decay)
    assert rates == pytest.approx((0.001, 0.1, 0.9, 0.0005))
    if gpus > 1:
        one = solver_of(model, "solver_one_gpu")
        assert data_of(train).batch_size * one.iter_size == 50
        one.ClearField("iter_size")
        assert one == solver


@pytest.mark.parametrize("model", NEW)
def test_snapshots_have_a_folder(model: str) -> None:
    # BVLC Caffe makes none.
    assert (MODELS / model / solver_of(model).snapshot_prefix).parent.is_dir()


@pytest.mark.parametrize("model", NEW)
def test_readmes_tell_the_exact_size(model: str) -> None:
    text = " ".join((MODELS / model / "README.md").read_text().split())
    learnt, products = sizes(model, "deploy")
    assert f"{sum(learnt.values()):,} parameters" in text
    assert f"{products / 1e9:.2f} billion multiply-adds" in text


@pytest.mark.parametrize(
    ("model", "parameters", "products"),
    [
        ("CaffeNet", 60_965_224, 724_406_816),
        ("VGG16", 138_357_544, 15_470_264_320),
        ("ResNet50", 25_557_032 + 64, 3_857_973_248),  # the 64 biases of conv1, which torchvision has not
        ("ResNet50-v1.5", 25_557_032, 4_089_184_256),
        ("SqueezeNet", 1_248_424, None),
    ],
)
def test_the_published_size(model: str, parameters: int, products: int | None) -> None:
    published, theirs = sizes(model, "deploy_imagenet")
    assert sum(published.values()) == parameters
    assert products in (None, theirs)
    ours, _ = sizes(model, "deploy")
    last = list(published)[-1]
    inputs = published.pop(last) // 1000 - 1
    assert ours.pop(NEW[model]) == 102 * (inputs + 1)
    assert ours == published
    if model == "CaffeNet":
        assert published == {name: count for name, count in CAFFENET.items() if name != "fc8"}


# The published weights, by the names and shapes in the files


def caffenet_file() -> Iterator[tuple[str, tuple[int, ...]]]:
    for i, shape in enumerate(((96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3))):
        yield f"conv{i + 1}", shape
    yield from (("fc6", (4096, 9216)), ("fc7", (4096, 4096)), ("fc8", (1000, 4096)))


def vgg16_file() -> Iterator[tuple[str, tuple[int, ...]]]:
    names = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"]
    widths = (3, 64, 64, 128, 128, *(256,) * 3, *(512,) * 6)
    for name, inputs, outputs in zip(names, widths[:-1], widths[1:], strict=True):
        yield f"conv{name}", (outputs, inputs, 3, 3)
    yield from (("fc6", (4096, 25088)), ("fc7", (4096, 4096)), ("fc8", (1000, 4096)))


def resnet50_file() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "conv1", (64, 3, 7, 7)
    inputs = 64
    for stage, width, blocks in ((2, 64, "abc"), (3, 128, "abcd"), (4, 256, "abcdef"), (5, 512, "abc")):
        for block in blocks:
            if block == "a":
                yield f"res{stage}a_branch1", (4 * width, inputs, 1, 1)
            yield f"res{stage}{block}_branch2a", (width, inputs, 1, 1)
            yield f"res{stage}{block}_branch2b", (width, width, 3, 3)
            yield f"res{stage}{block}_branch2c", (4 * width, width, 1, 1)
            inputs = 4 * width
    yield "fc1000", (1000, 2048)


def blobs_of(name: str, shape: tuple[int, ...], resnet: bool) -> dict[str, list[tuple[int, ...]]]:
    """A layer's blobs, and those of the BatchNorm and Scale that follow it in the file of ResNet-50."""
    width = shape[:1]
    affine = {name: [shape, width]}
    if not resnet or name == "fc1000":
        return affine
    stem = name.removeprefix("res") if name.startswith("res") else "_conv1"
    weights = affine if name == "conv1" else {name: [shape]}
    return weights | {f"bn{stem}": [width, width, (1,)], f"scale{stem}": [width, width]}


def field(number: int, content: bytes) -> bytes:
    """A field of bytes as protobuf writes it."""
    head, left = bytearray(), [number << 3 | 2, len(content)]
    for value in left:
        while value > 127:
            head.append(value & 127 | 128)
            value >>= 7
        head.append(value)
    return bytes(head) + content


def write_file(path: Path, layers: dict[str, list[tuple[int, ...]]], old: bool) -> dict[str, list[np.ndarray]]:
    """Write random blobs as a caffemodel, in the form before 2015 if `old`; protobuf itself would take minutes."""
    random = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    written: dict[str, list[np.ndarray]] = {}
    with path.open("wb") as file:
        for name, shapes in layers.items():
            message = V1LayerParameter(name=name, type=4) if old else LayerParameter(name=name, type="Any")
            content = [message.SerializeToString()]
            written[name] = []
            for i, shape in enumerate(shapes):
                values = np.resize(np.roll(random, len(written) + i), shape)
                four = dict(zip(("num", "channels", "height", "width"), (1,) * (4 - len(shape)) + shape, strict=True))
                blob = BlobProto(**four) if old else BlobProto(shape=BlobShape(dim=shape))
                content.append(field(6 if old else 7, blob.SerializeToString() + field(5, values.tobytes())))
                written[name].append(values)
            file.write(field(2 if old else 100, b"".join(content)))
    return written


@pytest.mark.parametrize(
    ("model", "layers", "old"),
    [
        ("CaffeNet", caffenet_file, True),
        ("VGG16", vgg16_file, True),
        ("ResNet50", resnet50_file, False),
    ],
)
def test_the_published_file_fills_all_but_the_new_layer(
    model: str,
    layers: Callable[[], Iterator[tuple[str, tuple[int, ...]]]],
    old: bool,
    tmp_path: Path,
) -> None:
    published: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in layers():
        published |= blobs_of(name, shape, model == "ResNet50")
    written = write_file(tmp_path / "published.caffemodel", published, old)
    net = caffe.Net(str(MODELS / model / "deploy.prototxt"), caffe.TEST)
    net.copy_from(str(tmp_path / "published.caffemodel"))
    last = next(reversed(published))
    assert set(net.params) - set(written) == {NEW[model]}
    assert set(written) - set(net.params) == {last}
    assert not any(blob.data.any() for blob in net.params[NEW[model]])
    for name, blobs in net.params.items():
        if name != NEW[model]:
            assert all(np.array_equal(blob.data, values) for blob, values in zip(blobs, written[name], strict=True))


@pytest.mark.parametrize(
    "name", ["CaffeNet/deploy", "SqueezeNet/deploy", "SqueezeNet/deploy_imagenet", "ResNet50/deploy"]
)
def test_opencv_computes_the_same(name: str, randomize: Callable[..., None], tmp_path: Path) -> None:
    deploy, weights = MODELS / f"{name}.prototxt", tmp_path / "random.caffemodel"
    net, random = caffe.Net(str(deploy), caffe.TEST), np.random.default_rng(1)
    randomize(net)
    net.save(str(weights))
    picture = random.uniform(-1, 1, (1, *net.blobs["data"].data.shape[1:])).astype(np.float32)
    net.blobs["data"].reshape(*picture.shape)
    mine = net.forward(data=picture)[net.outputs[0]].reshape(-1)
    oracle = cv2.dnn.readNetFromCaffe(str(deploy), str(weights))
    oracle.setInput(picture)
    theirs = oracle.forward().reshape(-1)
    if net.outputs != ["prob"]:  # scores, some of them near 0: compare the probabilities that they mean
        mine, theirs = softmax(mine), softmax(theirs)
    assert theirs.max() > 2 * theirs.min()  # the answer says something
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-7)
