"""Cached features against the model's own nets, OpenCV's crops, and training without a cache."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import lmdb
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from caffe.proto import caffe_pb2
from oxford102.errors import ToolError
from oxford102.feature_cache import Job, cache_features, places
from oxford102.feature_store import disk_size

COUNT, VALID, CROP = 12, 5, 16
TRAIN_VAL = """name: "tiny"
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true crop_size: 16 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.02 }
  image_data_param { source: "../data/train.txt" batch_size: 12 shuffle: true new_height: 22 new_width: 25 } }
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 16 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.02 }
  image_data_param { source: "../data/valid.txt" batch_size: 5 new_height: 22 new_width: 25 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 6 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "drop2" type: "Dropout" bottom: "conv2" top: "conv2" }
# What learns.
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc" param { lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 12 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """# caffe train -solver solver.prototxt -weights tiny.caffemodel
net: "train_val.prototxt" test_iter: 1 test_interval: 100 test_initialization: false base_lr: 0.05 lr_policy: "step"
stepsize: 5 gamma: 0.1 momentum: 0.9 weight_decay: 0.01 max_iter: 8 snapshot_prefix: "snapshots/tiny"
"""
PLAIN = (("mirror: true ", ""), ("crop_size: 16 ", ""), ("22", "16"), ("25", "16"))
"""What takes the chance out of the data layers."""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A model folder with weights, and pictures, those for training each with a label of its own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "tiny").mkdir()
    random = np.random.default_rng(5)
    for split, count in (("train", COUNT), ("valid", VALID)):
        lines = []
        for number in range(count):
            picture = random.integers(0, 256, (6, 7, 3), np.uint8)
            path = tmp_path / "data" / f"{split} {number}.png"
            cv2.imwrite(str(path), cv2.resize(picture, (40, 30)))
            lines.append(f"{path} {number}\n")
        (tmp_path / "data" / f"{split}.txt").write_text("".join(lines))
    model = tmp_path / "tiny"
    (model / "train_val.prototxt").write_text(TRAIN_VAL)
    (model / "test.prototxt").write_text(TRAIN_VAL)
    (model / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(model)
    caffe.set_random_seed(3)
    net = caffe.Net("train_val.prototxt", caffe.TEST)
    for layer in ("conv1", "conv2"):
        net.params[layer][1].data[...] = random.normal(0, 0.1, net.params[layer][1].data.shape)
    net.save("tiny.caffemodel")
    return Job(model, tmp_path / "cached")


def edit(job: Job, *changes: tuple[str, str]) -> None:
    path = job.model / "train_val.prototxt"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def rows(path: Path, dataset: str = "conv2") -> tuple[NDArray[np.float32], list[int]]:
    """Features and labels in the order of reading."""
    if path.suffix == ".txt":
        parts = []
        for name in path.read_text().split():
            with h5py.File(path.parent / name) as file:
                parts.append((file[dataset][()], file["label"][()]))
        return np.concatenate([part[0] for part in parts]), [int(x) for part in parts for x in part[1]]
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        data = [caffe_pb2.Datum.FromString(value) for _, value in transaction.cursor()]
    features = [np.array(d.float_data, np.float32).reshape(d.channels, d.height, d.width) for d in data]
    return np.stack(features), [d.label for d in data]


def stored(job: Job, split: str) -> tuple[NDArray[np.float32], list[int]]:
    return rows(job.output / (f"{split}.h5.txt" if job.hdf5 else f"{split}_lmdb"))


def read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(cv2.resize(picture, (25, 22)), np.uint8)


def by_hand(job: Job, number: int) -> NDArray[np.float32]:
    """The features of the ten crops of a training picture that OpenCV reads."""
    picture = read(job.model.parent / "data" / f"train {number}.png")
    values = (picture.astype(np.float32) - np.array([104, 117, 123], np.float32)) * np.float32(0.02)
    corners = [(3, 4), (0, 0), (0, 9), (6, 0), (6, 9)]
    crops = [values[y : y + CROP, x : x + CROP] for y, x in corners]
    crops += [crop[:, ::-1] for crop in crops]
    net = cv2.dnn.readNetFromCaffe("cut.prototxt", "tiny.caffemodel")
    net.setInput(np.stack(crops).transpose(0, 3, 1, 2))
    return np.asarray(net.forward(), np.float32)


@pytest.mark.parametrize("hdf5", [False, True])
def test_the_centre_is_what_the_models_own_test_computes(job: Job, hdf5: bool) -> None:
    job = replace(job, hdf5=hdf5)
    cache_features(job)
    net = caffe.Net("train_val.prototxt", caffe.TEST, weights="tiny.caffemodel")
    net.forward(end="relu2")
    features, labels = stored(job, "valid")
    np.testing.assert_allclose(features, net.blobs["conv2"].data, rtol=1e-6)
    assert labels == list(range(VALID))
    assert features.min() == 0 < features.max()  # after the ReLU


@pytest.mark.parametrize("hdf5", [False, True])
def test_ten_crops_of_each_picture_each_round_another(job: Job, hdf5: bool) -> None:
    job = replace(job, hdf5=hdf5)
    cache_features(job)
    start, end = TRAIN_VAL.index('layer { name: "conv1"'), TRAIN_VAL.index('layer { name: "drop2"')
    (job.model / "cut.prototxt").write_text(
        'input: "data" input_dim: 10 input_dim: 3 input_dim: 16 input_dim: 16 ' + TRAIN_VAL[start:end]
    )
    features, labels = stored(job, "train")
    assert len(labels) == COUNT * 10
    for turn in range(10):
        assert sorted(labels[turn * COUNT : (turn + 1) * COUNT]) == list(range(COUNT))
    assert labels[:COUNT] != labels[COUNT : 2 * COUNT]
    for number in range(COUNT):
        own = features[np.array(labels) == number]
        distance = np.abs(own[:, np.newaxis] - by_hand(job, number)[np.newaxis]).max((2, 3, 4))
        assert distance.min(1).max() < 1e-5  # each row is one of the crops,
        assert sorted(distance.argmin(1)) == list(range(10))  # and each crop is there once
    cache_features(replace(job, output=job.output.with_name("again")))
    assert np.array_equal(stored(replace(job, output=job.output.with_name("again")), "train")[0], features)


def test_fewer_crops(job: Job) -> None:
    for crops, corners, mirror in ((5, True, False), (2, False, True), (1, False, False)):
        cache_features(replace(job, corners=corners, mirror=mirror, force=True))
        assert len(stored(job, "train")[1]) == COUNT * crops
    edit(job, PLAIN[0])  # a model that does not mirror
    cache_features(replace(job, force=True))
    assert len(stored(job, "train")[1]) == COUNT * 5
    edit(job, *PLAIN[1:])  # nor crops
    cache_features(replace(job, force=True))
    assert len(stored(job, "train")[1]) == COUNT


def losses(folder: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> tuple[list[float], caffe.SGDSolver]:
    """The losses of eight iterations from weights, and the solver; its snapshot is where README.md expects it."""
    monkeypatch.chdir(folder)
    solver = caffe.get_solver("solver.prototxt")
    solver.net.copy_from(str(weights))
    found = []
    for _ in range(8):
        solver.step(1)
        found.append(float(solver.net.blobs["loss"].data))
    solver.test_nets[0].share_with(solver.net)
    (folder / "snapshots").mkdir(exist_ok=True)
    solver.net.save("snapshots/tiny_iter_8.caffemodel")
    return found, solver


@pytest.mark.parametrize("hdf5", [False, True])
def test_without_chance_it_trains_as_the_model_itself(job: Job, monkeypatch: pytest.MonkeyPatch, hdf5: bool) -> None:
    drop = 'layer { name: "drop2" type: "Dropout" bottom: "conv2" top: "conv2" }\n'
    edit(job, *PLAIN, (drop, ""))
    cache_features(replace(job, hdf5=hdf5))
    weights = job.model / "tiny.caffemodel"
    plain, _ = losses(job.model, monkeypatch, weights)
    cached, small = losses(job.output, monkeypatch, weights)
    np.testing.assert_allclose(cached, plain, rtol=1e-5)
    assert cached[-1] < 0.9 * cached[0]
    assert set(small.net.params) == {"fc"}
    (command,) = re.findall(r'python -c "(.*?)"', (job.output / "README.md").read_text(), re.DOTALL)
    code = re.sub(r"^ {4}", "", command, flags=re.MULTILINE)
    subprocess.run([sys.executable, "-c", code], cwd=job.output, check=True)
    monkeypatch.chdir(job.model)
    whole = job.output / "snapshots" / "tiny_whole.caffemodel"
    full, before = (caffe.Net("train_val.prototxt", caffe.TEST, weights=str(path)) for path in (whole, weights))
    for layer in ("conv1", "conv2"):
        for now, then in zip(full.params[layer], before.params[layer], strict=True):
            assert np.array_equal(now.data, then.data)
    assert not np.array_equal(full.params["fc"][0].data, before.params["fc"][0].data)
    wanted, found = small.test_nets[0].forward(), full.forward()
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=1e-5)
    assert found["accuracy"] == wanted["accuracy"]


def test_dropout_in_place_stays_with_what_learns(job: Job) -> None:
    cache_features(job)
    text = (job.output / "train_val.prototxt").read_text()
    assert re.findall('  name: "(.*)"', text) == ["data", "data", "drop2", "fc", "accuracy", "loss"]
    assert "# What learns.\nlayer" in text
    solver = (job.output / "solver.prototxt").read_text()
    assert solver.startswith("# caffe train -solver solver.prototxt -weights ../tiny")
    assert sorted(path.name for path in job.output.iterdir()) == [
        *("README.md", "snapshots", "solver.prototxt", "train_lmdb", "train_val.prototxt", "valid_lmdb")
    ]


def test_a_lower_cut(job: Job) -> None:
    cache_features(replace(job, upto="pool1", corners=False))
    assert stored(job, "valid")[0].shape == (VALID, 4, 7, 7)
    assert 'name: "conv2"' in (job.output / "train_val.prototxt").read_text()


def test_a_model_that_reads_a_database(job: Job) -> None:
    cache_features(job)
    expected = stored(job, "valid")[0]
    database = job.model.parent / "data" / "valid_lmdb"
    with lmdb.open(str(database), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for number in range(VALID):
            picture = read(database.with_name(f"valid {number}.png"))
            datum = caffe.io.array_to_datum(picture.transpose(2, 0, 1), number)
            transaction.put(f"{number:03d}".encode(), datum.SerializeToString())
    old = 'image_data_param { source: "../data/valid.txt" batch_size: 5 new_height: 22 new_width: 25 }'
    edit(job, (old, 'data_param { source: "../data/valid_lmdb" batch_size: 5 backend: LMDB }'))
    kind = '"ImageData" top: "data" top: "label" include { phase: TEST'
    edit(job, (kind, kind.replace("ImageData", "Data")))
    cache_features(replace(job, force=True))
    assert np.array_equal(stored(job, "valid")[0], expected)


def test_relative_pictures_are_those_of_the_model_folder(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_features(job)
    expected = stored(job, "valid")[0]
    listing = job.model.parent / "data" / "valid.txt"
    listing.write_text(listing.read_text().replace(f"{job.model.parent}", ".."))
    monkeypatch.chdir("/")
    cache_features(replace(job, force=True))
    assert np.array_equal(stored(job, "valid")[0], expected)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"upto": "nope"}, "has no blob 'nope'; possible are conv1, pool1, conv2"),
    ({"upto": "fc"}, "'fc' learns with lr_mult 1: cutting at 'fc' would freeze it"),
    ({"upto": "data"}, "'data' does not separate the layers below it"),
    ({"upto": "loss"}, "'loss' does not separate"),
    ({"weights": Path("absent")}, "absent: no such weights"),
    ({"output": Path("../tiny")}, "is the model itself"),
    ({"model": Path("absent")}, "absent: no solver.prototxt in such a folder"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_mistakes(job: Job, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=re.escape(message)):
        cache_features(replace(job, **change))
    assert sorted(path.name for path in job.output.parent.iterdir() if path.name != "cache") == ["data", "tiny"]


def test_mistakes_of_the_model(job: Job) -> None:
    for old, new, message in (
        (
            "param { lr_mult: 0 } param { lr_mult: 0 }\n  convolution_param { num_output: 6",
            "param { lr_mult: 0 }\n  convolution_param { num_output: 6",
            "'conv2' learns with lr_mult 1: cutting at 'conv2'",
        ),
        (
            'layer { name: "accuracy"',
            'layer { name: "hush" type: "Silence" bottom: "pool1" }\nlayer { name: "accuracy"',
            "'conv2' does not",
        ),
        ("{ phase: TEST }", '{ phase: TEST stage: "a" }', "'data' hangs on levels or stages"),
        (
            'name: "relu1" type: "ReLU"',
            'name: "norm1" type: "BatchNorm"',
            "'norm1' takes its statistics from the batch",
        ),
        ('name: "conv2"', 'name: "other"', "tiny.caffemodel has no weights for layer 'other'"),
        ("data/train.txt", "data/absent.txt", "absent.txt: no such list"),
        ("crop_size: 16", "crop_size: 60", "crop_size 60 is more than a picture's 22 x 25 pixels"),
    ):
        edit(job, (old, new))
        with pytest.raises(ToolError, match=re.escape(message)):
            cache_features(replace(job, upto="conv2"))
        (job.model / "train_val.prototxt").write_text(TRAIN_VAL)
        assert not job.output.exists()


def test_a_bad_picture_leaves_nothing(job: Job) -> None:
    (job.model.parent / "data" / "train 11.png").write_text("no picture")
    with pytest.raises(ToolError, match=r"Could not load .*train 11\.png"):
        cache_features(job)
    assert not list(job.output.parent.glob("cached*"))


def test_what_is_there_stays_unless_forced(job: Job) -> None:
    cache_features(job)
    with pytest.raises(ToolError, match="cached exists; choose another -o, or give --force"):
        cache_features(job)
    (job.output / "snapshots" / "mine").write_text("")
    (job.output / "train.log").write_text("")
    cache_features(replace(job, hdf5=True, force=True))
    assert (job.output / "snapshots" / "mine").is_file()
    assert sorted(path.name for path in job.output.glob("[tv]*")) == [
        *("train.h5.txt", "train.log", "train_000.h5", "train_val.prototxt", "valid.h5.txt", "valid_000.h5")
    ]


def test_every_variant_has_a_place_of_its_own() -> None:
    found = places(7, 4, 1)
    assert sorted(found.ravel()) == list(range(28))
    for turn in range(4):
        assert ((found // 7 == turn).sum(1) == 1).all()
    assert not np.array_equal(found, places(7, 4, 2))


def test_the_size_that_is_told_is_what_it_takes(job: Job) -> None:
    assert disk_size(COUNT * 10, (4, 20, 20), False) == COUNT * 10 * 8192
    cache_features(replace(job, upto="conv1", force=True))
    shape = stored(job, "valid")[0].shape[1:]
    taken = (job.output / "train_lmdb" / "data.mdb").stat().st_size
    wanted = disk_size(COUNT * 10, shape, False)
    assert wanted <= taken < 1.1 * wanted + 100_000
