"""Solvers of the nets in models/, with random pictures that are in memory already or with those of a list."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from google.protobuf import text_format

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
from caffe.io import array_to_blobproto
from caffe.proto import caffe_pb2

MODELS = Path(__file__).resolve().parent.parent / "models"


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEGs of 667 x 500 pixels: blurred noise, about as large as photographs of their size."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for path in paths:
        coarse, fine = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (8, 160))
        scene, grain = (cv2.resize(noise, (667, 500), interpolation=cv2.INTER_CUBIC) for noise in (coarse, fine))
        cv2.imwrite(str(path), cv2.addWeighted(scene, 0.8, grain, 0.2, 0), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def listed(paths: list[Path], folder: Path) -> Path:
    """A list of them, labels in turn, with a mean picture beside it."""
    source = folder / "list.txt"
    source.write_text("".join(f"{path} {i % 102}\n" for i, path in enumerate(paths)))
    picture = np.random.default_rng(0).uniform(90, 130, (1, 3, 256, 256)).astype(np.float32)
    mean = array_to_blobproto(picture).SerializeToString()
    source.with_name("mean.binaryproto").write_bytes(mean)
    return source


def training_net(model: str, batch: int, pictures: Path | None = None) -> caffe_pb2.NetParameter:
    """The train_val of a model as it trains; without a list of pictures, an Input layer is in the place of its data."""
    net = caffe_pb2.NetParameter()
    text_format.Parse((MODELS / model / "train_val.prototxt").read_text(), net)
    layers = [layer for layer in net.layer if not any(rule.phase == caffe_pb2.TEST for rule in layer.include)]
    data = layers[0]
    if pictures:
        data.type = "ImageData"
        reading = caffe_pb2.ImageDataParameter(source=str(pictures), batch_size=batch, new_height=256, new_width=256)
        data.image_data_param.CopyFrom(reading)
        if data.transform_param.mean_file:
            data.transform_param.mean_file = str(pictures.with_name("mean.binaryproto"))
    else:
        crop = data.transform_param.crop_size
        data = caffe_pb2.LayerParameter(name="data", type="Input", top=["data", "label"])
        data.input_param.shape.add(dim=[batch, 3, crop, crop])
        data.input_param.shape.add(dim=[batch])
    del net.layer[:]
    net.layer.extend([data, *layers[1:]])
    return net


def solver(model: str, batch: int, folder: Path, pictures: Path | None = None) -> caffe.SGDSolver:
    """A solver of it, weights from the fillers; ``step(1)`` is forward, backward and update."""
    net, file = folder / f"{model}.prototxt", folder / f"{model}-solver.prototxt"
    net.write_text(str(training_net(model, batch, pictures)))
    file.write_text(f'net: "{net}" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 1000')
    made = caffe.SGDSolver(str(file))
    made.keeps_blobs = False  # as caffe train
    if not pictures:
        rng = np.random.default_rng(0)
        values, labels = (made.net.blobs[name].data for name in ("data", "label"))
        values[...] = rng.integers(-120, 120, values.shape)
        labels[...] = rng.integers(102, size=batch)
    return made
