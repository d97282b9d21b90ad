"""Solvers of the nets in models/, with random pictures that are in memory already."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from google.protobuf import text_format

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
from caffe.proto import caffe_pb2

MODELS = Path(__file__).resolve().parent.parent / "models"


def training_net(model: str, batch: int) -> caffe_pb2.NetParameter:
    """The train_val of a model as it trains, an Input layer in the place of its pictures and labels."""
    net = caffe_pb2.NetParameter()
    text_format.Parse((MODELS / model / "train_val.prototxt").read_text(), net)
    layers = [layer for layer in net.layer if not any(rule.phase == caffe_pb2.TEST for rule in layer.include)]
    crop = layers[0].transform_param.crop_size
    source = caffe_pb2.LayerParameter(name="data", type="Input", top=["data", "label"])
    source.input_param.shape.add(dim=[batch, 3, crop, crop])
    source.input_param.shape.add(dim=[batch])
    del net.layer[:]
    net.layer.extend([source, *layers[1:]])
    return net


def solver(model: str, batch: int, folder: Path) -> caffe.SGDSolver:
    """A solver of it, weights from the fillers; ``step(1)`` is forward, backward and update."""
    net, file = folder / f"{model}.prototxt", folder / f"{model}-solver.prototxt"
    net.write_text(str(training_net(model, batch)))
    file.write_text(f'net: "{net}" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 1000')
    made = caffe.SGDSolver(str(file))
    made.keeps_blobs = False  # as caffe train
    rng = np.random.default_rng(0)
    pictures, labels = (made.net.blobs[name].data for name in ("data", "label"))
    pictures[...] = rng.integers(-120, 120, pictures.shape)
    labels[...] = rng.integers(102, size=batch)
    return made
