"""A model's folder beside a data folder of six drawn pictures, with small crops and batches and a short run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2

MODELS = Path(__file__).resolve().parents[2] / "models"
SIDE, CROP = 72, 64
SMALL = {"batch_size": 2, "crop_size": CROP, "new_height": SIDE, "new_width": SIDE, "iter_size": 1}
SMALL |= {"test_iter": 1, "test_interval": 2, "max_iter": 2, "display": 1}

Checkout = Callable[[str], Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Copy the folder of a model, shrunk; the six pictures are two for each of train, valid and test."""
    data = tmp_path / "data"
    data.mkdir()
    random = np.random.default_rng(0)
    for i in range(6):
        cv2.imwrite(str(data / f"{i}.png"), random.integers(0, 256, (80, 90, 3), np.uint8))
    for i, name in enumerate(("train", "valid", "test")):
        rows = [(data / f"{2 * i + k}.png", k) for k in range(2)]
        (data / f"{name}.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))
        _write_database(data / f"{name}_lmdb", rows)
    _write_mean(data / "imagenet_mean", random.uniform(90, 130, (3, SIDE, SIDE)).astype(np.float32))

    def copy(model: str) -> Path:
        folder = tmp_path / "models" / model
        shutil.copytree(MODELS / model, folder)
        for path in folder.glob("*.prototxt"):
            text = re.sub(r"dim: 22[47]", f"dim: {CROP}", path.read_text())
            for field, value in SMALL.items():
                text = re.sub(rf"\b{field}: \d+", f"{field}: {value}", text)
            path.write_text(text)
        return folder

    return copy


def _write_database(path: Path, rows: list[tuple[Path, int]]) -> None:
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        for i, (picture, label) in enumerate(rows):
            pixels = cv2.resize(cv2.imread(str(picture)), (SIDE, SIDE)).transpose(2, 0, 1)
            datum = caffe_pb2.Datum(channels=3, height=SIDE, width=SIDE, data=pixels.tobytes(), label=label)
            transaction.put(f"{i:08}".encode(), datum.SerializeToString())


def _write_mean(path: Path, mean: np.ndarray) -> None:
    np.save(path, mean)
    path.with_suffix(".binaryproto").write_bytes(caffe.io.array_to_blobproto(mean[None]).SerializeToString())


@pytest.fixture
def randomize() -> Callable[..., None]:
    """Weights that keep the values' size from layer to layer; statistics of a net that has been trained."""

    def fill(net: caffe.Net, size: float = 1) -> None:  # of the values that come in
        random = np.random.default_rng(0)
        for name, blobs in net.params.items():
            if net.layer_dict[name].type == "BatchNorm":
                blobs[0].data[...] = random.normal(size=blobs[0].data.shape)
                blobs[1].data[...] = random.uniform(1, 3, blobs[1].data.shape)
                blobs[2].data[...] = 2
            elif net.layer_dict[name].type == "Scale":
                blobs[0].data[...] = random.uniform(0.5, 1, blobs[0].data.shape)
                blobs[1].data[...] = random.normal(size=blobs[1].data.shape) / 10
            else:
                weights = random.standard_normal(blobs[0].data.shape, np.float32)
                blobs[0].data[...] = weights * np.float32(np.sqrt(2 / blobs[0].data[0].size) / size)
                for bias in blobs[1:]:
                    bias.data[...] = random.normal(size=bias.data.shape) / 10
                size = 1

    return fill
